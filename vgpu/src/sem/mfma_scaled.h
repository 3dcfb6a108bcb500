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
  double at[128][32];  // [k][row or column]; K is 64 or 128

  void load(const uint32_t* regs, int format, int edge, int k_size, const uint32_t* scale, int scale_byte) {
    for (int lane = 0; lane < kWave; ++lane) {
      const int row = lane % edge, group = lane / edge;
      for (int e = 0; e < 32; ++e) {
        const int k = format < 2 ? (e / 16) * (k_size / 2) + 16 * group + e % 16 : 32 * group + e;
        at[k][row] = decode(regs, lane, e, format);
      }
    }
    if (!scale) return;
    for (int k = 0; k < k_size; ++k)
      for (int row = 0; row < edge; ++row)
        at[k][row] *= e8m0_to_f64((scale[row + edge * (k / 32)] >> (8 * scale_byte)) & 0xffu);
  }

 private:
  static double decode(const uint32_t* regs, int lane, int e, int format) {
    const int bits = format < 2 ? 8 : format < 4 ? 6 : 4, at_bit = e * bits;
    uint64_t pair = regs[(at_bit / 32) * kWave + lane];
    if (at_bit % 32 + bits > 32) pair |= static_cast<uint64_t>(regs[(at_bit / 32 + 1) * kWave + lane]) << 32;
    const uint32_t code = static_cast<uint32_t>(pair >> (at_bit % 32)) & ((1u << bits) - 1u);
    switch (format) {
      case 0: return fp8_to_f32(static_cast<uint8_t>(code), Fp8::ocp);
      case 1: return bf8_to_f32(static_cast<uint8_t>(code), Fp8::ocp);
      case 2: return fp6_to_f32(code);
      case 3: return bf6_to_f32(code);
      default: return fp4_to_f32(code);
    }
  }
};

template <int M, int N, int K>
void scaled(uint32_t* d, const uint32_t* a, const uint32_t* b, const uint32_t* c, const MfmaCtl& ctl) {
  const DefaultFloatState float_state;
  static thread_local ScaledOperand left, right;
  Result<float, M, N, 1> result;
  left.load(a, ctl.cbsz, M, K, ctl.scale_a, ctl.scale_a_byte);
  right.load(b, ctl.blgp, N, K, ctl.scale_b, ctl.scale_b_byte);
  result.load(c);
  for (int m = 0; m < M; ++m) {
    double sum[N];
    for (int n = 0; n < N; ++n) sum[n] = result.at[0][m][n];
    for (int k = 0; k < K; ++k)
      for (int n = 0; n < N; ++n) sum[n] += left.at[k][m] * right.at[k][n];
    for (int n = 0; n < N; ++n) result.at[0][m][n] = static_cast<float>(sum[n]);
  }
  canonical_nans(&result.at[0][0][0], M * N);
  result.store(d);
}

}  // namespace vgpu::sem::matrix
