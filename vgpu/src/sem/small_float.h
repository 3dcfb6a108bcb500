// The 6- and 4-bit formats of gfx950 (fp6 = e2m3, bf6 = e3m2, fp4 = e2m1; no infinity, no NaN) and E8M0 scales.
#pragma once
#include "convert.h"

namespace vgpu::sem {

template <int EXPONENT_BITS, int MANTISSA_BITS>
struct SmallFloat {
  static constexpr int kBits = 1 + EXPONENT_BITS + MANTISSA_BITS;
  static constexpr int kBias = (1 << (EXPONENT_BITS - 1)) - 1;
  static constexpr uint32_t kMax = (1u << (kBits - 1)) - 1u;

  static float decode(uint32_t code) {
    const uint32_t magnitude = code & kMax, exponent = magnitude >> MANTISSA_BITS;
    const uint32_t mantissa = magnitude & ((1u << MANTISSA_BITS) - 1u);
    const int power = static_cast<int>(exponent ? exponent : 1) - kBias - MANTISSA_BITS;
    const float unit = float_of(static_cast<uint32_t>(power + 127) << 23);
    const float v = static_cast<float>(mantissa + (exponent ? 1u << MANTISSA_BITS : 0u)) * unit;
    return code > kMax ? -v : v;
  }
  // Overflow and infinity saturate; NaN becomes the largest value too, as the format has nothing better.
  static uint32_t encode(uint32_t f32_bits, Rounding how, uint32_t random) {
    const uint32_t magnitude = f32_bits & 0x7fffffffu;
    const uint32_t rounded = round_magnitude<MANTISSA_BITS, kBias>(magnitude, how, random);
    const uint32_t limited = magnitude >= 0x7f800000u || rounded > kMax ? kMax : rounded;
    return limited | (f32_bits >> 31 << (kBits - 1));
  }
};
using Fp6 = SmallFloat<2, 3>;
using Bf6 = SmallFloat<3, 2>;
using Fp4 = SmallFloat<2, 1>;

inline float fp6_to_f32(uint32_t code) { return Fp6::decode(code); }
inline float bf6_to_f32(uint32_t code) { return Bf6::decode(code); }
inline float fp4_to_f32(uint32_t code) { return Fp4::decode(code); }

inline double e8m0_to_f64(uint32_t byte) {
  return byte == 255 ? double_of(kNanF64) : double_of(static_cast<uint64_t>(byte - 127 + 1023) << 52);
}

}  // namespace vgpu::sem
