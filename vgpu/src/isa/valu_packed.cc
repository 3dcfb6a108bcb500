// VOP3P: two 16-bit or two 32-bit values per operand, mixed-precision multiply-adds and dot products.
//
// These kernels apply op_sel, op_sel_hi and the two sets of negations themselves (kOwnModifiers).
#include <algorithm>

#include "isa/registry.h"
#include "sem/arith.h"
#include "sem/convert.h"

namespace vgpu::isa {
namespace {

uint16_t half(uint32_t x, bool high) { return static_cast<uint16_t>(high ? x >> 16 : x); }

// Source i of result part p (0 low, 1 high) as 16 bits, negated if asked.
struct Selector {
  const Inst& inst;
  bool floating;
  uint16_t get(uint32_t x, int i, int p) const {
    const unsigned sel = p ? inst.op_sel_hi : inst.op_sel, neg = p ? inst.abs : inst.neg;
    uint16_t r = half(x, sel >> i & 1);
    if (floating && (neg >> i & 1)) r ^= 0x8000;
    return r;
  }
};

struct Context {
  sem::Round round;
  bool ieee, clamp, dx10;
  explicit Context(const Lanes& v)
      : round(static_cast<sem::Round>(v.w->mode >> 2 & 3)), ieee(v.w->mode & kModeIeee), clamp(v.op->inst.clamp),
        dx10(v.w->mode & kModeDx10Clamp) {
    if (v.w->mode & kModeFp16Ovfl) fail("f16 arithmetic with MODE.FP16_OVFL set is not supported");
    if ((v.w->mode & kModeDenorm64) != kModeDenorm64) fail("flushing f16 denormals in packed instructions is not supported");
  }
};

uint16_t clamp_f16(uint16_t x, const Context& c) {
  if (!c.clamp) return x;
  const float f = sem::f16_to_f32(x);
  if (f != f) return c.dx10 ? 0 : x;
  return f <= 0 ? 0 : f >= 1 ? 0x3c00 : x;
}

using F16Op = uint16_t (*)(uint16_t, uint16_t, uint16_t, const Context&);
template <F16Op F>
void packed_f16(Lanes& v) {
  const Selector s{v.op->inst, true};
  const Context c(v);
  for (int l = 0; l < 64; ++l) {
    uint32_t r = 0;
    for (int p = 0; p < 2; ++p) {
      const uint16_t z = v.c ? s.get(v.c[l], 2, p) : 0;
      r |= static_cast<uint32_t>(clamp_f16(F(s.get(v.a[l], 0, p), s.get(v.b[l], 1, p), z, c), c)) << (16 * p);
    }
    v.out[l] = r;
  }
}
uint16_t add_f16(uint16_t x, uint16_t y, uint16_t, const Context& c) { return sem::add_f16(x, y, c.round); }
uint16_t mul_f16(uint16_t x, uint16_t y, uint16_t, const Context& c) { return sem::mul_f16(x, y, c.round); }
uint16_t fma_f16(uint16_t x, uint16_t y, uint16_t z, const Context& c) { return sem::fma_f16(x, y, z, c.round); }
uint16_t min_f16(uint16_t x, uint16_t y, uint16_t, const Context& c) { return sem::min_f16(x, y, c.ieee); }
uint16_t max_f16(uint16_t x, uint16_t y, uint16_t, const Context& c) { return sem::max_f16(x, y, c.ieee); }
// gfx950, IEEE 754-2019: a NaN wins, -0 is below +0.
template <bool Max>
uint16_t strict(uint16_t x, uint16_t y) {
  const float f = sem::f16_to_f32(x), g = sem::f16_to_f32(y);
  if (f != f) return x | 0x200;
  if (g != g) return y | 0x200;
  if (f == g) return Max ? x & y : x | y;
  return (f > g) == Max ? x : y;
}
template <bool Max>
uint16_t strict3(uint16_t x, uint16_t y, uint16_t z, const Context&) { return strict<Max>(strict<Max>(x, y), z); }

using I16Op = int64_t (*)(int32_t, int32_t, int32_t);
template <I16Op F, bool Signed>
void packed_i16(Lanes& v) {
  const Selector s{v.op->inst, false};
  const bool clamp = v.op->inst.clamp;
  auto get = [&](uint32_t x, int i, int p) {
    const uint16_t h = s.get(x, i, p);
    return Signed ? static_cast<int32_t>(static_cast<int16_t>(h)) : static_cast<int32_t>(h);
  };
  for (int l = 0; l < 64; ++l) {
    uint32_t r = 0;
    for (int p = 0; p < 2; ++p) {
      int64_t t = F(get(v.a[l], 0, p), get(v.b[l], 1, p), v.c ? get(v.c[l], 2, p) : 0);
      if (clamp) t = Signed ? std::min<int64_t>(std::max<int64_t>(t, -32768), 32767) : std::min<int64_t>(std::max<int64_t>(t, 0), 65535);
      r |= static_cast<uint32_t>(static_cast<uint16_t>(t)) << (16 * p);
    }
    v.out[l] = r;
  }
}
int64_t add(int32_t x, int32_t y, int32_t) { return int64_t{x} + y; }
int64_t sub(int32_t x, int32_t y, int32_t) { return int64_t{x} - y; }
int64_t mul(int32_t x, int32_t y, int32_t) { return int64_t{x} * y; }
int64_t mad(int32_t x, int32_t y, int32_t z) { return int64_t{x} * y + z; }
int64_t min(int32_t x, int32_t y, int32_t) { return std::min(x, y); }
int64_t max(int32_t x, int32_t y, int32_t) { return std::max(x, y); }
int64_t shl(int32_t x, int32_t y, int32_t) { return int64_t{y} << (x & 15); }
int64_t shr(int32_t x, int32_t y, int32_t) { return y >> (x & 15); }

// Two f32 per operand. A constant has a value in its low half only.
struct Part32 {
  const uint32_t* p;
  uint32_t sign;
  Part32(const Inst& inst, const uint32_t* source, int i, int part)
      : p(source + ((part ? inst.op_sel_hi : inst.op_sel) >> i & 1 ? 64 : 0)),
        sign((part ? inst.abs : inst.neg) >> i & 1 ? 0x80000000u : 0) {}
  float at(int l) const { return as_f32(p[l] ^ sign); }
};
void refuse_high_constants(const Lanes& v) {
  for (int i = 0; i < v.op->sources; ++i)
    if (v.op->kind[i] == Src::Const && ((v.op->inst.op_sel | v.op->inst.op_sel_hi) >> i & 1))
      fail("the high half of a constant in a packed f32 instruction is not supported");
}
uint32_t finish(float r, bool nan_operand, bool clamp) {
  if (clamp) r = r > 0 ? (r < 1 ? r : 1.0f) : 0.0f;
  return r != r && !nan_operand ? 0x7fc00000u : as_u32(r);
}
template <int Which>  // 0 add, 1 mul, 2 fma
void packed_f32(Lanes& v) {
  refuse_high_constants(v);
  const Inst& inst = v.op->inst;
  for (int part = 0; part < 2; ++part) {
    const Part32 sx(inst, v.a, 0, part), sy(inst, v.b, 1, part), sz(inst, Which == 2 ? v.c : v.a, Which == 2 ? 2 : 0, part);
    uint32_t* __restrict out = v.out + part * 64;
    for (int l = 0; l < 64; ++l) {
      const float x = sx.at(l), y = sy.at(l), z = sz.at(l);
      const float r = Which == 0 ? x + y : Which == 1 ? x * y : __builtin_fmaf(x, y, z);
      out[l] = r != r && x == x && y == y && z == z ? 0x7fc00000u : as_u32(r);
    }
    if (inst.clamp)
      for (int l = 0; l < 64; ++l) out[l] = finish(as_f32(out[l]), true, true);
  }
}
void pk_mov(Lanes& v) {
  const unsigned sel = v.op->inst.op_sel;
  refuse_high_constants(v);
  std::memcpy(v.out, v.a + (sel & 1 ? 64 : 0), 256);
  std::memcpy(v.out + 64, v.b + (sel & 2 ? 64 : 0), 256);
}

// fma_mix: each source is f32, or (op_sel_hi) the half of it that op_sel names; abs and neg apply.
float mix_source(const Lanes& v, const uint32_t* p, int i, int l) {
  const Inst& inst = v.op->inst;
  float x = inst.op_sel_hi >> i & 1 ? sem::f16_to_f32(half(p[l], inst.op_sel >> i & 1)) : as_f32(p[l]);
  if (inst.abs >> i & 1) x = __builtin_fabsf(x);
  return inst.neg >> i & 1 ? -x : x;
}
// An inline constant that is read as f16 has the f16 pattern in its low half. `tmp` is the broadcast source.
const uint32_t* mix_constant(const Lanes& v, const uint32_t* p, int i, uint32_t* tmp) {
  const unsigned code = v.op->inst.src[i];
  if (v.op->kind[i] != Src::Const || !(v.op->inst.op_sel_hi >> i & 1) || code < 240) return p;
  for (int l = 0; l < 64; ++l) tmp[l] = sem::f32_to_f16(as_f32(p[l]));
  return tmp;
}
struct MixSources {
  uint32_t tmp[3][64];
  explicit MixSources(Lanes& v) {
    v.a = mix_constant(v, v.a, 0, tmp[0]);
    v.b = mix_constant(v, v.b, 1, tmp[1]);
    v.c = mix_constant(v, v.c, 2, tmp[2]);
  }
};
float mix(const Lanes& v, int l) {
  const float r = __builtin_fmaf(mix_source(v, v.a, 0, l), mix_source(v, v.b, 1, l), mix_source(v, v.c, 2, l));
  if (!v.op->inst.clamp) return r;
  return r > 0 ? (r < 1 ? r : 1.0f) : 0.0f;
}
void mix_f32(Lanes& v) {
  const MixSources constants(v);
  for (int l = 0; l < 64; ++l) v.out[l] = as_u32(mix(v, l));
}
template <bool High>
void mix_f16(Lanes& v) {
  const MixSources constants(v);
  const Context c(v);
  const uint32_t* old = v.w->vreg(v.op->inst.vdst);
  for (int l = 0; l < 64; ++l) {
    const uint32_t h = sem::f32_to_f16(mix(v, l), c.round);
    v.out[l] = High ? (old[l] & 0xffff) | h << 16 : (old[l] & 0xffff0000u) | h;
  }
}

// Dot products add to the last source in order. Elements are Bits wide.
template <int Bits, bool Signed>
void dot_int(Lanes& v) {
  const bool clamp = v.op->inst.clamp;
  for (int l = 0; l < 64; ++l) {
    int64_t sum = Signed ? static_cast<int64_t>(static_cast<int32_t>(v.c[l])) : static_cast<int64_t>(v.c[l]);
    for (int e = 0; e < 32; e += Bits) {
      auto get = [e](uint32_t x) -> int64_t {
        const uint32_t t = x << (32 - Bits - e);
        return Signed ? static_cast<int32_t>(t) >> (32 - Bits) : static_cast<int64_t>(t >> (32 - Bits));
      };
      sum += get(v.a[l]) * get(v.b[l]);
    }
    if (clamp) sum = Signed ? std::min<int64_t>(std::max<int64_t>(sum, INT32_MIN), INT32_MAX) : std::min<int64_t>(std::max<int64_t>(sum, 0), UINT32_MAX);
    v.out[l] = static_cast<uint32_t>(sum);
  }
}
template <bool Bf16>
float to_f32(uint16_t x) { return Bf16 ? sem::bf16_to_f32(x) : sem::f16_to_f32(x); }
template <bool Bf16, bool Packed>  // Packed: VOP3P, which has op_sel; otherwise the VOP2 accumulating form
void dot2_f32(Lanes& v) {
  constexpr bool kLast = Bf16 && Packed;  // v_dot2_f32_bf16 adds the third source after the products
  const Selector s{v.op->inst, true};
  for (int l = 0; l < 64; ++l) {
    float last = as_f32(v.c[l]);
    if (Packed && (v.op->inst.neg & 4)) last = -last;
    float sum = kLast ? 0.0f : last;
    for (int p = 0; p < 2; ++p) {
      const uint16_t x = Packed ? s.get(v.a[l], 0, p) : half(v.a[l], p), y = Packed ? s.get(v.b[l], 1, p) : half(v.b[l], p);
      sum = __builtin_fmaf(to_f32<Bf16>(x), to_f32<Bf16>(y), sum);
    }
    v.out[l] = finish(kLast ? sum + last : sum, false, v.op->inst.clamp);
  }
}
void pk_fmac_f16(Lanes& v) {
  const Context c(v);
  for (int l = 0; l < 64; ++l) {
    uint32_t r = 0;
    for (int p = 0; p < 2; ++p)
      r |= static_cast<uint32_t>(sem::fma_f16(half(v.a[l], p), half(v.b[l], p), half(v.c[l], p), c.round)) << (16 * p);
    v.out[l] = r;
  }
}

constexpr unsigned P = kOwnModifiers, A = kOwnModifiers | kAccumulate;
const LaneDef kDefs[] = {
    {"v_pk_add_f16", packed_f16<add_f16>, "u:hh", P}, {"v_pk_mul_f16", packed_f16<mul_f16>, "u:hh", P},
    {"v_pk_fma_f16", packed_f16<fma_f16>, "u:hhh", P}, {"v_pk_min_f16", packed_f16<min_f16>, "u:hh", P},
    {"v_pk_max_f16", packed_f16<max_f16>, "u:hh", P}, {"v_pk_minimum3_f16", packed_f16<strict3<false>>, "u:hhh", P},
    {"v_pk_maximum3_f16", packed_f16<strict3<true>>, "u:hhh", P}, {"v_pk_add_u16", packed_i16<add, false>, "u:ww", P},
    {"v_pk_add_i16", packed_i16<add, true>, "u:ww", P}, {"v_pk_sub_u16", packed_i16<sub, false>, "u:ww", P},
    {"v_pk_sub_i16", packed_i16<sub, true>, "u:ww", P}, {"v_pk_mul_lo_u16", packed_i16<mul, false>, "u:ww", P},
    {"v_pk_mad_u16", packed_i16<mad, false>, "u:www", P}, {"v_pk_mad_i16", packed_i16<mad, true>, "u:www", P},
    {"v_pk_min_u16", packed_i16<min, false>, "u:ww", P}, {"v_pk_min_i16", packed_i16<min, true>, "u:ww", P},
    {"v_pk_max_u16", packed_i16<max, false>, "u:ww", P}, {"v_pk_max_i16", packed_i16<max, true>, "u:ww", P},
    {"v_pk_lshlrev_b16", packed_i16<shl, false>, "u:ww", P}, {"v_pk_lshrrev_b16", packed_i16<shr, false>, "u:ww", P},
    {"v_pk_ashrrev_i16", packed_i16<shr, true>, "u:ww", P}, {"v_pk_add_f32", packed_f32<0>, "p:pp", P},
    {"v_pk_mul_f32", packed_f32<1>, "p:pp", P}, {"v_pk_fma_f32", packed_f32<2>, "p:ppp", P},
    {"v_pk_mov_b32", pk_mov, "p:pp", P}, {"v_fma_mix_f32", mix_f32, "u:fff", P},
    {"v_fma_mixlo_f16", mix_f16<false>, "u:fff", P}, {"v_fma_mixhi_f16", mix_f16<true>, "u:fff", P},
    {"v_dot2_f32_f16", dot2_f32<false, true>, "u:hhf", P}, {"v_dot2_f32_bf16", dot2_f32<true, true>, "u:hhf", P},
    {"v_dot2_i32_i16", dot_int<16, true>, "u:uuu", P}, {"v_dot2_u32_u16", dot_int<16, false>, "u:uuu", P},
    {"v_dot4_i32_i8", dot_int<8, true>, "u:uuu", P}, {"v_dot4_u32_u8", dot_int<8, false>, "u:uuu", P},
    {"v_dot8_i32_i4", dot_int<4, true>, "u:uuu", P}, {"v_dot8_u32_u4", dot_int<4, false>, "u:uuu", P},
    {"v_dot2c_f32_f16", dot2_f32<false, false>, "u:hhf", A}, {"v_dot2c_f32_bf16", dot2_f32<true, false>, "u:hhf", A},
    {"v_dot2c_i32_i16", dot_int<16, true>, "u:uuu", A}, {"v_dot4c_i32_i8", dot_int<8, true>, "u:uuu", A},
    {"v_dot8c_i32_i4", dot_int<4, true>, "u:uuu", A}, {"v_pk_fmac_f16", pk_fmac_f16, "u:hhh", A},
};

}  // namespace

void register_valu_packed() { add(kDefs, sizeof kDefs / sizeof kDefs[0]); }

}  // namespace vgpu::isa
