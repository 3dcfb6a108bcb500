// 64-bit scalar logic, shifts and the EXEC-saving forms.
#include "isa/registry.h"

namespace vgpu::isa {
namespace {

#define SALU2(name, body) \
  void name(Wave& w, const Op& op) { \
    const uint64_t x = src64(w, op, 0), y = src64(w, op, 1); \
    uint64_t r; \
    body; \
    w.set_s64(op.inst.vdst, r); \
  }
// The second source is 32 bits wide.
#define SHIFT(name, body) \
  void name(Wave& w, const Op& op) { \
    const uint64_t x = src64(w, op, 0); \
    const uint32_t y = src32(w, op, 1); \
    uint64_t r; \
    body; \
    w.set_s64(op.inst.vdst, r); \
  }
#define SALU1(name, body) \
  void name(Wave& w, const Op& op) { \
    const uint64_t x = src64(w, op, 0); \
    uint64_t r; \
    body; \
    w.set_s64(op.inst.vdst, r); \
  }
#define TO32(name, expr) \
  void name(Wave& w, const Op& op) { \
    const uint64_t x = src64(w, op, 0); \
    w.s[op.inst.vdst] = static_cast<uint32_t>(expr); \
  }
// Saves EXEC, then combines it with the source; e is the old EXEC.
#define SAVEEXEC(name, expr) \
  void name(Wave& w, const Op& op) { \
    const uint64_t x = src64(w, op, 0), e = w.exec(), r = (expr); \
    w.set_s64(op.inst.vdst, e); \
    w.set_s64(kExecLo, r); \
    w.scc = r != 0; \
  }
#define WREXEC(name, expr) \
  void name(Wave& w, const Op& op) { \
    const uint64_t x = src64(w, op, 0), e = w.exec(), r = (expr); \
    w.set_s64(op.inst.vdst, r); \
    w.set_s64(kExecLo, r); \
    w.scc = r != 0; \
  }

SALU2(cselect_b64, r = w.scc ? x : y)
SALU2(and_b64, r = x & y; w.scc = r != 0)
SALU2(or_b64, r = x | y; w.scc = r != 0)
SALU2(xor_b64, r = x ^ y; w.scc = r != 0)
SALU2(andn2_b64, r = x & ~y; w.scc = r != 0)
SALU2(orn2_b64, r = x | ~y; w.scc = r != 0)
SALU2(nand_b64, r = ~(x & y); w.scc = r != 0)
SALU2(nor_b64, r = ~(x | y); w.scc = r != 0)
SALU2(xnor_b64, r = ~(x ^ y); w.scc = r != 0)
SHIFT(lshl_b64, r = x << (y & 63); w.scc = r != 0)
SHIFT(lshr_b64, r = x >> (y & 63); w.scc = r != 0)
SHIFT(ashr_i64, r = static_cast<uint64_t>(static_cast<int64_t>(x) >> (y & 63)); w.scc = r != 0)
SHIFT(bfe_u64, const uint32_t n = y >> 16 & 127; const uint64_t t = x >> (y & 63);
      r = n == 0 ? 0 : n >= 64 ? t : t & ((1ull << n) - 1); w.scc = r != 0)
SHIFT(bfe_i64, const uint32_t n = y >> 16 & 127; const int64_t t = static_cast<int64_t>(x) >> (y & 63);
      r = n == 0 ? 0 : n >= 64 ? static_cast<uint64_t>(t)
                               : static_cast<uint64_t>(static_cast<int64_t>(static_cast<uint64_t>(t) << (64 - n)) >> (64 - n));
      w.scc = r != 0)
void bfm_b64(Wave& w, const Op& op) {
  const uint32_t x = src32(w, op, 0), y = src32(w, op, 1);
  w.set_s64(op.inst.vdst, ((1ull << (x & 63)) - 1) << (y & 63));
}

SALU1(mov_b64, r = x)
SALU1(not_b64, r = ~x; w.scc = r != 0)
SALU1(brev_b64, r = 0; for (int b = 0; b < 64; ++b) r |= (x >> b & 1) << (63 - b))
SALU1(quadmask_b64, r = 0; for (int q = 0; q < 16; ++q) r |= static_cast<uint64_t>((x >> (4 * q) & 15) != 0) << q;
      w.scc = r != 0)
SALU1(wqm_b64, r = 0; for (int q = 0; q < 16; ++q) if (x >> (4 * q) & 15) r |= 15ull << (4 * q); w.scc = r != 0)
TO32(ff0_b64, ~x ? __builtin_ctzll(~x) : -1)
TO32(ff1_b64, x ? __builtin_ctzll(x) : -1)
TO32(flbit_b64, x ? __builtin_clzll(x) : -1)
uint64_t differing(uint64_t x) { return x ^ static_cast<uint64_t>(static_cast<int64_t>(x) >> 63); }
TO32(flbit_i64, differing(x) ? __builtin_clzll(differing(x)) : -1)
void bcnt(Wave& w, const Op& op, uint64_t x) {
  w.s[op.inst.vdst] = static_cast<uint32_t>(__builtin_popcountll(x));
  w.scc = x != 0;
}
void bcnt0_b64(Wave& w, const Op& op) { bcnt(w, op, ~src64(w, op, 0)); }
void bcnt1_b64(Wave& w, const Op& op) { bcnt(w, op, src64(w, op, 0)); }
void cmov_b64(Wave& w, const Op& op) {
  if (w.scc) w.set_s64(op.inst.vdst, src64(w, op, 0));
}
void bitset0_b64(Wave& w, const Op& op) {
  w.set_s64(op.inst.vdst, w.s64(op.inst.vdst) & ~(1ull << (src32(w, op, 0) & 63)));
}
void bitset1_b64(Wave& w, const Op& op) {
  w.set_s64(op.inst.vdst, w.s64(op.inst.vdst) | 1ull << (src32(w, op, 0) & 63));
}
void bitreplicate(Wave& w, const Op& op) {
  const uint32_t x = src32(w, op, 0);
  uint64_t r = 0;
  for (int b = 0; b < 32; ++b) r |= (x >> b & 1 ? 3ull : 0ull) << (2 * b);
  w.set_s64(op.inst.vdst, r);
}

SAVEEXEC(and_saveexec, x & e)
SAVEEXEC(or_saveexec, x | e)
SAVEEXEC(xor_saveexec, x ^ e)
SAVEEXEC(andn2_saveexec, x & ~e)
SAVEEXEC(orn2_saveexec, x | ~e)
SAVEEXEC(nand_saveexec, ~(x & e))
SAVEEXEC(nor_saveexec, ~(x | e))
SAVEEXEC(xnor_saveexec, ~(x ^ e))
SAVEEXEC(andn1_saveexec, ~x & e)
SAVEEXEC(orn1_saveexec, ~x | e)
WREXEC(andn1_wrexec, ~x & e)
WREXEC(andn2_wrexec, x & ~e)

void eq_u64(Wave& w, const Op& op) { w.scc = src64(w, op, 0) == src64(w, op, 1); }
void lg_u64(Wave& w, const Op& op) { w.scc = src64(w, op, 0) != src64(w, op, 1); }
void bitcmp0_b64(Wave& w, const Op& op) { w.scc = !(src64(w, op, 0) >> (src32(w, op, 1) & 63) & 1); }
void bitcmp1_b64(Wave& w, const Op& op) { w.scc = src64(w, op, 0) >> (src32(w, op, 1) & 63) & 1; }

constexpr Class S = Class::Salu;
const ScalarDef kDefs[] = {
    {"s_cselect_b64", cselect_b64, S, "Q:QQ"}, {"s_and_b64", and_b64, S, "Q:QQ"}, {"s_or_b64", or_b64, S, "Q:QQ"},
    {"s_xor_b64", xor_b64, S, "Q:QQ"}, {"s_andn2_b64", andn2_b64, S, "Q:QQ"}, {"s_orn2_b64", orn2_b64, S, "Q:QQ"},
    {"s_nand_b64", nand_b64, S, "Q:QQ"}, {"s_nor_b64", nor_b64, S, "Q:QQ"}, {"s_xnor_b64", xnor_b64, S, "Q:QQ"},
    {"s_lshl_b64", lshl_b64, S, "Q:Qu"}, {"s_lshr_b64", lshr_b64, S, "Q:Qu"}, {"s_ashr_i64", ashr_i64, S, "q:qu"},
    {"s_bfe_u64", bfe_u64, S, "Q:Qu"}, {"s_bfe_i64", bfe_i64, S, "q:qu"}, {"s_bfm_b64", bfm_b64, S, "Q:uu"},
    {"s_mov_b64", mov_b64, S, "Q:Q"}, {"s_not_b64", not_b64, S, "Q:Q"}, {"s_brev_b64", brev_b64, S, "Q:Q"},
    {"s_quadmask_b64", quadmask_b64, S, "Q:Q"}, {"s_wqm_b64", wqm_b64, S, "Q:Q"}, {"s_ff0_i32_b64", ff0_b64, S, "u:Q"},
    {"s_ff1_i32_b64", ff1_b64, S, "u:Q"}, {"s_flbit_i32_b64", flbit_b64, S, "u:Q"},
    {"s_flbit_i32_i64", flbit_i64, S, "u:q"}, {"s_bcnt0_i32_b64", bcnt0_b64, S, "u:Q"},
    {"s_bcnt1_i32_b64", bcnt1_b64, S, "u:Q"}, {"s_cmov_b64", cmov_b64, S, "Q:Q"},
    {"s_bitset0_b64", bitset0_b64, S, "Q:u"}, {"s_bitset1_b64", bitset1_b64, S, "Q:u"},
    {"s_bitreplicate_b64_b32", bitreplicate, S, "Q:u"}, {"s_and_saveexec_b64", and_saveexec, S, "Q:Q"},
    {"s_or_saveexec_b64", or_saveexec, S, "Q:Q"}, {"s_xor_saveexec_b64", xor_saveexec, S, "Q:Q"},
    {"s_andn2_saveexec_b64", andn2_saveexec, S, "Q:Q"}, {"s_orn2_saveexec_b64", orn2_saveexec, S, "Q:Q"},
    {"s_nand_saveexec_b64", nand_saveexec, S, "Q:Q"}, {"s_nor_saveexec_b64", nor_saveexec, S, "Q:Q"},
    {"s_xnor_saveexec_b64", xnor_saveexec, S, "Q:Q"}, {"s_andn1_saveexec_b64", andn1_saveexec, S, "Q:Q"},
    {"s_orn1_saveexec_b64", orn1_saveexec, S, "Q:Q"}, {"s_andn1_wrexec_b64", andn1_wrexec, S, "Q:Q"},
    {"s_andn2_wrexec_b64", andn2_wrexec, S, "Q:Q"}, {"s_cmp_eq_u64", eq_u64, S, ":QQ"},
    {"s_cmp_lg_u64", lg_u64, S, ":QQ"}, {"s_bitcmp0_b64", bitcmp0_b64, S, ":Qu"},
    {"s_bitcmp1_b64", bitcmp1_b64, S, ":Qu"},
};

}  // namespace

void register_salu64() { add(kDefs, sizeof kDefs / sizeof kDefs[0]); }

}  // namespace vgpu::isa
