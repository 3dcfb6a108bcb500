// SMFMAC: A is 4:2 sparse. Of every four k only two are stored; two bits each in the index register say which.
//
// The index of a lane's compressed element e is bits [2e+1:2e] of its index set. With 16-bit data a 32-bit index
// register holds four sets of 8 bits (four elements per lane), chosen by ABID when CBSZ is 0; with 8-bit data two sets
// of 16 bits. CBSZ != 0 means set 0. The gfx950 forms with twice the K hold sets twice as long (one set with 8-bit data).
// C is the old D.
#pragma once
#include <type_traits>

#include "mfma_silicon.h"

namespace vgpu::sem::matrix {

// The stored elements of a row, each with the row of B that its k names.
template <int M, int N>
struct SparseView : DenseView<M, N> {
  const int* stored;
  const float* right(int e) const { return this->b[stored[e]]; }
  const int16_t* right_exponents(int e) const { return this->eb[stored[e]]; }
};

template <class TA, class TB, int M, int N, int K>
inline void sparse_published(const float (*a)[M], const float (*b)[N], const int (*stored)[K / 2], float (*acc)[N]) {
  constexpr int kGroup = Silicon<TA>::kGroup;
  alignas(32) uint32_t ea[K / 2][M];
  alignas(32) int16_t eb[K][N];
  const bool small_products = exponents_of<TA, M, K / 2>(a, ea) + exponents_of<TB, N, K>(b, eb) < kLowest;
  for (int e = 0; e < K / 2; e += kGroup)
    add_groups<TA, TB, kGroup, M, N>([&](int m) { return SparseView<M, N>{{a + e, ea + e, b, eb, m}, stored[m] + e}; }, small_products,
                                     acc);
}

template <int M, int N, int K, class TA, class TB>
void sparse(uint32_t* d, const uint32_t* a, const uint32_t* b, const uint32_t* c, const MfmaCtl& ctl) {
  using Acc = typename TA::Acc;
  constexpr int kHalf = K / 2;
  const DefaultFloatState float_state;
  Operand<TA, M, kHalf, 1> left;  // compressed
  Operand<TB, N, K, 1> right;
  Result<Acc, M, N, 1> result;
  left.load(a, ctl);
  right.load(b, ctl);
  result.load(c);
  constexpr int kSetBits = 2 * left.kPerLane, kSets = 32 / kSetBits;
  const int set = ctl.cbsz ? 0 : ctl.abid % kSets;
  int stored[M][kHalf];  // the k of each stored element
  for (int m = 0; m < M; ++m)
    for (int e = 0; e < kHalf; ++e) {
      const int lane = m + M * (e / left.kPerLane), in_lane = e % left.kPerLane;
      stored[m][e] = 4 * (e / 2) + static_cast<int>((ctl.index[lane] >> (set * (kSetBits % 32) + 2 * in_lane)) & 3);
    }
  if constexpr (!std::is_integral_v<Acc>)
    if (ctl.silicon) {
      sparse_published<TA, TB, M, N, K>(left.at[0], right.at[0], stored, result.at[0]);
      canonical_nans(&result.at[0][0][0], M * N);
      result.store(d);
      return;
    }
  for (int m = 0; m < M; ++m) {
    alignas(32) float sum[N] = {};
    if constexpr (!std::is_integral_v<Acc>) std::memcpy(sum, result.at[0][m], sizeof sum);
    for (int e = 0; e < kHalf; ++e) {
      const float* row = right.at[0][stored[m][e]];
      const float x = left.at[0][e][m];
      for (int n = 0; n < N; ++n) sum[n] = __builtin_fmaf(x, row[n], sum[n]);
    }
    for (int n = 0; n < N; ++n) {
      if constexpr (std::is_integral_v<Acc>)
        result.at[0][m][n] = add_i32(result.at[0][m][n], sum[n], ctl.clamp);
      else
        result.at[0][m][n] = sum[n];
    }
  }
  canonical_nans(&result.at[0][0][0], M * N);
  result.store(d);
}

template <int M, int N, int K, class TA, class TB>
constexpr MfmaInfo sparse_info(const char* name, bool on_gfx942) {
  return {name, &sparse<M, N, K, TA, TB>, M, N, K, 1, Operand<TA, M, K / 2, 1>::kRegs, Operand<TB, N, K, 1>::kRegs,
          M * N / kWave, on_gfx942, true, true};
}

}  // namespace vgpu::sem::matrix
