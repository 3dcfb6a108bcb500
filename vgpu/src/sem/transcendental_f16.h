// Transcendental functions of f16, eight lanes at a time, values in the low halves. Evaluated in f32 with relative errors
// below 2^-22 and rounded once: within 0.501 ulp, which the tests check for every one of the 65536 operands. Denormals are
// handled; they are normal numbers in f32.
#pragma once
#include "transcendental.h"

namespace vgpu::sem {
namespace detail {

inline U32x8 half_exp(U32x8 u) {
  static const float c[] = {0.0001545316295f, 0.001339086336f, 0.009618082557f, 0.05550357114f, 0.2402265076f, 0.693147188f, 1.0f};
  const F32x8 x = _mm256_min_ps(_mm256_max_ps(floats(u), all(-40.0f)), all(40.0f)), n = nearest(x);
  const __m256i scale = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
  return _mm256_add_epi32(bits(polynomial(x - n, c)), scale);
}
inline U32x8 half_log(U32x8 u) {
  static const float c[] = {0.4267498597f, 0.5769161234f, 0.9617969591f, 2.88539008f};
  const Split s(u);
  const F32x8 t = (s.m - all(1.0f)) / (s.m + all(1.0f));
  return log_special(u, bits(fma(t, polynomial(t * t, c), _mm256_cvtepi32_ps(s.exponent))));
}
inline U32x8 half_rsq(U32x8 u) {
  const U32x8 r = bits(all(1.0f) / _mm256_sqrt_ps(floats(magnitude_of(u))));
  return choose(above(u, 0x80000000u), all(kNanF32), _mm256_or_si256(r, sign_of(u)));
}
inline F32x8 half_sin_core(F32x8 y) {
  static const float c[] = {40.21233405f, -76.63422186f, 81.60435621f, -41.3417005f, 6.283185307f};
  return y * polynomial(y * y, c);
}
inline U32x8 half_sin(U32x8 u) {
  const U32x8 r = bits(half_sin_core(quarter_turn(turn_part(u))));
  return turns_special(u, choose(is_zero(magnitude_of(u)), u, r), 0);
}
inline U32x8 half_cos(U32x8 u) {  // 1/4 - |r| is off by 2^-26 at most
  const F32x8 r = floats(magnitude_of(bits(turn_part(u))));
  return turns_special(u, bits(half_sin_core(all(0.25f) - r)), 0x3f800000u);
}

template <class Core>
inline U32x8 through_f32(U32x8 h, Core core) {
  const __m128i packed = _mm_packus_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
  const U32x8 u = bits(_mm256_cvtph_ps(packed));
  const U32x8 r = nan_quieted(u, core(u));
  return _mm256_cvtepu16_epi32(_mm256_cvtps_ph(floats(r), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline uint16_t first_half(U32x8 h) { return static_cast<uint16_t>(first_lane(h)); }
inline U32x8 all_halves(uint16_t h) { return all(uint32_t{h}); }

}  // namespace detail

inline U32x8 exp_f16(U32x8 h) { return detail::through_f32(h, detail::half_exp); }
inline U32x8 log_f16(U32x8 h) { return detail::through_f32(h, detail::half_log); }
inline U32x8 rcp_f16(U32x8 h) { return detail::through_f32(h, detail::rcp_core); }
inline U32x8 rsq_f16(U32x8 h) { return detail::through_f32(h, detail::half_rsq); }
inline U32x8 sqrt_f16(U32x8 h) { return detail::through_f32(h, detail::sqrt_core); }
inline U32x8 sin_f16(U32x8 h) { return detail::through_f32(h, detail::half_sin); }
inline U32x8 cos_f16(U32x8 h) { return detail::through_f32(h, detail::half_cos); }

inline uint16_t exp_f16(uint16_t h) { return detail::first_half(exp_f16(detail::all_halves(h))); }
inline uint16_t log_f16(uint16_t h) { return detail::first_half(log_f16(detail::all_halves(h))); }
inline uint16_t rcp_f16(uint16_t h) { return detail::first_half(rcp_f16(detail::all_halves(h))); }
inline uint16_t rsq_f16(uint16_t h) { return detail::first_half(rsq_f16(detail::all_halves(h))); }
inline uint16_t sqrt_f16(uint16_t h) { return detail::first_half(sqrt_f16(detail::all_halves(h))); }
inline uint16_t sin_f16(uint16_t h) { return detail::first_half(sin_f16(detail::all_halves(h))); }
inline uint16_t cos_f16(uint16_t h) { return detail::first_half(cos_f16(detail::all_halves(h))); }

}  // namespace vgpu::sem
