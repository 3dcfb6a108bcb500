// LDS atomics. A workgroup runs on one thread, one wave at a time, so plain read-modify-write is atomic here.
#include <algorithm>
#include <cstring>

#include "isa/memory.h"
#include "sem/arith.h"
#include "sem/convert.h"

namespace vgpu::isa {
namespace {

// old, data, data1 -> new value. T is the memory type.
template <class T>
using Update = T (*)(T, T, T);

template <class T>
T lane_data(const uint32_t* p, int l) {
  return sizeof(T) == 8 ? static_cast<T>(pair(p, l)) : static_cast<T>(p[l]);
}

template <class T, Update<T> F>
void exec(Wave& w, const Op& op) {
  const Inst& inst = op.inst;
  const uint32_t *address = w.vreg(inst.addr), *data = w.vreg(inst.data0), *data1 = w.vreg(inst.data1);
  const bool returns = op.aux & 1;
  const uint64_t mask = w.exec();
  alignas(32) uint32_t old_values[128];
  for (uint64_t m = mask; m; m &= m - 1) {
    const int l = __builtin_ctzll(m);
    const uint64_t at = static_cast<uint64_t>(address[l]) + static_cast<uint32_t>(inst.offset);
    if (at % sizeof(T)) fail("misaligned LDS atomic at offset " + std::to_string(at) + " by lane " + std::to_string(l));
    uint8_t* p = lds_pointer(w, op, at, sizeof(T), l);
    T old;
    std::memcpy(&old, p, sizeof old);
    const T fresh = F(old, lane_data<T>(data, l), lane_data<T>(data1, l));
    std::memcpy(p, &fresh, sizeof fresh);
    if (sizeof(T) == 8) set_pair(old_values, l, static_cast<uint64_t>(old));
    else old_values[l] = static_cast<uint32_t>(old);
  }
  if (returns) {
    write_lanes(w.vreg(inst.vdst), old_values, mask);
    if (sizeof(T) == 8) write_lanes(w.vreg(inst.vdst) + 64, old_values + 64, mask);
  }
  const uint64_t bytes = static_cast<uint64_t>(__builtin_popcountll(mask)) * sizeof(T);
  w.worker->counts.lds_bytes_read += bytes;
  w.worker->counts.lds_bytes_written += bytes;
}

#define UPDATE(name, expr) \
  template <class T> \
  T name(T x, T y, T z) { (void)x, (void)y, (void)z; return static_cast<T>(expr); }
template <class T>
using Signed = std::make_signed_t<T>;
UPDATE(add, x + y)
UPDATE(sub, x - y)
UPDATE(rsub, y - x)
UPDATE(inc, x >= y ? 0 : x + 1)
UPDATE(dec, x == 0 || x > y ? y : x - 1)
UPDATE(min_i, std::min<Signed<T>>(x, y))
UPDATE(max_i, std::max<Signed<T>>(x, y))
UPDATE(min_u, std::min(x, y))
UPDATE(max_u, std::max(x, y))
UPDATE(and_b, x& y)
UPDATE(or_b, x | y)
UPDATE(xor_b, x ^ y)
UPDATE(mskor, (x & ~y) | z)
UPDATE(wrxchg, y)
UPDATE(cmpst, x == y ? z : x)  // here the comparand comes first
UPDATE(wrap, x >= y ? x - y : x + z)
uint32_t add_f32(uint32_t x, uint32_t y, uint32_t) { return as_u32(as_f32(x) + as_f32(y)); }
uint32_t min_f32(uint32_t x, uint32_t y, uint32_t) { return sem::min_f32(x, y, false); }
uint32_t max_f32(uint32_t x, uint32_t y, uint32_t) { return sem::max_f32(x, y, false); }
uint32_t cmpst_f32(uint32_t x, uint32_t y, uint32_t z) { return as_f32(x) == as_f32(y) ? z : x; }
uint64_t add_f64(uint64_t x, uint64_t y, uint64_t) { return as_u64(as_f64(x) + as_f64(y)); }
uint64_t min_f64(uint64_t x, uint64_t y, uint64_t) { return sem::min_f64(x, y, false); }
uint64_t max_f64(uint64_t x, uint64_t y, uint64_t) { return sem::max_f64(x, y, false); }
uint64_t cmpst_f64(uint64_t x, uint64_t y, uint64_t z) { return as_f64(x) == as_f64(y) ? z : x; }
uint32_t pk_add_f16(uint32_t x, uint32_t y, uint32_t) {
  return sem::add_f16(static_cast<uint16_t>(x), static_cast<uint16_t>(y)) |
         static_cast<uint32_t>(sem::add_f16(static_cast<uint16_t>(x >> 16), static_cast<uint16_t>(y >> 16))) << 16;
}
uint32_t bf16_sum(uint32_t x, uint32_t y) {
  return sem::f32_to_bf16(sem::bf16_to_f32(static_cast<uint16_t>(x)) + sem::bf16_to_f32(static_cast<uint16_t>(y)));
}
uint32_t pk_add_bf16(uint32_t x, uint32_t y, uint32_t) { return bf16_sum(x, y) | bf16_sum(x >> 16, y >> 16) << 16; }

struct Entry {
  const char* name;  // without "ds_" and "rtn_"
  Handler fn;
};
#define PAIR(name, suffix, update) \
  {name "_" suffix "32", exec<uint32_t, update<uint32_t>>}, {name "_" suffix "64", exec<uint64_t, update<uint64_t>>}
const Entry kEntries[] = {
    PAIR("add", "u", add), PAIR("sub", "u", sub), PAIR("rsub", "u", rsub), PAIR("inc", "u", inc), PAIR("dec", "u", dec),
    PAIR("min", "i", min_i), PAIR("max", "i", max_i), PAIR("min", "u", min_u), PAIR("max", "u", max_u),
    PAIR("and", "b", and_b), PAIR("or", "b", or_b), PAIR("xor", "b", xor_b), PAIR("mskor", "b", mskor),
    PAIR("wrxchg", "b", wrxchg), PAIR("cmpst", "b", cmpst), {"wrap_b32", exec<uint32_t, wrap<uint32_t>>},
    {"add_f32", exec<uint32_t, add_f32>}, {"min_f32", exec<uint32_t, min_f32>}, {"max_f32", exec<uint32_t, max_f32>},
    {"cmpst_f32", exec<uint32_t, cmpst_f32>}, {"add_f64", exec<uint64_t, add_f64>}, {"min_f64", exec<uint64_t, min_f64>},
    {"max_f64", exec<uint64_t, max_f64>}, {"cmpst_f64", exec<uint64_t, cmpst_f64>},
    {"pk_add_f16", exec<uint32_t, pk_add_f16>}, {"pk_add_bf16", exec<uint32_t, pk_add_bf16>},
};

bool prepare(Op& op, Arch, std::string* why) {
  op.aux = op.inst.info->base.find("_rtn_") != std::string::npos;
  if (op.inst.gds) *why = "global data share";
  return !op.inst.gds;
}

}  // namespace

void register_ds_atomic() {
  size_t count = 0;
  const OpInfo* rows = op_rows(&count);
  for (size_t i = 0; i < count; ++i) {
    if (rows[i].enc != Enc::DS) continue;
    std::string name = rows[i].base.substr(3);
    const size_t at = name.find("rtn_");
    if (at != std::string::npos) name.erase(at, 4);
    for (const Entry& e : kEntries)
      if (name == e.name) add(new ScalarDef{rows[i].mnemonic, e.fn, Class::Lds, "", prepare}, 1);
  }
}

}  // namespace vgpu::isa
