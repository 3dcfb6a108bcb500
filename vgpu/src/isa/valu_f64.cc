// f64 vector arithmetic.
#include <cmath>

#include "isa/registry.h"
#include "sem/arith.h"
#include "sem/divide.h"
#include "sem/fpmisc.h"
#include "sem/transcendental.h"

namespace vgpu::isa {
namespace {

constexpr uint64_t kNan = 0x7ff8000000000000ull;

uint64_t result(double r, double x, double y, double z = 0) {
  return r != r && x == x && y == y && z == z ? kNan : as_u64(r);
}
#define D1(name, expr) VGPU_LANES(name, const double x = as_f64(pair(a, l)); set_pair(out, l, as_u64(expr)))
#define D2(name, expr) \
  VGPU_LANES(name, const double x = as_f64(pair(a, l)); const double y = as_f64(pair(b, l)); \
             set_pair(out, l, result(expr, x, y)))
#define BITS1(name, expr) VGPU_LANES(name, const uint64_t x = pair(a, l); set_pair(out, l, expr))
#define BITS2(name, expr) \
  VGPU_LANES(name, const uint64_t x = pair(a, l); const uint64_t y = pair(b, l); set_pair(out, l, expr))

D2(add_f64, x + y)
D2(mul_f64, x* y)
VGPU_LANES(fma_f64, const double x = as_f64(pair(a, l)); const double y = as_f64(pair(b, l));
           const double z = as_f64(pair(c, l)); set_pair(out, l, result(__builtin_fma(x, y, z), x, y, z)))
BITS2(min_f64, sem::min_f64(x, y, v.w->mode & kModeIeee))
BITS2(max_f64, sem::max_f64(x, y, v.w->mode & kModeIeee))
D1(trunc_f64, __builtin_trunc(x))
D1(ceil_f64, __builtin_ceil(x))
D1(floor_f64, __builtin_floor(x))
D1(rndne_f64, __builtin_roundeven(x))
BITS1(fract_f64, sem::fract_f64(x))
BITS1(rcp_f64, sem::rcp_f64(x))
BITS1(rsq_f64, sem::rsq_f64(x))
BITS1(sqrt_f64, sem::sqrt_f64(x))
BITS1(frexp_mant, sem::frexp_mant_f64(x))
VGPU_LANES(frexp_exp, out[l] = static_cast<uint32_t>(sem::frexp_exp_i32_f64(pair(a, l))))
VGPU_LANES(ldexp_f64, set_pair(out, l, sem::ldexp_f64(pair(a, l), static_cast<int32_t>(b[l]))))
VGPU_LANES(trig_preop, set_pair(out, l, sem::trig_preop_f64(pair(a, l), b[l])))
VGPU_LANES(div_fixup, set_pair(out, l, sem::div_fixup_f64(pair(a, l), pair(b, l), pair(c, l))))
void div_fmas(Lanes& v) {
  const uint64_t vcc = v.w->vcc();
  for (int l = 0; l < 64; ++l)
    set_pair(v.out, l, sem::div_fmas_f64(pair(v.a, l), pair(v.b, l), pair(v.c, l), vcc >> l & 1));
}
void div_scale(Lanes& v) {
  for (int l = 0; l < 64; ++l) {
    bool flag = false;
    set_pair(v.out, l, sem::div_scale_f64(pair(v.a, l), pair(v.b, l), pair(v.c, l), &flag));
    v.cout |= static_cast<uint64_t>(flag) << l;
  }
}

const LaneDef kDefs[] = {
    {"v_add_f64", add_f64, "d:dd"}, {"v_mul_f64", mul_f64, "d:dd"}, {"v_fma_f64", fma_f64, "d:ddd"},
    {"v_fmac_f64", fma_f64, "d:ddd", kAccumulate}, {"v_min_f64", min_f64, "d:dd"}, {"v_max_f64", max_f64, "d:dd"},
    {"v_trunc_f64", trunc_f64, "d:d"}, {"v_ceil_f64", ceil_f64, "d:d"}, {"v_floor_f64", floor_f64, "d:d"},
    {"v_rndne_f64", rndne_f64, "d:d"}, {"v_fract_f64", fract_f64, "d:d"}, {"v_rcp_f64", rcp_f64, "d:d"},
    {"v_rsq_f64", rsq_f64, "d:d"}, {"v_sqrt_f64", sqrt_f64, "d:d"}, {"v_frexp_mant_f64", frexp_mant, "d:d"},
    {"v_frexp_exp_i32_f64", frexp_exp, "u:d"}, {"v_ldexp_f64", ldexp_f64, "d:du"},
    {"v_trig_preop_f64", trig_preop, "d:du"}, {"v_div_fixup_f64", div_fixup, "d:ddd"},
    {"v_div_fmas_f64", div_fmas, "d:ddd"}, {"v_div_scale_f64", div_scale, "dm:ddd"},
};

}  // namespace

void register_valu_f64() { add(kDefs, sizeof kDefs / sizeof kDefs[0]); }

}  // namespace vgpu::isa
