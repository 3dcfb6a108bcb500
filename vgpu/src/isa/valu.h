// Vector ALU: lane kernels and the machinery around them.
//
// A lane kernel computes all 64 lanes from plain arrays, whatever EXEC says; the machinery fetches sources
// (broadcasting scalars, applying abs/neg, SDWA selects and DPP moves), applies omod and clamp, and writes the
// active lanes. That keeps kernels free of operand kinds and lets the compiler vectorise them.
#pragma once

#include <cstdint>
#include <cstring>

#include "isa/wave.h"

namespace vgpu::isa {

// What a lane kernel sees. 64-bit values are two arrays: low dwords at [lane], high dwords at [64 + lane].
struct Lanes {
  uint32_t* __restrict out;
  const uint32_t* a;
  const uint32_t* b;
  const uint32_t* c;
  uint64_t cin;     // mask source (VCC or an SGPR pair)
  uint64_t cout;    // mask result: carries, compares
  bool clamp;       // integer kernels saturate themselves; float clamping is the machinery's
  Wave* w;
  const Op* op;
};
using Lane = void (*)(Lanes&);

// Types of operands:
//   f f32   d f64   h f16 (low half)   u 32-bit integer or untyped   w 16-bit integer
//   q signed 64-bit   Q unsigned or untyped 64-bit   m lane mask (scalar pair)   p two f32
// "f:ff" is an f32 result of two f32 sources. A trailing 'm' source is cin, a leading "m" destination a compare;
// "um:uu" also writes a carry mask.
struct LaneDef {
  const char* name;
  Lane fn;
  const char* types;
  unsigned flags = 0;
};
// Op.aux of lane instructions.
enum LaneAux : uint32_t {
  kHasCin = 1, kHasCout = 2, kWritesExec = 4, kF64Control = 8,
  kCinShift = 8,      // index of the mask source
};

enum LaneFlags : unsigned {
  kAccumulate = 1,    // the destination is the last source (fmac)
  kKeepHigh = 2,      // a 16-bit result keeps the destination's high half
  kOwnModifiers = 4,  // the kernel applies neg, abs, op_sel and clamp itself
};

inline float as_f32(uint32_t x) {
  float f;
  std::memcpy(&f, &x, 4);
  return f;
}
inline uint32_t as_u32(float f) {
  uint32_t x;
  std::memcpy(&x, &f, 4);
  return x;
}
inline double as_f64(uint64_t x) {
  double f;
  std::memcpy(&f, &x, 8);
  return f;
}
inline uint64_t as_u64(double f) {
  uint64_t x;
  std::memcpy(&x, &f, 8);
  return x;
}
inline uint64_t pair(const uint32_t* p, int lane) { return p[lane] | static_cast<uint64_t>(p[64 + lane]) << 32; }
inline void set_pair(uint32_t* p, int lane, uint64_t x) {
  p[lane] = static_cast<uint32_t>(x);
  p[64 + lane] = static_cast<uint32_t>(x >> 32);
}

// dst[l] = src[l] where mask has bit l.
void write_lanes(uint32_t* dst, const uint32_t* src, uint64_t mask);

// Lane l of the result comes from lane from[l]; -1 marks no source. Returns false for a control it does not know.
bool dpp_sources(uint16_t control, int8_t from[64]);

// The source as an array of width*64 dwords: the register itself or `tmp` filled.
const uint32_t* fetch(const Wave& w, const Op& op, int i, uint32_t* tmp);

// Handler of every LaneDef; lower() picks the plain one when there are no modifiers.
void exec_lanes(Wave& w, const Op& op);
void exec_lanes_plain(Wave& w, const Op& op);

// Control word of f64 and f16 arithmetic for the time of a scope, when it differs from f32's.
struct F64Scope {
  const Wave& w;
  const bool active;
  F64Scope(const Wave& wave, bool wanted);
  ~F64Scope();
};

// Lane kernels by expression. In the expression x, y, z are the sources, typed by the macro's name.
#define VGPU_LANES(name, body) \
  static void name(Lanes& v) { \
    uint32_t* __restrict out = v.out; \
    const uint32_t *a = v.a, *b = v.b, *c = v.c; \
    (void)a, (void)b, (void)c; \
    for (int l = 0; l < 64; ++l) { body; } \
  }
#define LANE_U1(name, expr) VGPU_LANES(name, const uint32_t x = a[l]; out[l] = static_cast<uint32_t>(expr))
#define LANE_U2(name, expr) \
  VGPU_LANES(name, const uint32_t x = a[l]; const uint32_t y = b[l]; out[l] = static_cast<uint32_t>(expr))
#define LANE_U3(name, expr) \
  VGPU_LANES(name, const uint32_t x = a[l]; const uint32_t y = b[l]; const uint32_t z = c[l]; \
             out[l] = static_cast<uint32_t>(expr))
#define LANE_F1(name, expr) VGPU_LANES(name, const float x = as_f32(a[l]); out[l] = as_u32(expr))
#define LANE_F2(name, expr) \
  VGPU_LANES(name, const float x = as_f32(a[l]); const float y = as_f32(b[l]); out[l] = as_u32(expr))
#define LANE_F3(name, expr) \
  VGPU_LANES(name, const float x = as_f32(a[l]); const float y = as_f32(b[l]); const float z = as_f32(c[l]); \
             out[l] = as_u32(expr))

}  // namespace vgpu::isa
