// Conversions between f32 and the 16-bit formats, and from floating point to integers.
//
// Integer code throughout: results do not depend on the host's rounding or flush-to-zero state, and loops over 64 lanes
// vectorise (no branches on data).
#pragma once
#include "bits.h"

namespace vgpu::sem {

// Rounds |x| (f32 bits without the sign) to MB mantissa bits and a minimum normal exponent of 1-BIAS. Returns the
// magnitude as exponent<<MB | mantissa, not limited at the top: the caller decides what overflow means. `random` is
// used only with Stochastic: its top bits, as many as are dropped from the mantissa, are added before truncation.
enum class Rounding : uint8_t { nearest_even, away, toward_zero, stochastic };

template <int MB, int BIAS>
inline uint32_t round_magnitude(uint32_t magnitude, Rounding how, uint32_t random = 0) {
  const uint32_t exponent_field = magnitude >> 23;
  const uint32_t mantissa = (magnitude & 0x7fffffu) | (exponent_field ? 0x800000u : 0u);
  const int exponent = static_cast<int>(exponent_field ? exponent_field : 1u) - 127;
  const int below = (1 - BIAS) - exponent;  // > 0: the result is a denormal
  const int raw_shift = 23 - MB + (below > 0 ? below : 0);
  const int shift = raw_shift > 30 ? 30 : raw_shift;
  const uint32_t base = below > 0 ? 0u : static_cast<uint32_t>(exponent + BIAS - 1) << MB;
  const uint32_t kept = mantissa >> shift;
  const uint32_t rest = mantissa & ((1u << shift) - 1u);
  const uint32_t half = shift ? (1u << shift) >> 1 : 0u;
  uint32_t up = 0;
  if (how == Rounding::nearest_even) up = (rest > half) | ((rest == half) & (shift > 0) & (kept & 1u));
  if (how == Rounding::away) up = rest != 0;
  if (how == Rounding::stochastic) {
    // The random number covers the bits a normal result drops; a denormal result drops more, whose extra low bits get
    // no randomness (they are below the adder on hardware).
    const int wide = raw_shift > 60 ? 60 : raw_shift, extra = wide - (23 - MB);
    const uint64_t addend = static_cast<uint64_t>(random >> (32 - (23 - MB))) << (extra > 0 ? extra : 0);
    up = static_cast<uint32_t>(((mantissa & ((1ull << wide) - 1)) + addend) >> wide);
  }
  return base + kept + up;
}

inline Rounding rounding_for(Round round, bool negative) {
  if (round == Round::nearest_even) return Rounding::nearest_even;
  if (round == Round::zero) return Rounding::toward_zero;
  return (round == Round::plus_inf) != negative ? Rounding::away : Rounding::toward_zero;
}

// ---- f16 ------------------------------------------------------------------------------------------------------------

// `saturate` is MODE.FP16_OVFL: a finite value that overflows becomes the largest finite one, whatever the rounding.
inline uint16_t f32_to_f16(float x, Round round, bool saturate = false) {
  const uint32_t u = bits_of(x), magnitude = u & 0x7fffffffu, sign = (u >> 16) & 0x8000u;
  const Rounding how = rounding_for(round, sign != 0);
  const uint32_t rounded = round_magnitude<10, 15>(magnitude, how);
  const uint32_t limit = (how == Rounding::toward_zero || saturate) ? 0x7bffu : 0x7c00u;
  uint32_t r = rounded > limit ? limit : rounded;
  r = magnitude >= 0x7f800000u ? 0x7c00u : r;
  r = magnitude > 0x7f800000u ? (0x7e00u | ((magnitude >> 13) & 0x3ffu)) : r;  // NaN: quieted, payload kept
  return static_cast<uint16_t>(sign | r);
}
inline uint16_t f32_to_f16(float x) { return f32_to_f16(x, Round::nearest_even); }
inline uint16_t f32_to_f16_rtz(float x) { return f32_to_f16(x, Round::zero); }

inline float f16_to_f32(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16, magnitude = h & 0x7fffu;
  const uint32_t normal = (magnitude << 13) + (112u << 23);
  // A denormal is mantissa * 2^-24: let the integer conversion normalise it, then lower the exponent.
  const uint32_t as_integer = bits_of(static_cast<float>(static_cast<int32_t>(magnitude)));
  const uint32_t denormal = magnitude ? as_integer - (24u << 23) : 0u;
  uint32_t r = magnitude < 0x400u ? denormal : normal;
  r = magnitude >= 0x7c00u ? 0x7f800000u | (magnitude << 13) : r;
  r = magnitude > 0x7c00u ? r | 0x400000u : r;  // signalling NaN becomes quiet
  return float_of(sign | r);
}

// ---- bf16 -----------------------------------------------------------------------------------------------------------

inline float bf16_to_f32(uint16_t b) { return float_of(static_cast<uint32_t>(b) << 16); }

inline uint16_t f32_to_bf16(float x) {
  const uint32_t u = bits_of(x);
  const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  return static_cast<uint16_t>(is_nan_f32(u) ? (u >> 16) | 0x40u : rounded);
}
inline uint16_t f32_to_bf16_rtz(float x) {
  const uint32_t u = bits_of(x);
  return static_cast<uint16_t>((u >> 16) | (is_nan_f32(u) ? 0x40u : 0u));
}

// Stochastic rounding of gfx950: the top dropped-bits of `seed` are added, then the rest is cut off.
inline uint16_t f32_to_bf16_sr(float x, uint32_t seed) {
  const uint32_t u = bits_of(x);
  if ((u & 0x7f800000u) == 0x7f800000u) return f32_to_bf16_rtz(x);
  return static_cast<uint16_t>((static_cast<uint64_t>(u) + (seed >> 16)) >> 16);
}
inline uint16_t f32_to_f16_sr(float x, uint32_t seed) {
  const uint32_t u = bits_of(x), magnitude = u & 0x7fffffffu, sign = (u >> 16) & 0x8000u;
  if (magnitude >= 0x7f800000u) return f32_to_f16(x);
  const uint32_t r = round_magnitude<10, 15>(magnitude, Rounding::stochastic, seed);
  return static_cast<uint16_t>(sign | (r > 0x7c00u ? 0x7c00u : r));
}

// ---- floating point to integer: truncated, saturated, NaN gives 0 ----------------------------------------------------

inline int32_t f32_to_i32(float x) {
  const float lo = x < -2147483648.0f ? -2147483648.0f : x;
  const float safe = lo < 2147483648.0f ? lo : 0.0f;  // also NaN
  const int32_t r = static_cast<int32_t>(safe);
  return x >= 2147483648.0f ? INT32_MAX : r;
}
inline uint32_t f32_to_u32(float x) {
  const float positive = x > 0.0f ? x : 0.0f;  // NaN and negatives: 0
  const float safe = positive < 4294967296.0f ? positive : 0.0f;
  const uint32_t r = static_cast<uint32_t>(static_cast<int64_t>(safe));
  return positive >= 4294967296.0f ? UINT32_MAX : r;
}
inline int32_t f64_to_i32(double x) {
  if (x != x) return 0;
  if (x <= -2147483648.0) return INT32_MIN;
  if (x >= 2147483647.0) return INT32_MAX;
  return static_cast<int32_t>(x);
}
inline uint32_t f64_to_u32(double x) {
  if (!(x > 0.0)) return 0;
  if (x >= 4294967295.0) return UINT32_MAX;
  return static_cast<uint32_t>(static_cast<int64_t>(x));
}

// floor(x + 0.5) in exact arithmetic (not rounded to f32 first), and floor(x).
inline int32_t rpi_i32_f32(float x) { return f64_to_i32(__builtin_floor(static_cast<double>(x) + 0.5)); }
inline int32_t flr_i32_f32(float x) { return f64_to_i32(__builtin_floor(static_cast<double>(x))); }

inline int16_t f16_to_i16(uint16_t h) {
  const float x = f16_to_f32(h);
  const int32_t r = f32_to_i32(x);
  return static_cast<int16_t>(r > 32767 ? 32767 : r < -32768 ? -32768 : r);
}
inline uint16_t f16_to_u16(uint16_t h) {
  const uint32_t r = f32_to_u32(f16_to_f32(h));
  return static_cast<uint16_t>(r > 65535u ? 65535u : r);
}
inline uint16_t i16_to_f16(int16_t v, Round round = Round::nearest_even) {
  return f32_to_f16(static_cast<float>(v), round);
}
inline uint16_t u16_to_f16(uint16_t v, Round round = Round::nearest_even) {
  return f32_to_f16(static_cast<float>(v), round);
}
// v_cvt_pk_u8_f32: the f32 is rounded by MODE on hardware; compilers feed it integers. Nearest even, clamped to 0..255.
inline uint32_t f32_to_u8(float x) {
  if (!(x > 0.0f)) return 0;
  if (x >= 255.0f) return 255;
  return static_cast<uint32_t>(__builtin_rint(static_cast<double>(x)));
}

// ---- integers that saturate into narrower ones, normalised formats ---------------------------------------------------

inline int16_t sat_i16_i32(int32_t v) { return static_cast<int16_t>(v > 32767 ? 32767 : v < -32768 ? -32768 : v); }
inline uint16_t sat_u16_u32(uint32_t v) { return static_cast<uint16_t>(v > 65535u ? 65535u : v); }
inline uint8_t sat_u8_i16(int16_t v) { return static_cast<uint8_t>(v < 0 ? 0 : v > 255 ? 255 : v); }

// [-1,1] to -32767..32767 and [0,1] to 0..65535, nearest even, NaN gives 0. The product is exact in f64.
inline int16_t pknorm_i16_f32(float x) {
  if (x != x) return 0;
  const double clamped = x < -1.0f ? -1.0 : x > 1.0f ? 1.0 : static_cast<double>(x);
  return static_cast<int16_t>(__builtin_rint(clamped * 32767.0));
}
inline uint16_t pknorm_u16_f32(float x) {
  if (!(x > 0.0f)) return 0;
  const double clamped = x > 1.0f ? 1.0 : static_cast<double>(x);
  return static_cast<uint16_t>(__builtin_rint(clamped * 65535.0));
}
inline int16_t pknorm_i16_f16(uint16_t h) { return pknorm_i16_f32(f16_to_f32(h)); }
inline uint16_t pknorm_u16_f16(uint16_t h) { return pknorm_u16_f32(f16_to_f32(h)); }

// v_cvt_off_f32_i4: a signed 4-bit number in sixteenths.
inline float off_f32_i4(uint32_t v) {
  const int32_t s = static_cast<int32_t>(v << 28) >> 28;
  return static_cast<float>(s) * 0.0625f;
}

}  // namespace vgpu::sem
