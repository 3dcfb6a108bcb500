// f32 vector arithmetic. Rounding and denormals follow MXCSR, which the wave's MODE has set.
#include <cmath>

#include "isa/registry.h"
#include "sem/arith.h"
#include "sem/divide.h"
#include "sem/fpmisc.h"
#include "sem/transcendental.h"

namespace vgpu::isa {
namespace {

constexpr uint32_t kNan = 0x7fc00000u;

// x86 makes a negative NaN of an invalid operation, AMD a positive one; NaN operands pass through quieted.
inline uint32_t result(float r, float x, float y) {
  return r != r && x == x && y == y ? kNan : as_u32(r);
}
inline uint32_t result(float r, float x, float y, float z) {
  return r != r && x == x && y == y && z == z ? kNan : as_u32(r);
}
#define ARITH2(name, expr) \
  VGPU_LANES(name, const float x = as_f32(a[l]); const float y = as_f32(b[l]); out[l] = result(expr, x, y))
#define ARITH3(name, expr) \
  VGPU_LANES(name, const float x = as_f32(a[l]); const float y = as_f32(b[l]); const float z = as_f32(c[l]); \
             out[l] = result(expr, x, y, z))
ARITH2(add_f32, x + y)
ARITH2(sub_f32, x - y)
ARITH2(subrev_f32, y - x)
ARITH2(mul_f32, x* y)
ARITH2(mul_legacy_f32, x == 0.0f || y == 0.0f ? 0.0f : x * y)
ARITH3(fma_f32, __builtin_fmaf(x, y, z))

inline bool is_nan(uint32_t x) { return (x & 0x7fffffffu) > 0x7f800000u; }
// Bits of the smaller or larger number: a NaN loses against a number, -0 is below +0. Signalling NaNs win, quieted,
// in IEEE mode. Written on ordered integers so that it vectorises.
inline int32_t order(uint32_t x) {
  const int32_t s = static_cast<int32_t>(x);
  return s ^ static_cast<int32_t>(static_cast<uint32_t>(s >> 31) >> 1);
}
template <bool Max>
inline uint32_t pick(uint32_t x, uint32_t y, bool ieee, bool flush) {
  if (flush) {
    x = (x & 0x7f800000u) ? x : x & 0x80000000u;
    y = (y & 0x7f800000u) ? y : y & 0x80000000u;
  }
  const bool x_first = Max ? order(x) >= order(y) : order(x) <= order(y);
  uint32_t r = x_first ? x : y;
  r = is_nan(y) ? x : r;
  r = is_nan(x) ? y : r;
  r = is_nan(r) ? r | 0x400000u : r;
  const bool signal_y = ieee && is_nan(y) && !(y & 0x400000u), signal_x = ieee && is_nan(x) && !(x & 0x400000u);
  r = signal_y ? y | 0x400000u : r;
  r = signal_x ? x | 0x400000u : r;
  return r;
}
struct MinMaxMode {
  bool ieee, flush;
  explicit MinMaxMode(const Lanes& v) : ieee(v.w->mode & kModeIeee), flush(!(v.w->mode & kModeDenorm32)) {}
};
template <bool Max>
void min_max(Lanes& v) {
  const MinMaxMode m(v);
  uint32_t* __restrict out = v.out;
  const uint32_t *a = v.a, *b = v.b;
  for (int l = 0; l < 64; ++l) out[l] = pick<Max>(a[l], b[l], m.ieee, m.flush);
}
template <bool Max>
void min_max3(Lanes& v) {
  const MinMaxMode m(v);
  uint32_t* __restrict out = v.out;
  const uint32_t *a = v.a, *b = v.b, *c = v.c;
  for (int l = 0; l < 64; ++l)
    out[l] = pick<Max>(pick<Max>(a[l], b[l], m.ieee, m.flush), c[l], m.ieee, m.flush);
}
void med3_f32(Lanes& v) {
  const MinMaxMode m(v);
  for (int l = 0; l < 64; ++l) {
    const uint32_t r = sem::med3_f32(v.a[l], v.b[l], v.c[l], m.ieee);
    v.out[l] = m.flush ? sem::flush_f32(r) : r;
  }
}

LANE_F1(trunc_f32, __builtin_truncf(x))
LANE_F1(ceil_f32, __builtin_ceilf(x))
LANE_F1(floor_f32, __builtin_floorf(x))
LANE_F1(rndne_f32, __builtin_roundevenf(x))
LANE_U1(fract_f32, sem::fract_f32(x))
LANE_U1(exp_f32, sem::exp_f32(x))
LANE_U1(log_f32, sem::log_f32(x))
LANE_U1(rcp_f32, sem::rcp_f32(x))
LANE_U1(rcp_iflag_f32, sem::rcp_iflag_f32(x))
LANE_U1(rsq_f32, sem::rsq_f32(x))
LANE_U1(sqrt_f32, sem::sqrt_f32(x))
LANE_U1(sin_f32, sem::sin_f32(x))
LANE_U1(cos_f32, sem::cos_f32(x))
LANE_U1(exp_legacy, sem::exp_legacy_f32(x))
LANE_U1(log_legacy, sem::log_legacy_f32(x))
LANE_U1(frexp_exp, sem::frexp_exp_i32_f32(x))
LANE_U1(frexp_mant, sem::frexp_mant_f32(x))
LANE_U2(ldexp_f32, sem::ldexp_f32(x, static_cast<int32_t>(y)))
LANE_U3(cubeid, sem::cubeid_f32(x, y, z))
LANE_U3(cubesc, sem::cubesc_f32(x, y, z))
LANE_U3(cubetc, sem::cubetc_f32(x, y, z))
LANE_U3(cubema, sem::cubema_f32(x, y, z))
LANE_U3(div_fixup, sem::div_fixup_f32(x, y, z))
void div_fmas(Lanes& v) {
  const uint64_t vcc = v.w->vcc();
  for (int l = 0; l < 64; ++l) v.out[l] = sem::div_fmas_f32(v.a[l], v.b[l], v.c[l], vcc >> l & 1);
}
void div_scale(Lanes& v) {
  for (int l = 0; l < 64; ++l) {
    bool flag = false;
    v.out[l] = sem::div_scale_f32(v.a[l], v.b[l], v.c[l], &flag);
    v.cout |= static_cast<uint64_t>(flag) << l;
  }
}

const LaneDef kDefs[] = {
    {"v_add_f32", add_f32, "f:ff"}, {"v_sub_f32", sub_f32, "f:ff"}, {"v_subrev_f32", subrev_f32, "f:ff"},
    {"v_mul_f32", mul_f32, "f:ff"}, {"v_mul_legacy_f32", mul_legacy_f32, "f:ff"}, {"v_fma_f32", fma_f32, "f:fff"},
    {"v_fmac_f32", fma_f32, "f:fff", kAccumulate}, {"v_fmamk_f32", fma_f32, "f:fff"},
    {"v_fmaak_f32", fma_f32, "f:fff"}, {"v_min_f32", min_max<false>, "f:ff"}, {"v_max_f32", min_max<true>, "f:ff"},
    {"v_min3_f32", min_max3<false>, "f:fff"}, {"v_max3_f32", min_max3<true>, "f:fff"},
    {"v_med3_f32", med3_f32, "f:fff"}, {"v_trunc_f32", trunc_f32, "f:f"}, {"v_ceil_f32", ceil_f32, "f:f"},
    {"v_floor_f32", floor_f32, "f:f"}, {"v_rndne_f32", rndne_f32, "f:f"}, {"v_fract_f32", fract_f32, "f:f"},
    {"v_exp_f32", exp_f32, "f:f"}, {"v_log_f32", log_f32, "f:f"}, {"v_rcp_f32", rcp_f32, "f:f"},
    {"v_rcp_iflag_f32", rcp_iflag_f32, "f:f"}, {"v_rsq_f32", rsq_f32, "f:f"}, {"v_sqrt_f32", sqrt_f32, "f:f"},
    {"v_sin_f32", sin_f32, "f:f"}, {"v_cos_f32", cos_f32, "f:f"}, {"v_exp_legacy_f32", exp_legacy, "f:f"},
    {"v_log_legacy_f32", log_legacy, "f:f"}, {"v_frexp_exp_i32_f32", frexp_exp, "u:f"},
    {"v_frexp_mant_f32", frexp_mant, "f:f"}, {"v_ldexp_f32", ldexp_f32, "f:fu"}, {"v_cubeid_f32", cubeid, "f:fff"},
    {"v_cubesc_f32", cubesc, "f:fff"}, {"v_cubetc_f32", cubetc, "f:fff"}, {"v_cubema_f32", cubema, "f:fff"},
    {"v_div_fixup_f32", div_fixup, "f:fff"}, {"v_div_fmas_f32", div_fmas, "f:fff"},
    {"v_div_scale_f32", div_scale, "fm:fff"},
};

}  // namespace

void register_valu_f32() { add(kDefs, sizeof kDefs / sizeof kDefs[0]); }

}  // namespace vgpu::isa
