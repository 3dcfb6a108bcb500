// FLAT, GLOBAL and SCRATCH instructions.
#include "isa/code.h"
#include "isa/memory.h"

namespace vgpu::isa {
namespace {

uint32_t* data_register(Wave& w, const Op& op, const Form& f) {
  return w.vreg(f.access == Access::Load ? op.inst.vdst : op.inst.data0);
}
uint32_t* return_register(Wave& w, const Op& op, const Form& f) { return f.returns ? w.vreg(op.inst.vdst) : nullptr; }

constexpr uint16_t kNoSaddr = 0x7f;

// Address of a global access: a 64-bit vector address, or a scalar base with a 32-bit vector offset.
struct GlobalAddress {
  uint64_t base;
  const uint32_t *low, *high;
  GlobalAddress(const Wave& w, const Inst& inst) {
    low = w.vreg(inst.addr);
    const bool scalar = inst.saddr != kNoSaddr;
    high = scalar ? nullptr : low + 64;
    base = static_cast<uint64_t>(static_cast<int64_t>(inst.offset)) + (scalar ? w.s64(inst.saddr) : 0);
  }
  uint64_t at(int l) const { return base + (low[l] | (high ? static_cast<uint64_t>(high[l]) << 32 : 0)); }
};

void exec_global(Wave& w, const Op& op) {
  count_vmem(w);
  const Form f = form(op);
  LanePointers lanes;
  lanes.mask = w.exec();
  const GlobalAddress address(w, op.inst);
  for (uint64_t m = lanes.mask; m; m &= m - 1) {
    const int l = __builtin_ctzll(m);
    const uint64_t a = address.at(l);
    check_global(w, op, a, f.bytes, f.access, l);
    lanes.p[l] = reinterpret_cast<uint8_t*>(a);
  }
  count_global(w, f, lanes.mask);
  run_transfer(op, lanes, data_register(w, op, f), return_register(w, op, f));
}

// LDS destination of a direct load: M0 and the instruction offset, then lanes in order.
void exec_global_lds(Wave& w, const Op& op) {
  const Form f = form(op);
  const GlobalAddress address(w, op.inst);
  const uint64_t mask = w.exec();
  const unsigned step = f.bytes < 4 ? 4 : f.bytes;
  LanePointers lanes;
  lanes.mask = mask;
  for (uint64_t m = mask; m; m &= m - 1) {
    const int l = __builtin_ctzll(m);
    const uint64_t a = address.at(l);
    check_global(w, op, a, f.bytes, Access::Load, l);
    lanes.p[l] = reinterpret_cast<uint8_t*>(a);
  }
  alignas(32) uint32_t values[4 * 64];
  run_transfer(op, lanes, values, nullptr);
  const uint64_t offset = (w.s[kM0] & 0x3ffff) + static_cast<uint64_t>(static_cast<int64_t>(op.inst.offset));
  order_lds_load(w, op, offset, step, mask, values);
  count_global(w, f, mask);
}

void exec_flat(Wave& w, const Op& op) {
  count_vmem(w);
  const Form f = form(op);
  LanePointers lanes;
  lanes.mask = w.exec();
  const GlobalAddress address(w, op.inst);
  uint64_t global = 0;
  for (uint64_t m = lanes.mask; m; m &= m - 1) {
    const int l = __builtin_ctzll(m);
    const uint64_t a = address.at(l);
    const uint32_t high = static_cast<uint32_t>(a >> 32);
    if (high == Code::kSharedHigh) {
      lanes.p[l] = lds_pointer(w, op, a & 0xffffffffu, f.bytes, l);
    } else if (high == Code::kPrivateHigh) {
      lanes.p[l] = scratch_pointer(w, op, static_cast<int64_t>(a & 0xffffffffu), f.bytes, l);
    } else {
      check_global(w, op, a, f.bytes, f.access, l);
      lanes.p[l] = reinterpret_cast<uint8_t*>(a);
      global |= 1ull << l;
    }
  }
  count_global(w, f, global);
  run_transfer(op, lanes, data_register(w, op, f), return_register(w, op, f));
}

void exec_scratch(Wave& w, const Op& op) {
  count_vmem(w);
  const Form f = form(op);
  const Inst& inst = op.inst;
  LanePointers lanes;
  lanes.mask = w.exec();
  const int64_t base = (inst.saddr != kNoSaddr ? static_cast<int64_t>(w.s[inst.saddr]) : 0) + inst.offset;
  const uint32_t* offset = inst.sve ? w.vreg(inst.addr) : nullptr;
  for (uint64_t m = lanes.mask; m; m &= m - 1) {
    const int l = __builtin_ctzll(m);
    lanes.p[l] = scratch_pointer(w, op, base + (offset ? static_cast<int64_t>(offset[l]) : 0), f.bytes, l);
  }
  run_transfer(op, lanes, data_register(w, op, f), nullptr);
}

bool prepare(Op& op, Arch, std::string* why) {
  const std::string& base = op.inst.info->base;
  std::string action = base.substr(base.find('_') + 1);
  const bool to_lds = action.compare(0, 9, "load_lds_") == 0;
  if (to_lds) action.erase(5, 4);
  if (!to_lds && op.inst.lds && op.inst.info->enc != Enc::SCRATCH) {
    *why = "the LDS bit on this instruction";
    return false;
  }
  if (!prepare_transfer(op, action, op.inst.sc0, why)) return false;
  if (to_lds) op.fn = exec_global_lds;
  return true;
}

}  // namespace

void register_flat() {
  // One definition per table row of these encodings; names live in the table.
  size_t count = 0;
  const OpInfo* rows = op_rows(&count);
  for (size_t i = 0; i < count; ++i) {
    const Enc enc = rows[i].enc;
    if (enc != Enc::FLAT && enc != Enc::GLOBAL && enc != Enc::SCRATCH) continue;
    if (rows[i].base.compare(0, 17, "scratch_load_lds_") == 0) continue;  // not implemented
    auto* def = new ScalarDef{rows[i].mnemonic, exec_flat, Class::Flat, "", prepare};
    if (enc == Enc::GLOBAL) def->fn = exec_global, def->cls = Class::Global;
    if (enc == Enc::SCRATCH) def->fn = exec_scratch, def->cls = Class::Scratch;
    add(def, 1);
  }
}

}  // namespace vgpu::isa
