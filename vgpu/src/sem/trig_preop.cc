// v_trig_preop_f64: the 53 bits of 2/pi that matter for reducing an argument of S0's magnitude, segment S1.
#include "divide.h"

namespace vgpu::sem {
namespace {

// The first 1201 bits of the fraction of 2/pi, most significant first (the last word is padded with zeros).
constexpr uint64_t kTwoOverPi[19] = {
    0xa2f9836e4e441529ull, 0xfc2757d1f534ddc0ull, 0xdb6295993c439041ull, 0xfe5163abdebbc561ull,
    0xb7246e3a424dd2e0ull, 0x06492eea09d1921cull, 0xfe1deb1cb129a73eull, 0xe88235f52ebb4484ull,
    0xe99c7026b45f7e41ull, 0x3991d639835339f4ull, 0x9c845f8bbdf9283bull, 0x1ff897ffde05980full,
    0xef2f118b5a0a6d1full, 0x6d367ecf27cb09b7ull, 0x4f463f669e5fea2dull, 0x7527bac7ebe5f17bull,
    0x3d0739f78a5292eaull, 0x6bfb5fb11f8d5d08ull, 0x56033046fc7b0000ull,
};

// Bits [from, from + 53) counted from the binary point; zero past the end of the table.
uint64_t fraction_bits(int from) {
  uint64_t r = 0;
  for (int i = 0; i < 53; ++i) {
    const int at = from + i;
    const uint64_t bit = at < 1201 ? kTwoOverPi[at / 64] >> (63 - at % 64) & 1 : 0;
    r = r << 1 | bit;
  }
  return r;
}

}  // namespace

uint64_t trig_preop_f64(uint64_t s0, uint32_t s1) {
  const int exponent = static_cast<int>(s0 >> 52) & 0x7ff;
  int shift = static_cast<int>(s1 & 31u) * 53;
  if (exponent > 1077) shift += exponent - 1077;
  int scale = -53 - shift;
  if (exponent >= 1968) scale += 128;  // keeps the last segments of huge arguments out of the denormals
  return bits_of(__builtin_ldexp(static_cast<double>(fraction_bits(shift)), scale));
}

}  // namespace vgpu::sem
