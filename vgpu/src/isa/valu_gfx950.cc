// Vector instructions that only gfx950 has, apart from the scaled conversions.
#include <algorithm>

#include "isa/registry.h"
#include "sem/arith.h"
#include "sem/convert.h"

namespace vgpu::isa {
namespace {

// Truth table of three inputs: bit (4x + 2y + z) of the table. It is spread over OMOD, ABS and NEG.
uint32_t table_of(const Inst& inst) { return inst.omod << 6 | (inst.abs & 7u) << 3 | (inst.neg & 7u); }
uint32_t apply(uint32_t table, uint32_t x, uint32_t y, uint32_t z) {
  uint32_t r = 0;
  for (unsigned t = 0; t < 8; ++t)
    if (table >> t & 1) r |= (t & 4 ? x : ~x) & (t & 2 ? y : ~y) & (t & 1 ? z : ~z);
  return r;
}
void bitop3_b32(Lanes& v) {
  const uint32_t table = table_of(v.op->inst);
  for (int l = 0; l < 64; ++l) v.out[l] = apply(table, v.a[l], v.b[l], v.c[l]);
}
void bitop3_b16(Lanes& v) {
  const Inst& inst = v.op->inst;
  const uint32_t table = table_of(inst);
  const uint32_t* old = v.w->vreg(inst.vdst);
  auto half = [&inst](uint32_t x, int i) { return inst.op_sel >> i & 1 ? x >> 16 : x & 0xffff; };
  for (int l = 0; l < 64; ++l) {
    const uint32_t r = apply(table, half(v.a[l], 0), half(v.b[l], 1), half(v.c[l], 2)) & 0xffff;
    v.out[l] = inst.op_sel & 8 ? (old[l] & 0xffff) | r << 16 : (old[l] & 0xffff0000u) | r;
  }
}

LANE_U1(prng_b32, x << 1 ^ (x >> 31 ? 197u : 0u))
LANE_U1(cvt_f32_bf16, x << 16)
uint32_t pack(uint32_t low, uint32_t high) { return (low & 0xffff) | high << 16; }
LANE_U2(cvt_pk_bf16_f32, pack(sem::f32_to_bf16(as_f32(x)), sem::f32_to_bf16(as_f32(y))))
LANE_U2(cvt_pk_f16_f32, pack(sem::f32_to_f16(as_f32(x), static_cast<sem::Round>(v.w->mode >> 2 & 3)),
                             sem::f32_to_f16(as_f32(y), static_cast<sem::Round>(v.w->mode >> 2 & 3))))
// The third source is the old destination; op_sel[3] chooses the half that is written.
template <uint16_t (*Convert)(float, uint32_t)>
void cvt_sr(Lanes& v) {
  const unsigned shift = v.op->inst.op_sel & 8 ? 16 : 0;
  for (int l = 0; l < 64; ++l) {
    const uint32_t r = Convert(as_f32(v.a[l]), v.b[l]);
    v.out[l] = (v.c[l] & ~(0xffffu << shift)) | r << shift;
  }
}
uint16_t sr_bf16(float x, uint32_t seed) { return sem::f32_to_bf16_sr(x, seed); }
uint16_t sr_f16(float x, uint32_t seed) { return sem::f32_to_f16_sr(x, seed); }

template <bool Signed>
uint32_t narrow(uint32_t x, uint32_t shift) {
  const int32_t t = static_cast<int32_t>(x) >> shift;
  return static_cast<uint32_t>(Signed ? std::min(std::max(t, -128), 127) : std::min(std::max(t, 0), 255)) & 255;
}
template <bool Signed>
void ashr_pk(Lanes& v) {
  const unsigned place = v.op->inst.op_sel & 8 ? 16 : 0;
  const uint32_t* old = v.w->vreg(v.op->inst.vdst);
  for (int l = 0; l < 64; ++l) {
    const uint32_t two = narrow<Signed>(v.a[l], v.c[l] & 31) | narrow<Signed>(v.b[l], v.c[l] & 31) << 8;
    v.out[l] = (old[l] & ~(0xffffu << place)) | two << place;
  }
}

// IEEE-754-2019 minimum and maximum: a NaN operand gives a NaN, -0 is below +0.
template <bool Max>
uint32_t strict(uint32_t x, uint32_t y) {
  const float f = as_f32(x), g = as_f32(y);
  if (f != f) return x | 0x400000u;
  if (g != g) return y | 0x400000u;
  if (f == g) return Max ? x & y : x | y;
  return (f > g) == Max ? x : y;
}
LANE_U3(minimum3_f32, strict<false>(strict<false>(x, y), z))
LANE_U3(maximum3_f32, strict<true>(strict<true>(x, y), z))

constexpr unsigned P = kOwnModifiers;
const LaneDef kDefs[] = {
    {"v_bitop3_b32", bitop3_b32, "u:uuu", P}, {"v_bitop3_b16", bitop3_b16, "u:www", P},
    {"v_prng_b32", prng_b32, "u:u"}, {"v_cvt_f32_bf16", cvt_f32_bf16, "f:u"},
    {"v_cvt_pk_bf16_f32", cvt_pk_bf16_f32, "u:ff"}, {"v_cvt_pk_f16_f32", cvt_pk_f16_f32, "u:ff"},
    {"v_cvt_sr_bf16_f32", cvt_sr<sr_bf16>, "u:fuu", kAccumulate},
    {"v_cvt_sr_f16_f32", cvt_sr<sr_f16>, "u:fuu", kAccumulate}, {"v_ashr_pk_i8_i32", ashr_pk<true>, "u:uuu", P},
    {"v_ashr_pk_u8_i32", ashr_pk<false>, "u:uuu", P}, {"v_minimum3_f32", minimum3_f32, "f:fff"},
    {"v_maximum3_f32", maximum3_f32, "f:fff"},
};

}  // namespace

void register_valu_gfx950() { add(kDefs, sizeof kDefs / sizeof kDefs[0]); }

}  // namespace vgpu::isa
