// Eight lanes of 32-bit patterns at a time: the vocabulary of the transcendental functions.
#pragma once
#include <immintrin.h>

#include "convert.h"

namespace vgpu::sem {

using U32x8 = __m256i;
using F32x8 = __m256;
using F64x4 = __m256d;

inline F64x4 all(double x) { return _mm256_set1_pd(x); }
inline F32x8 all(float x) { return _mm256_set1_ps(x); }
inline U32x8 all(uint32_t x) { return _mm256_set1_epi32(static_cast<int>(x)); }
inline uint32_t first_lane(U32x8 x) { return static_cast<uint32_t>(_mm256_cvtsi256_si32(x)); }

inline U32x8 bits(F32x8 x) { return _mm256_castps_si256(x); }
inline F32x8 floats(U32x8 u) { return _mm256_castsi256_ps(u); }
inline F64x4 widened(F32x8 x, int half) { return _mm256_cvtps_pd(half ? _mm256_extractf128_ps(x, 1) : _mm256_castps256_ps128(x)); }
inline F32x8 narrowed(F64x4 low, F64x4 high) { return _mm256_set_m128(_mm256_cvtpd_ps(high), _mm256_cvtpd_ps(low)); }

inline U32x8 choose(U32x8 condition, U32x8 yes, U32x8 no) { return _mm256_blendv_epi8(no, yes, condition); }
inline U32x8 equal(U32x8 a, U32x8 b) { return _mm256_cmpeq_epi32(a, b); }
inline U32x8 is_zero(U32x8 a) { return equal(a, _mm256_setzero_si256()); }
inline U32x8 above(U32x8 a, uint32_t b) {  // unsigned
  return _mm256_cmpgt_epi32(_mm256_xor_si256(a, all(0x80000000u)), all(b ^ 0x80000000u));
}
inline U32x8 magnitude_of(U32x8 f32) { return _mm256_and_si256(f32, all(0x7fffffffu)); }
inline U32x8 sign_of(U32x8 f32) { return _mm256_and_si256(f32, all(0x80000000u)); }

inline U32x8 denormals_flushed(U32x8 f32) {
  return _mm256_andnot_si256(magnitude_of(is_zero(_mm256_and_si256(f32, all(0x7f800000u)))), f32);
}
// `otherwise`, or the operand made quiet where it is NaN.
inline U32x8 nan_quieted(U32x8 f32, U32x8 otherwise) {
  return choose(above(magnitude_of(f32), 0x7f800000u), _mm256_or_si256(f32, all(0x400000u)), otherwise);
}

inline F64x4 fma(F64x4 a, F64x4 b, F64x4 c) { return _mm256_fmadd_pd(a, b, c); }
inline F32x8 fma(F32x8 a, F32x8 b, F32x8 c) { return _mm256_fmadd_ps(a, b, c); }
// Whatever rounding mode is set for the wave.
inline F64x4 nearest(F64x4 x) { return _mm256_round_pd(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline F32x8 nearest(F32x8 x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

// Horner's scheme; coefficients from the highest power down.
template <class V, class T, size_t N>
inline V polynomial(V x, const T (&c)[N]) {
  V p = all(c[0]);
  for (size_t i = 1; i < N; ++i) p = fma(p, x, all(c[i]));
  return p;
}

// A positive normal f32 as m * 2^exponent, m in [sqrt(1/2), sqrt(2)).
struct Split {
  F32x8 m;
  __m256i exponent;
  explicit Split(U32x8 u) {
    exponent = _mm256_srai_epi32(_mm256_sub_epi32(u, all(0x3f3504f3u)), 23);
    m = floats(_mm256_sub_epi32(u, _mm256_slli_epi32(exponent, 23)));
  }
};

}  // namespace vgpu::sem
