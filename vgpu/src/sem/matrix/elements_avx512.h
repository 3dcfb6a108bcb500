// unpack of elements.h in AVX-512: 16 lanes of one dword to its elements, all of them.
#pragma once
#include "elements.h"
#include "sem/wide.h"
#if defined(VGPU_WIDE_VECTORS)

namespace vgpu::sem::matrix {

template <class T>
struct Wide;

template <>
struct Wide<F32> {
  VGPU_WIDE [[gnu::always_inline]] static void unpack(__m512i lanes, const MfmaCtl&, __m512* out) { out[0] = _mm512_castsi512_ps(lanes); }
};

template <>
struct Wide<XF32> {
  VGPU_WIDE [[gnu::always_inline]] static void unpack(__m512i lanes, const MfmaCtl&, __m512* out) {
    out[0] = _mm512_castsi512_ps(_mm512_andnot_si512(_mm512_set1_epi32(0x1fff), lanes));
  }
};

template <>
struct Wide<F16> {
  VGPU_WIDE [[gnu::always_inline]] static void unpack(__m512i lanes, const MfmaCtl&, __m512* out) {
    out[0] = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(lanes));
    out[1] = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(lanes, 16)));
  }
};

template <>
struct Wide<BF16> {
  VGPU_WIDE [[gnu::always_inline]] static void unpack(__m512i lanes, const MfmaCtl&, __m512* out) {
    out[0] = _mm512_castsi512_ps(_mm512_slli_epi32(lanes, 16));
    out[1] = _mm512_castsi512_ps(_mm512_andnot_si512(_mm512_set1_epi32(0xffff), lanes));
  }
};

// By way of bfloat16, which holds every one of the values: 7 bits of fraction, bias 127. Denormals are looked up.
template <bool BF8>
struct Wide<Float8<BF8>> {
  static constexpr int kFraction = BF8 ? 2 : 3;

  VGPU_WIDE [[gnu::always_inline]] static void unpack(__m512i lanes, const MfmaCtl& ctl, __m512* out) {
    const int bias = (BF8 ? 15 : 7) + !ctl.fp8_ocp;
    const __m512i ones = _mm512_set1_epi16(0xff);
    for (int odd = 0; odd < 2; ++odd) {
      const __m512i pair = bfloat16(_mm512_and_si512(odd ? _mm512_srli_epi32(lanes, 8) : lanes, ones), bias, ctl.fp8_ocp);
      out[odd] = _mm512_castsi512_ps(_mm512_slli_epi32(pair, 16));
      out[odd + 2] = _mm512_castsi512_ps(_mm512_andnot_si512(_mm512_set1_epi32(0xffff), pair));
    }
  }

 private:
  // A denormal's fraction times 2^(1 - bias - kFraction), in the words below 2^kFraction.
  VGPU_WIDE [[gnu::always_inline]] static __m512i denormals(int bias) {
    const auto of = [&](int fraction) -> int64_t {
      if (fraction == 0) return 0;
      const int first = 31 - __builtin_clz(static_cast<unsigned>(fraction));
      return (first + 1 - bias - kFraction + 127) << 7 | (fraction << (7 - first) & 127);
    };
    const int64_t low = of(0) | of(1) << 16 | of(2) << 32 | of(3) << 48;
    const int64_t high = BF8 ? 0 : of(4) | of(5) << 16 | of(6) << 32 | of(7) << 48;
    return _mm512_inserti32x4(_mm512_setzero_si512(), _mm_set_epi64x(high, low), 0);
  }

  VGPU_WIDE [[gnu::always_inline]] static __m512i bfloat16(__m512i codes, int bias, bool ocp) {
    const __m512i magnitude = _mm512_and_si512(codes, _mm512_set1_epi16(0x7f));
    __m512i x = _mm512_add_epi16(_mm512_slli_epi16(magnitude, 7 - kFraction), _mm512_set1_epi16(static_cast<int16_t>((127 - bias) << 7)));
    const __mmask32 denormal = _mm512_cmplt_epu16_mask(magnitude, _mm512_set1_epi16(1 << kFraction));
    x = _mm512_mask_permutexvar_epi16(x, denormal, magnitude, denormals(bias));
    x = _mm512_or_si512(x, _mm512_slli_epi16(_mm512_andnot_si512(magnitude, codes), 8));
    if (!ocp) return _mm512_mask_mov_epi16(x, _mm512_cmpeq_epi16_mask(codes, _mm512_set1_epi16(0x80)), _mm512_set1_epi16(0x7fc0));
    if (!BF8) return _mm512_mask_mov_epi16(x, _mm512_cmpeq_epi16_mask(magnitude, _mm512_set1_epi16(0x7f)), _mm512_set1_epi16(0x7fc0));
    const __m512i special = _mm512_or_si512(x, _mm512_set1_epi16(0x7f80));  // infinity, or with the fraction NaN
    return _mm512_mask_mov_epi16(x, _mm512_cmpgt_epu16_mask(magnitude, _mm512_set1_epi16(0x7b)), special);
  }
};

template <>
struct Wide<I8> {
  VGPU_WIDE [[gnu::always_inline]] static void unpack(__m512i lanes, const MfmaCtl&, __m512* out) {
    for (int s = 0; s < 4; ++s) out[s] = _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(lanes, 24 - 8 * s), 24));
  }
};

}  // namespace vgpu::sem::matrix
#endif
