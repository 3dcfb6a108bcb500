// Moves operands between register arrays and dense matrices. Layouts are stated in mfma.h.
#pragma once
#include <type_traits>

#include "elements_avx512.h"

namespace vgpu::sem::matrix {

constexpr int kWave = 64;

// A or B as [block][k][i], i the row of A or the column of B. `lane_of` lets B's lane-group patterns remap lanes.
template <class T, int EDGE, int K, int BLOCKS>
struct Operand {
  static constexpr int kPerLane = EDGE * K * BLOCKS / kWave;
  static constexpr int kPerDword = 32 / T::kBits;
  static constexpr int kRegs = (kPerLane + kPerDword - 1) / kPerDword;
  alignas(64) float at[BLOCKS][K][EDGE];

  void load(const uint32_t* regs, const MfmaCtl& ctl) {
#if defined(VGPU_WIDE_VECTORS)
    if constexpr (EDGE % 16 == 0)
      if (wide()) return load_wide(regs, ctl);
#endif
    for (int e = 0; e < kPerLane; ++e) {
      alignas(64) float row[kWave];
      T::unpack(regs + (e / kPerDword) * kWave, e % kPerDword, kWave, row, ctl);
      for (int group = 0; group < kWave / EDGE; ++group)
        std::memcpy(at[group % BLOCKS][(group / BLOCKS) * kPerLane + e], row + group * EDGE, sizeof(float) * EDGE);
    }
  }

#if defined(VGPU_WIDE_VECTORS)
 private:
  VGPU_WIDE [[gnu::noinline]] void load_wide(const uint32_t* regs, const MfmaCtl& ctl) {
    for (int r = 0; r < kRegs; ++r)
      for (int lane = 0; lane < kWave; lane += 16) {
        __m512 elements[kPerDword];
        Wide<T>::unpack(_mm512_loadu_si512(regs + r * kWave + lane), ctl, elements);
        const int group = lane / EDGE;
        for (int s = 0; s < kPerDword && r * kPerDword + s < kPerLane; ++s)
          _mm512_store_ps(at[group % BLOCKS][(group / BLOCKS) * kPerLane + r * kPerDword + s] + lane % EDGE, elements[s]);
      }
  }
#endif
};

// C and D as [block][row][column], of 32-bit elements.
template <class Acc, int M, int N, int BLOCKS>
struct Result {
  static constexpr int kRegs = M * N * BLOCKS / kWave;
  alignas(64) Acc at[BLOCKS][M][N];

  // The 64/N runs of N consecutive lanes of register r lie in one block each.
  template <class Visit>
  static void runs(Visit visit) {
    for (int r = 0; r < kRegs; ++r)
      for (int group = 0; group < kWave / N; ++group) {
        if (M == 4) {
          visit(r * kWave + group * N, group, r);
        } else {
          constexpr int kRegsPerBlock = M * N / kWave;
          const int in_block = r % kRegsPerBlock;
          visit(r * kWave + group * N, r / kRegsPerBlock, 4 * (kWave / N) * (in_block / 4) + 4 * group + in_block % 4);
        }
      }
  }
  void load(const uint32_t* regs) {
    runs([&](int at_dword, int block, int row) { std::memcpy(at[block][row], regs + at_dword, 4 * N); });
  }
  // x86 and AMD disagree on the sign of a generated NaN; MFMA's are all canonical here.
  void store(uint32_t* regs) {
#if defined(VGPU_WIDE_VECTORS)
    if constexpr (N % 16 == 0)
      if (wide()) return store_wide(regs);
#endif
    canonical_nans(&at[0][0][0], M * N * BLOCKS);
    runs([&](int at_dword, int block, int row) { std::memcpy(regs + at_dword, at[block][row], 4 * N); });
  }

 private:
  static void canonical_nans(float* values, int count) {
    for (int i = 0; i < count; ++i) values[i] = values[i] == values[i] ? values[i] : float_of(kNanF32);
  }
  static void canonical_nans(int32_t*, int) {}

#if defined(VGPU_WIDE_VECTORS)
  VGPU_WIDE [[gnu::noinline]] void store_wide(uint32_t* regs) const {
    for (int r = 0; r < kRegs; ++r)
      for (int lane = 0; lane < kWave; lane += 16) {
        const int in_block = r % (M * N / kWave), row = 4 * (kWave / N) * (in_block / 4) + 4 * (lane / N) + in_block % 4;
        __m512i x = _mm512_load_si512(at[r / (M * N / kWave)][row] + lane % N);
        if (std::is_same_v<Acc, float>) {
          const __m512 f = _mm512_castsi512_ps(x);
          x = _mm512_mask_mov_epi32(x, _mm512_cmp_ps_mask(f, f, _CMP_UNORD_Q), _mm512_set1_epi32(kNanF32));
        }
        _mm512_storeu_si512(regs + r * kWave + lane, x);
      }
  }
#endif
};

// BLGP: which lane of B stands in for each lane. 0 none, 1 low half twice, 2 high half twice, 3 rotated down by 16,
// 4..7 one quarter four times.
inline int blgp_lane(int blgp, int lane) {
  switch (blgp) {
    case 0: return lane;
    case 1: return lane % 32;
    case 2: return lane % 32 + 32;
    case 3: return (lane + 16) % 64;
    default: return lane % 16 + 16 * (blgp - 4);
  }
}

// CBSZ/ABID: groups of 2^cbsz blocks all read block `abid` of their group.
inline int cbsz_block(const MfmaCtl& ctl, int block) {
  return ctl.cbsz ? (block & ~((1 << ctl.cbsz) - 1)) + (ctl.abid & ((1 << ctl.cbsz) - 1)) : block;
}

}  // namespace vgpu::sem::matrix
