// Floating-point helpers of the instruction set: frexp, ldexp, fract, class, and the cube-map functions.
#pragma once
#include "convert.h"

namespace vgpu::sem {

// ---- frexp: x = mantissa * 2^exponent with |mantissa| in [0.5, 1). 0, inf and NaN: exponent 0, mantissa unchanged ----

inline int32_t frexp_exp_i32_f32(uint32_t u) {
  const uint32_t magnitude = u & 0x7fffffffu;
  if (magnitude == 0 || magnitude >= 0x7f800000u) return 0;
  if (magnitude >= 0x800000u) return static_cast<int32_t>(magnitude >> 23) - 126;
  return -117 - __builtin_clz(magnitude);  // denormal: 2^-149 * mantissa
}
inline uint32_t frexp_mant_f32(uint32_t u) {
  const uint32_t magnitude = u & 0x7fffffffu, sign = u & 0x80000000u;
  if (magnitude == 0) return u;
  if (magnitude >= 0x7f800000u) return magnitude > 0x7f800000u ? u | 0x400000u : u;
  const uint32_t mantissa = magnitude >= 0x800000u ? magnitude : magnitude << (__builtin_clz(magnitude) - 8);
  return sign | 0x3f000000u | (mantissa & 0x7fffffu);
}
inline int32_t frexp_exp_i32_f64(uint64_t u) {
  const uint64_t magnitude = u & 0x7fffffffffffffffull;
  if (magnitude == 0 || magnitude >= 0x7ff0000000000000ull) return 0;
  if (magnitude >> 52) return static_cast<int32_t>(magnitude >> 52) - 1022;
  return -1010 - __builtin_clzll(magnitude);
}
inline uint64_t frexp_mant_f64(uint64_t u) {
  const uint64_t magnitude = u & 0x7fffffffffffffffull, sign = u & 0x8000000000000000ull;
  if (magnitude == 0) return u;
  if (magnitude >= 0x7ff0000000000000ull) return is_nan_f64(u) ? u | 0x8000000000000ull : u;
  const uint64_t mantissa = magnitude >> 52 ? magnitude : magnitude << (__builtin_clzll(magnitude) - 11);
  return sign | 0x3fe0000000000000ull | (mantissa & 0xfffffffffffffull);
}
inline int16_t frexp_exp_i16_f16(uint16_t h) { return static_cast<int16_t>(frexp_exp_i32_f32(bits_of(f16_to_f32(h)))); }
inline uint16_t frexp_mant_f16(uint16_t h) { return f32_to_f16(float_of(frexp_mant_f32(bits_of(f16_to_f32(h))))); }

// ---- ldexp: x * 2^n, one rounding ------------------------------------------------------------------------------------

namespace detail {
inline double scale_f64(double x, int32_t n) {
  // At most three exact steps and one that may round (the last one only, as the steps go in one direction and a
  // denormal operand is first made normal).
  return __builtin_ldexp(x, n);
}
}  // namespace detail

// The f64 product is exact for every n in range, so the narrowing is the only rounding (by the current mode).
inline uint32_t ldexp_f32(uint32_t u, int32_t n) {
  if (is_nan_f32(u)) return u | 0x400000u;
  const int32_t limited = n > 400 ? 400 : n < -400 ? -400 : n;
  return bits_of(static_cast<float>(static_cast<double>(float_of(u)) *
                                    double_of(static_cast<uint64_t>(limited + 1023) << 52)));
}
inline uint64_t ldexp_f64(uint64_t u, int32_t n) {
  if (is_nan_f64(u)) return u | 0x8000000000000ull;
  const int32_t limited = n > 5000 ? 5000 : n < -5000 ? -5000 : n;
  return bits_of(detail::scale_f64(double_of(u), limited));
}
inline uint16_t ldexp_f16(uint16_t h, int16_t n, Round round = Round::nearest_even) {
  const int32_t limited = n > 60 ? 60 : n < -60 ? -60 : n;  // 2^-24 * 2^60 and 65504 * 2^-60 are beyond the format
  return f32_to_f16(float_of(ldexp_f32(bits_of(f16_to_f32(h)), limited)), round);
}

// ---- fract: x - floor(x), kept below one -----------------------------------------------------------------------------

// The largest value below one replaces a difference that would round to one; infinity gives NaN (inf - inf).
inline uint32_t fract_f32(uint32_t u) {
  const float x = float_of(u), r = x - __builtin_floorf(x);
  if (r != r) return is_nan_f32(u) ? u | 0x400000u : kNanF32;
  return bits_of(r < 1.0f ? r : float_of(0x3f7fffffu));
}
inline uint64_t fract_f64(uint64_t u) {
  const double x = double_of(u), r = x - __builtin_floor(x);
  if (r != r) return is_nan_f64(u) ? u | 0x8000000000000ull : kNanF64;
  return bits_of(r < 1.0 ? r : double_of(0x3fefffffffffffffull));
}
inline uint16_t fract_f16(uint16_t h) {
  const float x = f16_to_f32(h), r = x - __builtin_floorf(x);
  if (r != r) return is_nan_f16(h) ? static_cast<uint16_t>(h | 0x200u) : kNanF16;
  const uint16_t rounded = f32_to_f16(r);
  return rounded < 0x3c00u ? rounded : 0x3bffu;
}

// ---- class -----------------------------------------------------------------------------------------------------------

// mask bits: 0 signalling NaN, 1 quiet NaN, 2 -inf, 3 -normal, 4 -denormal, 5 -0, 6 +0, 7 +denormal, 8 +normal, 9 +inf
namespace detail {
template <class Bits>
inline bool in_class(Bits u, int mantissa_bits, Bits infinity, uint32_t mask) {
  const Bits sign = static_cast<Bits>(Bits(1) << (sizeof(Bits) * 8 - 1)), magnitude = static_cast<Bits>(u & ~sign);
  if (magnitude > infinity) return mask >> ((u >> (mantissa_bits - 1)) & 1) & 1;
  const int distance = magnitude == infinity ? 0 : magnitude >> mantissa_bits ? 1 : magnitude ? 2 : 3;
  return mask >> ((u & sign) ? 2 + distance : 9 - distance) & 1;
}
}  // namespace detail
inline bool class_f32(uint32_t u, uint32_t mask) { return detail::in_class<uint32_t>(u, 23, 0x7f800000u, mask); }
inline bool class_f64(uint64_t u, uint32_t mask) {
  return detail::in_class<uint64_t>(u, 52, 0x7ff0000000000000ull, mask);
}
inline bool class_f16(uint16_t u, uint32_t mask) { return detail::in_class<uint16_t>(u, 10, 0x7c00u, mask); }

// ---- cube maps: face id, s and t coordinates, twice the major axis ---------------------------------------------------

inline uint32_t cubeid_f32(uint32_t x, uint32_t y, uint32_t z) {
  const float ax = float_of(x & 0x7fffffffu), ay = float_of(y & 0x7fffffffu), az = float_of(z & 0x7fffffffu);
  const int axis = az >= ax && az >= ay ? 2 : ay >= ax ? 1 : 0;
  const float major = float_of(axis == 2 ? z : axis == 1 ? y : x);
  return bits_of(static_cast<float>(2 * axis + (major < 0.0f)));
}
inline uint32_t cubesc_f32(uint32_t x, uint32_t y, uint32_t z) {
  const uint32_t minus = 0x80000000u;
  switch (static_cast<int>(float_of(cubeid_f32(x, y, z)))) {
    case 5: return x ^ minus;
    case 4: case 3: case 2: return x;
    case 1: return z;
    default: return z ^ minus;
  }
}
inline uint32_t cubetc_f32(uint32_t x, uint32_t y, uint32_t z) {
  const uint32_t minus = 0x80000000u;
  switch (static_cast<int>(float_of(cubeid_f32(x, y, z)))) {
    case 3: return z ^ minus;
    case 2: return z;
    default: return y ^ minus;
  }
}
inline uint32_t cubema_f32(uint32_t x, uint32_t y, uint32_t z) {
  const int face = static_cast<int>(float_of(cubeid_f32(x, y, z)));
  const float major = float_of(face >= 4 ? z : face >= 2 ? y : x);
  return bits_of(major * 2.0f);
}

}  // namespace vgpu::sem
