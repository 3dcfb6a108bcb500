// How matrix operands unpack: one row of 64 lanes of a register, sub-element `s`, to floats (or int32).
#pragma once
#include "sem/fp8.h"
#include "sem/mfma.h"
#if defined(__F16C__)
#include <immintrin.h>
#endif

namespace vgpu::sem::matrix {

// Each element type: kBits, the result's scalar type Acc, and unpack(lanes, s, count, out) for 64 lanes of one dword.
// Operands are multiplied as floats: exact for i8 as well, whose sums of products stay below 2^24 for every shape.
struct F32 {
  static constexpr int kBits = 32;
  using Acc = float;
  static void unpack(const uint32_t* lanes, int, int count, float* out, const MfmaCtl&) {
    std::memcpy(out, lanes, sizeof(float) * count);
  }
};

struct XF32 {
  static constexpr int kBits = 32;
  using Acc = float;
  static void unpack(const uint32_t* lanes, int, int count, float* out, const MfmaCtl&) {
    for (int i = 0; i < count; ++i) out[i] = float_of(lanes[i] & 0xffffe000u);
  }
};

struct F16 {
  static constexpr int kBits = 16;
  using Acc = float;
  static void unpack(const uint32_t* lanes, int s, int count, float* out, const MfmaCtl&) {
#if defined(__F16C__)
    for (int i = 0; i < count; i += 8) {  // the instruction also quiets NaN and ignores MXCSR's denormal bits
      const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(lanes + i));
      const __m256i half = _mm256_and_si256(_mm256_srli_epi32(x, 16 * s), _mm256_set1_epi32(0xffff));
      const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(half, half), 0x08);
      _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm256_castsi256_si128(packed)));
    }
#else
    for (int i = 0; i < count; ++i) out[i] = f16_to_f32(static_cast<uint16_t>(lanes[i] >> (16 * s)));
#endif
  }
};

struct BF16 {
  static constexpr int kBits = 16;
  using Acc = float;
  static void unpack(const uint32_t* lanes, int s, int count, float* out, const MfmaCtl&) {
    for (int i = 0; i < count; ++i) out[i] = float_of(s ? lanes[i] & 0xffff0000u : lanes[i] << 16);
  }
};

template <bool BF8>
struct Float8 {
  static constexpr int kBits = 8;
  using Acc = float;
  static void unpack(const uint32_t* lanes, int s, int count, float* out, const MfmaCtl& ctl) {
    const float* table = kFp8Table[(BF8 ? 2 : 0) + (ctl.fp8_ocp ? 1 : 0)];
    for (int i = 0; i < count; ++i) out[i] = table[(lanes[i] >> (8 * s)) & 0xffu];
  }
};
using FP8 = Float8<false>;
using BF8 = Float8<true>;

struct I8 {
  static constexpr int kBits = 8;
  using Acc = int32_t;
  static void unpack(const uint32_t* lanes, int s, int count, float* out, const MfmaCtl&) {
    for (int i = 0; i < count; ++i)
      out[i] = static_cast<float>(static_cast<int32_t>(lanes[i] << (24 - 8 * s)) >> 24);
  }
};

}  // namespace vgpu::sem::matrix
