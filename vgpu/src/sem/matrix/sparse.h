// SMFMAC: A is 4:2 sparse. Of every four k only two are stored; two bits each in the index register say which.
//
// The index of a lane's compressed element e is bits [2e+1:2e] of its index set. With 16-bit data a 32-bit index
// register holds four sets of 8 bits (four elements per lane), chosen by ABID when CBSZ is 0; with 8-bit data two sets
// of 16 bits. CBSZ != 0 means set 0. The gfx950 forms with twice the K hold sets twice as long (one set with 8-bit data).
// C is the old D.
#pragma once
#include <type_traits>

#include "silicon.h"

namespace vgpu::sem::matrix {

// The stored elements of a row, each with the row of B that its k names.
template <int M, int N>
struct SparseView : DenseView<M, N> {
  const int (*stored)[M];
  const float* right(int e) const { return this->b[stored[e][this->row]]; }
  const int16_t* right_exponents(int e) const { return this->eb[stored[e][this->row]]; }
  int exponent(int e, int n) const { return static_cast<int16_t>(this->ea[e][this->row]) + right_exponents(e)[n]; }
};

#if defined(VGPU_WIDE_VECTORS)
template <int M, int N>
struct WideSparse {
  const float (*a)[M];
  const uint32_t (*ea)[M];
  const float (*b)[N];
  const uint32_t (*even)[N], (*odd)[N];  // B's exponents where either is wanted of them
  const int (*stored)[M];
  int row;
  float left_of(int e, int) const { return a[e][row]; }
  VGPU_WIDE [[gnu::always_inline]] __m512 left_16(int e) const { return _mm512_set1_ps(a[e][row]); }
  const float* right(int e) const { return b[stored[e][row]]; }
  int exponent(int e, int n) const { return half_of(ea[e / 2][row], e) + half_of(odd[stored[e][row]][n], 1) - 127; }
  VGPU_WIDE [[gnu::always_inline]] __m512i pair(int e, int n) const {
    const __m512i low = _mm512_load_si512(even[stored[e][row]] + n), high = _mm512_load_si512(odd[stored[e + 1][row]] + n);
    return _mm512_add_epi16(_mm512_set1_epi32(static_cast<int>(ea[e / 2][row])), _mm512_or_si512(low, high));
  }
};

// One fused multiply-add per stored element.
template <int M, int N, int K>
VGPU_WIDE [[gnu::noinline]] void multiply_sparse_wide(const float (*a)[M], const float (*b)[N], const int (*stored)[M], float (*acc)[N]) {
  for (int n = 0; n < N; n += 16)
    for (int m = 0; m < M; m += 8) {
      __m512 sum[8];
      for (int i = 0; i < 8; ++i) sum[i] = _mm512_load_ps(acc[m + i] + n);
      for (int e = 0; e < K / 2; ++e)
        for (int i = 0; i < 8; ++i)
          sum[i] = _mm512_fmadd_ps(_mm512_set1_ps(a[e][m + i]), _mm512_load_ps(b[stored[e][m + i]] + n), sum[i]);
      for (int i = 0; i < 8; ++i) _mm512_store_ps(acc[m + i] + n, sum[i]);
    }
}
template <class TA, class TB, int M, int N, int K>
VGPU_WIDE [[gnu::noinline]] bool sparse_published_wide(const float (*a)[M], const float (*b)[N], const int (*stored)[M], float (*acc)[N]) {
  alignas(64) uint32_t ea[K / 4][M], even[K][N], odd[K][N];
  __m512i largest = _mm512_setzero_si512();
  for (int k = 0; k < K; ++k)
    for (int i = 0; i < N; i += 16) {
      const __m512i e = exponents_16<TB>(b[k] + i, 0, largest);
      _mm512_store_si512(even[k] + i, _mm512_and_si512(e, _mm512_set1_epi32(0xffff)));
      _mm512_store_si512(odd[k] + i, _mm512_slli_epi32(e, 16));
    }
  if (!exponent_pairs<TA, M, K / 2>(a, 127, ea) || _mm512_cmpeq_epu32_mask(largest, _mm512_set1_epi32(255)))
    return multiply_not_finite<M, N, K / 2, K>(
        a, b, acc, [&](auto x, auto y, auto z) { multiply_sparse_wide<M, N, K>(x, y, stored, z); },
        [&](auto x, auto y, auto z) { return sparse_published_wide<TA, TB, M, N, K>(x, y, stored, z); });
  constexpr int kGroup = Silicon<TA>::kGroup;
  add_all_groups<TA, kGroup, K / 2, M, N>([&](int e, int m) { return WideSparse<M, N>{a + e, ea + e / 2, b, even, odd, stored + e, m}; }, acc);
  return true;
}
#endif

template <class TA, class TB, int M, int N, int K>
inline void sparse_published(const float (*a)[M], const float (*b)[N], const int (*stored)[M], float (*acc)[N]) {
#if defined(VGPU_WIDE_VECTORS)
  if (wide() && sparse_published_wide<TA, TB, M, N, K>(a, b, stored, acc)) return;
#endif
  constexpr int kGroup = Silicon<TA>::kGroup;
  alignas(32) uint32_t ea[K / 2][M];
  alignas(32) int16_t eb[K][N];
  const bool small_products = exponents_of<TA, M, K / 2>(a, ea) + exponents_of<TB, N, K>(b, eb) < kLowest;
  for (int e = 0; e < K / 2; e += kGroup)
    add_groups<TA, TB, kGroup, M, N>([&](int m) { return SparseView<M, N>{{a + e, ea + e, b, eb, m}, stored + e}; }, small_products, acc);
}

template <int M, int N, int K>
inline void multiply_sparse(const float (*a)[M], const float (*b)[N], const int (*stored)[M], float (*acc)[N]) {
#if defined(VGPU_WIDE_VECTORS)
  if (wide()) return multiply_sparse_wide<M, N, K>(a, b, stored, acc);
#endif
  for (int m = 0; m < M; ++m) {
    alignas(32) float sum[N];
    std::memcpy(sum, acc[m], sizeof sum);
    for (int e = 0; e < K / 2; ++e)
      for (int n = 0; n < N; ++n) sum[n] = __builtin_fmaf(a[e][m], b[stored[e][m]][n], sum[n]);
    std::memcpy(acc[m], sum, sizeof sum);
  }
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
  int stored[kHalf][M];  // the k of each stored element
  for (int e = 0; e < kHalf; ++e) {
    const int shift = set * (kSetBits % 32) + 2 * (e % left.kPerLane);
    const uint32_t* lanes = ctl.index + M * (e / left.kPerLane);
    for (int m = 0; m < M; ++m) stored[e][m] = 4 * (e / 2) + static_cast<int>(lanes[m] >> shift & 3);
  }
  if constexpr (std::is_integral_v<Acc>) {
    alignas(64) float sum[M][N] = {};
    multiply_sparse<M, N, K>(left.at[0], right.at[0], stored, sum);
    for (int m = 0; m < M; ++m)
      for (int n = 0; n < N; ++n) result.at[0][m][n] = add_i32(result.at[0][m][n], sum[m][n], ctl.clamp);
  } else if (ctl.silicon) {
    sparse_published<TA, TB, M, N, K>(left.at[0], right.at[0], stored, result.at[0]);
  } else {
    multiply_sparse<M, N, K>(left.at[0], right.at[0], stored, result.at[0]);
  }
  result.store(d);
}

template <int M, int N, int K, class TA, class TB>
constexpr MfmaInfo sparse_info(const char* name, bool on_gfx942) {
  return {name, &sparse<M, N, K, TA, TB>, M, N, K, 1, Operand<TA, M, K / 2, 1>::kRegs, Operand<TB, N, K, 1>::kRegs,
          M * N / kWave, on_gfx942, true, true};
}

}  // namespace vgpu::sem::matrix
