// gfx950's scaled conversions (v_cvt_scalef32_*): to a small format after dividing by 2^(scale-127), and back with a
// multiplication. `scale` is the exponent field of the instruction's f32 scale operand; 255 makes the result NaN, or
// the largest value in the formats that have no NaN.
#pragma once
#include "fp8.h"
#include "small_float.h"

namespace vgpu::sem {

enum class Small : uint8_t { fp8, bf8, fp6, bf6, fp4 };

namespace detail {
// x / 2^(scale-127) as an f32 that rounds to any small format as the exact quotient would: beyond f32's range only
// "too large" and "nonzero but tiny" matter.
inline float divided(float x, uint32_t scale) {
  const uint32_t u = bits_of(x), magnitude = u & 0x7fffffffu, sign = u & 0x80000000u;
  if (magnitude >= 0x7f800000u || magnitude == 0) return x;
  if (scale == 255) return float_of(kNanF32);
  int exponent = static_cast<int>(magnitude >> 23);
  uint32_t mantissa = magnitude & 0x7fffffu;
  if (exponent == 0) {
    const int shift = __builtin_clz(mantissa) - 8;
    mantissa = (mantissa << shift) & 0x7fffffu;
    exponent = 1 - shift;
  }
  exponent += 127 - static_cast<int>(scale);
  if (exponent >= 255) return float_of(sign | 0x7f7fffffu);
  if (exponent <= 0) return float_of(sign | 0x00800000u);
  return float_of(sign | static_cast<uint32_t>(exponent) << 23 | mantissa);
}
inline float multiplied(float x, uint32_t scale) {
  return scale == 255 ? float_of(kNanF32) : static_cast<float>(static_cast<double>(x) * e8m0_to_f64(scale));
}
}  // namespace detail

// `how` is nearest_even, or stochastic with `seed`. The 8-bit formats are OCP here, as everywhere on gfx950.
inline uint32_t f32_to_small_scale(Small format, float x, uint32_t scale, Rounding how, uint32_t seed, bool saturate) {
  const float y = detail::divided(x, scale);
  switch (format) {
    case Small::fp8: return f32_to_8bit<false, Fp8::ocp>(bits_of(y), how, seed, saturate);
    case Small::bf8: return f32_to_8bit<true, Fp8::ocp>(bits_of(y), how, seed, saturate);
    case Small::fp6: return Fp6::encode(bits_of(y), how, seed);
    case Small::bf6: return Bf6::encode(bits_of(y), how, seed);
    default: return Fp4::encode(bits_of(y), how, seed);
  }
}

inline float small_to_f32_scale(Small format, uint32_t code, uint32_t scale) {
  switch (format) {
    case Small::fp8: return detail::multiplied(fp8_to_f32(static_cast<uint8_t>(code), Fp8::ocp), scale);
    case Small::bf8: return detail::multiplied(bf8_to_f32(static_cast<uint8_t>(code), Fp8::ocp), scale);
    case Small::fp6: return detail::multiplied(fp6_to_f32(code), scale);
    case Small::bf6: return detail::multiplied(bf6_to_f32(code), scale);
    default: return detail::multiplied(fp4_to_f32(code), scale);
  }
}
// Every small value times a power of two is exact in f32 (or out of range), so these round once.
inline uint16_t small_to_f16_scale(Small format, uint32_t code, uint32_t scale) {
  return f32_to_f16(small_to_f32_scale(format, code, scale));
}
inline uint16_t small_to_bf16_scale(Small format, uint32_t code, uint32_t scale) {
  return f32_to_bf16(small_to_f32_scale(format, code, scale));
}

// The generator behind the packed stochastic forms: each element uses the next value.
inline uint32_t prng_b32(uint32_t seed) { return seed << 1 ^ ((seed >> 31) ? 197u : 0u); }

}  // namespace vgpu::sem
