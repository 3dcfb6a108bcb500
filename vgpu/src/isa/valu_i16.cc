// 16-bit integer vector arithmetic, one value per lane.
#include <algorithm>

#include "isa/registry.h"

namespace vgpu::isa {
namespace {

int32_t s(uint32_t x) { return static_cast<int16_t>(x); }
int32_t u(uint32_t x) { return static_cast<int32_t>(x & 0xffff); }
uint32_t signed16(int32_t x, bool clamp) {
  return static_cast<uint32_t>(clamp ? std::min(std::max(x, -32768), 32767) : x) & 0xffff;
}
uint32_t unsigned16(int64_t x, bool clamp) {
  return static_cast<uint32_t>(clamp ? std::min<int64_t>(std::max<int64_t>(x, 0), 65535) : x) & 0xffff;
}

#define WORD2(name, expr) \
  VGPU_LANES(name, const uint32_t x = a[l]; const uint32_t y = b[l]; out[l] = static_cast<uint32_t>(expr) & 0xffff)
#define WORD3(name, expr) \
  VGPU_LANES(name, const uint32_t x = a[l]; const uint32_t y = b[l]; const uint32_t z = c[l]; \
             out[l] = static_cast<uint32_t>(expr) & 0xffff)

WORD2(add_u16, unsigned16(u(x) + u(y), v.clamp))
WORD2(sub_u16, unsigned16(u(x) - u(y), v.clamp))
WORD2(subrev_u16, unsigned16(u(y) - u(x), v.clamp))
WORD2(add_i16, signed16(s(x) + s(y), v.clamp))
WORD2(sub_i16, signed16(s(x) - s(y), v.clamp))
WORD2(mul_lo_u16, (x & 0xffff) * (y & 0xffff))
WORD2(lshlrev_b16, y << (x & 15))
WORD2(lshrrev_b16, u(y) >> (x & 15))
WORD2(ashrrev_i16, s(y) >> (x & 15))
WORD2(max_u16, std::max(u(x), u(y)))
WORD2(min_u16, std::min(u(x), u(y)))
WORD2(max_i16, std::max(s(x), s(y)))
WORD2(min_i16, std::min(s(x), s(y)))
WORD3(mad_u16, unsigned16(int64_t{u(x)} * u(y) + u(z), v.clamp))
WORD3(mad_i16, signed16(static_cast<int32_t>(static_cast<uint32_t>(s(x) * s(y)) + static_cast<uint32_t>(s(z))), v.clamp))
WORD3(min3_i16, std::min(std::min(s(x), s(y)), s(z)))
WORD3(max3_i16, std::max(std::max(s(x), s(y)), s(z)))
WORD3(med3_i16, std::max(std::min(s(x), s(y)), std::min(std::max(s(x), s(y)), s(z))))
WORD3(min3_u16, std::min(std::min(u(x), u(y)), u(z)))
WORD3(max3_u16, std::max(std::max(u(x), u(y)), u(z)))
WORD3(med3_u16, std::max(std::min(u(x), u(y)), std::min(std::max(u(x), u(y)), u(z))))
// 16-bit factors, 32-bit sum.
VGPU_LANES(mad_u32_u16, const uint64_t t = uint64_t{a[l] & 0xffff} * (b[l] & 0xffff) + c[l];
           out[l] = v.clamp && t >> 32 ? ~0u : static_cast<uint32_t>(t))
VGPU_LANES(mad_i32_i16, const int64_t t = int64_t{s(a[l])} * s(b[l]) + static_cast<int32_t>(c[l]);
           out[l] = static_cast<uint32_t>(v.clamp ? std::min<int64_t>(std::max<int64_t>(t, INT32_MIN), INT32_MAX) : t))

const LaneDef kDefs[] = {
    {"v_add_u16", add_u16, "w:ww"}, {"v_sub_u16", sub_u16, "w:ww"}, {"v_subrev_u16", subrev_u16, "w:ww"},
    {"v_add_i16", add_i16, "w:ww", kKeepHigh}, {"v_sub_i16", sub_i16, "w:ww", kKeepHigh},
    {"v_mul_lo_u16", mul_lo_u16, "w:ww"}, {"v_lshlrev_b16", lshlrev_b16, "w:ww"},
    {"v_lshrrev_b16", lshrrev_b16, "w:ww"}, {"v_ashrrev_i16", ashrrev_i16, "w:ww"}, {"v_max_u16", max_u16, "w:ww"},
    {"v_min_u16", min_u16, "w:ww"}, {"v_max_i16", max_i16, "w:ww"}, {"v_min_i16", min_i16, "w:ww"},
    {"v_mad_u16", mad_u16, "w:www", kKeepHigh}, {"v_mad_legacy_u16", mad_u16, "w:www"},
    {"v_mad_i16", mad_i16, "w:www", kKeepHigh}, {"v_mad_legacy_i16", mad_i16, "w:www"},
    {"v_min3_i16", min3_i16, "w:www", kKeepHigh}, {"v_max3_i16", max3_i16, "w:www", kKeepHigh},
    {"v_med3_i16", med3_i16, "w:www", kKeepHigh}, {"v_min3_u16", min3_u16, "w:www", kKeepHigh},
    {"v_max3_u16", max3_u16, "w:www", kKeepHigh}, {"v_med3_u16", med3_u16, "w:www", kKeepHigh},
    {"v_mad_u32_u16", mad_u32_u16, "u:wwu"}, {"v_mad_i32_i16", mad_i32_i16, "u:wwu"},
};

}  // namespace

void register_valu_i16() { add(kDefs, sizeof kDefs / sizeof kDefs[0]); }

}  // namespace vgpu::isa
