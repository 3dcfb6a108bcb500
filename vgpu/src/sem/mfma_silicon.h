// The matrix unit of gfx942 as published (arXiv 2511.10909, which compared its rule with the hardware bit for bit).
//
// Products are summed in groups of consecutive k: 4 for xf32, 8 for f16 and bf16, 16 for the 8-bit formats, whose even and odd k form
// two halves. Exponents are those of the operands before any product is normalised: a denormal has its format's least one, a zero -126.
//   1. Every product of a group (or half) is truncated to 24 bits below the largest exponent among them; their sum is exact.
//   2. Halves are floored to 24 bits below the larger of their exponents and added.
//   3. The sum is floored to 31 bits, C to 24 bits, below the larger of both exponents (8-bit formats: C counts as zero if its
//      exponent is more than 25 below); the total is rounded once, to nearest even, to f32: the C of the next group.
// The publication has no SMFMAC (here its stored products form groups in their order), and no NaN or infinity (here: as in exact sums;
// a product of 2^128 or more is infinite).
#pragma once
#include <cmath>
#include <type_traits>

#include "mfma_multiply.h"

namespace vgpu::sem::matrix {

// Groups of k that are summed at once, whether they are halved, and the least exponent of the format. None: fused multiply-adds.
template <class T>
struct Silicon {
  static constexpr int kGroup = 0;
};
template <>
struct Silicon<XF32> {
  static constexpr int kGroup = 4, kHalves = 1, kLeast = -126;
};
template <>
struct Silicon<F16> {
  static constexpr int kGroup = 8, kHalves = 1, kLeast = -14;
};
template <>
struct Silicon<BF16> {
  static constexpr int kGroup = 8, kHalves = 1, kLeast = -126;
};
template <>
struct Silicon<FP8> {  // FNUZ, as everything of gfx942
  static constexpr int kGroup = 16, kHalves = 2, kLeast = -7;
};
template <>
struct Silicon<BF8> {
  static constexpr int kGroup = 16, kHalves = 2, kLeast = -15;
};

constexpr int kZeroExponent = -126, kNotFinite = 300;
// Exponents of products within which f32 holds what is left of a product after its truncation.
constexpr int kLowest = -100, kHighest = 125;

template <class T>
inline int16_t operand_exponent(float x) {
  const int biased = static_cast<int>(bits_of(x) >> 23 & 255u), e = biased - 127;
  if (biased == 255) return kNotFinite;
  return static_cast<int16_t>(x == 0.0f ? kZeroExponent : e < Silicon<T>::kLeast ? Silicon<T>::kLeast : e);
}
inline int accumulator_exponent(float c) {
  const int biased = static_cast<int>(bits_of(c) >> 23 & 255u);
  return (biased == 0 ? 1 : biased) - 127;
}
inline double power_of_two(int e) {  // of a normal double
  const uint64_t bits = static_cast<uint64_t>(e + 1023) << 52;
  double x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

}  // namespace vgpu::sem::matrix
#include "mfma_silicon_avx2.h"
namespace vgpu::sem::matrix {

// Step 3: `sum` is in units of 2^(e-24). Everything is exact in f64 but the conversion at the end.
template <bool DROPS>
inline float add_group(int32_t sum, int e, float c) {
  const int ec = accumulator_exponent(c), top = e > ec ? e : ec;
  const double s = __builtin_floor(sum * power_of_two(7 + e - top));
  const double kept = DROPS && ec < top - 25 ? 0.0 : __builtin_floor(c * power_of_two(24 - top));
  return static_cast<float>((s + 128.0 * kept) * power_of_two(top - 31));
}

// One result of one group, whatever its operands: where the vector form cannot hold them.
template <int G, int HALVES, class View>
[[gnu::noinline]] float group_of_one(const View& v, int n, float c) {
  double exact = c, products[G];
  bool above = false, below = false;
  for (int k = 0; k < G; ++k) {
    const double p = products[k] = static_cast<double>(*v.left(k)) * v.right(k)[n];
    exact += p;
    above |= p >= 0x1p128, below |= p <= -0x1p128;
  }
  if (!(exact - exact == 0.0)) return static_cast<float>(exact);
  if (above || below) return above && below ? float_of(kNanF32) : above ? INFINITY : -INFINITY;
  int e[HALVES];
  int64_t sum[HALVES];
  for (int h = 0; h < HALVES; ++h) {
    e[h] = INT16_MIN, sum[h] = 0;
    for (int k = h; k < G; k += HALVES) {
      const int of_product = static_cast<int16_t>(*v.left_exponent(k)) + v.right_exponents(k)[n];
      e[h] = of_product > e[h] ? of_product : e[h];
    }
    // A product has at most 48 bits, and lies between 2^-298 and 2^256.
    for (int k = h; k < G; k += HALVES) sum[h] += static_cast<int64_t>(products[k] * power_of_two(24 - e[h]));
  }
  int top = e[0];
  int64_t total = sum[0];
  if constexpr (HALVES == 2) {
    top = e[0] > e[1] ? e[0] : e[1];
    total = (sum[0] >> (top - e[0] > 63 ? 63 : top - e[0])) + (sum[1] >> (top - e[1] > 63 ? 63 : top - e[1]));
  }
  return add_group<HALVES == 2>(static_cast<int32_t>(total), top, c);
}

// One group of all results: acc[m][n] takes in the products of left(k) and right(k)[n] of view(m). A view says where these are, for k
// below G: left, right and their exponents, a left one as two equal halves of 32 bits.
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
        if (sums.by_one[m][n / 16] || !add_sums<kHalves == 2, 16>(sums.sum[m] + n, sums.e[m] + n, acc[m] + n))
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
  const uint32_t* left_exponent(int k) const { return &ea[k][row]; }
  const float* right(int k) const { return b[k]; }
  const int16_t* right_exponents(int k) const { return eb[k]; }
};

template <class TA, class TB, int M, int N, int K>
inline void multiply_published(const float (*a)[M], const float (*b)[N], float (*acc)[N]) {
  constexpr int kGroup = Silicon<TA>::kGroup < K ? Silicon<TA>::kGroup : K;
  alignas(32) uint32_t ea[K][M];
  alignas(32) int16_t eb[K][N];
  const bool small_products = exponents_of<TA, M, K>(a, ea) + exponents_of<TB, N, K>(b, eb) < kLowest;
  for (int k = 0; k < K; k += kGroup)
    add_groups<TA, TB, kGroup, M, N>([&](int m) { return DenseView<M, N>{a + k, ea + k, b + k, eb + k, m}; }, small_products, acc);
}

}  // namespace vgpu::sem::matrix
