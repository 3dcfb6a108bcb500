// f32 vector arithmetic. Rounding and denormals follow MXCSR, which the wave's MODE has set.
#include <immintrin.h>

#include <cmath>

#include "isa/registry.h"
#include "sem/arith.h"
#include "sem/divide.h"
#include "sem/fpmisc.h"

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

// Bits of the smaller or larger number: a NaN loses against a number, -0 is below +0. In IEEE mode a signalling NaN
// wins, quieted; those are so rare that a vector holding one is left to the scalar rule.
inline __m256i flushed(__m256i x) {
  const __m256i exponent = _mm256_and_si256(x, _mm256_set1_epi32(0x7f800000));
  const __m256i tiny = _mm256_cmpeq_epi32(exponent, _mm256_setzero_si256());
  return _mm256_andnot_si256(_mm256_and_si256(tiny, _mm256_set1_epi32(0x7fffffff)), x);
}
inline bool any_signalling(__m256i x) {
  const __m256i magnitude = _mm256_and_si256(x, _mm256_set1_epi32(0x7fffffff));
  const __m256i nan = _mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32(0x7f800000));
  const __m256i quiet = _mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32(0x7fbfffff));
  return _mm256_movemask_epi8(_mm256_andnot_si256(quiet, nan)) != 0;
}
template <bool Max>
inline __m256i pick8(__m256i xi, __m256i yi) {
  const __m256 x = _mm256_castsi256_ps(xi), y = _mm256_castsi256_ps(yi);
  __m256 r = Max ? _mm256_max_ps(x, y) : _mm256_min_ps(x, y);
  // Equal numbers: zeros of both signs, or the same bits.
  r = _mm256_blendv_ps(r, Max ? _mm256_and_ps(x, y) : _mm256_or_ps(x, y), _mm256_cmp_ps(x, y, _CMP_EQ_OQ));
  r = _mm256_blendv_ps(r, y, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  r = _mm256_blendv_ps(r, x, _mm256_cmp_ps(y, y, _CMP_UNORD_Q));
  const __m256 nan = _mm256_cmp_ps(r, r, _CMP_UNORD_Q);
  const __m256 quiet = _mm256_castsi256_ps(_mm256_set1_epi32(0x400000));
  return _mm256_castps_si256(_mm256_or_ps(r, _mm256_and_ps(nan, quiet)));
}
struct MinMaxMode {
  bool ieee, flush;
  explicit MinMaxMode(const Lanes& v) : ieee(v.w->mode & kModeIeee), flush(!(v.w->mode & kModeDenorm32)) {}
};
inline __m256i load8(const uint32_t* p) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(p)); }
inline void store8(uint32_t* p, __m256i x) { _mm256_store_si256(reinterpret_cast<__m256i*>(p), x); }
template <bool Max>
void pick_lanes(const MinMaxMode& m, uint32_t* out, const uint32_t* a, const uint32_t* b) {
  for (int l = 0; l < 64; l += 8) {
    __m256i x = load8(a + l), y = load8(b + l);
    if (m.flush) x = flushed(x), y = flushed(y);
    if (m.ieee && (any_signalling(x) || any_signalling(y))) {
      alignas(32) uint32_t xs[8], ys[8];
      store8(xs, x);
      store8(ys, y);
      for (int i = 0; i < 8; ++i) out[l + i] = Max ? sem::max_f32(xs[i], ys[i], true) : sem::min_f32(xs[i], ys[i], true);
    } else {
      store8(out + l, pick8<Max>(x, y));
    }
  }
}
template <bool Max>
void min_max(Lanes& v) { pick_lanes<Max>(MinMaxMode(v), v.out, v.a, v.b); }
template <bool Max>
void min_max3(Lanes& v) {
  const MinMaxMode m(v);
  alignas(32) uint32_t first[64];
  pick_lanes<Max>(m, first, v.a, v.b);
  pick_lanes<Max>(m, v.out, first, v.c);
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
    {"v_frexp_exp_i32_f32", frexp_exp, "u:f"},
    {"v_frexp_mant_f32", frexp_mant, "f:f"}, {"v_ldexp_f32", ldexp_f32, "f:fu"}, {"v_cubeid_f32", cubeid, "f:fff"},
    {"v_cubesc_f32", cubesc, "f:fff"}, {"v_cubetc_f32", cubetc, "f:fff"}, {"v_cubema_f32", cubema, "f:fff"},
    {"v_div_fixup_f32", div_fixup, "f:fff"}, {"v_div_fmas_f32", div_fmas, "f:fff"},
    {"v_div_scale_f32", div_scale, "fm:fff"},
};

}  // namespace

void register_valu_f32() { add(kDefs, sizeof kDefs / sizeof kDefs[0]); }

}  // namespace vgpu::isa
