// How matrix operands unpack: one row of 64 lanes of a register, sub-element `s`, to floats (or int32).
#pragma once
#include "fp8.h"
#include "mfma.h"

namespace vgpu::sem::matrix {

// Each element type: kBits, the accumulator's scalar type Acc, and unpack(lanes, s, count, out).
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
    for (int i = 0; i < count; ++i) out[i] = f16_to_f32(static_cast<uint16_t>(lanes[i] >> (16 * s)));
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
  static void unpack(const uint32_t* lanes, int s, int count, int32_t* out, const MfmaCtl&) {
    for (int i = 0; i < count; ++i) out[i] = static_cast<int32_t>(lanes[i] << (24 - 8 * s)) >> 24;
  }
};

}  // namespace vgpu::sem::matrix
