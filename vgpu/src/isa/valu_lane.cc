// Vector instructions that move data between lanes and scalar registers, or whole registers.
#include "isa/registry.h"

namespace vgpu::isa {
namespace {

void nop(Wave&, const Op&) {}

// A scalar source is legal and is simply copied.
uint32_t lane_value(const Wave& w, const Op& op, unsigned lane) {
  return op.kind[0] == Src::Vgpr ? w.vreg(op.inst.src[0])[lane] : src32(w, op, 0);
}
void readfirstlane(Wave& w, const Op& op) {
  const uint64_t exec = w.exec();
  w.s[op.inst.vdst] = lane_value(w, op, exec ? static_cast<unsigned>(__builtin_ctzll(exec)) : 0);
}
void readlane(Wave& w, const Op& op) { w.s[op.inst.vdst] = lane_value(w, op, src32(w, op, 1) & 63); }
void writelane(Wave& w, const Op& op) { w.vreg(op.inst.vdst)[src32(w, op, 1) & 63] = src32(w, op, 0); }

void swap(Wave& w, const Op& op) {
  uint32_t *d = w.vreg(op.inst.vdst), *s = w.vreg(op.inst.src[0]);
  const uint64_t exec = w.exec();
  for (int l = 0; l < 64; ++l)
    if (exec >> l & 1) std::swap(d[l], s[l]);
}

// gfx950: odd rows of the destination trade places with even rows of the source; rows are 16 or 32 lanes.
template <int Row>
void permlane_swap(Wave& w, const Op& op) {
  uint32_t *d = w.vreg(op.inst.vdst), *s = w.vreg(op.inst.src[0]);
  const uint64_t exec = w.exec();
  for (int base = 0; base < 64; base += 2 * Row)
    for (int l = base; l < base + Row; ++l) {
      // Each side is written only where EXEC is on; a disabled source lane is read as it is.
      const uint32_t upper = d[l + Row], lower = s[l];
      if (exec >> (l + Row) & 1) d[l + Row] = lower;
      if (exec >> l & 1) s[l] = upper;
    }
}

bool needs_register(Op& op, Arch, std::string* why) {
  if (op.kind[0] == Src::Vgpr && !op.inst.dpp && !op.inst.sdwa) return true;
  *why = "this form needs a vector register source without DPP or SDWA";
  return false;
}
bool plain_form(Op& op, Arch, std::string* why) {
  if (!op.inst.dpp && !op.inst.sdwa) return true;
  *why = "DPP or SDWA on a lane access";
  return false;
}

constexpr Class V = Class::Valu;
const ScalarDef kDefs[] = {
    {"v_nop", nop, V, ""}, {"v_clrexcp", nop, V, ""}, {"v_readfirstlane_b32", readfirstlane, V, "u:u", plain_form},
    {"v_readlane_b32", readlane, V, "u:uu", plain_form}, {"v_writelane_b32", writelane, V, "u:uu", plain_form},
    {"v_swap_b32", swap, V, "u:u", needs_register},
    {"v_permlane16_swap_b32", permlane_swap<16>, V, "u:u", needs_register},
    {"v_permlane32_swap_b32", permlane_swap<32>, V, "u:u", needs_register},
};

}  // namespace

void register_valu_lane() { add(kDefs, sizeof kDefs / sizeof kDefs[0]); }

}  // namespace vgpu::isa
