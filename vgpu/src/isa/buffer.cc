// MUBUF: accesses through a buffer resource, with its range check.
#include "isa/memory.h"

namespace vgpu::isa {
namespace {

struct Resource {
  uint64_t base;
  uint32_t stride, records;
  Resource(const Wave& w, unsigned srsrc) {
    const uint32_t *r = &w.s[srsrc];
    base = r[0] | static_cast<uint64_t>(r[1] & 0xffff) << 32;
    stride = r[1] >> 16 & 0x3fff;
    records = r[2];
    if (r[1] >> 31) fail("swizzled buffer resource is not supported");
    if (r[3] >> 23 & 1) fail("buffer resource with ADD_TID_ENABLE is not supported");
    if (r[3] >> 30) fail("buffer resource of type " + std::to_string(r[3] >> 30) + " is not a buffer");
  }
};

// Range rule of GFX9. Without an index or without a stride NUM_RECORDS counts bytes and every dword is checked on
// its own, scalar offset included; otherwise it counts records.
struct Range {
  bool structured;
  uint64_t limit;
  // How many of the access's leading bytes are inside; the rest read as zero and are not written.
  unsigned valid_bytes(uint64_t index, uint64_t offset, unsigned bytes) const {
    if (structured) return index < limit ? bytes : 0;
    if (offset >= limit) return 0;
    const uint64_t room = limit - offset;
    if (room >= bytes) return bytes;
    return bytes > 4 ? static_cast<unsigned>(room / 4 * 4) : 0;
  }
};

struct Addresses {
  uint64_t address[64];
  uint8_t valid[64];   // bytes inside the range
  uint64_t full = 0, partial = 0, none = 0;
};

void compute(Wave& w, const Op& op, const Form& f, Addresses* out) {
  const Inst& inst = op.inst;
  const Resource r(w, inst.srsrc);
  const uint32_t soffset = static_cast<uint32_t>(op.kind[0] == Src::Const ? op.k[0] : src32(w, op, 0));
  const Range range{inst.idxen && r.stride != 0, r.records};
  const uint32_t* index_reg = inst.idxen ? w.vreg(inst.addr) : nullptr;
  const uint32_t* offset_reg = inst.offen ? w.vreg(inst.addr) + (inst.idxen ? 64 : 0) : nullptr;
  for (uint64_t m = w.exec(); m; m &= m - 1) {
    const int l = __builtin_ctzll(m);
    const uint64_t index = index_reg ? index_reg[l] : 0;
    // The vector and instruction offsets add in 32 bits.
    const uint32_t local = (offset_reg ? offset_reg[l] : 0u) + static_cast<uint32_t>(inst.offset);
    const uint64_t linear = index * r.stride + local + soffset;
    const unsigned valid = range.valid_bytes(index, linear, f.bytes);
    out->address[l] = r.base + linear;
    out->valid[l] = static_cast<uint8_t>(valid);
    (valid == f.bytes ? out->full : valid ? out->partial : out->none) |= 1ull << l;
  }
}

// Loads that are partly or wholly outside go through a buffer of zeros.
void exec_load(Wave& w, const Op& op) {
  const Form f = form(op);
  Addresses a;
  compute(w, op, f, &a);
  LanePointers lanes;
  lanes.mask = a.full | a.partial | a.none;
  alignas(16) static const uint8_t zeros[16] = {};
  alignas(16) uint8_t bounce[64][16];
  for (uint64_t m = lanes.mask; m; m &= m - 1) {
    const int l = __builtin_ctzll(m);
    if (a.valid[l] == 0) {
      lanes.p[l] = const_cast<uint8_t*>(zeros);
      continue;
    }
    check_global(w, op, a.address[l], a.valid[l], Access::Load, l);
    lanes.p[l] = reinterpret_cast<uint8_t*>(a.address[l]);
    if (a.valid[l] != f.bytes) {
      std::memset(bounce[l], 0, 16);
      std::memcpy(bounce[l], lanes.p[l], a.valid[l]);
      lanes.p[l] = bounce[l];
    }
  }
  count_global(w, f, a.full | a.partial);
  if (!op.inst.lds) {
    count_vmem(w);
    run_transfer(op, lanes, w.vreg(op.inst.data0), nullptr);
    return;
  }
  // To LDS: M0 and the instruction offset, then lanes in order.
  const unsigned step = f.bytes < 4 ? 4 : f.bytes;
  alignas(32) uint32_t values[4 * 64];
  run_transfer(op, lanes, values, nullptr);
  const uint64_t offset = static_cast<uint64_t>(w.s[kM0] & 0x3ffff) + static_cast<uint32_t>(op.inst.offset);
  order_lds_load(w, op, offset, step, lanes.mask, values);
}

void exec_store(Wave& w, const Op& op) {
  count_vmem(w);
  const Form f = form(op);
  Addresses a;
  compute(w, op, f, &a);
  const uint32_t* reg = w.vreg(op.inst.data0);
  LanePointers lanes;
  lanes.mask = a.full;
  for (uint64_t m = a.full; m; m &= m - 1) {
    const int l = __builtin_ctzll(m);
    check_global(w, op, a.address[l], f.bytes, Access::Store, l);
    lanes.p[l] = reinterpret_cast<uint8_t*>(a.address[l]);
  }
  run_transfer(op, lanes, const_cast<uint32_t*>(reg), nullptr);
  for (uint64_t m = a.partial; m; m &= m - 1) {
    const int l = __builtin_ctzll(m);
    check_global(w, op, a.address[l], a.valid[l], Access::Store, l);
    for (unsigned d = 0; d < a.valid[l] / 4u; ++d)
      std::memcpy(reinterpret_cast<uint8_t*>(a.address[l]) + 4 * d, &reg[d * 64 + l], 4);
  }
  count_global(w, f, a.full | a.partial);
}

// Out of range: not performed, and the returned value is zero.
void exec_atomic(Wave& w, const Op& op) {
  count_vmem(w);
  const Form f = form(op);
  Addresses a;
  compute(w, op, f, &a);
  LanePointers lanes;
  lanes.mask = a.full;
  for (uint64_t m = a.full; m; m &= m - 1) {
    const int l = __builtin_ctzll(m);
    check_global(w, op, a.address[l], f.bytes, Access::Atomic, l);
    lanes.p[l] = reinterpret_cast<uint8_t*>(a.address[l]);
  }
  uint32_t* reg = w.vreg(op.inst.data0);
  run_transfer(op, lanes, reg, f.returns ? reg : nullptr);
  if (f.returns) {
    for (uint64_t m = a.partial | a.none; m; m &= m - 1)
      for (unsigned d = 0; d < f.bytes / 4u; ++d) reg[d * 64 + __builtin_ctzll(m)] = 0;
  }
  count_global(w, f, a.full);
}

void nothing(Wave&, const Op&) {}

bool prepare(Op& op, Arch, std::string* why) {
  const std::string& base = op.inst.info->base;
  if (base == "buffer_wbl2" || base == "buffer_inv") return true;
  std::string action = base.substr(base.find('_') + 1);
  const bool to_lds = op.inst.lds;
  if (!prepare_transfer(op, action, op.inst.sc0, why)) return false;
  const Form f = form(op);
  if (to_lds && f.access != Access::Load) {
    *why = "the LDS bit on this instruction";
    return false;
  }
  op.fn = f.access == Access::Load ? exec_load : f.access == Access::Store ? exec_store : exec_atomic;
  const unsigned s = op.inst.soffset;
  if (s < 128) {
    op.kind[0] = Src::Sgpr;
    op.inst.src[0] = static_cast<uint16_t>(s);
  } else if (s <= 208) {
    op.kind[0] = Src::Const;
    op.k[0] = static_cast<uint32_t>(s <= 192 ? static_cast<int>(s) - 128 : 192 - static_cast<int>(s));
  } else {
    *why = "soffset operand " + std::to_string(s);
    return false;
  }
  return true;
}

}  // namespace

void register_buffer() {
  size_t count = 0;
  const OpInfo* rows = op_rows(&count);
  for (size_t i = 0; i < count; ++i) {
    if (rows[i].enc != Enc::MUBUF) continue;
    const std::string& base = rows[i].base;
    if (base.find("format") != std::string::npos) continue;  // typed accesses are not implemented
    const bool cache = base == "buffer_wbl2" || base == "buffer_inv";
    if (!cache && base.find("load") == std::string::npos && base.find("store_") == std::string::npos &&
        base.find("atomic") == std::string::npos)
      continue;
    add(new ScalarDef{rows[i].mnemonic, nothing, cache ? Class::Other : Class::Buffer, "", prepare}, 1);
  }
}

}  // namespace vgpu::isa
