// Arithmetic whose obvious C++ spelling is subtly wrong: f16 with one rounding, and min/max/med3 with AMD's NaN rules.
#pragma once
#include "convert.h"

namespace vgpu::sem {

// ---- f16 arithmetic. Sums and products are rounded twice (f32, f16), which is harmless: f32 has more than twice the
// precision plus two bits. A fused multiply-add is not that lucky, see below. ------------------------------------------

inline uint16_t nan_f16(uint16_t first, uint16_t second, uint16_t third = 0) {
  const uint16_t nan = is_nan_f16(first) ? first : is_nan_f16(second) ? second : is_nan_f16(third) ? third : kNanF16;
  return static_cast<uint16_t>(nan | 0x200u);
}
inline uint16_t add_f16(uint16_t x, uint16_t y, Round round = Round::nearest_even) {
  const float r = f16_to_f32(x) + f16_to_f32(y);
  return r == r ? f32_to_f16(r, round) : nan_f16(x, y);
}
inline uint16_t mul_f16(uint16_t x, uint16_t y, Round round = Round::nearest_even) {
  const float r = f16_to_f32(x) * f16_to_f32(y);
  return r == r ? f32_to_f16(r, round) : nan_f16(x, y);
}

// x*y is exact in f64; adding z may not be. The f64 sum and then its f32 narrowing are rounded to odd, which keeps the
// information the last rounding to f16 needs.
inline uint16_t fma_f16(uint16_t x, uint16_t y, uint16_t z, Round round = Round::nearest_even) {
  const double p = static_cast<double>(f16_to_f32(x)) * static_cast<double>(f16_to_f32(y));
  const double q = static_cast<double>(f16_to_f32(z));
  const double s = p + q;
  if (!(s == s)) return nan_f16(x, y, z);
  uint64_t u = bits_of(s);
  if ((u & 0x7fffffffffffffffull) == 0 || (u & 0x7ff0000000000000ull) == 0x7ff0000000000000ull)
    return f32_to_f16(static_cast<float>(s), round);
  const double back = s - p, error = (p - (s - back)) + (q - back);
  const bool inexact = error != 0.0, away = inexact && ((error < 0.0) != (s < 0.0));
  if (away && !(u & 1)) u -= 1;
  u |= inexact;
  const uint32_t narrow = static_cast<uint32_t>(u >> 63 << 31) |
                          static_cast<uint32_t>(((u & 0x7fffffffffffffffull) - ((1023ull - 127ull) << 52)) >> 29) |
                          ((u & 0x1fffffffu) != 0);
  return f32_to_f16(float_of(narrow), round);
}

// ---- min and max: a quiet NaN loses to a number; a signalling NaN wins, quieted, when MODE.IEEE is set; -0 < +0 -------

namespace detail {
template <class Bits, int MANTISSA>
struct Ordered {
  static constexpr int kWidth = sizeof(Bits) * 8;
  static constexpr Bits kSign = static_cast<Bits>(Bits(1) << (kWidth - 1));
  static constexpr Bits kInf = static_cast<Bits>(((Bits(1) << (kWidth - 1 - MANTISSA)) - 1) << MANTISSA);
  static constexpr Bits kQuiet = static_cast<Bits>(Bits(1) << (MANTISSA - 1));
  static bool nan(Bits u) { return static_cast<Bits>(u & ~kSign) > kInf; }
  static bool signalling(Bits u) { return nan(u) && !(u & kQuiet); }
  // Integers in the order of the numbers, -0 just below +0.
  static Bits key(Bits u) { return static_cast<Bits>((u & kSign) ? ~u : u | kSign); }
  static Bits pick(Bits x, Bits y, bool maximum, bool ieee) {
    const bool x_wins = (key(x) < key(y)) != maximum;
    Bits r = x_wins ? x : y;
    r = nan(y) ? x : r;
    r = nan(x) ? y : r;
    r = ieee && signalling(y) ? static_cast<Bits>(y | kQuiet) : r;
    return ieee && signalling(x) ? static_cast<Bits>(x | kQuiet) : r;
  }
  static Bits med3(Bits x, Bits y, Bits z, bool ieee) {
    if (nan(x) || nan(y) || nan(z)) return pick(pick(x, y, false, ieee), z, false, ieee);
    const Bits kx = key(x), ky = key(y), kz = key(z);
    const bool x_top = kx >= ky && kx >= kz, y_top = ky >= kx && ky >= kz;
    return x_top ? pick(y, z, true, ieee) : y_top ? pick(x, z, true, ieee) : pick(x, y, true, ieee);
  }
};
}  // namespace detail

inline uint32_t min_f32(uint32_t x, uint32_t y, bool ieee) { return detail::Ordered<uint32_t, 23>::pick(x, y, false, ieee); }
inline uint32_t max_f32(uint32_t x, uint32_t y, bool ieee) { return detail::Ordered<uint32_t, 23>::pick(x, y, true, ieee); }
inline uint64_t min_f64(uint64_t x, uint64_t y, bool ieee) { return detail::Ordered<uint64_t, 52>::pick(x, y, false, ieee); }
inline uint64_t max_f64(uint64_t x, uint64_t y, bool ieee) { return detail::Ordered<uint64_t, 52>::pick(x, y, true, ieee); }
inline uint16_t min_f16(uint16_t x, uint16_t y, bool ieee) { return detail::Ordered<uint16_t, 10>::pick(x, y, false, ieee); }
inline uint16_t max_f16(uint16_t x, uint16_t y, bool ieee) { return detail::Ordered<uint16_t, 10>::pick(x, y, true, ieee); }
inline uint32_t med3_f32(uint32_t x, uint32_t y, uint32_t z, bool ieee) {
  return detail::Ordered<uint32_t, 23>::med3(x, y, z, ieee);
}
inline uint16_t med3_f16(uint16_t x, uint16_t y, uint16_t z, bool ieee) {
  return detail::Ordered<uint16_t, 10>::med3(x, y, z, ieee);
}

}  // namespace vgpu::sem
