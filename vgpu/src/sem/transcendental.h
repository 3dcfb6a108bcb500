// The transcendental unit: v_exp, v_log, v_rcp, v_rsq, v_sqrt, v_sin, v_cos for f32, f16 and f64.
//
// Hardware documents these to about 1 ulp and not bit for bit. Here each is evaluated in f64 and rounded once, so f32
// and f16 results are within 0.501 ulp (rcp, rsq, sqrt of f64 are correctly rounded or within 1 ulp), which any code
// written for the hardware's bound accepts.
//
// The f32 forms of exp, log, rcp, rsq and sqrt do not handle denormals whatever MODE says: inputs and results are flushed
// to zero. Compilers know and scale around it. f16 and f64 forms handle them.
//
// The bodies are free of branches and calls, so a loop over 64 lanes vectorises.
#pragma once
#include "convert.h"

namespace vgpu::sem {
namespace detail {

// 2^n for n in [-1022, 1023].
inline double power_of_two(int32_t n) { return double_of(static_cast<uint64_t>(static_cast<int64_t>(n) + 1023) << 52); }

// Nearest integer of |x| < 2^51 without depending on the rounding mode set for the wave (or SSE4.1).
inline double nearest(double x) {
  const double magic = 6755399441055744.0;  // 1.5 * 2^52
  return (x + magic) - magic;
}

// 2^x for finite |x| <= 1000; relative error below 2^-40.
inline double exp2_core(double x) {
  const double n = nearest(x), y = (x - n) * 0.693147180559945309417;
  double p = 1.0 / 3628800.0;
  p = p * y + 1.0 / 362880.0;
  p = p * y + 1.0 / 40320.0;
  p = p * y + 1.0 / 5040.0;
  p = p * y + 1.0 / 720.0;
  p = p * y + 1.0 / 120.0;
  p = p * y + 1.0 / 24.0;
  p = p * y + 1.0 / 6.0;
  p = p * y + 0.5;
  p = p * y + 1.0;
  p = p * y + 1.0;
  return p * power_of_two(static_cast<int32_t>(n));
}

// log2 of a positive, normal, finite double. log2(m) = 2/ln2 * atanh((m-1)/(m+1)), m in [sqrt(1/2), sqrt(2)).
inline double log2_core(double x) {
  const uint64_t u = bits_of(x);
  const uint64_t shifted = u - 0x3fe6a09e667f3bcdull;  // bits of sqrt(1/2)
  const int32_t exponent = static_cast<int32_t>(static_cast<uint32_t>(shifted >> 32)) >> 20;
  const double m = double_of(u - (static_cast<uint64_t>(static_cast<int64_t>(exponent)) << 52));
  const double t = (m - 1.0) / (m + 1.0), z = t * t;
  double p = 1.0 / 19.0;
  p = p * z + 1.0 / 17.0;
  p = p * z + 1.0 / 15.0;
  p = p * z + 1.0 / 13.0;
  p = p * z + 1.0 / 11.0;
  p = p * z + 1.0 / 9.0;
  p = p * z + 1.0 / 7.0;
  p = p * z + 1.0 / 5.0;
  p = p * z + 1.0 / 3.0;
  p = p * z + 1.0;
  return static_cast<double>(exponent) + t * p * 2.885390081777926814720;
}

// sin(2*pi*x), |x| <= 2^20. Folded to a quarter turn, then Taylor to y^19 (error below 2^-45 there).
inline double sin_turns(double x) {
  const double r = x - nearest(x);
  const double folded = r > 0.25 ? 0.5 - r : r < -0.25 ? -0.5 - r : r;
  const double y = folded * 6.283185307179586476925, z = y * y;
  double p = -1.0 / 121645100408832000.0;
  p = p * z + 1.0 / 355687428096000.0;
  p = p * z - 1.0 / 1307674368000.0;
  p = p * z + 1.0 / 6227020800.0;
  p = p * z - 1.0 / 39916800.0;
  p = p * z + 1.0 / 362880.0;
  p = p * z - 1.0 / 5040.0;
  p = p * z + 1.0 / 120.0;
  p = p * z - 1.0 / 6.0;
  return y + y * z * p;
}

inline uint32_t quiet(uint32_t nan) { return nan | 0x400000u; }
inline uint32_t to_f32_bits(double x) { return bits_of(static_cast<float>(x)); }
inline double to_f64(uint32_t f32_bits) { return static_cast<double>(float_of(f32_bits)); }

// Functions of an f32 bit pattern that is neither NaN nor denormal.
inline uint32_t exp_core(uint32_t u) {
  const double x = to_f64(u);
  const double limited = x > 200.0 ? 200.0 : x < -200.0 ? -200.0 : x;
  return to_f32_bits(exp2_core(limited));
}
inline uint32_t log_core(uint32_t u) {
  const uint32_t safe = (u & 0x80000000u) || u == 0 || u == 0x7f800000u ? 0x3f800000u : u;
  uint32_t r = to_f32_bits(log2_core(to_f64(safe)));
  r = u == 0x7f800000u ? u : r;
  r = (u & 0x7fffffffu) == 0 ? 0xff800000u : r;
  return u > 0x80000000u ? kNanF32 : r;
}
inline uint32_t rsq_core(uint32_t u) {
  const uint32_t r = to_f32_bits(1.0 / __builtin_sqrt(to_f64(u & 0x7fffffffu)));
  return u > 0x80000000u ? kNanF32 : r | (u & 0x80000000u);  // rsq(-0) = -inf
}
inline uint32_t sqrt_core(uint32_t u) {
  const uint32_t r = to_f32_bits(__builtin_sqrt(to_f64(u & 0x7fffffffu)));
  return u > 0x80000000u ? kNanF32 : r | (u & 0x80000000u);
}
inline uint32_t sin_core(uint32_t u, bool cosine) {
  const uint32_t magnitude = u & 0x7fffffffu;
  const bool in_range = magnitude <= 0x43800000u;  // 256 turns
  const double x = in_range ? to_f64(u) : 0.0;
  // cos as the sine of a quarter turn ahead: exact here, as f64 holds x + 0.25 for every f32 x that matters.
  const uint32_t r = to_f32_bits(sin_turns(cosine ? x - nearest(x) + 0.25 : x));
  const uint32_t out_of_range = cosine ? 0x3f800000u : 0u;
  const uint32_t finite = in_range ? r : out_of_range;
  return magnitude == 0x7f800000u ? kNanF32 : (magnitude == 0 && !cosine) ? u : finite;
}

// Every v_*_f16 is the f32 core on the exact widened value, rounded once more; with f64 inside, the double rounding
// could only matter within 2^-13 ulp of a tie.
template <class Core>
inline uint16_t through_f32(uint16_t h, Core core) {
  const uint32_t u = bits_of(f16_to_f32(h));
  const uint32_t r = is_nan_f32(u) ? quiet(u) : core(u);
  return f32_to_f16(float_of(r));
}
template <class Core>
inline uint32_t without_denormals(uint32_t u, Core core) {
  const uint32_t in = flush_f32(u);
  const uint32_t r = flush_f32(core(is_nan_f32(in) ? 0x3f800000u : in));
  return is_nan_f32(in) ? quiet(in) : r;
}
inline uint32_t rcp_core(uint32_t u) { return to_f32_bits(1.0 / to_f64(u)); }

}  // namespace detail

inline uint32_t exp_f32(uint32_t u) { return detail::without_denormals(u, detail::exp_core); }
inline uint32_t log_f32(uint32_t u) { return detail::without_denormals(u, detail::log_core); }
inline uint32_t rcp_f32(uint32_t u) { return detail::without_denormals(u, detail::rcp_core); }
inline uint32_t rsq_f32(uint32_t u) { return detail::without_denormals(u, detail::rsq_core); }
inline uint32_t sqrt_f32(uint32_t u) { return detail::without_denormals(u, detail::sqrt_core); }
// The integer-flag form differs only in which exceptions it may raise.
inline uint32_t rcp_iflag_f32(uint32_t u) { return rcp_f32(u); }
inline uint32_t exp_legacy_f32(uint32_t u) { return exp_f32(u); }
inline uint32_t log_legacy_f32(uint32_t u) { return log_f32(u); }

// In turns (revolutions). |x| > 256 gives 0 and 1, infinity NaN.
inline uint32_t sin_f32(uint32_t u) {
  return is_nan_f32(u) ? detail::quiet(u) : detail::sin_core(u, false);
}
inline uint32_t cos_f32(uint32_t u) {
  return is_nan_f32(u) ? detail::quiet(u) : detail::sin_core(u, true);
}

inline uint16_t exp_f16(uint16_t h) { return detail::through_f32(h, detail::exp_core); }
inline uint16_t log_f16(uint16_t h) { return detail::through_f32(h, detail::log_core); }
inline uint16_t rcp_f16(uint16_t h) { return detail::through_f32(h, detail::rcp_core); }
inline uint16_t rsq_f16(uint16_t h) { return detail::through_f32(h, detail::rsq_core); }
inline uint16_t sqrt_f16(uint16_t h) { return detail::through_f32(h, detail::sqrt_core); }
inline uint16_t sin_f16(uint16_t h) {
  return detail::through_f32(h, [](uint32_t u) { return detail::sin_core(u, false); });
}
inline uint16_t cos_f16(uint16_t h) {
  return detail::through_f32(h, [](uint32_t u) { return detail::sin_core(u, true); });
}

inline uint64_t rcp_f64(uint64_t u) {
  return is_nan_f64(u) ? u | 0x8000000000000ull : bits_of(1.0 / double_of(u));
}
inline uint64_t sqrt_f64(uint64_t u) {
  if (is_nan_f64(u)) return u | 0x8000000000000ull;
  return u > 0x8000000000000000ull ? kNanF64 : bits_of(__builtin_sqrt(double_of(u)));
}
inline uint64_t rsq_f64(uint64_t u) {
  if (is_nan_f64(u)) return u | 0x8000000000000ull;
  return u > 0x8000000000000000ull ? kNanF64 : bits_of(1.0 / __builtin_sqrt(double_of(u)));
}

}  // namespace vgpu::sem
