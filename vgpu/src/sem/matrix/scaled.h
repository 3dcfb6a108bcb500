// gfx950's f8f6f4 forms: A and B each in one of five formats, optionally scaled per 32 elements of k by a power of two.
//
// Format (CBSZ for A, BLGP for B): 0 e4m3, 1 e5m2, 2 e2m3, 3 e3m2, 4 e2m1. Lane = row + M*g. 8-bit formats: elements
// 0..15 are k = 16g + e, elements 16..31 are K/2 + 16g + e-16. 6- and 4-bit formats: k = 32g + e, packed little-endian.
// The scale of k-block g of a row is one byte (E8M0, 2^(byte-127), 255 = NaN) of that row's lane in group g.
// Precision model: products and sums in f64, rounded once to f32.
#pragma once
#include "multiply.h"
#include "scaled_avx512.h"
#include "sem/small_float.h"

namespace vgpu::sem::matrix {

template <int EDGE, int K>
struct ScaledOperand {
  alignas(64) double at[K][EDGE];

  void load(const uint32_t* regs, int format, const uint32_t* scale, int scale_byte) {
    double factor[kWave];  // of a row and 32 k, [k / 32][row]
    for (int lane = 0; scale && lane < kWave; ++lane) factor[lane] = e8m0_to_f64((scale[lane] >> (8 * scale_byte)) & 0xffu);
#if defined(VGPU_WIDE_VECTORS)
    if (wide()) return WideScaled<EDGE, K>{at, scale ? factor : nullptr}.load(regs, format);
#endif
    for (int e = 0; e < 32; ++e) {
      alignas(32) uint32_t codes[kWave];
      alignas(32) float values[kWave];
      codes_of(regs, e, format < 2 ? 8 : format < 4 ? 6 : 4, codes);
      decode(codes, format, values);
      for (int group = 0; group < kWave / EDGE; ++group) {
        const int k = format < 2 ? (e / 16) * (K / 2) + 16 * group + e % 16 : 32 * group + e;
        for (int row = 0; row < EDGE; ++row) at[k][row] = values[group * EDGE + row];
      }
    }
    if (!scale) return;
    for (int k = 0; k < K; ++k)
      for (int row = 0; row < EDGE; ++row) at[k][row] *= factor[row + EDGE * (k / 32)];
  }

 private:
  static void codes_of(const uint32_t* regs, int e, int bits, uint32_t* codes) {
    const int at_bit = e * bits, shift = at_bit % 32;
    const uint32_t* low = regs + at_bit / 32 * kWave;
    const uint32_t mask = (1u << bits) - 1u;
    if (shift + bits <= 32) {
      for (int lane = 0; lane < kWave; ++lane) codes[lane] = low[lane] >> shift & mask;
    } else {
      for (int lane = 0; lane < kWave; ++lane) codes[lane] = (low[lane] >> shift | low[lane + kWave] << (32 - shift)) & mask;
    }
  }

  // A code's exponent and fraction are put where a half has them; what the biases differ by is multiplied in afterwards. No float on the
  // way is a denormal, and an e5m2 is a half.
  static void decode(const uint32_t* codes, int format, float* out) {
    static constexpr int kBits[5] = {8, 8, 6, 6, 4}, kFraction[5] = {3, 2, 3, 2, 1}, kBias[5] = {7, 15, 1, 3, 1};
    const int top = kBits[format] - 1, to_sign = 15 - top, shift = 10 - kFraction[format];
    const uint32_t magnitude = (1u << top) - 1u, sign = 1u << top;
    const float factor = static_cast<float>(1 << (15 - kBias[format]));
#if defined(__F16C__)
    for (int i = 0; i < kWave; i += 8) {
      const __m256i code = _mm256_load_si256(reinterpret_cast<const __m256i*>(codes + i));
      const __m256i low = _mm256_sll_epi32(_mm256_and_si256(code, _mm256_set1_epi32(static_cast<int>(magnitude))), _mm_cvtsi32_si128(shift));
      const __m256i high = _mm256_sll_epi32(_mm256_and_si256(code, _mm256_set1_epi32(static_cast<int>(sign))), _mm_cvtsi32_si128(to_sign));
      const __m256i half = _mm256_or_si256(low, high);
      const __m128i packed = _mm_packus_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
      _mm256_store_ps(out + i, _mm256_mul_ps(_mm256_cvtph_ps(packed), _mm256_set1_ps(factor)));
    }
#else
    for (int i = 0; i < kWave; ++i)
      out[i] = f16_to_f32(static_cast<uint16_t>((codes[i] & magnitude) << shift | (codes[i] & sign) << to_sign)) * factor;
#endif
    if (format == 0)  // e4m3: no infinity, one NaN
      for (int i = 0; i < kWave; ++i) out[i] = (codes[i] & 0x7fu) == 0x7fu ? float_of(kNanF32) : out[i];
  }
};

// The products are exact in f64 (8 bits of fraction), so fused or not is the same.
template <int M, int N, int K>
inline void multiply(const double (*a)[M], const double (*b)[N], float (*acc)[N]) {
#if defined(VGPU_WIDE_VECTORS)
  if (wide()) return multiply_scaled_wide<M, N, K>(a, b, acc);
#endif
#if defined(__FMA__)
  for (int n = 0; n < N; n += 8)
    for (int m = 0; m < M; m += 4) {
      __m256d sum[4][2];
      for (int i = 0; i < 4; ++i)
        for (int j = 0; j < 2; ++j) sum[i][j] = _mm256_cvtps_pd(_mm_loadu_ps(&acc[m + i][n + 4 * j]));
      for (int k = 0; k < K; ++k) {
        const __m256d b0 = _mm256_load_pd(&b[k][n]), b1 = _mm256_load_pd(&b[k][n + 4]);
        for (int i = 0; i < 4; ++i) {
          const __m256d x = _mm256_broadcast_sd(&a[k][m + i]);
          sum[i][0] = _mm256_fmadd_pd(x, b0, sum[i][0]);
          sum[i][1] = _mm256_fmadd_pd(x, b1, sum[i][1]);
        }
      }
      for (int i = 0; i < 4; ++i)
        for (int j = 0; j < 2; ++j) _mm_storeu_ps(&acc[m + i][n + 4 * j], _mm256_cvtpd_ps(sum[i][j]));
    }
#else
  for (int m = 0; m < M; ++m)
    for (int n = 0; n < N; ++n) {
      double sum = acc[m][n];
      for (int k = 0; k < K; ++k) sum += a[k][m] * b[k][n];
      acc[m][n] = static_cast<float>(sum);
    }
#endif
}

template <int M, int N, int K>
void scaled(uint32_t* d, const uint32_t* a, const uint32_t* b, const uint32_t* c, const MfmaCtl& ctl) {
  const DefaultFloatState float_state;
  static thread_local ScaledOperand<M, K> left;
  static thread_local ScaledOperand<N, K> right;
  Result<float, M, N, 1> result;
  left.load(a, ctl.cbsz, ctl.scale_a, ctl.scale_a_byte);
  right.load(b, ctl.blgp, ctl.scale_b, ctl.scale_b_byte);
  result.load(c);
  multiply<M, N, K>(left.at, right.at, result.at[0]);
  result.store(d);
}

}  // namespace vgpu::sem::matrix
