// Program flow, hardware registers, waits, barriers and the modes that change how others execute.
#include <xmmintrin.h>

#include "isa/code.h"
#include "isa/memory.h"
#include "isa/registry.h"

namespace vgpu::isa {
namespace {

void jump(Wave& w, const Op& op) { w.pc = static_cast<uint64_t>(static_cast<int64_t>(w.pc) + static_cast<int16_t>(op.inst.simm16)); }
void branch(Wave& w, const Op& op) {
  jump(w, op);
  ++w.worker->counts.branches_taken;
}
template <bool (*Condition)(const Wave&)>
void branch_if(Wave& w, const Op& op) {
  if (Condition(w)) branch(w, op);
}
bool scc0(const Wave& w) { return !w.scc; }
bool scc1(const Wave& w) { return w.scc; }
bool vccz(const Wave& w) { return w.vcc() == 0; }
bool vccnz(const Wave& w) { return w.vcc() != 0; }
bool execz(const Wave& w) { return w.exec() == 0; }
bool execnz(const Wave& w) { return w.exec() != 0; }

uint64_t address_of(const Wave& w, uint64_t index) { return w.code->base() + index * 4; }
void go_to(Wave& w, uint64_t address) {
  const uint64_t base = w.code->base();
  if (address < base || address >= base + w.code->count * 4 || address % 4) {
    char text[64];
    snprintf(text, sizeof text, "jump to 0x%llx, outside the module's code", static_cast<unsigned long long>(address));
    fail(text);
  }
  w.pc = (address - base) / 4;
  ++w.worker->counts.branches_taken;
}
void getpc(Wave& w, const Op& op) { w.set_s64(op.inst.vdst, address_of(w, w.pc)); }
void setpc(Wave& w, const Op& op) { go_to(w, src64(w, op, 0)); }
void swappc(Wave& w, const Op& op) {
  const uint64_t target = src64(w, op, 0);
  w.set_s64(op.inst.vdst, address_of(w, w.pc));
  go_to(w, target);
}
void call(Wave& w, const Op& op) {
  w.set_s64(op.inst.vdst, address_of(w, w.pc));
  branch(w, op);
}

void nothing(Wave&, const Op&) {}
// Ends the time slice, so that whoever this wave waits for gets to run.
void sleep(Wave& w, const Op&) { w.yield = true; }
void endpgm(Wave& w, const Op&) {
  w.state = WaveState::Done;
  w.yield = true;
}
void waitcnt(Wave& w, const Op& op) {
  if (!w.landing.empty()) land_lds_loads(w, (op.inst.simm16 & 15u) | (op.inst.simm16 >> 14 & 3u) << 4);
}
void barrier(Wave& w, const Op&) {
  ++w.worker->counts.barriers;
  w.state = WaveState::Barrier;
  w.yield = true;
}
void trap(Wave&, const Op& op) { fail("the kernel trapped (s_trap " + std::to_string(op.inst.simm16 & 0xff) + ")"); }

// hwreg(id, offset, size) in the immediate.
struct Field {
  unsigned id, offset, size;
  uint32_t mask() const { return (size == 32 ? ~0u : (1u << size) - 1) << offset; }
  explicit Field(uint16_t x) : id(x & 63), offset(x >> 6 & 31), size((x >> 11) + 1u) {}
};

uint32_t read_hwreg(const Wave& w, unsigned id) {
  switch (id) {
    case 1: return w.mode;
    case 2:  // STATUS: SCC, EXECZ, VCCZ
      return w.scc | (w.exec() == 0) << 9 | (w.vcc() == 0) << 10;
    case 3: return 0;   // TRAPSTS: no exception is ever pending
    case 4: return w.index & 15;  // HW_ID: everything runs on the first CU
    case 20: return 0;  // XCC_ID
    default: fail("reading hardware register " + std::to_string(id) + " is not supported");
  }
}

void getreg(Wave& w, const Op& op) {
  const Field f(op.inst.simm16);
  w.s[op.inst.vdst] = (read_hwreg(w, f.id) & f.mask()) >> f.offset;
}

void write_hwreg(Wave& w, uint16_t immediate, uint32_t value) {
  const Field f(immediate);
  if (f.id != 1) fail("writing hardware register " + std::to_string(f.id) + " is not supported");
  w.set_mode((w.mode & ~f.mask()) | (value << f.offset & f.mask()));
}
void setreg(Wave& w, const Op& op) { write_hwreg(w, op.inst.simm16, w.s[op.inst.vdst]); }
void setreg_imm32(Wave& w, const Op& op) { write_hwreg(w, op.inst.simm16, op.inst.literal); }

void gpr_idx_on(Wave& w, const Op& op) {
  w.s[kM0] = (w.s[kM0] & ~0xf0ffu) | (src32(w, op, 0) & 0xff) | (op.inst.src[1] & 15u) << 12;
  w.set_mode(w.mode | kModeGprIdx);
}
bool prepare_gpr_idx_on(Op& op, Arch, std::string*) {
  op.inst.src[1] &= 15;
  return true;
}
void gpr_idx_off(Wave& w, const Op&) { w.set_mode(w.mode & ~kModeGprIdx); }
void gpr_idx_mode(Wave& w, const Op& op) { w.s[kM0] = (w.s[kM0] & ~0xf000u) | (op.inst.simm16 & 15u) << 12; }
void gpr_idx_idx(Wave& w, const Op& op) { w.s[kM0] = (w.s[kM0] & ~0xffu) | (src32(w, op, 0) & 0xff); }
void setvskip(Wave& w, const Op& op) {
  const bool on = src32(w, op, 0) >> (src32(w, op, 1) & 31) & 1;
  w.set_mode(on ? w.mode | kModeVskip : w.mode & ~kModeVskip);
}
void sendmsg(Wave&, const Op& op) {
  // Messages to the host are notifications; only the ones that carry data or stop the wave would matter.
  const unsigned id = op.inst.simm16 & 15;
  if (id != 0 && id != 1 && id != 8 && id != 9) fail("s_sendmsg message " + std::to_string(id) + " is not supported");
}

constexpr Class O = Class::Other, B = Class::Branch, S = Class::Salu;
const ScalarDef kDefs[] = {
    {"s_branch", branch, B, ""}, {"s_cbranch_scc0", branch_if<scc0>, B, ""},
    {"s_cbranch_scc1", branch_if<scc1>, B, ""}, {"s_cbranch_vccz", branch_if<vccz>, B, ""},
    {"s_cbranch_vccnz", branch_if<vccnz>, B, ""}, {"s_cbranch_execz", branch_if<execz>, B, ""},
    {"s_cbranch_execnz", branch_if<execnz>, B, ""}, {"s_cbranch_cdbgsys", nothing, B, ""},
    {"s_cbranch_cdbguser", nothing, B, ""}, {"s_cbranch_cdbgsys_or_user", nothing, B, ""},
    {"s_cbranch_cdbgsys_and_user", nothing, B, ""}, {"s_getpc_b64", getpc, S, ""}, {"s_setpc_b64", setpc, B, "Q:Q"},
    {"s_swappc_b64", swappc, B, "Q:Q"}, {"s_call_b64", call, B, ""}, {"s_nop", nothing, O, ""},
    {"s_waitcnt", waitcnt, O, ""}, {"s_setprio", nothing, O, ""}, {"s_icache_inv", nothing, O, ""},
    {"s_ttracedata", nothing, O, ""}, {"s_incperflevel", nothing, O, ""}, {"s_decperflevel", nothing, O, ""},
    {"s_sethalt", nothing, O, ""}, {"s_sleep", sleep, O, ""}, {"s_wakeup", nothing, O, ""},
    {"s_endpgm", endpgm, O, ""}, {"s_endpgm_saved", endpgm, O, ""}, {"s_barrier", barrier, O, ""},
    {"s_trap", trap, O, ""}, {"s_sendmsg", sendmsg, O, ""}, {"s_getreg_b32", getreg, S, ""},
    {"s_setreg_b32", setreg, S, ""}, {"s_setreg_imm32_b32", setreg_imm32, S, ""},
    {"s_set_gpr_idx_on", gpr_idx_on, S, ":u", prepare_gpr_idx_on}, {"s_set_gpr_idx_off", gpr_idx_off, S, ""},
    {"s_set_gpr_idx_mode", gpr_idx_mode, S, ""}, {"s_set_gpr_idx_idx", gpr_idx_idx, S, ":u"},
    {"s_setvskip", setvskip, S, ":uu"},
};

uint32_t control_word(unsigned round, unsigned denorm) {
  // MODE: 0 nearest, 1 up, 2 down, 3 to zero. MXCSR: 0 nearest, 1 down, 2 up, 3 to zero.
  constexpr uint32_t kRound[4] = {0, 2, 1, 3};
  return 0x1f80u | kRound[round] << 13 | (denorm & 1 ? 0u : 0x40u) | (denorm & 2 ? 0u : 0x8000u);
}

}  // namespace

void Wave::set_mode(uint32_t value) {
  constexpr uint32_t kKnown = 0x3ff | 1 << 10 | kModeFp16Ovfl | kModeGprIdx | kModeVskip;
  if (value & ~kKnown) {
    char text[80];
    snprintf(text, sizeof text, "MODE value 0x%08x has bits that are not supported (0x%08x)", value, value & ~kKnown);
    fail(text);
  }
  mode = value;
  special = value & (kModeGprIdx | kModeVskip);
  mxcsr32 = control_word(value & 3, value >> 4 & 3);
  mxcsr64 = control_word(value >> 2 & 3, value >> 6 & 3);
  same_mxcsr = mxcsr32 == mxcsr64;
  _mm_setcsr(mxcsr32);
}

uint64_t special_source(const Wave& w, unsigned code) {
  switch (code) {
    case kSharedBase: return static_cast<uint64_t>(Code::kSharedHigh) << 32;
    case kSharedLimit: return static_cast<uint64_t>(Code::kSharedHigh) << 32 | 0xffffffffu;
    case kPrivateBase: return static_cast<uint64_t>(Code::kPrivateHigh) << 32;
    case kPrivateLimit: return static_cast<uint64_t>(Code::kPrivateHigh) << 32 | 0xffffffffu;
    case kVccz: return w.vcc() == 0;
    case kExecz: return w.exec() == 0;
    case kScc: return w.scc;
    default: fail("source operand " + std::to_string(code) + " is not supported");
  }
}

void register_control() { add(kDefs, sizeof kDefs / sizeof kDefs[0]); }

}  // namespace vgpu::isa
