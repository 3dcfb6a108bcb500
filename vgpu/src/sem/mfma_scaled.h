// gfx950's f8f6f4 forms: A and B each in one of five formats, optionally scaled per 32 elements of k by a power of two.
//
// Format (CBSZ for A, BLGP for B): 0 e4m3, 1 e5m2, 2 e2m3, 3 e3m2, 4 e2m1. Lane = row + M*g. 8-bit formats: elements
// 0..15 are k = 16g + e, elements 16..31 are K/2 + 16g + e-16. 6- and 4-bit formats: k = 32g + e, packed little-endian.
// The scale of k-block g of a row is one byte (E8M0, 2^(byte-127), 255 = NaN) of that row's lane in group g.
// Precision model: products and sums in f64, rounded once to f32.
#pragma once
#include "mfma_multiply.h"
#include "small_float.h"

namespace vgpu::sem::matrix {

struct ScaledOperand {
  alignas(32) double at[128][32];  // [k][row or column]; K is 64 or 128

  void load(const uint32_t* regs, int format, int edge, int k_size, const uint32_t* scale, int scale_byte) {
    for (int e = 0; e < 32; ++e) {
      alignas(32) uint32_t codes[kWave];
      alignas(32) float values[kWave];
      codes_of(regs, e, format < 2 ? 8 : format < 4 ? 6 : 4, codes);
      decode(codes, format, values);
      for (int group = 0; group < kWave / edge; ++group) {
        const int k = format < 2 ? (e / 16) * (k_size / 2) + 16 * group + e % 16 : 32 * group + e;
        for (int row = 0; row < edge; ++row) at[k][row] = values[group * edge + row];
      }
    }
    if (!scale) return;
    double factor[kWave];  // of each lane, whose 32 elements share it
    for (int lane = 0; lane < kWave; ++lane) factor[lane] = e8m0_to_f64((scale[lane] >> (8 * scale_byte)) & 0xffu);
    for (int k = 0; k < k_size; ++k)
      for (int row = 0; row < edge; ++row) at[k][row] *= factor[row + edge * (k / 32)];
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

  // A code's exponent and fraction are put where a float has them and the biases' difference is added. A denormal's fraction stands
  // above that of the format's least normal number, which is taken off again: so no float on the way is a denormal itself.
  static void decode(const uint32_t* codes, int format, float* out) {
    static constexpr int kBits[5] = {8, 8, 6, 6, 4}, kFraction[5] = {3, 2, 3, 2, 1}, kBias[5] = {7, 15, 1, 3, 1};
    const int top = kBits[format] - 1, fraction = kFraction[format], shift = 23 - fraction;
    const uint32_t magnitude = (1u << top) - 1u, bias = static_cast<uint32_t>(127 - kBias[format]) << 23, one = 1u << 23;
    for (int i = 0; i < kWave; ++i) {
      const uint32_t code = codes[i] & magnitude, x = (code << shift) + bias;
      const float denormal = float_of(x + one) - float_of(bias + one);
      const uint32_t bits = code >> fraction ? x : bits_of(denormal);
      out[i] = float_of(bits | (codes[i] >> top) << 31);
    }
    if (format == 0)  // e4m3: no infinity, one NaN
      for (int i = 0; i < kWave; ++i) out[i] = (codes[i] & 0x7fu) == 0x7fu ? float_of(kNanF32) : out[i];
    if (format == 1)  // e5m2: as f16
      for (int i = 0; i < kWave; ++i)
        out[i] = (codes[i] & 0x7cu) == 0x7cu ? float_of((codes[i] & 0x80u) << 24 | 0x7f800000u | (codes[i] & 3u) << 21) : out[i];
  }
};

// The products are exact in f64 (8 bits of fraction), so fused or not is the same.
template <int M, int N, int K>
inline void multiply(const double (*a)[32], const double (*b)[32], float (*acc)[N]) {
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
  static thread_local ScaledOperand left, right;
  Result<float, M, N, 1> result;
  left.load(a, ctl.cbsz, M, K, ctl.scale_a, ctl.scale_a_byte);
  right.load(b, ctl.blgp, N, K, ctl.scale_b, ctl.scale_b_byte);
  result.load(c);
  multiply<M, N, K>(left.at, right.at, result.at[0]);
  canonical_nans(&result.at[0][0][0], M * N);
  result.store(d);
}

}  // namespace vgpu::sem::matrix
