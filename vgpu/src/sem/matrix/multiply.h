// The inner products: acc[m][n] accumulates a[k][m] * b[k][n] in ascending k, one fused multiply-add each.
#pragma once
#include "layout.h"
#if defined(__FMA__)
#include <immintrin.h>
#endif

namespace vgpu::sem::matrix {

// MFMA ignores MODE, which the interpreter mirrors in MXCSR while a wave runs.
class DefaultFloatState {
 public:
#if defined(__SSE2__)
  DefaultFloatState() : saved_(__builtin_ia32_stmxcsr()) {
    if (saved_ & kControl) __builtin_ia32_ldmxcsr((saved_ & ~kControl) | 0x1f80u);
  }
  ~DefaultFloatState() {
    if (saved_ & kControl) __builtin_ia32_ldmxcsr(saved_);
  }

 private:
  static constexpr unsigned kControl = 0xe040u;  // rounding, flush-to-zero, denormals-are-zero
  unsigned saved_;
#endif
};

#if defined(VGPU_WIDE_VECTORS)
template <int M, int N, int K>
VGPU_WIDE [[gnu::noinline]] void multiply_16_wide(const float (*a)[M], const float (*b)[N], float (*acc)[N]) {
  for (int n = 0; n < N; n += 16)
    for (int m = 0; m < M; m += 8) {
      __m512 sum[8];
      for (int i = 0; i < 8; ++i) sum[i] = _mm512_load_ps(&acc[m + i][n]);
      for (int k = 0; k < K; ++k) {
        const __m512 x = _mm512_load_ps(&b[k][n]);
        for (int i = 0; i < 8; ++i) sum[i] = _mm512_fmadd_ps(_mm512_set1_ps(a[k][m + i]), x, sum[i]);
      }
      for (int i = 0; i < 8; ++i) _mm512_store_ps(&acc[m + i][n], sum[i]);
    }
}
#endif

template <int M, int N, int K>
inline void multiply(const float (*a)[M], const float (*b)[N], float (*acc)[N]) {
#if defined(VGPU_WIDE_VECTORS)
  if constexpr (N % 16 == 0)
    if (wide()) return multiply_16_wide<M, N, K>(a, b, acc);
#endif
#if defined(__FMA__)
  if constexpr (N % 16 == 0) {
    for (int n = 0; n < N; n += 16)
      for (int m = 0; m < M; m += 4) {
        __m256 sum[4][2];
        for (int i = 0; i < 4; ++i)
          for (int j = 0; j < 2; ++j) sum[i][j] = _mm256_loadu_ps(&acc[m + i][n + 8 * j]);
        for (int k = 0; k < K; ++k) {
          const __m256 b0 = _mm256_loadu_ps(&b[k][n]), b1 = _mm256_loadu_ps(&b[k][n + 8]);
          for (int i = 0; i < 4; ++i) {
            const __m256 x = _mm256_broadcast_ss(&a[k][m + i]);
            sum[i][0] = _mm256_fmadd_ps(x, b0, sum[i][0]);
            sum[i][1] = _mm256_fmadd_ps(x, b1, sum[i][1]);
          }
        }
        for (int i = 0; i < 4; ++i)
          for (int j = 0; j < 2; ++j) _mm256_storeu_ps(&acc[m + i][n + 8 * j], sum[i][j]);
      }
    return;
  }
#endif
  for (int m = 0; m < M; ++m)
    for (int k = 0; k < K; ++k)
      for (int n = 0; n < N; ++n) acc[m][n] = __builtin_fmaf(a[k][m], b[k][n], acc[m][n]);
}

// i32 results: the products' sum is exact in f32, adding C may wrap or saturate.
inline int32_t add_i32(int32_t c, float sum, bool clamp) {
  const int64_t wide = static_cast<int64_t>(c) + static_cast<int64_t>(sum);
  const int64_t limited = wide > INT32_MAX ? INT32_MAX : wide < INT32_MIN ? INT32_MIN : wide;
  return static_cast<int32_t>(static_cast<uint32_t>(clamp ? limited : wide));
}
template <int M, int N, int K>
inline void multiply(const float (*a)[M], const float (*b)[N], int32_t (*acc)[N], bool clamp) {
  alignas(64) float sum[M][N] = {};
  multiply<M, N, K>(a, b, sum);
  for (int m = 0; m < M; ++m)
    for (int n = 0; n < N; ++n) acc[m][n] = add_i32(acc[m][n], sum[m][n], clamp);
}

}  // namespace vgpu::sem::matrix
