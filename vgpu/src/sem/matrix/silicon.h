// multiply_published: a matrix product in gfx942's arithmetic (silicon_rule.h), in the widest vectors that the machine has.
#pragma once
#include "silicon_avx2.h"
#include "silicon_avx512.h"

namespace vgpu::sem::matrix {

// One group of all results: acc[m][n] takes in the products of left(k) and right(k)[n] of view(m), k below G. Their exponents are beside
// them, a left one as two equal halves of 32 bits.
// small_products: one that is not zero may have an exponent below kLowest.
template <class TA, class TB, int G, int M, int N, class ViewOf>
inline void add_groups(const ViewOf& view, [[maybe_unused]] bool small_products, float (*acc)[N]) {
  constexpr int kHalves = Silicon<TA>::kHalves;
#if defined(__AVX2__) && defined(__FMA__)
  if constexpr (N % 16 == 0) {
    Sums<M, N> sums;
    for (int m = 0; m < M; m += 2) {
      const decltype(view(0)) rows[2] = {view(m), view(m + 1)};
      for (int n = 0; n < N; n += 16) sum_16<kHalves, G, 2>(rows, acc, m, n, small_products, sums);
    }
    for (int m = 0; m < M; ++m)
      for (int n = 0; n < N; n += 16)
        if (!sums.by_one[m][n / 16]) add_sums<kHalves == 2, 16>(sums.sum[m] + n, sums.e[m] + n, acc[m] + n);
        else
          for (int i = n; i < n + 16; ++i) acc[m][i] = group_of_one<G, kHalves>(view(m), i, acc[m][i]);
    return;
  }
#endif
  for (int m = 0; m < M; ++m)
    for (int n = 0; n < N; ++n) acc[m][n] = group_of_one<G, kHalves>(view(m), n, acc[m][n]);
}

// Exponents beside an operand's values: of A twice in 32 bits, of B in 16. Returns the least of a number other than zero, or 0.
template <class T, int EDGE, int K>
inline int exponents_of(const float (*at)[EDGE], uint32_t (*out)[EDGE]) {
  int least = 0;
#if defined(__AVX2__) && defined(__FMA__)
  if constexpr (EDGE % 8 == 0) {
    __m256i lowest = _mm256_setzero_si256();
    for (int k = 0; k < K; ++k)
      for (int i = 0; i < EDGE; i += 8) {
        const __m256i e = operand_exponents(at[k] + i, Silicon<T>::kLeast, lowest);
        _mm256_store_si256(reinterpret_cast<__m256i*>(out[k] + i), _mm256_blend_epi16(e, _mm256_slli_epi32(e, 16), 0xaa));
      }
    return least_of(lowest);
  }
#endif
  for (int k = 0; k < K; ++k)
    for (int i = 0; i < EDGE; ++i) {
      const int e = operand_exponent<T>(at[k][i]);
      out[k][i] = static_cast<uint16_t>(e) * 0x10001u;
      if (at[k][i] != 0.0f && e < least) least = e;
    }
  return least;
}
template <class T, int EDGE, int K>
inline int exponents_of(const float (*at)[EDGE], int16_t (*out)[EDGE]) {
  int least = 0;
#if defined(__AVX2__) && defined(__FMA__)
  if constexpr (EDGE % 16 == 0) {
    __m256i lowest = _mm256_setzero_si256();
    for (int k = 0; k < K; ++k)
      for (int i = 0; i < EDGE; i += 16) {
        const __m256i low = operand_exponents(at[k] + i, Silicon<T>::kLeast, lowest);
        const __m256i high = operand_exponents(at[k] + i + 8, Silicon<T>::kLeast, lowest);
        _mm256_store_si256(reinterpret_cast<__m256i*>(out[k] + i), packed(low, high));
      }
    return least_of(lowest);
  }
#endif
  for (int k = 0; k < K; ++k)
    for (int i = 0; i < EDGE; ++i) {
      out[k][i] = operand_exponent<T>(at[k][i]);
      if (at[k][i] != 0.0f && out[k][i] < least) least = out[k][i];
    }
  return least;
}

template <int M, int N>
struct DenseView {
  const float (*a)[M];
  const uint32_t (*ea)[M];
  const float (*b)[N];
  const int16_t (*eb)[N];
  int row;
  const float* left(int k) const { return &a[k][row]; }
  float left_of(int k, int) const { return a[k][row]; }
  const uint32_t* left_exponent(int k) const { return &ea[k][row]; }
  const float* right(int k) const { return b[k]; }
  const int16_t* right_exponents(int k) const { return eb[k]; }
  int exponent(int k, int n) const { return static_cast<int16_t>(ea[k][row]) + eb[k][n]; }
};

template <class TA, class TB, int M, int N, int K>
inline void multiply_published(const float (*a)[M], const float (*b)[N], float (*acc)[N]) {
#if defined(VGPU_WIDE_VECTORS)
  if constexpr (N % 16 == 0)
    if (wide() && multiply_wide<TA, TB, M, N, K>(a, b, acc)) return;
#endif
  constexpr int kGroup = Silicon<TA>::kGroup < K ? Silicon<TA>::kGroup : K;
  alignas(32) uint32_t ea[K][M];
  alignas(32) int16_t eb[K][N];
  const bool small_products = exponents_of<TA, M, K>(a, ea) + exponents_of<TB, N, K>(b, eb) < kLowest;
  for (int k = 0; k < K; k += kGroup)
    add_groups<TA, TB, kGroup, M, N>([&](int m) { return DenseView<M, N>{a + k, ea + k, b + k, eb + k, m}; }, small_products, acc);
}

}  // namespace vgpu::sem::matrix
