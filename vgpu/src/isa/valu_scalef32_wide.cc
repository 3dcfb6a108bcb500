// gfx950's scaled conversions of 32 elements (v_cvt_scalef32_pk32_*, _2xpk16_*): six registers of 6-bit elements on one
// side, 16 or 32 registers on the other. Element e of a lane is at bit 6e of the narrow side.
#include "isa/registry.h"
#include "sem/convert.h"
#include "sem/scalef32.h"

namespace vgpu::isa {
namespace {

using sem::Small;

constexpr int kElements = 32, kNarrowRegs = 6;
enum class Wide { F32, F16, Bf16 };
enum class From { One, Interleaved, Stochastic };  // of the narrowing forms

// Register `reg` of a lane; the operand is always in vector registers.
struct Registers {
  const uint32_t* p;
  Registers(Wave& w, const Op& op, int i) : p(w.vreg(op.inst.src[i])) {}
  uint32_t at(int reg, int lane) const { return p[reg * 64 + lane]; }
};

template <Wide W>
float element(const Registers& r, int e, int lane) {
  if (W == Wide::F32) return as_f32(r.at(e, lane));
  const uint16_t half = static_cast<uint16_t>(r.at(e / 2, lane) >> (16 * (e & 1)));
  return W == Wide::F16 ? sem::f16_to_f32(half) : sem::bf16_to_f32(half);
}

template <Small F, Wide W, From K>
void narrow(Wave& w, const Op& op) {
  alignas(32) uint32_t out[kNarrowRegs][64] = {}, scale_tmp[64], seed_tmp[64];
  const Registers source(w, op, 0), second(w, op, K == From::Interleaved ? 1 : 0);
  const uint32_t* scales = fetch(w, op, op.sources - 1, scale_tmp);
  const uint32_t* seeds = K == From::Stochastic ? fetch(w, op, 1, seed_tmp) : nullptr;
  for (int l = 0; l < 64; ++l) {
    const uint32_t scale = scales[l] >> 23 & 255;
    uint32_t seed = seeds ? seeds[l] : 0;
    for (int e = 0; e < kElements; ++e) {
      const float x = K == From::Interleaved ? element<W>(e & 1 ? second : source, e / 2, l) : element<W>(source, e, l);
      const auto how = K == From::Stochastic ? sem::Rounding::stochastic : sem::Rounding::nearest_even;
      const uint64_t code = sem::f32_to_small_scale(F, x, scale, how, seed, true);
      seed = sem::prng_b32(seed);
      const int at = 6 * e;
      out[at / 32][l] |= static_cast<uint32_t>(code << (at % 32));
      if (at % 32 > 26) out[at / 32 + 1][l] |= static_cast<uint32_t>(code >> (32 - at % 32));
    }
  }
  for (int r = 0; r < kNarrowRegs; ++r) write_lanes(w.vreg(op.inst.vdst) + r * 64, out[r], w.exec());
}

template <Small F, Wide W>
void widen(Wave& w, const Op& op) {
  constexpr int kRegs = W == Wide::F32 ? kElements : kElements / 2;
  alignas(32) uint32_t out[kRegs][64] = {}, scale_tmp[64];
  const Registers source(w, op, 0);
  const uint32_t* scales = fetch(w, op, 1, scale_tmp);
  for (int l = 0; l < 64; ++l) {
    const uint32_t scale = scales[l] >> 23 & 255;
    for (int e = 0; e < kElements; ++e) {
      const int at = 6 * e;
      uint64_t pair = source.at(at / 32, l);
      if (at % 32 > 26) pair |= static_cast<uint64_t>(source.at(at / 32 + 1, l)) << 32;
      const uint32_t code = pair >> (at % 32) & 63;
      if (W == Wide::F32) {
        out[e][l] = as_u32(sem::small_to_f32_scale(F, code, scale));
      } else {
        const uint16_t half = W == Wide::F16 ? sem::small_to_f16_scale(F, code, scale) : sem::small_to_bf16_scale(F, code, scale);
        out[e / 2][l] |= static_cast<uint32_t>(half) << (16 * (e & 1));
      }
    }
  }
  for (int r = 0; r < kRegs; ++r) write_lanes(w.vreg(op.inst.vdst) + r * 64, out[r], w.exec());
}

bool in_vector_registers(Op& op, Arch, std::string* why) {
  const int wide_sources = op.inst.info->base.find("2xpk16") != std::string::npos ? 2 : 1;
  for (int i = 0; i < wide_sources; ++i) {
    if (op.kind[i] == Src::Vgpr) continue;
    *why = "a scalar or constant as 32 elements";
    return false;
  }
  if (!op.inst.abs && !op.inst.neg && !op.inst.omod && !op.inst.clamp && !op.inst.op_sel) return true;
  *why = "modifiers on this instruction";
  return false;
}

#define ROW(name, fn, types) {"v_cvt_scalef32_" name, fn, Class::Valu, types, in_vector_registers}
#define SIXES(name, F) \
  ROW("2xpk16_" name "_f32", (narrow<F, Wide::F32, From::Interleaved>), "u:uuf"), \
  ROW("sr_pk32_" name "_f32", (narrow<F, Wide::F32, From::Stochastic>), "u:uuf"), \
  ROW("sr_pk32_" name "_f16", (narrow<F, Wide::F16, From::Stochastic>), "u:uuf"), \
  ROW("sr_pk32_" name "_bf16", (narrow<F, Wide::Bf16, From::Stochastic>), "u:uuf"), \
  ROW("pk32_" name "_f16", (narrow<F, Wide::F16, From::One>), "u:uf"), \
  ROW("pk32_" name "_bf16", (narrow<F, Wide::Bf16, From::One>), "u:uf"), \
  ROW("pk32_f32_" name, (widen<F, Wide::F32>), "u:uf"), \
  ROW("pk32_f16_" name, (widen<F, Wide::F16>), "u:uf"), \
  ROW("pk32_bf16_" name, (widen<F, Wide::Bf16>), "u:uf")
const ScalarDef kDefs[] = {SIXES("fp6", Small::fp6), SIXES("bf6", Small::bf6)};

}  // namespace

void register_valu_scalef32_wide() { add(kDefs, sizeof kDefs / sizeof kDefs[0]); }

}  // namespace vgpu::isa
