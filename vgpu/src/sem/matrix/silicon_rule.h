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

#include "multiply.h"

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

// Step 3: `sum` is in units of 2^(e-24). Everything is exact in f64 but the conversion at the end.
template <bool DROPS>
inline float add_group(int32_t sum, int e, float c) {
  const int ec = accumulator_exponent(c), top = e > ec ? e : ec;
  const double s = __builtin_floor(sum * power_of_two(7 + e - top));
  const double kept = DROPS && ec < top - 25 ? 0.0 : __builtin_floor(c * power_of_two(24 - top));
  return static_cast<float>((s + 128.0 * kept) * power_of_two(top - 31));
}

// One result of one group, whatever its operands: where the vector forms cannot hold them. The view `v` is of a row of A, from some k on,
// and all columns of B: left_of(k, n), right(k)[n], and exponent(k, n) of their product.
template <int G, int HALVES, class View>
[[gnu::noinline]] float group_of_one(const View& v, int n, float c) {
  double exact = c, products[G];
  bool above = false, below = false;
  for (int k = 0; k < G; ++k) {
    const double p = products[k] = static_cast<double>(v.left_of(k, n)) * v.right(k)[n];
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
      const int of_product = v.exponent(k, n);
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

}  // namespace vgpu::sem::matrix
