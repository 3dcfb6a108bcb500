// The two f64 forms, whose D rows interleave differently from the 32-bit ones. BLGP holds neg bits of A, B and C.
#pragma once
#include "multiply.h"

namespace vgpu::sem::matrix {

inline double f64_lane(const uint32_t* regs, int pair, int lane, bool negate) {
  const uint64_t low = regs[2 * pair * kWave + lane], high = regs[(2 * pair + 1) * kWave + lane];
  const double x = double_of(low | high << 32);
  return negate ? -x : x;
}
inline void store_f64_lane(uint32_t* regs, int pair, int lane, double x) {
  const uint64_t u = x == x ? bits_of(x) : kNanF64;
  regs[2 * pair * kWave + lane] = static_cast<uint32_t>(u);
  regs[(2 * pair + 1) * kWave + lane] = static_cast<uint32_t>(u >> 32);
}

inline void f64_16x16x4(uint32_t* d, const uint32_t* a, const uint32_t* b, const uint32_t* c, const MfmaCtl& ctl) {
  const DefaultFloatState float_state;
  double result[4][kWave];
  for (int pair = 0; pair < 4; ++pair)
    for (int lane = 0; lane < kWave; ++lane) {
      const int row = 4 * pair + lane / 16, column = lane % 16;
      double sum = f64_lane(c, pair, lane, ctl.blgp & 4);
      for (int k = 0; k < 4; ++k)
        sum = __builtin_fma(f64_lane(a, 0, row + 16 * k, ctl.blgp & 1), f64_lane(b, 0, column + 16 * k, ctl.blgp & 2), sum);
      result[pair][lane] = sum;
    }
  for (int pair = 0; pair < 4; ++pair)
    for (int lane = 0; lane < kWave; ++lane) store_f64_lane(d, pair, lane, result[pair][lane]);
}

inline void f64_4x4x4(uint32_t* d, const uint32_t* a, const uint32_t* b, const uint32_t* c, const MfmaCtl& ctl) {
  const DefaultFloatState float_state;
  double result[kWave];
  for (int lane = 0; lane < kWave; ++lane) {
    const int row = lane / 16, block = lane / 4 % 4, column = lane % 4;
    double sum = f64_lane(c, 0, lane, ctl.blgp & 4);
    for (int k = 0; k < 4; ++k)
      sum = __builtin_fma(f64_lane(a, 0, row + 4 * block + 16 * k, ctl.blgp & 1),
                          f64_lane(b, 0, column + 4 * block + 16 * k, ctl.blgp & 2), sum);
    result[lane] = sum;
  }
  for (int lane = 0; lane < kWave; ++lane) store_f64_lane(d, 0, lane, result[lane]);
}

}  // namespace vgpu::sem::matrix
