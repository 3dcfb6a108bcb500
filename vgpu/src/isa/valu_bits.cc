// Moves, logic, shifts, bit fields and permutes of 32-bit lanes.
#include <algorithm>

#include "isa/registry.h"

namespace vgpu::isa {
namespace {

int32_t i(uint32_t x) { return static_cast<int32_t>(x); }

LANE_U1(mov_b32, x)
VGPU_LANES(mov_b64, out[l] = a[l]; out[64 + l] = a[64 + l])
LANE_U1(not_b32, ~x)
uint32_t reverse(uint32_t x) {
  x = __builtin_bswap32(x);
  x = (x & 0x0f0f0f0f) << 4 | (x >> 4 & 0x0f0f0f0f);
  x = (x & 0x33333333) << 2 | (x >> 2 & 0x33333333);
  return (x & 0x55555555) << 1 | (x >> 1 & 0x55555555);
}
LANE_U1(bfrev_b32, reverse(x))
LANE_U1(ffbh_u32, x ? __builtin_clz(x) : -1)
LANE_U1(ffbl_b32, x ? __builtin_ctz(x) : -1)
LANE_U1(ffbh_i32, (x ^ static_cast<uint32_t>(i(x) >> 31)) ? __builtin_clz(x ^ static_cast<uint32_t>(i(x) >> 31)) : -1)
LANE_U2(and_b32, x& y)
LANE_U2(or_b32, x | y)
LANE_U2(xor_b32, x ^ y)
LANE_U2(xnor_b32, ~(x ^ y))
LANE_U2(lshlrev_b32, y << (x & 31))
LANE_U2(lshrrev_b32, y >> (x & 31))
LANE_U2(ashrrev_i32, i(y) >> (x & 31))
LANE_U2(bfm_b32, ((1u << (x & 31)) - 1) << (y & 31))
LANE_U2(bcnt_u32_b32, y + static_cast<uint32_t>(__builtin_popcount(x)))
LANE_U3(and_or_b32, (x & y) | z)
LANE_U3(or3_b32, x | y | z)
LANE_U3(lshl_or_b32, (x << (y & 31)) | z)
LANE_U3(bfi_b32, (x & y) | (~x & z))
LANE_U3(bfe_u32, x >> (y & 31) & ((1u << (z & 31)) - 1))
LANE_U3(alignbit_b32, (uint64_t{x} << 32 | y) >> (z & 31))
LANE_U3(alignbyte_b32, (uint64_t{x} << 32 | y) >> (8 * (z & 3)))
// A width of 0 gives 0; the field is cut at bit 31, whose copies extend it.
uint32_t bfe_signed(uint32_t x, uint32_t offset, uint32_t width) {
  if (width == 0) return 0;
  const int32_t t = i(x) >> offset;
  return static_cast<uint32_t>(i(static_cast<uint32_t>(t) << (32 - width)) >> (32 - width));
}
LANE_U3(bfe_i32, bfe_signed(x, y & 31, z & 31))

// Selector byte: 0..7 a byte of {S0, S1} (S1 is the low half), 8..11 sign of a half word, 12 zero, above ones.
uint32_t permute_byte(uint64_t data, uint32_t sel) {
  if (sel >= 13) return 0xff;
  if (sel == 12) return 0;
  if (sel >= 8) return data >> (16 * (sel - 8) + 15) & 1 ? 0xff : 0;
  return data >> (8 * sel) & 0xff;
}
uint32_t permute(uint32_t x, uint32_t y, uint32_t z) {
  const uint64_t data = uint64_t{x} << 32 | y;
  uint32_t r = 0;
  for (int b = 0; b < 4; ++b) r |= permute_byte(data, z >> (8 * b) & 0xff) << (8 * b);
  return r;
}
LANE_U3(perm_b32, permute(x, y, z))
uint32_t average_bytes(uint32_t x, uint32_t y, uint32_t z) {
  uint32_t r = 0;
  for (int b = 0; b < 32; b += 8) r |= (((x >> b & 255) + (y >> b & 255) + (z >> b & 1)) >> 1) << b;
  return r;
}
LANE_U3(lerp_u8, average_bytes(x, y, z))
LANE_U1(sat_pk_u8_i16,
        static_cast<uint32_t>(std::min(std::max<int32_t>(static_cast<int16_t>(x), 0), 255)) |
            static_cast<uint32_t>(std::min(std::max<int32_t>(static_cast<int16_t>(x >> 16), 0), 255)) << 8)
// Packs the raw bits of two halves, chosen by op_sel; clamp limits each to [0, 1].
uint32_t limit_half(uint32_t x, const Lanes& v) {
  x &= 0xffff;
  if (!v.clamp) return x;
  const uint32_t magnitude = x & 0x7fff;
  if (magnitude > 0x7c00) return v.w->mode & kModeDx10Clamp ? 0 : x;
  if (x & 0x8000) return 0;
  return magnitude > 0x3c00 ? 0x3c00 : x;
}
LANE_U2(pack_b32_f16, limit_half(x, v) | limit_half(y, v) << 16)

void mbcnt_lo(Lanes& v) {
  for (int l = 0; l < 64; ++l) {
    const uint32_t below = l < 32 ? (1u << l) - 1 : ~0u;
    v.out[l] = v.b[l] + static_cast<uint32_t>(__builtin_popcount(v.a[l] & below));
  }
}
void mbcnt_hi(Lanes& v) {
  for (int l = 0; l < 64; ++l) {
    const uint32_t below = l < 32 ? 0 : (1u << (l - 32)) - 1;
    v.out[l] = v.b[l] + static_cast<uint32_t>(__builtin_popcount(v.a[l] & below));
  }
}

// The sources are typed f so that abs and neg apply to them.
void cndmask(Lanes& v) {
  uint32_t* __restrict out = v.out;
  for (int l = 0; l < 64; ++l) {
    const uint32_t take = 0u - static_cast<uint32_t>(v.cin >> l & 1);
    out[l] = (v.b[l] & take) | (v.a[l] & ~take);
  }
}

const LaneDef kDefs[] = {
    {"v_mov_b32", mov_b32, "u:f"}, {"v_mov_b64", mov_b64, "Q:Q"}, {"v_accvgpr_read_b32", mov_b32, "u:u"},
    {"v_accvgpr_write_b32", mov_b32, "u:u"}, {"v_accvgpr_mov_b32", mov_b32, "u:u"}, {"v_not_b32", not_b32, "u:u"},
    {"v_bfrev_b32", bfrev_b32, "u:u"}, {"v_ffbh_u32", ffbh_u32, "u:u"}, {"v_ffbl_b32", ffbl_b32, "u:u"},
    {"v_ffbh_i32", ffbh_i32, "u:u"}, {"v_and_b32", and_b32, "u:uu"}, {"v_or_b32", or_b32, "u:uu"},
    {"v_xor_b32", xor_b32, "u:uu"}, {"v_xnor_b32", xnor_b32, "u:uu"}, {"v_lshlrev_b32", lshlrev_b32, "u:uu"},
    {"v_lshrrev_b32", lshrrev_b32, "u:uu"}, {"v_ashrrev_i32", ashrrev_i32, "u:uu"}, {"v_bfm_b32", bfm_b32, "u:uu"},
    {"v_bcnt_u32_b32", bcnt_u32_b32, "u:uu"}, {"v_and_or_b32", and_or_b32, "u:uuu"}, {"v_or3_b32", or3_b32, "u:uuu"},
    {"v_lshl_or_b32", lshl_or_b32, "u:uuu"}, {"v_bfi_b32", bfi_b32, "u:uuu"}, {"v_bfe_u32", bfe_u32, "u:uuu"},
    {"v_bfe_i32", bfe_i32, "u:uuu"}, {"v_alignbit_b32", alignbit_b32, "u:uuu"},
    {"v_alignbyte_b32", alignbyte_b32, "u:uuu"}, {"v_perm_b32", perm_b32, "u:uuu"}, {"v_lerp_u8", lerp_u8, "u:uuu"},
    {"v_sat_pk_u8_i16", sat_pk_u8_i16, "u:u"}, {"v_pack_b32_f16", pack_b32_f16, "u:hh"},
    {"v_mbcnt_lo_u32_b32", mbcnt_lo, "u:uu"}, {"v_mbcnt_hi_u32_b32", mbcnt_hi, "u:uu"},
    {"v_cndmask_b32", cndmask, "u:ffm"},
};

}  // namespace

void register_valu_bits() { add(kDefs, sizeof kDefs / sizeof kDefs[0]); }

}  // namespace vgpu::isa
