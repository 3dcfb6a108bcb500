#include "fp8.h"

namespace vgpu::sem {
namespace {

struct Table {
  float values[256];
};

constexpr float power_of_two(int e) {
  float r = 1.0f;
  for (; e > 0; --e) r *= 2.0f;
  for (; e < 0; ++e) r *= 0.5f;
  return r;
}

constexpr Table make(bool bf8, bool fnuz) {
  Table t{};
  const int mantissa_bits = bf8 ? 2 : 3;
  const int bias = (bf8 ? 15 : 7) + (fnuz ? 1 : 0);
  const float nan = __builtin_nanf("");
  for (int code = 0; code < 256; ++code) {
    const int magnitude = code & 0x7f, exponent = magnitude >> mantissa_bits;
    const int mantissa = magnitude & ((1 << mantissa_bits) - 1);
    const int one = exponent ? 1 << mantissa_bits : 0;
    float v = static_cast<float>(mantissa + one) * power_of_two((exponent ? exponent : 1) - bias - mantissa_bits);
    if (fnuz) {
      if (code == 0x80) v = nan;
    } else if (bf8) {
      if (exponent == 31) v = mantissa ? nan : __builtin_inff();
    } else if (magnitude == 0x7f) {
      v = nan;
    }
    t.values[code] = (code & 0x80) && v == v ? -v : v;
  }
  return t;
}

constexpr Table kFp8Fnuz = make(false, true), kFp8Ocp = make(false, false);
constexpr Table kBf8Fnuz = make(true, true), kBf8Ocp = make(true, false);

}  // namespace

const float* const kFp8Table[4] = {kFp8Fnuz.values, kFp8Ocp.values, kBf8Fnuz.values, kBf8Ocp.values};

}  // namespace vgpu::sem
