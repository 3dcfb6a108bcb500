// Matrix instructions: operands are handed to the semantics library as register arrays.
#include <xmmintrin.h>

#include <cstdlib>

#include "isa/code.h"
#include "isa/launch_state.h"
#include "isa/registry.h"
#include "sem/mfma.h"

namespace vgpu::isa {
namespace {

constexpr int kMaxRegs = 32;

const sem::MfmaInfo& info_of(const Op& op) { return *static_cast<const sem::MfmaInfo*>(op.lane); }

bool overlap(const uint32_t* a, int a_regs, const uint32_t* b, int b_regs) {
  return a < b + b_regs * 64 && b < a + a_regs * 64;
}

// Register arrays of source i; constants are broadcast, and sources that the destination overwrites are copied.
const uint32_t* operand(Wave& w, const Op& op, int i, int regs, const uint32_t* d, int d_regs, bool may_equal,
                        uint32_t* tmp) {
  if (op.kind[i] == Src::Vgpr) {
    const uint32_t* p = w.vreg(op.inst.src[i]);
    if ((may_equal && p == d) || !overlap(p, regs, d, d_regs)) return p;
    std::memcpy(tmp, p, regs * 256);
    return tmp;
  }
  const bool wide = op.width[i] == 2;
  for (int r = 0; r < regs; ++r) {
    const uint32_t x = static_cast<uint32_t>(wide ? op.k[i] >> (r & 1 ? 32 : 0) : op.k[i]);
    for (int l = 0; l < 64; ++l) tmp[r * 64 + l] = x;
  }
  return tmp;
}

bool another_follows(const Wave& w) {
  if (w.pc >= w.code->count) return false;
  const Op& next = w.code->ops[w.pc];
  return __atomic_load_n(&next.fn, __ATOMIC_ACQUIRE) && next.cls == Class::Mfma;
}

// Matrix instructions ignore MODE. Writing the control word takes as long as a fifth of one, so it is written once for those that follow
// one another; every slice of a wave starts by writing its own.
class DefaultControl {
 public:
  explicit DefaultControl(const Wave& wave) : w_(wave) {
    if (w_.mxcsr32 != kDefault && _mm_getcsr() & kControl) _mm_setcsr(kDefault);
  }
  ~DefaultControl() {
    if (w_.mxcsr32 != kDefault && !another_follows(w_)) _mm_setcsr(w_.mxcsr32);
  }
  DefaultControl(const DefaultControl&) = delete;
  DefaultControl& operator=(const DefaultControl&) = delete;

 private:
  static constexpr unsigned kDefault = 0x1f80, kControl = 0xe040;  // rounding, flush-to-zero, denormals-are-zero
  const Wave& w_;
};

void exec_mfma(Wave& w, const Op& op) {
  alignas(32) uint32_t tmp_a[kMaxRegs * 64], tmp_b[kMaxRegs * 64], tmp_c[kMaxRegs * 64];
  const sem::MfmaInfo& info = info_of(op);
  const Inst& inst = op.inst;
  uint32_t* d = w.vreg(inst.vdst);
  sem::MfmaCtl ctl;
  ctl.cbsz = inst.cbsz;
  ctl.abid = inst.abid;
  ctl.blgp = inst.blgp;
  ctl.fp8_ocp = op.aux & 1;
  ctl.silicon = !ctl.fp8_ocp && !w.worker->launch->options.fma_arithmetic;
  const bool sparse = op.aux & 2;
  const uint32_t* a = operand(w, op, 0, info.a_regs, d, info.c_regs, false, tmp_a);
  const uint32_t* b = operand(w, op, 1, info.b_regs, d, info.c_regs, false, tmp_b);
  alignas(32) uint32_t tmp_index[64];
  const uint32_t* c = d;
  if (sparse) {
    ctl.index = operand(w, op, 2, 1, d, info.c_regs, false, tmp_index);
  } else {
    c = operand(w, op, 2, info.c_regs, d, info.c_regs, true, tmp_c);
  }
  alignas(32) uint32_t scales[2][64];
  if (inst.scaled) {
    for (int i = 0; i < 2; ++i) {
      const unsigned code = inst.scale_src[i];
      const uint32_t* p = code >= kVgpr ? w.vreg(code) : nullptr;
      for (int l = 0; l < 64; ++l) scales[i][l] = p ? p[l] : w.s[code & 127];
    }
    ctl.scale_a = scales[0];
    ctl.scale_b = scales[1];
    ctl.scale_a_byte = static_cast<uint8_t>((inst.scale_op_sel & 1) | (inst.scale_op_sel_hi & 1) << 1);
    ctl.scale_b_byte = static_cast<uint8_t>((inst.scale_op_sel >> 1 & 1) | (inst.scale_op_sel_hi & 2));
  }
  {
    const DefaultControl control(w);
    info.fn(d, a, b, c, ctl);
  }
  w.worker->counts.mfma_flops += 2ull * info.m * info.n * info.k * info.blocks;
}

bool prepare(Op& op, Arch arch, std::string* why) {
  const std::string& name = op.inst.info->base;
  const sem::MfmaInfo* info =
      sem::find_mfma(name.c_str(), arch == Arch::gfx950 ? sem::Arch::gfx950 : sem::Arch::gfx942);
  if (!info) {
    *why = "matrix instruction is not implemented";
    return false;
  }
  const bool f64 = name.find("_f64_") != std::string::npos;
  for (int i = 0; i < 3; ++i) {
    if (op.kind[i] == Src::Vgpr || op.kind[i] == Src::Const) continue;
    *why = "scalar register as a matrix operand";
    return false;
  }
  if (f64 && op.inst.src[2] >= 128 && op.inst.src[2] < 256) {
    // Inline constants of the f64 forms are doubles.
    static constexpr double kValues[9] = {0.5, -0.5, 1, -1, 2, -2, 4, -4, 0.15915494309189532};
    const unsigned code = op.inst.src[2];
    op.k[2] = code >= 240 ? as_u64(kValues[code - 240]) : static_cast<uint64_t>(static_cast<int64_t>(op.k[2]));
    op.width[2] = 2;
  }
  if (op.inst.scaled) {
    for (unsigned code : op.inst.scale_src) {
      if (code >= kVgpr || code < 128) continue;
      *why = "constant as an MFMA scale";
      return false;
    }
  }
  if (info->a_regs > kMaxRegs || info->b_regs > kMaxRegs || info->c_regs > kMaxRegs) {
    *why = "matrix operand is too large";
    return false;
  }
  op.lane = info;
  op.aux = (arch == Arch::gfx950 ? 1u : 0u) | (name.compare(0, 8, "v_smfmac") == 0 ? 2u : 0u);
  return true;
}

}  // namespace

void register_mfma() {
  int count = 0;
  const sem::MfmaInfo* all = sem::all_mfma(&count);
  auto* defs = new ScalarDef[count];  // referenced by the registry for the life of the process
  for (int i = 0; i < count; ++i) defs[i] = {all[i].name, exec_mfma, Class::Mfma, "u:uuu", prepare};
  add(defs, static_cast<size_t>(count));
}

}  // namespace vgpu::isa
