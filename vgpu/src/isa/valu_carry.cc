// Additions and subtractions that read or write a carry per lane.
#include "isa/registry.h"

namespace vgpu::isa {
namespace {

// In and out carries are lane masks. `clamp` saturates: to all ones on carry, to zero on borrow.
template <bool Subtract, bool Reverse, bool CarryIn>
void carry_op(Lanes& v) {
  uint64_t carries = 0;
  for (int l = 0; l < 64; ++l) {
    const uint64_t x = Reverse ? v.b[l] : v.a[l], y = Reverse ? v.a[l] : v.b[l];
    const uint64_t in = CarryIn ? v.cin >> l & 1 : 0;
    const uint64_t r = Subtract ? x - y - in : x + y + in;
    const bool out = r >> 32 & 1;
    carries |= static_cast<uint64_t>(out) << l;
    v.out[l] = v.clamp && out ? (Subtract ? 0 : ~0u) : static_cast<uint32_t>(r);
  }
  v.cout = carries;
}

const LaneDef kDefs[] = {
    {"v_add_co_u32", carry_op<false, false, false>, "um:uu"}, {"v_sub_co_u32", carry_op<true, false, false>, "um:uu"},
    {"v_subrev_co_u32", carry_op<true, true, false>, "um:uu"},
    {"v_addc_co_u32", carry_op<false, false, true>, "um:uum"},
    {"v_subb_co_u32", carry_op<true, false, true>, "um:uum"},
    {"v_subbrev_co_u32", carry_op<true, true, true>, "um:uum"},
};

}  // namespace

void register_valu_carry() { add(kDefs, sizeof kDefs / sizeof kDefs[0]); }

}  // namespace vgpu::isa
