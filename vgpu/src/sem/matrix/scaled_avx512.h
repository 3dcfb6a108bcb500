// scaled.h in AVX-512: the same numbers in the same order.
#pragma once
#include "layout.h"
#if defined(VGPU_WIDE_VECTORS)
#include "sem/small_float.h"

namespace vgpu::sem::matrix {

// 16 lanes' elements of 6 and 4 bits, looked up.
template <class Small>
struct WideSmall {
  float values[32];  // of all codes without a sign

  WideSmall() {
    for (uint32_t i = 0; i < 32; ++i) values[i] = Small::decode(i & Small::kMax);
  }
  VGPU_WIDE [[gnu::always_inline]] __m512 decode(__m512i codes) const {
    const __m512 magnitude = _mm512_permutex2var_ps(_mm512_loadu_ps(values), codes, _mm512_loadu_ps(values + 16));
    const __m512i sign = _mm512_and_si512(_mm512_slli_epi32(codes, 32 - Small::kBits), _mm512_set1_epi32(INT32_MIN));
    return _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(magnitude), sign));
  }
};

template <int EDGE, int K>
struct WideScaled {
  double (*at)[EDGE];
  const double* factors;  // [k / 32][EDGE], or none

  VGPU_WIDE [[gnu::always_inline]] void put(int k, int lane, __m512 values) const {
    double* to = at[k] + lane % EDGE;
    __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(values)), high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(values, 1));
    if (factors) {
      const double* by = factors + k / 32 * EDGE + lane % EDGE;
      low = _mm512_mul_pd(low, _mm512_loadu_pd(by)), high = _mm512_mul_pd(high, _mm512_loadu_pd(by + 8));
    }
    _mm512_store_pd(to, low);
    _mm512_store_pd(to + 8, high);
  }

  template <class T>
  VGPU_WIDE [[gnu::noinline]] void load_8_bits(const uint32_t* regs) const {
    MfmaCtl ctl;
    ctl.fp8_ocp = true;
    for (int r = 0; r < 8; ++r)
      for (int lane = 0; lane < kWave; lane += 16) {
        __m512 elements[4];
        Wide<T>::unpack(_mm512_loadu_si512(regs + r * kWave + lane), ctl, elements);
        for (int s = 0; s < 4; ++s) put(r / 4 * (K / 2) + 16 * (lane / EDGE) + r % 4 * 4 + s, lane, elements[s]);
      }
  }

  // Other bits than a code's own are left in it: `decode` sees the lowest only.
  template <class Small>
  VGPU_WIDE [[gnu::noinline]] void load_fewer_bits(const uint32_t* regs) const {
    static const WideSmall<Small> table;
    for (int e = 0; e < 32; ++e) {
      const int shift = e * Small::kBits % 32;
      for (int lane = 0; lane < kWave; lane += 16) {
        const uint32_t* from = regs + e * Small::kBits / 32 * kWave + lane;
        const bool split = shift + Small::kBits > 32;
        const __m512i low = _mm512_loadu_si512(from), high = split ? _mm512_loadu_si512(from + kWave) : low;
        put(32 * (lane / EDGE) + e, lane, table.decode(_mm512_shrdv_epi32(low, high, _mm512_set1_epi32(shift))));
      }
    }
  }

  void load(const uint32_t* regs, int format) const {
    switch (format) {
      case 0: return load_8_bits<FP8>(regs);
      case 1: return load_8_bits<BF8>(regs);
      case 2: return load_fewer_bits<Fp6>(regs);
      case 3: return load_fewer_bits<Bf6>(regs);
      default: return load_fewer_bits<Fp4>(regs);
    }
  }
};

template <int M, int N, int K>
VGPU_WIDE [[gnu::noinline]] void multiply_scaled_wide(const double (*a)[M], const double (*b)[N], float (*acc)[N]) {
  for (int n = 0; n < N; n += 16)
    for (int m = 0; m < M; m += 8) {
      __m512d sum[8][2];
      for (int i = 0; i < 8; ++i)
        for (int j = 0; j < 2; ++j) sum[i][j] = _mm512_cvtps_pd(_mm256_load_ps(&acc[m + i][n + 8 * j]));
      for (int k = 0; k < K; ++k) {
        const __m512d b0 = _mm512_load_pd(&b[k][n]), b1 = _mm512_load_pd(&b[k][n + 8]);
        for (int i = 0; i < 8; ++i) {
          const __m512d x = _mm512_set1_pd(a[k][m + i]);
          sum[i][0] = _mm512_fmadd_pd(x, b0, sum[i][0]);
          sum[i][1] = _mm512_fmadd_pd(x, b1, sum[i][1]);
        }
      }
      for (int i = 0; i < 8; ++i)
        for (int j = 0; j < 2; ++j) _mm256_store_ps(&acc[m + i][n + 8 * j], _mm512_cvtpd_ps(sum[i][j]));
    }
}

}  // namespace vgpu::sem::matrix
#endif
