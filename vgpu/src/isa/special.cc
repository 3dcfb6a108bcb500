// The two modes that change how later vector instructions execute: VSKIP skips them, GPR-index mode adds M0[7:0] to
// their register numbers.
#include "isa/special.h"

namespace vgpu::isa {
namespace {

bool is_vector(Class c) { return c != Class::Salu && c != Class::Smem && c != Class::Branch && c != Class::Other; }

// M0[15:12] enables indexing of src0, src1, src2 and the destination.
void index_registers(const Wave& w, Op& op) {
  const unsigned index = w.s[kM0] & 0xff, enable = w.s[kM0] >> 12 & 15;
  auto move = [&](uint16_t& code) {
    if (code < kVgpr || code >= kAgpr) return;
    const unsigned n = code + index;
    if (n >= kAgpr) fail("GPR index moves v" + std::to_string(code - kVgpr) + " out of range");
    code = static_cast<uint16_t>(n);
  };
  const uint16_t old_destination = op.inst.vdst;
  for (int i = 0; i < op.sources; ++i) {
    // An accumulating instruction's last source is its destination and moves with it.
    const bool destination = i == 2 && op.sources == 3 && op.inst.info->width('2') == 0 && op.inst.src[2] == old_destination;
    if (enable >> (destination ? 3 : i) & 1) move(op.inst.src[i]);
  }
  if (enable & 8) move(op.inst.vdst);
}

}  // namespace

void exec_special(Wave& w, const Op& op, Handler fn) {
  if ((w.mode & kModeVskip) && is_vector(op.cls)) return;
  if ((w.mode & kModeGprIdx) && op.cls == Class::Valu) {
    Op moved = op;
    index_registers(w, moved);
    fn(w, moved);
    return;
  }
  fn(w, op);
}

}  // namespace vgpu::isa
