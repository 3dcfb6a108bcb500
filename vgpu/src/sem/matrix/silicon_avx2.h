// add_groups of silicon.h in AVX2: the same steps, see there; products 16 columns of two rows at a time, step 3 by 8 results.
#pragma once
#include "silicon_rule.h"
#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>

namespace vgpu::sem::matrix {

// operand_exponent of 8 floats; `lowest` becomes the least of what it was and those of numbers other than zero.
inline __m256i operand_exponents(const float* x, int least, __m256i& lowest) {
  const __m256 values = _mm256_loadu_ps(x);
  const __m256i field = _mm256_and_si256(_mm256_srli_epi32(_mm256_castps_si256(values), 23), _mm256_set1_epi32(255));
  const __m256i found = _mm256_max_epi32(_mm256_sub_epi32(field, _mm256_set1_epi32(127)), _mm256_set1_epi32(least));
  const __m256i zero = _mm256_castps_si256(_mm256_cmp_ps(values, _mm256_setzero_ps(), _CMP_EQ_OQ));
  const __m256i not_finite = _mm256_cmpeq_epi32(field, _mm256_set1_epi32(255));
  lowest = _mm256_min_epi32(lowest, _mm256_blendv_epi8(found, lowest, zero));
  return _mm256_blendv_epi8(_mm256_blendv_epi8(found, _mm256_set1_epi32(kZeroExponent), zero), _mm256_set1_epi32(kNotFinite), not_finite);
}
inline int least_of(__m256i x) {
  alignas(32) int32_t each[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(each), x);
  int least = each[0];
  for (int32_t e : each) least = e < least ? e : least;
  return least;
}
inline __m256i packed(__m256i low, __m256i high) { return _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8); }

// 2^(biased - 127).
inline __m256 powers_of_two(__m256i biased) { return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23)); }

// Step 3 for eight results: sum in units of 2^(e-24), e biased and at least kLowest, C with no zero below zero.
// Everything is in integers of 32 bits. Shifts to the right floor; the sum's by d is done in two steps, the second at most 16, so that
// of sum * 2^(7-d), which may be longer, the low 16 bits come out right. Those stand for the 15 low bits of the total in units of
// 2^(top-31); the rest is a multiple of 2^15. Both are exact floats, and one fused operation rounds their sum, once.
template <bool DROPS>
[[gnu::always_inline]] inline __m256 add_8(__m256i sum, __m256i e, __m256i c) {
  const __m256i twice = _mm256_add_epi32(c, c), ec = _mm256_srli_epi32(twice, 24);
  const __m256i top = _mm256_max_epi32(e, ec), d = _mm256_sub_epi32(top, e), dc = _mm256_sub_epi32(top, ec);
  // C with the hidden bit, which a denormal lacks: it lies below kLowest's last bit either way. The sign of zero is none.
  const __m256i magnitude = _mm256_or_si256(_mm256_and_si256(twice, _mm256_set1_epi32(0xffffff)), _mm256_set1_epi32(1 << 24));
  __m256i kept = _mm256_srav_epi32(_mm256_sign_epi32(magnitude, c), dc);
  if (DROPS) kept = _mm256_and_si256(kept, _mm256_cmpgt_epi32(_mm256_set1_epi32(26), dc));
  const __m256i whole = _mm256_add_epi32(_mm256_srav_epi32(sum, d), kept);
  const __m256i shifted = _mm256_slli_epi32(_mm256_srav_epi32(sum, _mm256_subs_epu16(d, _mm256_set1_epi32(16))), 7);
  const __m256i fine = _mm256_add_epi32(_mm256_srav_epi32(shifted, _mm256_min_epi32(d, _mm256_set1_epi32(16))), _mm256_slli_epi32(kept, 7));
  const __m256 high = _mm256_cvtepi32_ps(_mm256_andnot_si256(_mm256_set1_epi32(255), whole));
  const __m256 low = _mm256_cvtepi32_ps(_mm256_and_si256(fine, _mm256_set1_epi32(0x7fff)));
  const __m256 total = _mm256_fmadd_ps(low, _mm256_set1_ps(1.0f / 128), high);
  return _mm256_mul_ps(total, powers_of_two(_mm256_sub_epi32(top, _mm256_set1_epi32(24))));
}

// Whether any of 32 bytes is other than zero.
inline bool any(__m256i x) { return !_mm256_testz_si256(x, x); }

// Steps 1 of one half of a group, for 16 columns of ROWS rows: the largest exponent, 16 bits each, and the sums in units of 2^(e-24).
template <int G, int STEP, int FIRST, int ROWS>
struct HalfGroup {
  __m256i e[ROWS];
  __m256i biased[ROWS][2];  // e as 32 bits, biased, with kLowest for what is below
  __m256i sum[ROWS][2];

  template <class View>
  void exponents(const View* v, int n) {
    for (int r = 0; r < ROWS; ++r) e[r] = _mm256_set1_epi16(INT16_MIN);
    for (int k = FIRST; k < G; k += STEP)
      for (int r = 0; r < ROWS; ++r) {
        const __m256i left = _mm256_castps_si256(_mm256_broadcast_ss(reinterpret_cast<const float*>(v[r].left_exponent(k))));
        const __m256i right = _mm256_load_si256(reinterpret_cast<const __m256i*>(v[r].right_exponents(k) + n));
        e[r] = _mm256_max_epi16(e[r], _mm256_add_epi16(left, right));
      }
    for (int r = 0; r < ROWS; ++r) {
      const __m256i low = _mm256_add_epi16(_mm256_max_epi16(e[r], _mm256_set1_epi16(kLowest)), _mm256_set1_epi16(127));
      biased[r][0] = _mm256_cvtepi16_epi32(_mm256_castsi256_si128(low));
      biased[r][1] = _mm256_cvtepi16_epi32(_mm256_extracti128_si256(low, 1));
    }
  }
  template <class View>
  void add(const View* v, int n) {
    __m256 unit[ROWS][2];
    for (int r = 0; r < ROWS; ++r)
      for (int i = 0; i < 2; ++i) {
        unit[r][i] = powers_of_two(_mm256_sub_epi32(_mm256_set1_epi32(24 + 2 * 127), biased[r][i]));
        sum[r][i] = _mm256_setzero_si256();
      }
    for (int k = FIRST; k < G; k += STEP)
      for (int r = 0; r < ROWS; ++r) {
        const __m256 x = _mm256_broadcast_ss(v[r].left(k));
        for (int i = 0; i < 2; ++i) {
          const __m256 product = _mm256_mul_ps(_mm256_mul_ps(x, _mm256_load_ps(v[r].right(k) + n + 8 * i)), unit[r][i]);
          sum[r][i] = _mm256_add_epi32(sum[r][i], _mm256_cvttps_epi32(product));
          asm("" : "+x"(sum[r][i]));  // else compilers add in another order, for which registers do not suffice
        }
      }
  }
};

// Which of 16 columns, 16 bits each, have a product that is not zero: below kLowest its truncation would need units that f32 has not.
template <int G, class View>
inline __m256i any_product(const View& v, int n) {
  __m256i found[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
  for (int k = 0; k < G; ++k)
    for (int i = 0; *v.left(k) != 0.0f && i < 2; ++i) {
      const __m256 differs = _mm256_cmp_ps(_mm256_load_ps(v.right(k) + n + 8 * i), _mm256_setzero_ps(), _CMP_NEQ_UQ);
      found[i] = _mm256_or_si256(found[i], _mm256_castps_si256(differs));
    }
  return packed(found[0], found[1]);
}

// Which of 16 C, 16 bits each, are other than zero and below kLowest.
inline __m256i small_accumulators(const float* c) {
  __m256i found[2];
  for (int i = 0; i < 2; ++i) {
    const __m256i bits = _mm256_load_si256(reinterpret_cast<const __m256i*>(c + 8 * i));
    const __m256i magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(INT32_MAX));
    const __m256i small = _mm256_cmpgt_epi32(_mm256_set1_epi32((kLowest + 127) << 23), magnitude);
    found[i] = _mm256_andnot_si256(_mm256_cmpeq_epi32(magnitude, _mm256_setzero_si256()), small);
  }
  return packed(found[0], found[1]);
}

// Whether 16 columns of a row, with exponents out of [kLowest, kHighest], hold what only group_of_one can add: more than zeros.
template <int G, class View>
[[gnu::noinline]] bool takes_one_by_one(const View& v, const float* c, int n, __m256i e, bool small_products) {
  __m256i found = small_accumulators(c + n);
  if (small_products) found = _mm256_or_si256(found, any_product<G>(v, n));
  found = _mm256_and_si256(found, _mm256_cmpgt_epi16(_mm256_set1_epi16(kLowest), e));
  return any(_mm256_or_si256(found, _mm256_cmpgt_epi16(e, _mm256_set1_epi16(kHighest))));
}

// What step 3 needs of M rows of N results: the sums and their exponents, biased, and which rows are left to group_of_one.
template <int M, int N>
struct Sums {
  alignas(32) int32_t sum[M][N], e[M][N];
  bool by_one[M][N / 16];
};

// Steps 1 and 2 for 16 columns of ROWS rows from `m` on.
template <int HALVES, int G, int ROWS, int M, int N, class View>
[[gnu::always_inline]] inline void sum_16(const View* v, const float (*c)[N], int m, int n, bool small_products, Sums<M, N>& out) {
  HalfGroup<G, HALVES, 0, ROWS> first;
  HalfGroup<G, HALVES, HALVES - 1, ROWS> second;  // the same as the first where there is one half
  first.exponents(v, n);
  if constexpr (HALVES == 2) second.exponents(v, n);
  __m256i outside = _mm256_setzero_si256();
  __m256i e[ROWS];
  for (int r = 0; r < ROWS; ++r) {
    e[r] = HALVES == 2 ? _mm256_max_epi16(first.e[r], second.e[r]) : first.e[r];
    outside = _mm256_or_si256(outside, _mm256_cmpgt_epi16(_mm256_set1_epi16(kLowest), e[r]));
    outside = _mm256_or_si256(outside, _mm256_cmpgt_epi16(e[r], _mm256_set1_epi16(kHighest)));
    out.by_one[m + r][n / 16] = false;
  }
  if (__builtin_expect(any(outside), 0))
    for (int r = 0; r < ROWS; ++r) out.by_one[m + r][n / 16] = takes_one_by_one<G>(v[r], c[m + r], n, e[r], small_products);
  first.add(v, n);
  if constexpr (HALVES == 2) second.add(v, n);
  for (int r = 0; r < ROWS; ++r)
    for (int i = 0; i < 2; ++i) {
      __m256i top = first.biased[r][i], sum = first.sum[r][i];
      if constexpr (HALVES == 2) {
        top = _mm256_max_epi32(top, second.biased[r][i]);
        sum = _mm256_add_epi32(_mm256_srav_epi32(sum, _mm256_sub_epi32(top, first.biased[r][i])),
                               _mm256_srav_epi32(second.sum[r][i], _mm256_sub_epi32(top, second.biased[r][i])));
      }
      _mm256_store_si256(reinterpret_cast<__m256i*>(out.sum[m + r] + n + 8 * i), sum);
      _mm256_store_si256(reinterpret_cast<__m256i*>(out.e[m + r] + n + 8 * i), top);
    }
}

// Step 3 for a row of N results of finite operands: a C that is not finite stays what it is.
template <bool DROPS, int N>
[[gnu::always_inline]] inline void add_sums(const int32_t* sum, const int32_t* e, float* acc) {
  const __m256i exponent = _mm256_set1_epi32(0x7f800000);
  for (int i = 0; i < N; i += 8) {
    const __m256i c = _mm256_castps_si256(_mm256_add_ps(_mm256_load_ps(acc + i), _mm256_setzero_ps()));  // no zero below zero
    const __m256i stays = _mm256_cmpeq_epi32(_mm256_and_si256(c, exponent), exponent);
    const __m256 added = add_8<DROPS>(_mm256_load_si256(reinterpret_cast<const __m256i*>(sum + i)),
                                      _mm256_load_si256(reinterpret_cast<const __m256i*>(e + i)), c);
    _mm256_store_ps(acc + i, _mm256_blendv_ps(added, _mm256_castsi256_ps(c), _mm256_castsi256_ps(stays)));
  }
}

}  // namespace vgpu::sem::matrix
#endif
