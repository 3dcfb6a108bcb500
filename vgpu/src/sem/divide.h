// The pieces of AMD's division sequence: div_scale, div_fmas, div_fixup, and trig_preop.
//
// A compiler divides n/d as: scale both, r = rcp(d'), refine with fma, q' = div_fmas, result = div_fixup(q', d, n).
// Where AMD's published pseudo-code contradicts itself, these follow what makes that sequence correctly rounded:
//  - div_scale, reciprocal and quotient both denormal: the denominator (huge) is scaled down by 2^-64, not up;
//  - div_fixup's overflow case applies when the exponents say so (the text tests for an impossible exponent), because
//    the scaled quotient itself overflows and the refinement then yields NaN;
//  - div_fmas scales by 2^64 or 2^-64 by the magnitude of S2 (the unfixed quotient), as later ISA documents say.
#pragma once
#include "bits.h"

namespace vgpu::sem {
namespace detail {

// What differs between the two widths.
struct DivF32 {
  using Bits = uint32_t;
  using Float = float;
  static constexpr Bits kSign = 0x80000000u, kInf = 0x7f800000u, kQuiet = 0x400000u, kNan = kNanF32, kBadNan = 0xffc00000u;
  static constexpr int kMantissa = 23, kScale = 64, kBig = 96, kTiny = 23, kUnderflow = -150, kMaxExponent = 255, kOverflow = 129;
  static constexpr Bits kHugeReciprocal = 0x7e800000u;  // above 2^126 the reciprocal is denormal
  static Float value(Bits u) { return float_of(u); }
};
struct DivF64 {
  using Bits = uint64_t;
  using Float = double;
  static constexpr Bits kSign = 0x8000000000000000ull, kInf = 0x7ff0000000000000ull, kQuiet = 0x8000000000000ull;
  static constexpr Bits kNan = kNanF64, kBadNan = 0xfff8000000000000ull;
  static constexpr int kMantissa = 52, kScale = 128, kBig = 768, kTiny = 53, kUnderflow = -1075, kMaxExponent = 2047, kOverflow = 1025;
  static constexpr Bits kHugeReciprocal = 0x7fd0000000000000ull;
  static Float value(Bits u) { return double_of(u); }
};

template <class F>
int exponent_field(typename F::Bits u) { return static_cast<int>((u & F::kInf) >> F::kMantissa); }

// u * 2^power, exact: only called where neither end of the range is passed by a rounding (denormals scaled up, huge
// values scaled down); integer code so that flush-to-zero state does not matter.
template <class F>
typename F::Bits scale_exact(typename F::Bits u, int power) {
  using Bits = typename F::Bits;
  const Bits sign = u & F::kSign;
  Bits magnitude = u & ~F::kSign;
  if (magnitude == 0 || magnitude >= F::kInf) return u;
  int exponent = exponent_field<F>(u);
  const Bits one = Bits(1) << F::kMantissa;
  Bits mantissa = magnitude & (one - 1);
  if (exponent == 0) {
    exponent = 1;
    while (!(mantissa & one)) mantissa <<= 1, --exponent;
  } else {
    mantissa |= one;
  }
  exponent += power;
  if (exponent >= F::kMaxExponent) return sign | F::kInf;
  if (exponent >= 1) return sign | (static_cast<Bits>(exponent) << F::kMantissa) | (mantissa & (one - 1));
  const int down = 1 - exponent;  // result is denormal: nearest even
  if (down > F::kMantissa + 1) return sign;
  const Bits kept = mantissa >> down, rest = mantissa & ((Bits(1) << down) - 1), half = Bits(1) << (down - 1);
  return sign | (kept + (rest > half || (rest == half && (kept & 1))));
}

// Is |n/d| a denormal (and not zero)? Decided on exponents and mantissas, without dividing.
template <class F>
bool quotient_is_denormal(typename F::Bits n, typename F::Bits d) {
  using Bits = typename F::Bits;
  const auto split = [](Bits u, int* exponent) {
    Bits mantissa = u & ((Bits(1) << F::kMantissa) - 1);
    *exponent = exponent_field<F>(u);
    if (*exponent) return mantissa | Bits(1) << F::kMantissa;
    *exponent = 1;
    while (!(mantissa >> F::kMantissa)) mantissa <<= 1, --*exponent;
    return mantissa;
  };
  int en, ed;
  const Bits mn = split(n & ~F::kSign, &en), md = split(d & ~F::kSign, &ed);
  const int bias = F::kMaxExponent / 2;
  return en - ed - (mn < md) < 1 - bias;
}

template <class F>
typename F::Bits div_scale(typename F::Bits s0, typename F::Bits s1, typename F::Bits s2, bool* vcc) {
  using Bits = typename F::Bits;
  const Bits d = s1 & ~F::kSign, n = s2 & ~F::kSign;
  *vcc = false;
  if (n == 0 || d == 0) return F::kNan;
  // An infinite or NaN operand needs no scaling: div_fixup decides the result.
  if (n >= F::kInf || d >= F::kInf) return s0;
  const bool is_denominator = s0 == s1, is_numerator = s0 == s2;
  if (exponent_field<F>(s2) - exponent_field<F>(s1) >= F::kBig) {
    *vcc = true;
    return is_denominator ? scale_exact<F>(s0, F::kScale) : s0;
  }
  if (exponent_field<F>(s1) == 0) return scale_exact<F>(s0, F::kScale);
  const bool tiny_reciprocal = d > F::kHugeReciprocal, tiny_quotient = quotient_is_denormal<F>(s2, s1);
  if (tiny_reciprocal && tiny_quotient) {
    *vcc = true;
    return is_denominator ? scale_exact<F>(s0, -F::kScale) : s0;
  }
  if (tiny_reciprocal) return scale_exact<F>(s0, -F::kScale);
  if (tiny_quotient) {
    *vcc = true;
    return is_numerator ? scale_exact<F>(s0, F::kScale) : s0;
  }
  return exponent_field<F>(s2) <= F::kTiny ? scale_exact<F>(s0, F::kScale) : s0;
}

template <class F>
typename F::Bits div_fixup(typename F::Bits s0, typename F::Bits s1, typename F::Bits s2) {
  using Bits = typename F::Bits;
  const Bits d = s1 & ~F::kSign, n = s2 & ~F::kSign, sign = (s1 ^ s2) & F::kSign;
  if (n > F::kInf) return s2 | F::kQuiet;
  if (d > F::kInf) return s1 | F::kQuiet;
  if ((d == 0 && n == 0) || (d == F::kInf && n == F::kInf)) return F::kBadNan;
  if (d == 0 || n == F::kInf) return sign | F::kInf;
  if (d == F::kInf || n == 0) return sign;
  const int difference = exponent_field<F>(s2) - exponent_field<F>(s1);
  if (difference < F::kUnderflow) return sign;  // nearest even underflows to zero
  if (difference >= F::kOverflow) return sign | F::kInf;
  return sign | (s0 & ~F::kSign);
}

}  // namespace detail

inline uint32_t div_scale_f32(uint32_t s0, uint32_t s1, uint32_t s2, bool* vcc) {
  return detail::div_scale<detail::DivF32>(s0, s1, s2, vcc);
}
inline uint64_t div_scale_f64(uint64_t s0, uint64_t s1, uint64_t s2, bool* vcc) {
  return detail::div_scale<detail::DivF64>(s0, s1, s2, vcc);
}

// fma, then a power of two undoing div_scale; the fma's own result is far from the ends of the range, so the product
// is the only step that can round into the denormals.
inline uint32_t div_fmas_f32(uint32_t s0, uint32_t s1, uint32_t s2, bool vcc) {
  const float r = __builtin_fmaf(float_of(s0), float_of(s1), float_of(s2));
  if (!vcc) return bits_of(r);
  const bool big = (s2 & 0x7f800000u) > (127u << 23);
  return bits_of(r * (big ? 0x1p64f : 0x1p-64f));
}
inline uint64_t div_fmas_f64(uint64_t s0, uint64_t s1, uint64_t s2, bool vcc) {
  const double r = __builtin_fma(double_of(s0), double_of(s1), double_of(s2));
  if (!vcc) return bits_of(r);
  const bool big = (s2 & 0x7ff0000000000000ull) > (1023ull << 52);
  return bits_of(r * (big ? 0x1p128 : 0x1p-128));
}

inline uint32_t div_fixup_f32(uint32_t s0, uint32_t s1, uint32_t s2) { return detail::div_fixup<detail::DivF32>(s0, s1, s2); }
inline uint64_t div_fixup_f64(uint64_t s0, uint64_t s1, uint64_t s2) { return detail::div_fixup<detail::DivF64>(s0, s1, s2); }

inline uint16_t div_fixup_f16(uint16_t s0, uint16_t s1, uint16_t s2) {
  const uint32_t d = s1 & 0x7fffu, n = s2 & 0x7fffu, sign = (s1 ^ s2) & 0x8000u;
  if (n > 0x7c00u) return static_cast<uint16_t>(s2 | 0x200u);
  if (d > 0x7c00u) return static_cast<uint16_t>(s1 | 0x200u);
  if ((d == 0 && n == 0) || (d == 0x7c00u && n == 0x7c00u)) return 0xfe00u;
  if (d == 0 || n == 0x7c00u) return static_cast<uint16_t>(sign | 0x7c00u);
  if (d == 0x7c00u || n == 0) return static_cast<uint16_t>(sign);
  return static_cast<uint16_t>(sign | (s0 & 0x7fffu));
}

// 53 bits of 2/pi, chosen by the exponent of S0 and the segment S1: see trig_preop.cc.
uint64_t trig_preop_f64(uint64_t s0, uint32_t s1);

}  // namespace vgpu::sem
