// Which mnemonics can be executed, and how. Handlers are registered by LLVM's base mnemonic, so opcode numbers
// appear in the decoder's table only.
#pragma once

#include <string>

#include "isa/valu.h"
#include "isa/wave.h"

namespace vgpu::isa {

// A scalar, memory or control instruction: one handler. `prepare` may reject or fill Op fields (flags, aux,
// lane); it returns false with a reason when this form is not supported.
struct ScalarDef {
  const char* name;
  Handler fn;
  Class cls;
  const char* types;  // destination then sources, as in valu.h; "" when there are none
  bool (*prepare)(Op&, Arch, std::string*) = nullptr;
};

void add(const ScalarDef* defs, size_t count);
void add(const LaneDef* defs, size_t count);

const ScalarDef* find_scalar(const std::string& base);
const LaneDef* find_lane(const std::string& base);

// Fills op from op.inst. On failure op gets a handler that reports why when it is executed.
void lower(Op& op, Arch arch);

// True when the mnemonic has a handler.
bool executable(const OpInfo& info, Arch arch);

// Each file of handlers registers its own.
void register_salu();
void register_salu64();
void register_control();
void register_valu_int();
void register_valu_bits();
void register_valu_f32();
void register_valu_transcendental();
void register_valu_f64();
void register_valu_f16();
void register_valu_i16();
void register_valu_convert();
void register_valu_compare();
void register_valu_carry();
void register_valu_lane();
void register_valu_packed();
void register_valu_gfx950();
void register_valu_scalef32();
void register_valu_scalef32_wide();
void register_mfma();
void register_smem();
void register_flat();
void register_buffer();
void register_ds();
void register_ds_atomic();
void register_ds_transpose();

}  // namespace vgpu::isa
