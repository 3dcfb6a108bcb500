// gfx950's scaled conversions of one or two elements (v_cvt_scalef32_*). The scale is the exponent of the last source;
// op_sel names the byte or half of the narrow side, whose other bits are kept.
#include "isa/registry.h"
#include "sem/convert.h"
#include "sem/scalef32.h"

namespace vgpu::isa {
namespace {

using sem::Small;

uint32_t exponent(uint32_t x) { return x >> 23 & 255; }
bool saturates(const Lanes& v) { return v.w->mode & kModeFp16Ovfl; }
constexpr unsigned bits_of(Small f) { return f == Small::fp4 ? 4 : 8; }
uint32_t insert(uint32_t old, uint32_t x, unsigned at, unsigned width) {
  const uint32_t mask = (width == 32 ? ~0u : (1u << width) - 1) << at;
  return (old & ~mask) | (x << at & mask);
}

// Where a pair of narrow elements lives: op_sel[3] chooses a half, op_sel[3:2] a byte; as a source op_sel[0], [1:0].
unsigned pair_target(Small f, unsigned op_sel) { return f == Small::fp4 ? 8 * (op_sel >> 2 & 3) : 16 * (op_sel >> 3 & 1); }
unsigned pair_source(Small f, unsigned op_sel) { return f == Small::fp4 ? 8 * (op_sel & 3) : 16 * (op_sel & 1); }

enum class Wide { F32, F16, Bf16 };
template <Wide W>
float half_to_f32(uint32_t x) {
  return W == Wide::F16 ? sem::f16_to_f32(static_cast<uint16_t>(x)) : sem::bf16_to_f32(static_cast<uint16_t>(x));
}
template <Wide W>
uint32_t from_small(Small f, uint32_t code, uint32_t scale) {
  if (W == Wide::F16) return sem::small_to_f16_scale(f, code, scale);
  const float x = sem::small_to_f32_scale(f, code, scale);
  return W == Wide::F32 ? as_u32(x) : sem::f32_to_bf16(x);
}

// Two elements to the narrow format. f32 elements are two sources, 16-bit ones the halves of one.
template <Small F, Wide W>
void pack(Lanes& v) {
  const Inst& inst = v.op->inst;
  const unsigned at = pair_target(F, inst.op_sel);
  const uint32_t* old = v.w->vreg(inst.vdst);
  const uint32_t* scales = W == Wide::F32 ? v.c : v.b;
  const bool saturate = saturates(v);
  for (int l = 0; l < 64; ++l) {
    const float x = W == Wide::F32 ? as_f32(v.a[l]) : half_to_f32<W>(v.a[l] & 0xffff);
    const float y = W == Wide::F32 ? as_f32(v.b[l]) : half_to_f32<W>(v.a[l] >> 16);
    const uint32_t scale = exponent(scales[l]);
    const uint32_t low = sem::f32_to_small_scale(F, x, scale, sem::Rounding::nearest_even, 0, saturate);
    const uint32_t high = sem::f32_to_small_scale(F, y, scale, sem::Rounding::nearest_even, 0, saturate);
    v.out[l] = insert(old[l], low | high << bits_of(F), at, 2 * bits_of(F));
  }
}

// One element, stochastically rounded with the second source as random bits, to byte op_sel[3:2].
template <Small F, Wide W>
void stochastic(Lanes& v) {
  const Inst& inst = v.op->inst;
  const uint32_t* old = v.w->vreg(inst.vdst);
  const bool saturate = saturates(v);
  for (int l = 0; l < 64; ++l) {
    const float x = W == Wide::F32 ? as_f32(v.a[l]) : half_to_f32<W>(v.a[l] & 0xffff);
    const uint32_t code =
        sem::f32_to_small_scale(F, x, exponent(v.c[l]), sem::Rounding::stochastic, v.b[l], saturate);
    v.out[l] = insert(old[l], code, 8 * (inst.op_sel >> 2 & 3), 8);
  }
}

// The same for two elements of fp4; the second takes the generator's next value. f32 elements are a register pair.
template <Wide W>
void stochastic_pair(Lanes& v) {
  const Inst& inst = v.op->inst;
  const uint32_t* old = v.w->vreg(inst.vdst);
  const bool saturate = saturates(v);
  for (int l = 0; l < 64; ++l) {
    const float x = W == Wide::F32 ? as_f32(v.a[l]) : half_to_f32<W>(v.a[l] & 0xffff);
    const float y = W == Wide::F32 ? as_f32(v.a[64 + l]) : half_to_f32<W>(v.a[l] >> 16);
    const uint32_t scale = exponent(v.c[l]), seed = v.b[l];
    const uint32_t low = sem::f32_to_small_scale(Small::fp4, x, scale, sem::Rounding::stochastic, seed, saturate);
    const uint32_t high =
        sem::f32_to_small_scale(Small::fp4, y, scale, sem::Rounding::stochastic, sem::prng_b32(seed), saturate);
    v.out[l] = insert(old[l], low | high << 4, 8 * (inst.op_sel >> 2 & 3), 8);
  }
}

// Two narrow elements to two dwords (f32) or one dword (16-bit).
template <Small F, Wide W>
void unpack(Lanes& v) {
  const unsigned at = pair_source(F, v.op->inst.op_sel), width = bits_of(F);
  const uint32_t mask = (1u << width) - 1;
  for (int l = 0; l < 64; ++l) {
    const uint32_t scale = exponent(v.b[l]), codes = v.a[l] >> at;
    const uint32_t low = from_small<W>(F, codes & mask, scale), high = from_small<W>(F, codes >> width & mask, scale);
    v.out[l] = W == Wide::F32 ? low : low | high << 16;
    if (W == Wide::F32) v.out[64 + l] = high;
  }
}

// One narrow element, byte op_sel[1:0]; an f16 result goes to the half that op_sel[3] names.
template <Small F, Wide W>
void widen(Lanes& v) {
  const Inst& inst = v.op->inst;
  const uint32_t* old = v.w->vreg(inst.vdst);
  for (int l = 0; l < 64; ++l) {
    const uint32_t x = from_small<W>(F, v.a[l] >> (8 * (inst.op_sel & 3)) & 255, exponent(v.b[l]));
    v.out[l] = W == Wide::F32 ? x : insert(old[l], x, inst.op_sel & 8 ? 16 : 0, 16);
  }
}

#define EIGHT_BIT(name, F) \
  {"v_cvt_scalef32_pk_" name "_f32", pack<F, Wide::F32>, "u:fff"}, \
  {"v_cvt_scalef32_pk_" name "_f16", pack<F, Wide::F16>, "u:uf"}, \
  {"v_cvt_scalef32_pk_" name "_bf16", pack<F, Wide::Bf16>, "u:uf"}, \
  {"v_cvt_scalef32_pk_f32_" name, unpack<F, Wide::F32>, "Q:uf"}, \
  {"v_cvt_scalef32_pk_f16_" name, unpack<F, Wide::F16>, "u:uf"}, \
  {"v_cvt_scalef32_pk_bf16_" name, unpack<F, Wide::Bf16>, "u:uf"}
#define SINGLE(name, F) \
  {"v_cvt_scalef32_sr_" name "_f32", stochastic<F, Wide::F32>, "u:fuf"}, \
  {"v_cvt_scalef32_sr_" name "_f16", stochastic<F, Wide::F16>, "u:uuf"}, \
  {"v_cvt_scalef32_sr_" name "_bf16", stochastic<F, Wide::Bf16>, "u:uuf"}, \
  {"v_cvt_scalef32_f32_" name, widen<F, Wide::F32>, "u:uf"}, \
  {"v_cvt_scalef32_f16_" name, widen<F, Wide::F16>, "u:uf"}
const LaneDef kDefs[] = {
    EIGHT_BIT("fp8", Small::fp8), EIGHT_BIT("bf8", Small::bf8), EIGHT_BIT("fp4", Small::fp4),
    SINGLE("fp8", Small::fp8), SINGLE("bf8", Small::bf8),
    {"v_cvt_scalef32_sr_pk_fp4_f32", stochastic_pair<Wide::F32>, "u:Quf"},
    {"v_cvt_scalef32_sr_pk_fp4_f16", stochastic_pair<Wide::F16>, "u:uuf"},
    {"v_cvt_scalef32_sr_pk_fp4_bf16", stochastic_pair<Wide::Bf16>, "u:uuf"},
};

}  // namespace

void register_valu_scalef32() { add(kDefs, sizeof kDefs / sizeof kDefs[0]); }

}  // namespace vgpu::isa
