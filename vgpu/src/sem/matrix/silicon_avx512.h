// The rule of silicon_rule.h in AVX-512, 16 results of a row at a time. What the ranges here do not hold goes to add_sums and group_of_one.
//
// Exponents of A are biased by 127 and those of B not, so that a product's is biased by 127; two k share 32 bits, the even one low.
#pragma once
#include "silicon_avx2.h"
#if defined(VGPU_WIDE_VECTORS)

namespace vgpu::sem::matrix {

// Exponents of 16 numbers, plus `bias`; `largest` takes in the exponent fields.
template <class T>
VGPU_WIDE [[gnu::always_inline]] inline __m512i exponents_16(const float* x, int bias, __m512i& largest) {
  const __m512i bits = _mm512_load_si512(x), field = _mm512_srli_epi32(_mm512_add_epi32(bits, bits), 24);
  largest = _mm512_max_epu32(largest, field);
  __m512i e = _mm512_max_epu32(field, _mm512_set1_epi32(Silicon<T>::kLeast + 127));
  if (Silicon<T>::kLeast != kZeroExponent)
    e = _mm512_mask_mov_epi32(e, _mm512_testn_epi32_mask(bits, _mm512_set1_epi32(INT32_MAX)), _mm512_set1_epi32(kZeroExponent + 127));
  return bias == 127 ? e : _mm512_add_epi32(e, _mm512_set1_epi32(bias - 127));
}

// Exponents of rows k (even, the low half) and k + 1 of an operand. False: it holds NaN or infinity.
template <class T, int EDGE, int K>
VGPU_WIDE inline bool exponent_pairs(const float (*at)[EDGE], int bias, uint32_t (*out)[EDGE]) {
  __m512i largest = _mm512_setzero_si512();
  for (int k = 0; k < K; k += 2)
    for (int i = 0; i < EDGE; i += 16) {
      const __m512i even = exponents_16<T>(at[k] + i, bias, largest), odd = exponents_16<T>(at[k + 1] + i, bias, largest);
      _mm512_store_si512(out[k / 2] + i, _mm512_mask_blend_epi16(0xaaaaaaaa, even, _mm512_slli_epi32(odd, 16)));
    }
  return _mm512_cmpeq_epu32_mask(largest, _mm512_set1_epi32(255)) == 0;
}

inline int half_of(uint32_t pair, int k) { return static_cast<int16_t>(pair >> (k % 2 * 16)); }

// One row of A and all columns of B, from an even k on.
template <int M, int N>
struct WideDense {
  const float (*a)[M];
  const uint32_t (*ea)[M];
  const float (*b)[N];
  const uint32_t (*eb)[N];
  int row;
  float left_of(int k, int) const { return a[k][row]; }
  VGPU_WIDE [[gnu::always_inline]] __m512 left_16(int k) const { return _mm512_set1_ps(a[k][row]); }
  const float* right(int k) const { return b[k]; }
  int exponent(int k, int n) const { return half_of(ea[k / 2][row], k) + half_of(eb[k / 2][n], k) - 127; }
  VGPU_WIDE [[gnu::always_inline]] __m512i pair(int k, int n) const {  // exponents of products k and k + 1, biased by 127
    return _mm512_add_epi16(_mm512_set1_epi32(static_cast<int>(ea[k / 2][row])), _mm512_load_si512(eb[k / 2] + n));
  }
};

// Steps 1 and 2 for 16 columns from n on: the sums in units of 2^(e-24), and e biased by 127. CLAMPS: what is below kLowest becomes that.
template <class TA, int G, bool CLAMPS, class View>
VGPU_WIDE [[gnu::always_inline]] inline __m512i sum_of_16(const View& v, int n, __m512i& e) {
  constexpr int kHalves = Silicon<TA>::kHalves;
  __m512i pair = v.pair(0, n), of_half[kHalves], sum[kHalves];
  for (int k = 2; k < G; k += 2) pair = _mm512_max_epi16(pair, v.pair(k, n));
  if constexpr (kHalves == 1) {
    of_half[0] = _mm512_srai_epi32(_mm512_max_epi32(pair, _mm512_slli_epi32(pair, 16)), 16);
  } else {
    of_half[0] = _mm512_srai_epi32(_mm512_slli_epi32(pair, 16), 16);
    of_half[1] = _mm512_srai_epi32(pair, 16);
  }
  __m512 unit[kHalves];
  for (int h = 0; h < kHalves; ++h) {
    if (CLAMPS || kHalves == 2) of_half[h] = _mm512_max_epi32(of_half[h], _mm512_set1_epi32(kLowest + 127));
    unit[h] = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_sub_epi32(_mm512_set1_epi32(24 + 2 * 127), of_half[h]), 23));
  }
  for (int k = 0; k < G; ++k) {
    const int h = k % kHalves;
    const __m512 product = _mm512_mul_ps(v.left_16(k), _mm512_load_ps(v.right(k) + n));
    const __m512i whole = _mm512_cvttps_epi32(_mm512_mul_ps(product, unit[h]));
    sum[h] = k < kHalves ? whole : _mm512_add_epi32(sum[h], whole);
  }
  e = of_half[0];
  if constexpr (kHalves == 1) return sum[0];
  e = _mm512_max_epi32(of_half[0], of_half[kHalves - 1]);
  return _mm512_add_epi32(_mm512_srav_epi32(sum[0], _mm512_sub_epi32(e, of_half[0])),
                          _mm512_srav_epi32(sum[kHalves - 1], _mm512_sub_epi32(e, of_half[kHalves - 1])));
}

// 16 results whose numbers may lie anywhere but for the operands, which are finite.
template <class TA, int G, class View>
VGPU_WIDE [[gnu::noinline]] void add_16_of_any(const View& v, int n, float* c) {
  constexpr int kHalves = Silicon<TA>::kHalves;
  __m512i pair = v.pair(0, n), clamped;
  for (int k = 2; k < G; k += 2) pair = _mm512_max_epi16(pair, v.pair(k, n));
  const __m512i e = _mm512_srai_epi32(_mm512_max_epi32(pair, _mm512_slli_epi32(pair, 16)), 16);
  const __mmask16 low = _mm512_cmplt_epi32_mask(e, _mm512_set1_epi32(kLowest + 127));
  const __m512i magnitude = _mm512_and_si512(_mm512_load_si512(c), _mm512_set1_epi32(INT32_MAX));
  const __mmask16 small = _mm512_test_epi32_mask(magnitude, magnitude) & _mm512_cmplt_epi32_mask(magnitude, _mm512_set1_epi32((kLowest + 127) << 23));
  __mmask16 beyond = _mm512_cmpgt_epi32_mask(e, _mm512_set1_epi32(kHighest + 127)) | (low & small);
  for (int k = 0; low && k < G; ++k)
    beyond |= low & _mm512_cmp_ps_mask(v.left_16(k), _mm512_setzero_ps(), _CMP_NEQ_UQ) &
              _mm512_cmp_ps_mask(_mm512_load_ps(v.right(k) + n), _mm512_setzero_ps(), _CMP_NEQ_UQ);
  alignas(64) int32_t sums[16], exponents[16];
  _mm512_store_si512(sums, sum_of_16<TA, G, true>(v, n, clamped));
  _mm512_store_si512(exponents, clamped);
  if (!beyond) add_sums<kHalves == 2, 16>(sums, exponents, c);
  else
    for (int i = 0; i < 16; ++i) c[i] = group_of_one<G, kHalves>(v, n + i, c[i]);
}

// One group of 16 results from column n on. False, and nothing done: they need add_16_of_any.
template <class TA, int G, class View>
VGPU_WIDE [[gnu::always_inline]] inline bool add_16(const View& v, int n, float* c) {
  __m512i e;
  const __m512i sum = sum_of_16<TA, G, false>(v, n, e);
  // Step 3, as add_8 has it, where C and the sum are less than 32 bits apart and no power of two leaves f32's normal ones.
  const __m512 start = _mm512_load_ps(c);
  const __m512i bits = _mm512_castps_si512(start), ec = _mm512_srli_epi32(_mm512_add_epi32(bits, bits), 24);
  const __m512i top = _mm512_max_epi32(e, ec), d = _mm512_sub_epi32(top, e);
  constexpr int kLeastTop = kLowest + 127 + 31;  // so that e, at most 31 below, is not below kLowest
  const __mmask16 beyond = _mm512_cmpgt_epu32_mask(_mm512_sub_epi32(top, _mm512_set1_epi32(kLeastTop)), _mm512_set1_epi32(kHighest + 127 - kLeastTop));
  const __mmask16 apart = _mm512_cmpgt_epu32_mask(d, _mm512_set1_epi32(31));
  if (__builtin_expect(beyond | apart, 0)) return false;
  const __m512i power = _mm512_slli_epi32(top, 23);
  const __m512 to_units = _mm512_castsi512_ps(_mm512_sub_epi32(_mm512_set1_epi32(static_cast<int>((24u + 2 * 127) << 23)), power));
  const __m512 from_units = _mm512_castsi512_ps(_mm512_sub_epi32(power, _mm512_set1_epi32(24 << 23)));
  constexpr int kFloor = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
  const __m512 of_c = _mm512_mul_round_ps(start, to_units, kFloor);
  __m512i kept;
  if constexpr (Silicon<TA>::kHalves == 2)  // dropped where more than 25 below
    kept = _mm512_maskz_cvt_roundps_epi32(_mm512_cmple_epu32_mask(_mm512_sub_epi32(top, ec), _mm512_set1_epi32(25)), of_c, kFloor);
  else
    kept = _mm512_cvt_roundps_epi32(of_c, kFloor);
  const __m512i whole = _mm512_add_epi32(_mm512_srav_epi32(sum, d), kept);
  const __m512i fraction = _mm512_shrdv_epi32(_mm512_setzero_si512(), sum, d);  // the bits that the shift dropped, from the top
  const __m512 high = _mm512_cvtepi32_ps(_mm512_andnot_si512(_mm512_set1_epi32(255), whole));
  const __m512 low = _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_shldi_epi32(whole, fraction, 7), _mm512_set1_epi32(0x7fff)));
  _mm512_store_ps(c, _mm512_mul_ps(_mm512_fmadd_ps(low, _mm512_set1_ps(1.0f / 128), high), from_units));
  return true;
}

// All groups of all results, `count` k in all: view(k, m) is row m from k on.
template <class TA, int G, int COUNT, int M, int N, class ViewOf>
VGPU_WIDE [[gnu::always_inline]] inline void add_all_groups(const ViewOf& view, float (*acc)[N]) {
  for (int n = 0; n < N; n += 16)
    for (int k = 0; k < COUNT; k += G) {
      uint32_t left_over = 0;  // no call in this loop: its constants stay in registers
      for (int m = 0; m < M; ++m) left_over |= static_cast<uint32_t>(!add_16<TA, G>(view(k, m), n, acc[m] + n)) << m;
      for (; __builtin_expect(left_over != 0, 0); left_over &= left_over - 1) {
        const int m = __builtin_ctz(left_over);
        add_16_of_any<TA, G>(view(k, m), n, acc[m] + n);
      }
    }
}

// Operands with NaN or infinity. As long as no sum of the finite ones can leave f32, a result is not finite exactly where one of its
// products or its C is not, and fused multiply-adds say which of NaN and the infinities it is, in whatever order; the others are the
// rule's of the finite operands.

// `from` with zeros for what is not finite. Returns the largest exponent of the rest.
template <int ROWS, int EDGE>
VGPU_WIDE inline int finite_part(const float (*from)[EDGE], float (*to)[EDGE]) {
  const __m512i field = _mm512_set1_epi32(0x7f800000);
  __m512i largest = _mm512_setzero_si512();
  for (int row = 0; row < ROWS; ++row)
    for (int i = 0; i < EDGE; i += 16) {
      const __m512i bits = _mm512_load_si512(from[row] + i), exponent = _mm512_and_si512(bits, field);
      const __mmask16 finite = _mm512_cmpneq_epi32_mask(exponent, field);
      largest = _mm512_mask_max_epu32(largest, finite, largest, exponent);
      _mm512_store_si512(to[row] + i, _mm512_maskz_mov_epi32(finite, bits));
    }
  return static_cast<int>(_mm512_reduce_max_epu32(largest) >> 23) - 127;
}
// Whether C and K products of such exponents, in any order, have no sum of 2^127 or more.
constexpr bool sums_fit(int k, int ea, int eb, int ec) {
  int bits = 0;
  while (1 << bits < k) ++bits;
  return ea + eb + 2 + bits <= 126 && ec <= 125;
}
// The results of `from` that are not finite.
template <int M, int N>
VGPU_WIDE inline void take_not_finite(const float (*from)[N], float (*to)[N]) {
  const __m512i field = _mm512_set1_epi32(0x7f800000);
  for (int m = 0; m < M; ++m)
    for (int n = 0; n < N; n += 16) {
      const __m512i bits = _mm512_load_si512(from[m] + n);
      _mm512_mask_store_epi32(to[m] + n, _mm512_cmpeq_epi32_mask(_mm512_and_si512(bits, field), field), bits);
    }
}
// `plain` multiplies by fused multiply-adds, `ruled` as published: both (a, b, acc).
template <int M, int N, int KA, int KB, class Plain, class Ruled>
VGPU_WIDE inline bool multiply_not_finite(const float (*a)[M], const float (*b)[N], float (*acc)[N], const Plain& plain, const Ruled& ruled) {
  alignas(64) float finite_a[KA][M], finite_b[KB][N], other[M][N];
  const int ea = finite_part<KA>(a, finite_a), eb = finite_part<KB>(b, finite_b), ec = finite_part<M>(acc, other);
  if (!sums_fit(KA, ea, eb, ec)) return false;
  std::memcpy(other, acc, sizeof other);
  plain(a, b, other);
  if (!ruled(finite_a, finite_b, acc)) return false;
  take_not_finite<M>(other, acc);
  return true;
}

// multiply_published. False: the operands and C leave f32, and nothing was done.
template <class TA, class TB, int M, int N, int K>
VGPU_WIDE [[gnu::noinline]] bool multiply_wide(const float (*a)[M], const float (*b)[N], float (*acc)[N]) {
  constexpr int kGroup = Silicon<TA>::kGroup < K ? Silicon<TA>::kGroup : K;
  alignas(64) uint32_t ea[K / 2][M], eb[K / 2][N];
  const bool finite = exponent_pairs<TA, M, K>(a, 127, ea), right_finite = exponent_pairs<TB, N, K>(b, 0, eb);
  if (__builtin_expect(!finite || !right_finite, 0))
    return multiply_not_finite<M, N, K, K>(a, b, acc, multiply_16_wide<M, N, K>, multiply_wide<TA, TB, M, N, K>);
  add_all_groups<TA, kGroup, K, M, N>([&](int k, int m) { return WideDense<M, N>{a + k, ea + k / 2, b + k, eb + k / 2, m}; }, acc);
  return true;
}

// Blocks of 4 columns, four of them side by side: each column has a row of A of its own.
struct WideBlocks {
  const float (*a)[4][16];
  const uint32_t (*ea)[4][16];
  const float (*b)[16];
  const uint32_t (*eb)[16];
  int row;
  float left_of(int k, int n) const { return a[k][row][n]; }
  VGPU_WIDE [[gnu::always_inline]] __m512 left_16(int k) const { return _mm512_load_ps(a[k][row]); }
  const float* right(int k) const { return b[k]; }
  int exponent(int k, int n) const { return half_of(ea[k / 2][row][n], k) + half_of(eb[k / 2][n], k) - 127; }
  VGPU_WIDE [[gnu::always_inline]] __m512i pair(int k, int) const {
    return _mm512_add_epi16(_mm512_load_si512(ea[k / 2][row]), _mm512_load_si512(eb[k / 2]));
  }
};

// multiply_published of four blocks of 4x4. False: an operand is not finite, and nothing was done.
template <class TA, class TB, int K>
VGPU_WIDE [[gnu::noinline]] bool multiply_four_blocks(const float (*const rows[4])[4], const float (*const columns)[K][4], float (*acc)[4][4]) {
  constexpr int kGroup = Silicon<TA>::kGroup < K ? Silicon<TA>::kGroup : K;
  alignas(64) float a[K][4][16], b[K][16], c[4][16];
  alignas(64) uint32_t ea[K / 2][4][16], eb[K / 2][16];
  for (int block = 0; block < 4; ++block) {
    for (int k = 0; k < K; ++k) {
      std::memcpy(b[k] + 4 * block, columns[block][k], sizeof(float) * 4);
      for (int m = 0; m < 4; ++m) _mm_store_ps(a[k][m] + 4 * block, _mm_set1_ps(rows[block][k][m]));
    }
    for (int m = 0; m < 4; ++m) std::memcpy(c[m] + 4 * block, acc[block][m], sizeof(float) * 4);
  }
  const bool finite = exponent_pairs<TA, 64, K>(reinterpret_cast<const float(*)[64]>(a), 127, reinterpret_cast<uint32_t(*)[64]>(ea));
  if (!exponent_pairs<TB, 16, K>(b, 0, eb) || !finite) return false;
  add_all_groups<TA, kGroup, K, 4, 16>([&](int k, int m) { return WideBlocks{a + k, ea + k / 2, b + k, eb + k / 2, m}; }, c);
  for (int block = 0; block < 4; ++block)
    for (int m = 0; m < 4; ++m) std::memcpy(acc[block][m], c[m] + 4 * block, sizeof(float) * 4);
  return true;
}

}  // namespace vgpu::sem::matrix
#endif
