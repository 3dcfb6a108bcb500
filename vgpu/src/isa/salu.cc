// 32-bit scalar arithmetic, logic, moves and compares.
#include <cstdlib>

#include "isa/registry.h"

namespace vgpu::isa {
namespace {

// x and y are the sources, r the result; the body may set w.scc.
#define SALU2(name, body) \
  void name(Wave& w, const Op& op) { \
    const uint32_t x = src32(w, op, 0), y = src32(w, op, 1); \
    uint32_t r; \
    body; \
    w.s[op.inst.vdst] = r; \
  }
#define SALU1(name, body) \
  void name(Wave& w, const Op& op) { \
    const uint32_t x = src32(w, op, 0); \
    uint32_t r; \
    body; \
    w.s[op.inst.vdst] = r; \
  }
#define COMPARE(name, type, relation) \
  void name(Wave& w, const Op& op) { \
    w.scc = static_cast<type>(src32(w, op, 0)) relation static_cast<type>(src32(w, op, 1)); \
  }
#define COMPARE_K(name, type, extend, relation) \
  void name(Wave& w, const Op& op) { \
    w.scc = static_cast<type>(w.s[op.inst.vdst]) relation static_cast<type>(static_cast<extend>(op.inst.simm16)); \
  }

int32_t i(uint32_t x) { return static_cast<int32_t>(x); }

SALU2(add_u32, r = x + y; w.scc = r < x)
SALU2(sub_u32, r = x - y; w.scc = y > x)
SALU2(add_i32, r = x + y; w.scc = (~(x ^ y) & (x ^ r)) >> 31)
SALU2(sub_i32, r = x - y; w.scc = ((x ^ y) & (x ^ r)) >> 31)
SALU2(addc_u32, const uint64_t t = uint64_t{x} + y + w.scc; r = static_cast<uint32_t>(t); w.scc = t >> 32 & 1)
SALU2(subb_u32, const uint64_t t = uint64_t{x} - y - w.scc; r = static_cast<uint32_t>(t); w.scc = t >> 32 & 1)
SALU2(min_i32, w.scc = i(x) < i(y); r = w.scc ? x : y)
SALU2(min_u32, w.scc = x < y; r = w.scc ? x : y)
SALU2(max_i32, w.scc = i(x) >= i(y); r = w.scc ? x : y)
SALU2(max_u32, w.scc = x >= y; r = w.scc ? x : y)
SALU2(cselect_b32, r = w.scc ? x : y)
SALU2(and_b32, r = x & y; w.scc = r != 0)
SALU2(or_b32, r = x | y; w.scc = r != 0)
SALU2(xor_b32, r = x ^ y; w.scc = r != 0)
SALU2(andn2_b32, r = x & ~y; w.scc = r != 0)
SALU2(orn2_b32, r = x | ~y; w.scc = r != 0)
SALU2(nand_b32, r = ~(x & y); w.scc = r != 0)
SALU2(nor_b32, r = ~(x | y); w.scc = r != 0)
SALU2(xnor_b32, r = ~(x ^ y); w.scc = r != 0)
SALU2(lshl_b32, r = x << (y & 31); w.scc = r != 0)
SALU2(lshr_b32, r = x >> (y & 31); w.scc = r != 0)
SALU2(ashr_i32, r = static_cast<uint32_t>(i(x) >> (y & 31)); w.scc = r != 0)
SALU2(bfm_b32, r = ((1u << (x & 31)) - 1) << (y & 31))
SALU2(mul_i32, r = x * y)
SALU2(mul_hi_u32, r = static_cast<uint32_t>(uint64_t{x} * y >> 32))
SALU2(mul_hi_i32, r = static_cast<uint32_t>(int64_t{i(x)} * i(y) >> 32))
SALU2(absdiff_i32, r = x - y; if (i(r) < 0) r = 0u - r; w.scc = r != 0)
SALU2(pack_ll, r = (x & 0xffff) | y << 16)
SALU2(pack_lh, r = (x & 0xffff) | (y & 0xffff0000u))
SALU2(pack_hh, r = x >> 16 | (y & 0xffff0000u))
SALU2(lshl1_add, const uint64_t t = (uint64_t{x} << 1) + y; r = static_cast<uint32_t>(t); w.scc = t >> 32 != 0)
SALU2(lshl2_add, const uint64_t t = (uint64_t{x} << 2) + y; r = static_cast<uint32_t>(t); w.scc = t >> 32 != 0)
SALU2(lshl3_add, const uint64_t t = (uint64_t{x} << 3) + y; r = static_cast<uint32_t>(t); w.scc = t >> 32 != 0)
SALU2(lshl4_add, const uint64_t t = (uint64_t{x} << 4) + y; r = static_cast<uint32_t>(t); w.scc = t >> 32 != 0)

uint32_t field_width(uint32_t y) { return y >> 16 & 127; }
SALU2(bfe_u32, const uint32_t n = field_width(y); const uint32_t t = x >> (y & 31);
      r = n == 0 ? 0 : n >= 32 ? t : t & ((1u << n) - 1); w.scc = r != 0)
// The field is sign-extended from its top bit; bits beyond bit 31 are copies of the sign.
SALU2(bfe_i32, const uint32_t n = field_width(y);
      const int64_t t = int64_t{i(x)} >> (y & 31);
      r = n == 0 ? 0 : n >= 32 ? static_cast<uint32_t>(t)
                               : static_cast<uint32_t>(static_cast<int64_t>(static_cast<uint64_t>(t) << (64 - n)) >> (64 - n));
      w.scc = r != 0)

SALU1(mov_b32, r = x)
SALU1(not_b32, r = ~x; w.scc = r != 0)
SALU1(brev_b32, r = 0; for (int b = 0; b < 32; ++b) r |= (x >> b & 1) << (31 - b))
SALU1(bcnt0_b32, r = static_cast<uint32_t>(__builtin_popcount(~x)); w.scc = r != 0)
SALU1(bcnt1_b32, r = static_cast<uint32_t>(__builtin_popcount(x)); w.scc = r != 0)
SALU1(ff0_b32, r = ~x ? static_cast<uint32_t>(__builtin_ctz(~x)) : ~0u)
SALU1(ff1_b32, r = x ? static_cast<uint32_t>(__builtin_ctz(x)) : ~0u)
SALU1(flbit_b32, r = x ? static_cast<uint32_t>(__builtin_clz(x)) : ~0u)
SALU1(flbit_i32, const uint32_t t = x ^ static_cast<uint32_t>(i(x) >> 31);
      r = t ? static_cast<uint32_t>(__builtin_clz(t)) : ~0u)
SALU1(sext_i8, r = static_cast<uint32_t>(static_cast<int8_t>(x)))
SALU1(sext_i16, r = static_cast<uint32_t>(static_cast<int16_t>(x)))
SALU1(abs_i32, r = i(x) < 0 ? 0u - x : x; w.scc = r != 0)
SALU1(quadmask_b32, r = 0; for (int q = 0; q < 8; ++q) r |= static_cast<uint32_t>((x >> (4 * q) & 15) != 0) << q;
      w.scc = r != 0)
SALU1(wqm_b32, r = 0; for (int q = 0; q < 8; ++q) if (x >> (4 * q) & 15) r |= 15u << (4 * q); w.scc = r != 0)

void cmov_b32(Wave& w, const Op& op) {
  if (w.scc) w.s[op.inst.vdst] = src32(w, op, 0);
}
void bitset0_b32(Wave& w, const Op& op) { w.s[op.inst.vdst] &= ~(1u << (src32(w, op, 0) & 31)); }
void bitset1_b32(Wave& w, const Op& op) { w.s[op.inst.vdst] |= 1u << (src32(w, op, 0) & 31); }

// Relative addressing: M0 is added to the register number.
unsigned relative(const Wave& w, unsigned base, unsigned count) {
  const uint64_t n = uint64_t{base} + w.s[kM0];
  if (n + count > 106) fail("relative scalar register s" + std::to_string(n) + " is out of range");
  return static_cast<unsigned>(n);
}
void movrels_b32(Wave& w, const Op& op) { w.s[op.inst.vdst] = w.s[relative(w, op.inst.src[0], 1)]; }
void movreld_b32(Wave& w, const Op& op) { w.s[relative(w, op.inst.vdst, 1)] = src32(w, op, 0); }
void movrels_b64(Wave& w, const Op& op) { w.set_s64(op.inst.vdst, w.s64(relative(w, op.inst.src[0], 2))); }
void movreld_b64(Wave& w, const Op& op) { w.set_s64(relative(w, op.inst.vdst, 2), src64(w, op, 0)); }

COMPARE(eq_i32, int32_t, ==)
COMPARE(lg_i32, int32_t, !=)
COMPARE(gt_i32, int32_t, >)
COMPARE(ge_i32, int32_t, >=)
COMPARE(lt_i32, int32_t, <)
COMPARE(le_i32, int32_t, <=)
COMPARE(gt_u32, uint32_t, >)
COMPARE(ge_u32, uint32_t, >=)
COMPARE(lt_u32, uint32_t, <)
COMPARE(le_u32, uint32_t, <=)
COMPARE_K(k_eq_i32, int32_t, int16_t, ==)
COMPARE_K(k_lg_i32, int32_t, int16_t, !=)
COMPARE_K(k_gt_i32, int32_t, int16_t, >)
COMPARE_K(k_ge_i32, int32_t, int16_t, >=)
COMPARE_K(k_lt_i32, int32_t, int16_t, <)
COMPARE_K(k_le_i32, int32_t, int16_t, <=)
COMPARE_K(k_eq_u32, uint32_t, uint16_t, ==)
COMPARE_K(k_lg_u32, uint32_t, uint16_t, !=)
COMPARE_K(k_gt_u32, uint32_t, uint16_t, >)
COMPARE_K(k_ge_u32, uint32_t, uint16_t, >=)
COMPARE_K(k_lt_u32, uint32_t, uint16_t, <)
COMPARE_K(k_le_u32, uint32_t, uint16_t, <=)
void bitcmp0_b32(Wave& w, const Op& op) { w.scc = !(src32(w, op, 0) >> (src32(w, op, 1) & 31) & 1); }
void bitcmp1_b32(Wave& w, const Op& op) { w.scc = src32(w, op, 0) >> (src32(w, op, 1) & 31) & 1; }

int32_t simm(const Op& op) { return static_cast<int16_t>(op.inst.simm16); }
void movk_i32(Wave& w, const Op& op) { w.s[op.inst.vdst] = static_cast<uint32_t>(simm(op)); }
void cmovk_i32(Wave& w, const Op& op) {
  if (w.scc) w.s[op.inst.vdst] = static_cast<uint32_t>(simm(op));
}
void addk_i32(Wave& w, const Op& op) {
  const uint32_t x = w.s[op.inst.vdst], y = static_cast<uint32_t>(simm(op)), r = x + y;
  w.scc = (~(x ^ y) & (x ^ r)) >> 31;
  w.s[op.inst.vdst] = r;
}
void mulk_i32(Wave& w, const Op& op) { w.s[op.inst.vdst] *= static_cast<uint32_t>(simm(op)); }

constexpr Class S = Class::Salu;
const ScalarDef kDefs[] = {
    {"s_add_u32", add_u32, S, "u:uu"}, {"s_sub_u32", sub_u32, S, "u:uu"}, {"s_add_i32", add_i32, S, "u:uu"},
    {"s_sub_i32", sub_i32, S, "u:uu"}, {"s_addc_u32", addc_u32, S, "u:uu"}, {"s_subb_u32", subb_u32, S, "u:uu"},
    {"s_min_i32", min_i32, S, "u:uu"}, {"s_min_u32", min_u32, S, "u:uu"}, {"s_max_i32", max_i32, S, "u:uu"},
    {"s_max_u32", max_u32, S, "u:uu"}, {"s_cselect_b32", cselect_b32, S, "u:uu"}, {"s_and_b32", and_b32, S, "u:uu"},
    {"s_or_b32", or_b32, S, "u:uu"}, {"s_xor_b32", xor_b32, S, "u:uu"}, {"s_andn2_b32", andn2_b32, S, "u:uu"},
    {"s_orn2_b32", orn2_b32, S, "u:uu"}, {"s_nand_b32", nand_b32, S, "u:uu"}, {"s_nor_b32", nor_b32, S, "u:uu"},
    {"s_xnor_b32", xnor_b32, S, "u:uu"}, {"s_lshl_b32", lshl_b32, S, "u:uu"}, {"s_lshr_b32", lshr_b32, S, "u:uu"},
    {"s_ashr_i32", ashr_i32, S, "u:uu"}, {"s_bfm_b32", bfm_b32, S, "u:uu"}, {"s_mul_i32", mul_i32, S, "u:uu"},
    {"s_bfe_u32", bfe_u32, S, "u:uu"}, {"s_bfe_i32", bfe_i32, S, "u:uu"}, {"s_mul_hi_u32", mul_hi_u32, S, "u:uu"},
    {"s_mul_hi_i32", mul_hi_i32, S, "u:uu"}, {"s_absdiff_i32", absdiff_i32, S, "u:uu"},
    {"s_pack_ll_b32_b16", pack_ll, S, "u:uu"}, {"s_pack_lh_b32_b16", pack_lh, S, "u:uu"},
    {"s_pack_hh_b32_b16", pack_hh, S, "u:uu"}, {"s_lshl1_add_u32", lshl1_add, S, "u:uu"},
    {"s_lshl2_add_u32", lshl2_add, S, "u:uu"}, {"s_lshl3_add_u32", lshl3_add, S, "u:uu"},
    {"s_lshl4_add_u32", lshl4_add, S, "u:uu"}, {"s_mov_b32", mov_b32, S, "u:u"}, {"s_not_b32", not_b32, S, "u:u"},
    {"s_brev_b32", brev_b32, S, "u:u"}, {"s_bcnt0_i32_b32", bcnt0_b32, S, "u:u"},
    {"s_bcnt1_i32_b32", bcnt1_b32, S, "u:u"}, {"s_ff0_i32_b32", ff0_b32, S, "u:u"},
    {"s_ff1_i32_b32", ff1_b32, S, "u:u"}, {"s_flbit_i32_b32", flbit_b32, S, "u:u"},
    {"s_flbit_i32", flbit_i32, S, "u:u"}, {"s_sext_i32_i8", sext_i8, S, "u:u"}, {"s_sext_i32_i16", sext_i16, S, "u:u"},
    {"s_abs_i32", abs_i32, S, "u:u"}, {"s_quadmask_b32", quadmask_b32, S, "u:u"}, {"s_wqm_b32", wqm_b32, S, "u:u"},
    {"s_cmov_b32", cmov_b32, S, "u:u"}, {"s_bitset0_b32", bitset0_b32, S, "u:u"},
    {"s_bitset1_b32", bitset1_b32, S, "u:u"}, {"s_movrels_b32", movrels_b32, S, "u:u"},
    {"s_movreld_b32", movreld_b32, S, "u:u"}, {"s_movrels_b64", movrels_b64, S, "Q:Q"},
    {"s_movreld_b64", movreld_b64, S, "Q:Q"},
    {"s_cmp_eq_i32", eq_i32, S, ":uu"}, {"s_cmp_lg_i32", lg_i32, S, ":uu"}, {"s_cmp_gt_i32", gt_i32, S, ":uu"},
    {"s_cmp_ge_i32", ge_i32, S, ":uu"}, {"s_cmp_lt_i32", lt_i32, S, ":uu"}, {"s_cmp_le_i32", le_i32, S, ":uu"},
    {"s_cmp_eq_u32", eq_i32, S, ":uu"}, {"s_cmp_lg_u32", lg_i32, S, ":uu"}, {"s_cmp_gt_u32", gt_u32, S, ":uu"},
    {"s_cmp_ge_u32", ge_u32, S, ":uu"}, {"s_cmp_lt_u32", lt_u32, S, ":uu"}, {"s_cmp_le_u32", le_u32, S, ":uu"},
    {"s_bitcmp0_b32", bitcmp0_b32, S, ":uu"}, {"s_bitcmp1_b32", bitcmp1_b32, S, ":uu"},
    {"s_cmpk_eq_i32", k_eq_i32, S, ""}, {"s_cmpk_lg_i32", k_lg_i32, S, ""}, {"s_cmpk_gt_i32", k_gt_i32, S, ""},
    {"s_cmpk_ge_i32", k_ge_i32, S, ""}, {"s_cmpk_lt_i32", k_lt_i32, S, ""}, {"s_cmpk_le_i32", k_le_i32, S, ""},
    {"s_cmpk_eq_u32", k_eq_u32, S, ""}, {"s_cmpk_lg_u32", k_lg_u32, S, ""}, {"s_cmpk_gt_u32", k_gt_u32, S, ""},
    {"s_cmpk_ge_u32", k_ge_u32, S, ""}, {"s_cmpk_lt_u32", k_lt_u32, S, ""}, {"s_cmpk_le_u32", k_le_u32, S, ""},
    {"s_movk_i32", movk_i32, S, ""}, {"s_cmovk_i32", cmovk_i32, S, ""}, {"s_addk_i32", addk_i32, S, ""},
    {"s_mulk_i32", mulk_i32, S, ""},
};

}  // namespace

void register_salu() { add(kDefs, sizeof kDefs / sizeof kDefs[0]); }

}  // namespace vgpu::isa
