// 16-bit and 8-bit floats on the host, round to nearest even.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "sem/fp8.h"

namespace vgpu::hip {

inline float float_of_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
inline uint32_t bits_of_float(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}

struct Bf16 {
  uint16_t bits;
  Bf16() = default;
  explicit Bf16(float value) {
    const uint32_t wide = bits_of_float(value);
    bits = std::isnan(value) ? (wide >> 16) | 0x40 : (wide + 0x7fff + ((wide >> 16) & 1)) >> 16;
  }
  operator float() const { return float_of_bits(uint32_t{bits} << 16); }
};

struct F16 {
  uint16_t bits;
  F16() = default;
  explicit F16(float value) {
    const uint32_t wide = bits_of_float(value);
    const uint16_t sign = wide >> 16 & 0x8000;
    const float magnitude = std::fabs(value);
    if (std::isnan(value)) bits = sign | 0x7e00;
    else if (magnitude >= 65520.0f) bits = sign | 0x7c00;
    else if (magnitude < 0x1p-14f) bits = sign | static_cast<uint16_t>(std::nearbyint(magnitude * 0x1p24f));
    else {
      const uint32_t m = bits_of_float(magnitude);
      bits = sign | static_cast<uint16_t>((m + 0xfff + ((m >> 13) & 1) - 0x38000000) >> 13);
    }
  }
  operator float() const {
    const uint32_t exponent = bits >> 10 & 31, mantissa = bits & 0x3ff;
    const float sign = bits & 0x8000 ? -1.0f : 1.0f;
    if (exponent == 31) return mantissa ? float_of_bits(0x7fc00000) : sign * INFINITY;
    if (exponent == 0) return sign * std::ldexp(static_cast<float>(mantissa), -24);
    return sign * std::ldexp(static_cast<float>(mantissa | 0x400), static_cast<int>(exponent) - 25);
  }
};

// e4m3, or e5m2 (BF8). What is too large becomes the largest number, as in AMD's libraries.
template <bool BF8, sem::Fp8 KIND>
struct F8 {
  uint8_t bits;
  F8() = default;
  explicit F8(float value) : bits(sem::f32_to_8bit<BF8, KIND>(bits_of_float(value), sem::Rounding::nearest_even, 0, true)) {}
  operator float() const { return BF8 ? sem::bf8_to_f32(bits, KIND) : sem::fp8_to_f32(bits, KIND); }
};

}  // namespace vgpu::hip
