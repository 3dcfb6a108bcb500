#include "isa/registry.h"

#include <unordered_map>

#include "sem/mfma.h"

namespace vgpu::isa {
namespace {

struct Registry {
  std::unordered_map<std::string, const ScalarDef*> scalar;
  std::unordered_map<std::string, const LaneDef*> lane;
};

Registry& registry() {
  static Registry instance;
  return instance;
}

// Filled on first use rather than by static constructors, whose order across files is unspecified.
void ensure_filled() {
  static const bool once = [] {
    register_salu();
    register_salu64();
    register_control();
    register_valu_int();
    register_valu_bits();
    register_valu_f32();
    register_valu_transcendental();
    register_valu_f64();
    register_valu_f16();
    register_valu_i16();
    register_valu_convert();
    register_valu_compare();
    register_valu_carry();
    register_valu_lane();
    register_valu_packed();
    register_valu_gfx950();
    register_valu_scalef32();
    register_valu_scalef32_wide();
    register_mfma();
    register_smem();
    register_flat();
    register_buffer();
    register_ds();
    register_ds_atomic();
    register_ds_transpose();
    return true;
  }();
  (void)once;
}

}  // namespace

void add(const ScalarDef* defs, size_t count) {
  for (size_t i = 0; i < count; ++i) registry().scalar[defs[i].name] = &defs[i];
}
void add(const LaneDef* defs, size_t count) {
  for (size_t i = 0; i < count; ++i) registry().lane[defs[i].name] = &defs[i];
}

const ScalarDef* find_scalar(const std::string& base) {
  ensure_filled();
  const auto it = registry().scalar.find(base);
  return it == registry().scalar.end() ? nullptr : it->second;
}
const LaneDef* find_lane(const std::string& base) {
  ensure_filled();
  const auto it = registry().lane.find(base);
  return it == registry().lane.end() ? nullptr : it->second;
}

}  // namespace vgpu::isa
