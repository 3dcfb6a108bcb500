// 8-bit floating point: fp8 is e4m3, bf8 is e5m2.
//   FNUZ (gfx942): bias 8 / 16, no infinity, no negative zero, 0x80 is NaN. Largest 240 / 57344.
//   OCP  (gfx950): bias 7 / 15. e4m3 has no infinity, NaN is 0x7f/0xff, largest 448; e5m2 is like f16, largest 57344.
//
// Down-conversion without saturation gives NaN on overflow where the format has no infinity. `saturate` (MODE.FP16_OVFL)
// clamps finite values only: an infinity stays an infinity, or NaN where there is none.
#pragma once
#include "convert.h"

namespace vgpu::sem {

// Decoded values of all 256 codes: [0] fp8 fnuz, [1] fp8 ocp, [2] bf8 fnuz, [3] bf8 ocp (see fp8.cc).
extern const float* const kFp8Table[4];

inline float fp8_to_f32(uint8_t code, Fp8 kind) { return kFp8Table[kind == Fp8::ocp ? 1 : 0][code]; }
inline float bf8_to_f32(uint8_t code, Fp8 kind) { return kFp8Table[kind == Fp8::ocp ? 3 : 2][code]; }

template <bool BF8, Fp8 KIND>
inline uint8_t f32_to_8bit(uint32_t u, Rounding how, uint32_t seed, bool saturate) {
  constexpr bool kFnuz = KIND == Fp8::fnuz;
  constexpr int kMantissa = BF8 ? 2 : 3;
  constexpr int kBias = (BF8 ? 15 : 7) + (kFnuz ? 1 : 0);
  constexpr uint32_t kMax = kFnuz ? 0x7fu : BF8 ? 0x7bu : 0x7eu;
  constexpr uint32_t kNan = kFnuz ? 0x80u : 0x7fu;
  constexpr uint32_t kInf = kFnuz ? 0x80u : BF8 ? 0x7cu : 0x7fu;
  const uint32_t magnitude = u & 0x7fffffffu;
  const uint32_t rounded = round_magnitude<kMantissa, kBias>(magnitude, how, seed);
  uint32_t r = rounded > kMax ? (saturate ? kMax : kInf) : rounded;
  r = magnitude == 0x7f800000u ? kInf : r;
  r = magnitude > 0x7f800000u ? kNan : r;
  const uint32_t sign = (u >> 24) & 0x80u;
  // FNUZ: negative zero would be the NaN code, so zero has no sign; NaN already carries bit 7.
  const bool signless = kFnuz && (r == 0 || r == 0x80u);
  return static_cast<uint8_t>(signless ? r : r | sign);
}

template <bool BF8>
inline uint8_t f32_to_8bit(float x, Fp8 kind, Rounding how, uint32_t seed, bool saturate) {
  return kind == Fp8::fnuz ? f32_to_8bit<BF8, Fp8::fnuz>(bits_of(x), how, seed, saturate)
                           : f32_to_8bit<BF8, Fp8::ocp>(bits_of(x), how, seed, saturate);
}

inline uint8_t f32_to_fp8(float x, Fp8 kind, bool saturate) {
  return f32_to_8bit<false>(x, kind, Rounding::nearest_even, 0, saturate);
}
inline uint8_t f32_to_bf8(float x, Fp8 kind, bool saturate) {
  return f32_to_8bit<true>(x, kind, Rounding::nearest_even, 0, saturate);
}

// v_cvt_sr_*: seed[31:12] (fp8) or seed[31:11] (bf8) is added to the mantissa, a carry going into the exponent, and the
// dropped bits are cut off. AMD's published pseudo-code says "wrap around on overflow" and rounds again, which would
// halve values just below a power of two; AMD's own software model of the instruction carries and truncates, as here.
inline uint8_t f32_to_fp8_sr(float x, uint32_t seed, Fp8 kind, bool saturate) {
  return f32_to_8bit<false>(x, kind, Rounding::stochastic, seed, saturate);
}
inline uint8_t f32_to_bf8_sr(float x, uint32_t seed, Fp8 kind, bool saturate) {
  return f32_to_8bit<true>(x, kind, Rounding::stochastic, seed, saturate);
}

}  // namespace vgpu::sem
