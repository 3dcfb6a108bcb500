// 32- and 64-bit integer vector arithmetic.
#include <algorithm>

#include "isa/registry.h"

namespace vgpu::isa {
namespace {

int32_t i(uint32_t x) { return static_cast<int32_t>(x); }
uint32_t u24(uint32_t x) { return x & 0xffffff; }
int32_t i24(uint32_t x) { return static_cast<int32_t>(x << 8) >> 8; }
uint32_t sat_i32(int64_t x) {
  return static_cast<uint32_t>(std::min<int64_t>(std::max<int64_t>(x, INT32_MIN), INT32_MAX));
}
uint32_t sat_u32(int64_t x) { return static_cast<uint32_t>(std::min<int64_t>(std::max<int64_t>(x, 0), UINT32_MAX)); }

// Kernels whose CLAMP bit saturates: the exact result is computed in 64 bits when it is set.
#define SATURATING(name, wrap, exact, saturate) \
  void name(Lanes& v) { \
    if (v.clamp) { \
      for (int l = 0; l < 64; ++l) { \
        const uint32_t x = v.a[l], y = v.b[l]; \
        v.out[l] = saturate(exact); \
      } \
    } else { \
      uint32_t* __restrict out = v.out; \
      const uint32_t *a = v.a, *b = v.b; \
      for (int l = 0; l < 64; ++l) { \
        const uint32_t x = a[l], y = b[l]; \
        out[l] = (wrap); \
      } \
    } \
  }
SATURATING(add_u32, x + y, int64_t{x} + y, sat_u32)
SATURATING(sub_u32, x - y, int64_t{x} - y, sat_u32)
SATURATING(subrev_u32, y - x, int64_t{y} - x, sat_u32)
SATURATING(add_i32, x + y, int64_t{i(x)} + i(y), sat_i32)
SATURATING(sub_i32, x - y, int64_t{i(x)} - i(y), sat_i32)

LANE_U2(mul_lo_u32, x* y)
LANE_U2(mul_hi_u32, uint64_t{x} * y >> 32)
LANE_U2(mul_hi_i32, int64_t{i(x)} * i(y) >> 32)
LANE_U2(mul_u24, u24(x) * u24(y))
LANE_U2(mul_i24, static_cast<uint32_t>(i24(x)) * static_cast<uint32_t>(i24(y)))
LANE_U2(mul_hi_u24, uint64_t{u24(x)} * u24(y) >> 32)
LANE_U2(mul_hi_i24, int64_t{i24(x)} * i24(y) >> 32)
LANE_U2(min_i32, i(x) < i(y) ? x : y)
LANE_U2(max_i32, i(x) >= i(y) ? x : y)
LANE_U2(min_u32, x < y ? x : y)
LANE_U2(max_u32, x >= y ? x : y)
LANE_U3(min3_i32, std::min(std::min(i(x), i(y)), i(z)))
LANE_U3(max3_i32, std::max(std::max(i(x), i(y)), i(z)))
LANE_U3(min3_u32, std::min(std::min(x, y), z))
LANE_U3(max3_u32, std::max(std::max(x, y), z))
LANE_U3(med3_i32, std::max(std::min(i(x), i(y)), std::min(std::max(i(x), i(y)), i(z))))
LANE_U3(med3_u32, std::max(std::min(x, y), std::min(std::max(x, y), z)))
LANE_U3(add3_u32, x + y + z)
LANE_U3(lshl_add_u32, (x << (y & 31)) + z)
LANE_U3(add_lshl_u32, (x + y) << (z & 31))
LANE_U3(xad_u32, (x ^ y) + z)
// Only the plain results; the clamp forms of the multiply-adds are rejected below.
uint32_t sat_mad_u24(uint32_t x, uint32_t y, uint32_t z, bool clamp) {
  const uint64_t t = uint64_t{u24(x)} * u24(y) + z;
  return clamp && t > UINT32_MAX ? UINT32_MAX : static_cast<uint32_t>(t);
}
uint32_t sat_mad_i24(uint32_t x, uint32_t y, uint32_t z, bool clamp) {
  const int64_t t = int64_t{i24(x)} * i24(y) + i(z);
  return clamp ? sat_i32(t) : static_cast<uint32_t>(t);
}
VGPU_LANES(mad_u24, out[l] = sat_mad_u24(a[l], b[l], c[l], v.clamp))
VGPU_LANES(mad_i24, out[l] = sat_mad_i24(a[l], b[l], c[l], v.clamp))

uint32_t absdiff(int32_t x, int32_t y) { return x > y ? static_cast<uint32_t>(x - y) : static_cast<uint32_t>(y - x); }
uint32_t sad_bytes(uint32_t x, uint32_t y, uint32_t z, bool skip_zero) {
  for (int b = 0; b < 4; ++b) {
    const int p = x >> (8 * b) & 255, q = y >> (8 * b) & 255;
    if (!skip_zero || q) z += absdiff(p, q);
  }
  return z;
}
LANE_U3(sad_u8, sad_bytes(x, y, z, false))
LANE_U3(sad_hi_u8, (sad_bytes(x, y, 0, false) << 16) + z)
LANE_U3(msad_u8, sad_bytes(x, y, z, true))
LANE_U3(sad_u16, z + absdiff(x & 0xffff, y & 0xffff) + absdiff(x >> 16, y >> 16))
LANE_U3(sad_u32, z + (x > y ? x - y : y - x))

VGPU_LANES(lshl_add_u64, set_pair(out, l, (pair(a, l) << (b[l] & 7)) + pair(c, l)))
VGPU_LANES(lshlrev_b64, set_pair(out, l, pair(b, l) << (a[l] & 63)))
VGPU_LANES(lshrrev_b64, set_pair(out, l, pair(b, l) >> (a[l] & 63)))
VGPU_LANES(ashrrev_i64, set_pair(out, l, static_cast<uint64_t>(static_cast<int64_t>(pair(b, l)) >> (a[l] & 63))))

// Full-width multiply-add; the carry out of 64 bits goes to the scalar destination.
void mad_u64_u32(Lanes& v) {
  for (int l = 0; l < 64; ++l) {
    const unsigned __int128 t = static_cast<unsigned __int128>(uint64_t{v.a[l]} * v.b[l]) + pair(v.c, l);
    set_pair(v.out, l, static_cast<uint64_t>(t));
    v.cout |= static_cast<uint64_t>(t >> 64 & 1) << l;
  }
}
void mad_i64_i32(Lanes& v) {
  for (int l = 0; l < 64; ++l) {
    const int64_t product = int64_t{i(v.a[l])} * i(v.b[l]);
    const __int128 t = static_cast<__int128>(product) + static_cast<int64_t>(pair(v.c, l));
    set_pair(v.out, l, static_cast<uint64_t>(t));
    v.cout |= static_cast<uint64_t>(t >> 64 & 1) << l;
  }
}

const LaneDef kDefs[] = {
    {"v_add_u32", add_u32, "u:uu"}, {"v_sub_u32", sub_u32, "u:uu"}, {"v_subrev_u32", subrev_u32, "u:uu"},
    {"v_add_i32", add_i32, "u:uu"}, {"v_sub_i32", sub_i32, "u:uu"}, {"v_mul_lo_u32", mul_lo_u32, "u:uu"},
    {"v_mul_hi_u32", mul_hi_u32, "u:uu"}, {"v_mul_hi_i32", mul_hi_i32, "u:uu"}, {"v_mul_u32_u24", mul_u24, "u:uu"},
    {"v_mul_i32_i24", mul_i24, "u:uu"}, {"v_mul_hi_u32_u24", mul_hi_u24, "u:uu"},
    {"v_mul_hi_i32_i24", mul_hi_i24, "u:uu"}, {"v_min_i32", min_i32, "u:uu"}, {"v_max_i32", max_i32, "u:uu"},
    {"v_min_u32", min_u32, "u:uu"}, {"v_max_u32", max_u32, "u:uu"}, {"v_min3_i32", min3_i32, "u:uuu"},
    {"v_max3_i32", max3_i32, "u:uuu"}, {"v_min3_u32", min3_u32, "u:uuu"}, {"v_max3_u32", max3_u32, "u:uuu"},
    {"v_med3_i32", med3_i32, "u:uuu"}, {"v_med3_u32", med3_u32, "u:uuu"}, {"v_add3_u32", add3_u32, "u:uuu"},
    {"v_lshl_add_u32", lshl_add_u32, "u:uuu"}, {"v_add_lshl_u32", add_lshl_u32, "u:uuu"},
    {"v_xad_u32", xad_u32, "u:uuu"}, {"v_mad_u32_u24", mad_u24, "u:uuu"}, {"v_mad_i32_i24", mad_i24, "u:uuu"},
    {"v_sad_u8", sad_u8, "u:uuu"}, {"v_sad_hi_u8", sad_hi_u8, "u:uuu"}, {"v_msad_u8", msad_u8, "u:uuu"},
    {"v_sad_u16", sad_u16, "u:uuu"}, {"v_sad_u32", sad_u32, "u:uuu"}, {"v_lshl_add_u64", lshl_add_u64, "Q:QuQ"},
    {"v_lshlrev_b64", lshlrev_b64, "Q:uQ"}, {"v_lshrrev_b64", lshrrev_b64, "Q:uQ"},
    {"v_ashrrev_i64", ashrrev_i64, "q:uq"}, {"v_mad_u64_u32", mad_u64_u32, "Qm:uuQ"},
    {"v_mad_i64_i32", mad_i64_i32, "qm:uuq"},
};

}  // namespace

void register_valu_int() { add(kDefs, sizeof kDefs / sizeof kDefs[0]); }

}  // namespace vgpu::isa
