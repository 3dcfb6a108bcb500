// The dense forms for 32-bit accumulators, as one template over shape and operand types.
#pragma once
#include <type_traits>

#include "silicon.h"

namespace vgpu::sem::matrix {

template <int M, int N, int K, int BLOCKS, class TA, class TB>
void dense(uint32_t* d, const uint32_t* a, const uint32_t* b, const uint32_t* c, const MfmaCtl& ctl) {
  using Acc = typename TA::Acc;
  const DefaultFloatState float_state;
  Operand<TA, M, K, BLOCKS> left;
  Operand<TB, N, K, BLOCKS> right;
  Result<Acc, M, N, BLOCKS> result;
  left.load(a, ctl);
  if (ctl.blgp == 0) {
    right.load(b, ctl);
  } else {
    uint32_t remapped[right.kRegs * kWave];
    for (int r = 0; r < right.kRegs; ++r)
      for (int lane = 0; lane < kWave; ++lane) remapped[r * kWave + lane] = b[r * kWave + blgp_lane(ctl.blgp, lane)];
    right.load(remapped, ctl);
  }
  result.load(c);
  for (int block = 0; block < BLOCKS; ++block) {
    const auto* rows = left.at[cbsz_block(ctl, block) % BLOCKS];
#if defined(VGPU_WIDE_VECTORS)
    if constexpr (M == 4 && N == 4 && Silicon<TA>::kGroup > 0)
      if (block % 4 == 0 && ctl.silicon && wide()) {
        const float(*four[4])[M];
        for (int i = 0; i < 4; ++i) four[i] = left.at[cbsz_block(ctl, block + i) % BLOCKS];
        if (multiply_four_blocks<TA, TB, K>(four, right.at + block, result.at + block)) {
          block += 3;
          continue;
        }
      }
#endif
    if constexpr (std::is_integral_v<Acc>)
      multiply<M, N, K>(rows, right.at[block], result.at[block], ctl.clamp);
    else if constexpr (Silicon<TA>::kGroup > 0) {
      if (ctl.silicon)
        multiply_published<TA, TB, M, N, K>(rows, right.at[block], result.at[block]);
      else
        multiply<M, N, K>(rows, right.at[block], result.at[block]);
    } else
      multiply<M, N, K>(rows, right.at[block], result.at[block]);
  }
  result.store(d);
}

template <int M, int N, int K, int BLOCKS, class TA, class TB>
constexpr MfmaInfo dense_info(const char* name, bool on_gfx942, bool on_gfx950) {
  return {name, &dense<M, N, K, BLOCKS, TA, TB>, M, N, K, BLOCKS, Operand<TA, M, K, BLOCKS>::kRegs,
          Operand<TB, N, K, BLOCKS>::kRegs, M * N * BLOCKS / kWave, on_gfx942, on_gfx950, false};
}

}  // namespace vgpu::sem::matrix
