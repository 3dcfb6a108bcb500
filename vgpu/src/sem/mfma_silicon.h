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

// One result of one group, whatever its operands: where the vector form below cannot hold them.
template <int G, int HALVES>
inline float group_of_one(const float* a, const int16_t* ea, const float* b, const int16_t* eb, float c) {
  double exact = c;
  bool above = false, below = false;
  for (int k = 0; k < G; ++k) {
    const double p = static_cast<double>(a[k]) * b[k];
    exact += p;
    above |= p >= 0x1p128, below |= p <= -0x1p128;
  }
  if (!(exact - exact == 0.0)) return static_cast<float>(exact);
  if (above || below) return above && below ? float_of(kNanF32) : above ? INFINITY : -INFINITY;
  int e[HALVES];
  int64_t sum[HALVES];
  for (int h = 0; h < HALVES; ++h) {
    e[h] = INT16_MIN, sum[h] = 0;
    for (int k = h; k < G; k += HALVES) e[h] = ea[k] + eb[k] > e[h] ? ea[k] + eb[k] : e[h];
    for (int k = h; k < G; k += HALVES) {
      const double p = static_cast<double>(a[k]) * b[k];  // at most 48 bits, 2^-298 to 2^256
      sum[h] += static_cast<int64_t>(p * power_of_two(24 - e[h]));
    }
  }
  int top = e[0];
  int64_t total = sum[0];
  if constexpr (HALVES == 2) {
    top = e[0] > e[1] ? e[0] : e[1];
    total = (sum[0] >> (top - e[0] > 63 ? 63 : top - e[0])) + (sum[1] >> (top - e[1] > 63 ? 63 : top - e[1]));
  }
  return add_group<HALVES == 2>(static_cast<int32_t>(total), top, c);
}

// One row of results and one group: acc[n] takes in the products a[k] * b[k][n].
template <class TA, class TB, int G, int N>
inline void add_row(const float* a, const int16_t* ea, const float* const* b, const int16_t* const* eb, float* acc) {
  constexpr int kHalves = Silicon<TA>::kHalves, kStep = N % 16 == 0 ? 16 : N;
  for (int first = 0; first < N; first += kStep) {
#if defined(__AVX2__) && defined(__FMA__)
    constexpr bool kWide = Silicon<TA>::kLeast + Silicon<TB>::kLeast < kLowest;  // a product below it may be other than zero
    if constexpr (kStep == 16)
      if (add_16<kWide, kHalves, G>(a, ea, b, eb, acc, first)) continue;
#endif
    for (int n = first; n < first + kStep; ++n) {
      float column[G];
      int16_t exponents[G];
      for (int k = 0; k < G; ++k) column[k] = b[k][n], exponents[k] = eb[k][n];
      acc[n] = group_of_one<G, kHalves>(a, ea, column, exponents, acc[n]);
    }
  }
}

// Exponents beside an operand's values.
template <class T, int EDGE, int K>
inline void exponents_of(const float (*at)[EDGE], int16_t (*out)[EDGE]) {
  for (int k = 0; k < K; ++k) {
    int i = 0;
#if defined(__AVX2__) && defined(__FMA__)
    for (; i + 16 <= EDGE; i += 16)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out[k] + i), operand_exponents(at[k] + i, Silicon<T>::kLeast));
#endif
    for (; i < EDGE; ++i) out[k][i] = operand_exponent<T>(at[k][i]);
  }
}

template <class TA, class TB, int M, int N, int K>
inline void multiply_published(const float (*a)[M], const float (*b)[N], float (*acc)[N]) {
  constexpr int kGroup = Silicon<TA>::kGroup < K ? Silicon<TA>::kGroup : K;
  alignas(32) int16_t ea[K][M], eb[K][N];
  exponents_of<TA, M, K>(a, ea);
  exponents_of<TB, N, K>(b, eb);
  const float* rows[K];
  const int16_t* exponents[K];
  for (int k = 0; k < K; ++k) rows[k] = b[k], exponents[k] = eb[k];
  for (int m = 0; m < M; ++m) {
    float left[K];
    int16_t left_exponents[K];
    for (int k = 0; k < K; ++k) left[k] = a[k][m], left_exponents[k] = ea[k][m];
    for (int k = 0; k < K; k += kGroup) add_row<TA, TB, kGroup, N>(left + k, left_exponents + k, rows + k, exponents + k, acc[m]);
  }
}

}  // namespace vgpu::sem::matrix
