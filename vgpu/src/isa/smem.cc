// Scalar memory: loads, stores, atomics, cache control and the clocks.
#include <cstring>

#include "isa/memory.h"

namespace vgpu::isa {
namespace {

// aux: dwords; bit 8: through a buffer resource.
unsigned dwords(const Op& op) { return op.aux & 0xff; }
bool through_buffer(const Op& op) { return op.aux >> 8 & 1; }

uint64_t offset_of(const Wave& w, const Inst& inst) {
  if (inst.imm_offset)
    return static_cast<uint64_t>(static_cast<int64_t>(inst.offset)) + (inst.soffset_en ? w.s[inst.soffset & 127] : 0);
  return w.s[inst.soffset & 127];
}

struct Place {
  uint64_t address;
  unsigned valid;  // dwords inside the resource
};
Place place(const Wave& w, const Op& op) {
  const Inst& inst = op.inst;
  const uint64_t offset = offset_of(w, inst);
  Place p;
  p.valid = dwords(op);
  if (through_buffer(op)) {
    const uint32_t* r = &w.s[inst.srsrc];
    p.address = (r[0] | static_cast<uint64_t>(r[1] & 0xffff) << 32) + offset;
    const uint64_t limit = r[2];
    p.valid = 0;
    while (p.valid < dwords(op) && offset + 4ull * p.valid + 4 <= limit) ++p.valid;
  } else {
    p.address = w.s64(inst.srsrc) + offset;
  }
  if (p.address & 3) fail("misaligned scalar access at address " + std::to_string(p.address));
  return p;
}

void load(Wave& w, const Op& op) {
  const Place p = place(w, op);
  if (p.valid) check_global(w, op, p.address, p.valid * 4, Access::Load, -1);
  uint32_t x[16] = {};
  std::memcpy(x, reinterpret_cast<const void*>(p.address), p.valid * 4);
  std::memcpy(&w.s[op.inst.vdst], x, dwords(op) * 4);
  w.worker->counts.scalar_bytes_loaded += p.valid * 4;
}

void store(Wave& w, const Op& op) {
  const Place p = place(w, op);
  if (!p.valid) return;
  check_global(w, op, p.address, p.valid * 4, Access::Store, -1);
  std::memcpy(reinterpret_cast<void*>(p.address), &w.s[op.inst.vdst], p.valid * 4);
  w.worker->counts.bytes_stored += p.valid * 4;
}

// Runs the vector form on lane 0. Outside its buffer resource it does nothing and returns zero, as the vector form.
void atomic(Wave& w, const Op& op) {
  const Form f = form(op);
  uint64_t address = w.s64(op.inst.srsrc) + offset_of(w, op.inst);
  if (op.inst.info->width('b') == 4) {
    const uint32_t* r = &w.s[op.inst.srsrc];
    const uint64_t offset = offset_of(w, op.inst);
    address = (r[0] | static_cast<uint64_t>(r[1] & 0xffff) << 32) + offset;
    if (offset + f.bytes > r[2]) {
      if (f.returns) std::memset(&w.s[op.inst.vdst], 0, f.bytes);
      return;
    }
  }
  check_global(w, op, address, f.bytes, Access::Atomic, -1);
  uint32_t reg[4 * 64], ret[2 * 64];
  const unsigned data = op.inst.info->width('d');
  for (unsigned d = 0; d < data; ++d) reg[d * 64] = w.s[op.inst.vdst + d];
  LanePointers lanes;
  lanes.mask = 1;
  lanes.p[0] = reinterpret_cast<uint8_t*>(address);
  run_transfer(op, lanes, reg, ret);
  if (f.returns)
    for (unsigned d = 0; d < f.bytes / 4u; ++d) w.s[op.inst.vdst + d] = ret[d * 64];
  w.worker->counts.bytes_atomic += f.bytes;
}

void nothing(Wave&, const Op&) {}
// A clock that only depends on the program: instructions executed, at four cycles each; realtime ticks at 100 MHz of
// a nominal 2.1 GHz.
void memtime(Wave& w, const Op& op) { w.set_s64(op.inst.vdst, w.executed * 4); }
void memrealtime(Wave& w, const Op& op) { w.set_s64(op.inst.vdst, w.executed * 4 / 21); }

bool fits(const Op& op, unsigned count, std::string* why) {
  if (op.inst.vdst + count <= 128) return true;
  *why = "scalar data registers out of range";
  return false;
}

bool prepare_move(Op& op, Arch, std::string* why) {
  const OpInfo& info = *op.inst.info;
  const unsigned count = info.width('d');
  op.aux = count | (info.width('b') == 4 ? 1u << 8 : 0);
  return fits(op, count, why);
}

bool prepare_atomic(Op& op, Arch, std::string* why) {
  const std::string& base = op.inst.info->base;
  unsigned bytes = 0;
  const Transfer fn = find_atomic(base.substr(base.find("atomic_") + 7), &bytes);
  if (!fn) {
    *why = "scalar atomic is not implemented";
    return false;
  }
  op.lane = reinterpret_cast<const void*>(fn);
  op.aux = pack_form(bytes, Access::Atomic, op.inst.sc0, bytes / 4);
  return fits(op, op.inst.info->width('d'), why);
}

}  // namespace

void register_smem() {
  size_t count = 0;
  const OpInfo* rows = op_rows(&count);
  for (size_t i = 0; i < count; ++i) {
    if (rows[i].enc != Enc::SMEM) continue;
    const std::string& name = rows[i].base;
    ScalarDef def{rows[i].mnemonic, nothing, Class::Smem, "", nullptr};
    if (name.compare(0, 9, "s_scratch") == 0 || name.compare(0, 5, "s_atc") == 0) continue;
    if (name.compare(0, 8, "s_dcache") == 0) def.cls = Class::Other;
    else if (name == "s_memtime") def.fn = memtime;
    else if (name == "s_memrealtime") def.fn = memrealtime;
    else if (name.find("atomic") != std::string::npos) def.fn = atomic, def.prepare = prepare_atomic;
    else if (name.find("store") != std::string::npos) def.fn = store, def.prepare = prepare_move;
    else if (name.find("load") != std::string::npos) def.fn = load, def.prepare = prepare_move;
    else continue;
    add(new ScalarDef(def), 1);
  }
}

}  // namespace vgpu::isa
