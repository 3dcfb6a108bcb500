// The transcendental unit: v_exp, v_log, v_rcp, v_rsq, v_sqrt, v_sin, v_cos for f32 and f64 (f16: transcendental_f16.h).
//
// Hardware documents these to about 1 ulp and not bit for bit. Here the f32 forms are evaluated in f64 and rounded once,
// so results are within 0.501 ulp (rcp, rsq, sqrt of f64 are correctly rounded or within 1 ulp), which any code written
// for the hardware's bound accepts. Nothing depends on the processor's approximate instructions: results are the same on
// every machine.
//
// The f32 forms of exp, log, rcp, rsq and sqrt do not handle denormals whatever MODE says: inputs and results are flushed
// to zero. Compilers know and scale around it. f16 and f64 forms handle them.
//
// They are frequent in softmax and activations, so their speed counts: they take eight lanes at a time. The scalar forms
// are the same code on one value.
#pragma once
#include "lanes.h"

namespace vgpu::sem {
namespace detail {

// The polynomials interpolate at Chebyshev's nodes; their relative errors are given beside them. f32 needs 2^-34 to
// stay within 0.501 ulp.

// 2^r for |r| <= 1/2; 2^-38. Exact for 0.
inline F64x4 exp2_core(F64x4 r) {
  static const double c[] = {1.325080551750225e-06,  1.5303700711365693e-05, 0.00015403475186530786,
                             0.0013333478473685416,  0.00961812913523614,    0.055504109063258665,
                             0.24022650695888503,    0.6931471805568324,     1.0};
  return polynomial(r, c);
}

// log2((1 + x) * 2^exponent) = exponent + 2/ln2 * atanh(t), t = x/(x+2); 2^-35. `inverse` approximates 1/(x+2), and t is
// mended by the remainder: dividing in f64 would take twice the time of everything else.
inline F64x4 log2_core(F64x4 x, F64x4 inverse, __m128i exponent) {
  static const double c[] = {0.33658903941162566, 0.4119012192234696, 0.5770797746334693, 0.961796692307097,
                             2.885390081777926814720};
  const F64x4 q = x * inverse;
  const F64x4 t = fma(_mm256_fnmadd_pd(q, x + all(2.0), x), inverse, q);
  return fma(t, polynomial(t * t, c), _mm256_cvtepi32_pd(exponent));
}

// sin(2*pi*y) for |y| <= 1/4; 2^-41.
inline F64x4 sin_core(F64x4 y) {
  static const double c[] = {3.6875700696159743, -15.085385683541546, 42.05839472888148,       -76.70585537595058,
                             81.6052492526416,   -41.34170224037942,  6.283185307179586476925};
  return y * polynomial(y * y, c);
}

// Functions of f32 patterns that are no denormals; what they make of NaN does not matter.
// Results below the smallest normal number are zeros.
inline U32x8 exp_core(U32x8 u) {
  const F32x8 x = _mm256_min_ps(_mm256_max_ps(floats(u), all(-150.0f)), all(128.0f)), n = nearest(x);
  const F32x8 r = x - n;  // exact
  const U32x8 p = bits(narrowed(exp2_core(widened(r, 0)), exp2_core(widened(r, 1))));
  const U32x8 y = _mm256_add_epi32(p, _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23));  // 2^128 is infinity's pattern
  return _mm256_and_si256(y, _mm256_cmpgt_epi32(y, all(0x007fffffu)));
}
// What a logarithm is where there is nothing to compute.
inline U32x8 log_special(U32x8 u, U32x8 r) {
  r = choose(equal(u, all(0x7f800000u)), u, r);
  r = choose(above(u, 0x80000000u), all(kNanF32), r);
  return choose(is_zero(magnitude_of(u)), all(0xff800000u), r);
}
// Positive, normal and finite in all lanes, as nearly always: nothing is special then.
inline bool all_ordinary(U32x8 u) {
  return _mm256_testz_si256(all(1u), above(_mm256_sub_epi32(u, all(0x00800000u)), 0x7effffffu));
}
inline U32x8 log_core(U32x8 u) {
  const Split s(u);
  const F32x8 x = s.m - all(1.0f), inverse = all(1.0f) / (s.m + all(1.0f));  // x is exact
  const F64x4 low = log2_core(widened(x, 0), widened(inverse, 0), _mm256_castsi256_si128(s.exponent));
  const F64x4 high = log2_core(widened(x, 1), widened(inverse, 1), _mm256_extracti128_si256(s.exponent, 1));
  return bits(narrowed(low, high));
}
inline U32x8 rcp_core(U32x8 u) { return bits(all(1.0f) / floats(u)); }
inline U32x8 sqrt_core(U32x8 u) {
  const U32x8 r = bits(_mm256_sqrt_ps(floats(magnitude_of(u))));
  return choose(above(u, 0x80000000u), all(kNanF32), _mm256_or_si256(r, sign_of(u)));
}
// The f32 quotient of the f32 root is off by 2^-23; one step of Newton's in f64 leaves 2^-45.
inline F64x4 rsq_step(F64x4 x, F64x4 y) {
  return fma(y * all(0.5), _mm256_fnmadd_pd(x * y, y, all(1.0)), y);
}
inline U32x8 rsq_core(U32x8 u) {
  const U32x8 m = magnitude_of(u);
  const F32x8 x = floats(m), y = all(1.0f) / _mm256_sqrt_ps(x);
  U32x8 r = bits(narrowed(rsq_step(widened(x, 0), widened(y, 0)), rsq_step(widened(x, 1), widened(y, 1))));
  r = choose(_mm256_or_si256(is_zero(m), equal(m, all(0x7f800000u))), bits(y), r);  // there the step is NaN
  return choose(above(u, 0x80000000u), all(kNanF32), _mm256_or_si256(r, sign_of(u)));  // rsq(-0) = -inf
}

// sin and cos take turns (revolutions). |x| > 256 gives 0 and 1, infinity NaN.
inline U32x8 turns_outside(U32x8 u) { return above(magnitude_of(u), 0x43800000u); }
inline U32x8 turns_special(U32x8 u, U32x8 r, uint32_t outside) {
  r = choose(turns_outside(u), all(outside), r);
  return choose(equal(magnitude_of(u), all(0x7f800000u)), all(kNanF32), r);
}
// The part of a turn, in [-1/2, 1/2]; exact.
inline F32x8 turn_part(U32x8 u) {
  const F32x8 x = floats(_mm256_andnot_si256(turns_outside(u), u));
  return x - nearest(x);
}
// The same sine within a quarter turn; exact.
inline F32x8 quarter_turn(F32x8 r) {
  const F32x8 sign = all(-0.0f), half = _mm256_or_ps(all(0.5f), _mm256_and_ps(sign, r));
  return _mm256_blendv_ps(r, half - r, _mm256_cmp_ps(_mm256_andnot_ps(sign, r), all(0.25f), _CMP_GT_OQ));
}
inline U32x8 sin_turns(U32x8 u) {
  const F32x8 y = quarter_turn(turn_part(u));
  const U32x8 r = bits(narrowed(sin_core(widened(y, 0)), sin_core(widened(y, 1))));
  return turns_special(u, choose(is_zero(magnitude_of(u)), u, r), 0);
}
// cos(r) = sin(1/4 - |r|); the difference needs f64.
inline U32x8 cos_turns(U32x8 u) {
  const F32x8 r = floats(magnitude_of(bits(turn_part(u))));
  const F64x4 low = sin_core(all(0.25) - widened(r, 0)), high = sin_core(all(0.25) - widened(r, 1));
  return turns_special(u, bits(narrowed(low, high)), 0x3f800000u);
}

template <class Core>
inline U32x8 without_denormals(U32x8 u, Core core) {
  const U32x8 in = denormals_flushed(u);
  return nan_quieted(in, denormals_flushed(core(in)));
}

}  // namespace detail

inline U32x8 exp_f32(U32x8 u) { return nan_quieted(u, detail::exp_core(u)); }  // a denormal's result is 1 as zero's
inline U32x8 log_f32(U32x8 u) {
  const U32x8 r = detail::log_core(u);
  if (detail::all_ordinary(u)) return r;
  const U32x8 in = denormals_flushed(u);
  return nan_quieted(in, detail::log_special(in, r));
}
inline U32x8 rcp_f32(U32x8 u) { return detail::without_denormals(u, detail::rcp_core); }
inline U32x8 rsq_f32(U32x8 u) { return detail::without_denormals(u, detail::rsq_core); }
inline U32x8 sqrt_f32(U32x8 u) { return detail::without_denormals(u, detail::sqrt_core); }
inline U32x8 sin_f32(U32x8 u) { return nan_quieted(u, detail::sin_turns(u)); }
inline U32x8 cos_f32(U32x8 u) { return nan_quieted(u, detail::cos_turns(u)); }

inline uint32_t exp_f32(uint32_t u) { return first_lane(exp_f32(all(u))); }
inline uint32_t log_f32(uint32_t u) { return first_lane(log_f32(all(u))); }
inline uint32_t rcp_f32(uint32_t u) { return first_lane(rcp_f32(all(u))); }
inline uint32_t rsq_f32(uint32_t u) { return first_lane(rsq_f32(all(u))); }
inline uint32_t sqrt_f32(uint32_t u) { return first_lane(sqrt_f32(all(u))); }
inline uint32_t sin_f32(uint32_t u) { return first_lane(sin_f32(all(u))); }
inline uint32_t cos_f32(uint32_t u) { return first_lane(cos_f32(all(u))); }

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
