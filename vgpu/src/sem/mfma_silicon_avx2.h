// add_row of mfma_silicon.h for 16 results at a time, in AVX2. The same steps; see there.
#pragma once
#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>

namespace vgpu::sem::matrix {

// operand_exponent of 16 floats.
inline __m256i operand_exponents(const float* x, int least) {
  __m256i e[2];
  for (int i = 0; i < 2; ++i) {
    const __m256 values = _mm256_loadu_ps(x + 8 * i);
    const __m256i field = _mm256_and_si256(_mm256_srli_epi32(_mm256_castps_si256(values), 23), _mm256_set1_epi32(255));
    const __m256i found = _mm256_max_epi32(_mm256_sub_epi32(field, _mm256_set1_epi32(127)), _mm256_set1_epi32(least));
    const __m256i zero = _mm256_castps_si256(_mm256_cmp_ps(values, _mm256_setzero_ps(), _CMP_EQ_OQ));
    const __m256i not_finite = _mm256_cmpeq_epi32(field, _mm256_set1_epi32(255));
    e[i] = _mm256_blendv_epi8(_mm256_blendv_epi8(found, _mm256_set1_epi32(kZeroExponent), zero), _mm256_set1_epi32(kNotFinite), not_finite);
  }
  return _mm256_permute4x64_epi64(_mm256_packs_epi32(e[0], e[1]), 0xd8);
}

// Four doubles 2^(e - 1023).
inline __m256d powers_of_two(__m128i e) { return _mm256_castsi256_pd(_mm256_slli_epi64(_mm256_cvtepi32_epi64(e), 52)); }

// Four results: sum in units of 2^(e-24), e, C and C's exponent.
template <bool DROPS>
inline __m128 add_groups(__m128i sum, __m128i e, __m128 c, __m128i ec) {
  const __m128i top = _mm_max_epi32(e, ec);
  const __m256d scale = powers_of_two(_mm_sub_epi32(_mm_add_epi32(e, _mm_set1_epi32(1023 + 7)), top));
  const __m256d unit = powers_of_two(_mm_sub_epi32(_mm_set1_epi32(1023 + 24), top));
  const __m256d s = _mm256_floor_pd(_mm256_mul_pd(_mm256_cvtepi32_pd(sum), scale));
  __m256d kept = _mm256_floor_pd(_mm256_mul_pd(_mm256_cvtps_pd(c), unit));
  if (DROPS) {
    const __m128i dropped = _mm_cmpgt_epi32(_mm_sub_epi32(top, _mm_set1_epi32(25)), ec);
    kept = _mm256_andnot_pd(_mm256_castsi256_pd(_mm256_cvtepi32_epi64(dropped)), kept);
  }
  const __m256d total = _mm256_fmadd_pd(kept, _mm256_set1_pd(128), s);  // exact, as all before it
  return _mm256_cvtpd_ps(_mm256_mul_pd(total, powers_of_two(_mm_add_epi32(top, _mm_set1_epi32(1023 - 31)))));
}

// Of 16 columns: the sum of one half of a group in units of 2^(e-24).
struct HalfGroup {
  __m256i e;  // 16 bits each
  __m256i sum[2];

  template <int G, int STEP>
  void exponents(const int16_t* ea, const int16_t* const* eb, int n) {
    e = _mm256_set1_epi16(INT16_MIN);
    for (int k = 0; k < G; k += STEP) {
      const __m256i right = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(eb[k] + n));
      e = _mm256_max_epi16(e, _mm256_add_epi16(_mm256_set1_epi16(ea[k]), right));
    }
  }
  template <int G, int STEP>
  void add(const float* a, const float* const* b, int n) {
    const __m256i low = _mm256_max_epi16(e, _mm256_set1_epi16(kLowest));
    const __m256i biased = _mm256_sub_epi16(_mm256_set1_epi16(24 + 127), low);
    const __m256 unit0 = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepi16_epi32(_mm256_castsi256_si128(biased)), 23));
    const __m256 unit1 = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepi16_epi32(_mm256_extracti128_si256(biased, 1)), 23));
    sum[0] = sum[1] = _mm256_setzero_si256();
    for (int k = 0; k < G; k += STEP) {
      const __m256 x = _mm256_broadcast_ss(a + k);
      const __m256 p0 = _mm256_mul_ps(_mm256_mul_ps(x, _mm256_loadu_ps(b[k] + n)), unit0);
      const __m256 p1 = _mm256_mul_ps(_mm256_mul_ps(x, _mm256_loadu_ps(b[k] + n + 8)), unit1);
      sum[0] = _mm256_add_epi32(sum[0], _mm256_cvttps_epi32(p0));
      sum[1] = _mm256_add_epi32(sum[1], _mm256_cvttps_epi32(p1));
    }
  }
};

// Which of 16 columns have a product that is not zero, 16 bits each: below kLowest its truncation would need units that f32 has not.
template <int G>
inline __m256i any_product(const float* a, const float* const* b, int n) {
  __m256i found[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
  for (int k = 0; k < G; ++k)
    for (int i = 0; a[k] != 0.0f && i < 2; ++i) {
      const __m256 differs = _mm256_cmp_ps(_mm256_loadu_ps(b[k] + n + 8 * i), _mm256_setzero_ps(), _CMP_NEQ_UQ);
      found[i] = _mm256_or_si256(found[i], _mm256_castps_si256(differs));
    }
  return _mm256_permute4x64_epi64(_mm256_packs_epi32(found[0], found[1]), 0xd8);
}

// False: these columns hold what only group_of_one can add, and nothing was done.
template <bool WIDE, int HALVES, int G>
inline bool add_16(const float* a, const int16_t* ea, const float* const* b, const int16_t* const* eb, float* acc, int n) {
  HalfGroup half[HALVES];
  __m256i beyond = _mm256_setzero_si256();
  for (int h = 0; h < HALVES; ++h) {
    half[h].template exponents<G, HALVES>(ea + h, eb + h, n);
    beyond = _mm256_or_si256(beyond, _mm256_cmpgt_epi16(half[h].e, _mm256_set1_epi16(kHighest)));
    if (WIDE) {
      const __m256i small = _mm256_cmpgt_epi16(_mm256_set1_epi16(kLowest), half[h].e);
      if (!_mm256_testz_si256(small, small))
        beyond = _mm256_or_si256(beyond, _mm256_and_si256(small, any_product<G>(a, b, n)));
    }
  }
  const __m256i exponent = _mm256_set1_epi32(0x7f800000);
  __m256i ec[2];
  for (int i = 0; i < 2; ++i) {
    const __m256i field = _mm256_and_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(acc + n + 8 * i)), exponent);
    beyond = _mm256_or_si256(beyond, _mm256_cmpeq_epi32(field, exponent));
    const __m256i biased = _mm256_max_epi32(_mm256_srli_epi32(field, 23), _mm256_set1_epi32(1));
    ec[i] = _mm256_sub_epi32(biased, _mm256_set1_epi32(127));
  }
  if (!_mm256_testz_si256(beyond, beyond)) return false;
  for (int h = 0; h < HALVES; ++h) half[h].template add<G, HALVES>(a + h, b + h, n);
  for (int i = 0; i < 2; ++i) {
    __m256i e[HALVES];
    for (int h = 0; h < HALVES; ++h)
      e[h] = _mm256_cvtepi16_epi32(i ? _mm256_extracti128_si256(half[h].e, 1) : _mm256_castsi256_si128(half[h].e));
    __m256i sum = half[0].sum[i], top = e[0];
    if constexpr (HALVES == 2) {
      top = _mm256_max_epi32(e[0], e[1]);
      sum = _mm256_add_epi32(_mm256_srav_epi32(sum, _mm256_sub_epi32(top, e[0])),
                             _mm256_srav_epi32(half[1].sum[i], _mm256_sub_epi32(top, e[1])));
    }
    float* at = acc + n + 8 * i;
    _mm_storeu_ps(at, add_groups<HALVES == 2>(_mm256_castsi256_si128(sum), _mm256_castsi256_si128(top), _mm_loadu_ps(at),
                                              _mm256_castsi256_si128(ec[i])));
    _mm_storeu_ps(at + 4, add_groups<HALVES == 2>(_mm256_extracti128_si256(sum, 1), _mm256_extracti128_si256(top, 1),
                                                  _mm_loadu_ps(at + 4), _mm256_extracti128_si256(ec[i], 1)));
  }
  return true;
}

}  // namespace vgpu::sem::matrix
#endif
