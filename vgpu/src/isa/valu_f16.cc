// f16 vector arithmetic, one value per lane in the low half. The older opcodes clear the high half, the GFX9 VOP3
// ones (kKeepHigh) leave it.
#include <cmath>

#include "isa/registry.h"
#include "sem/arith.h"
#include "sem/divide.h"
#include "sem/fpmisc.h"

namespace vgpu::isa {
namespace {

uint16_t h(uint32_t x) { return static_cast<uint16_t>(x); }
float f(uint16_t x) { return sem::f16_to_f32(x); }
uint16_t negate(uint16_t x) { return x ^ 0x8000; }

// MODE[7:6]: denormal f16 inputs and results become zeros of their sign when their bit is clear. MXCSR cannot do that,
// as these values are normal numbers in f32.
uint16_t flushed(uint16_t x, bool flush) { return flush ? sem::flush_f16(x) : x; }

#define HALF_MODE \
  const bool in = !(v.w->mode & 0x40), result = !(v.w->mode & 0x80), ieee = v.w->mode & kModeIeee; \
  const sem::Round round = static_cast<sem::Round>(v.w->mode >> 2 & 3); \
  (void)round, (void)ieee;
#define HALF_LANES(name, body, expr) \
  static void name(Lanes& v) { \
    uint32_t* __restrict out = v.out; \
    const uint32_t *a = v.a, *b = v.b, *c = v.c; \
    (void)a, (void)b, (void)c; \
    HALF_MODE \
    for (int l = 0; l < 64; ++l) { \
      const uint16_t x = flushed(h(a[l]), in); \
      body \
      out[l] = flushed(static_cast<uint16_t>(expr), result); \
    } \
  }
#define HALF1(name, expr) HALF_LANES(name, , expr)
#define HALF2(name, expr) HALF_LANES(name, const uint16_t y = flushed(h(b[l]), in);, expr)
#define HALF3(name, expr) \
  HALF_LANES(name, const uint16_t y = flushed(h(b[l]), in); const uint16_t z = flushed(h(c[l]), in);, expr)

HALF2(add_f16, sem::add_f16(x, y, round))
HALF2(sub_f16, sem::add_f16(x, negate(y), round))
HALF2(subrev_f16, sem::add_f16(y, negate(x), round))
HALF2(mul_f16, sem::mul_f16(x, y, round))
HALF2(min_f16, sem::min_f16(x, y, ieee))
HALF2(max_f16, sem::max_f16(x, y, ieee))
HALF3(fma_f16, sem::fma_f16(x, y, z, round))
// mac and mad round the product before the addition.
HALF3(mad_f16, sem::add_f16(sem::mul_f16(x, y, round), z, round))
HALF3(min3_f16, sem::min_f16(sem::min_f16(x, y, ieee), z, ieee))
HALF3(max3_f16, sem::max_f16(sem::max_f16(x, y, ieee), z, ieee))
HALF3(med3_f16, sem::med3_f16(x, y, z, ieee))
HALF3(div_fixup_f16, sem::div_fixup_f16(x, y, z))
HALF_LANES(ldexp_f16, , sem::ldexp_f16(x, static_cast<int16_t>(b[l]), round))
HALF1(fract_f16, sem::fract_f16(x))
HALF1(frexp_mant, sem::frexp_mant_f16(x))
VGPU_LANES(frexp_exp, out[l] = static_cast<uint16_t>(sem::frexp_exp_i16_f16(h(a[l]))))  // an integer result
HALF1(floor_f16, sem::f32_to_f16(__builtin_floorf(f(x))))
HALF1(ceil_f16, sem::f32_to_f16(__builtin_ceilf(f(x))))
HALF1(trunc_f16, sem::f32_to_f16(__builtin_truncf(f(x))))
HALF1(rndne_f16, sem::f32_to_f16(__builtin_roundevenf(f(x))))

const LaneDef kDefs[] = {
    {"v_add_f16", add_f16, "h:hh"}, {"v_sub_f16", sub_f16, "h:hh"}, {"v_subrev_f16", subrev_f16, "h:hh"},
    {"v_mul_f16", mul_f16, "h:hh"}, {"v_min_f16", min_f16, "h:hh"}, {"v_max_f16", max_f16, "h:hh"},
    {"v_fma_f16", fma_f16, "h:hhh", kKeepHigh}, {"v_fma_legacy_f16", fma_f16, "h:hhh"},
    {"v_mad_f16", mad_f16, "h:hhh", kKeepHigh}, {"v_mad_legacy_f16", mad_f16, "h:hhh"},
    {"v_mac_f16", mad_f16, "h:hhh", kAccumulate}, {"v_madmk_f16", mad_f16, "h:hhh"},
    {"v_madak_f16", mad_f16, "h:hhh"}, {"v_min3_f16", min3_f16, "h:hhh", kKeepHigh},
    {"v_max3_f16", max3_f16, "h:hhh", kKeepHigh}, {"v_med3_f16", med3_f16, "h:hhh", kKeepHigh},
    {"v_div_fixup_f16", div_fixup_f16, "h:hhh", kKeepHigh}, {"v_div_fixup_legacy_f16", div_fixup_f16, "h:hhh"},
    {"v_ldexp_f16", ldexp_f16, "h:hw"}, {"v_fract_f16", fract_f16, "h:h"},
    {"v_frexp_mant_f16", frexp_mant, "h:h"}, {"v_frexp_exp_i16_f16", frexp_exp, "w:h"},
    {"v_floor_f16", floor_f16, "h:h"}, {"v_ceil_f16", ceil_f16, "h:h"}, {"v_trunc_f16", trunc_f16, "h:h"},
    {"v_rndne_f16", rndne_f16, "h:h"},
};

}  // namespace

void register_valu_f16() { add(kDefs, sizeof kDefs / sizeof kDefs[0]); }

}  // namespace vgpu::isa
