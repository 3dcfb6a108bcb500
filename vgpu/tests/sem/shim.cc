// The inline semantic functions as C functions over arrays, for ctypes.
#include "sem/arith.h"
#include "sem/divide.h"
#include "sem/fp8.h"
#include "sem/fpmisc.h"
#include "sem/mfma.h"
#include "sem/small_float.h"
#include "sem/transcendental_f16.h"
#include "sem/wide.h"

using namespace vgpu::sem;

#define MAP1(name, To, From, expr) \
  extern "C" void name(const From* a, To* out, long n) { \
    for (long i = 0; i < n; ++i) { const From x = a[i]; out[i] = static_cast<To>(expr); } \
  }
#define MAP2(name, To, A, B, expr) \
  extern "C" void name(const A* a, const B* b, To* out, long n) { \
    for (long i = 0; i < n; ++i) { const A x = a[i]; const B y = b[i]; out[i] = static_cast<To>(expr); } \
  }
#define MAP3(name, To, A, expr) \
  extern "C" void name(const A* a, const A* b, const A* c, To* out, long n) { \
    for (long i = 0; i < n; ++i) { const A x = a[i]; const A y = b[i]; const A z = c[i]; out[i] = static_cast<To>(expr); } \
  }

MAP1(f16_to_f32_map, float, uint16_t, f16_to_f32(x))
MAP2(f32_to_f16_map, uint16_t, float, int32_t, f32_to_f16(x, static_cast<Round>(y & 3), y & 4))
MAP1(f32_to_bf16_map, uint16_t, float, f32_to_bf16(x))
MAP2(f32_to_bf16_sr_map, uint16_t, float, uint32_t, f32_to_bf16_sr(x, y))
MAP2(f32_to_f16_sr_map, uint16_t, float, uint32_t, f32_to_f16_sr(x, y))
MAP1(f32_to_i32_map, int32_t, float, f32_to_i32(x))
MAP1(f32_to_u32_map, uint32_t, float, f32_to_u32(x))
MAP1(f64_to_i32_map, int32_t, double, f64_to_i32(x))
MAP1(f64_to_u32_map, uint32_t, double, f64_to_u32(x))
MAP2(fp8_to_f32_map, float, uint8_t, int32_t, fp8_to_f32(x, static_cast<Fp8>(y)))
MAP2(bf8_to_f32_map, float, uint8_t, int32_t, bf8_to_f32(x, static_cast<Fp8>(y)))
MAP2(f32_to_fp8_map, uint8_t, float, int32_t, f32_to_fp8(x, static_cast<Fp8>(y & 1), y & 2))
MAP2(f32_to_bf8_map, uint8_t, float, int32_t, f32_to_bf8(x, static_cast<Fp8>(y & 1), y & 2))
MAP2(f32_to_fp8_sr_map, uint8_t, float, uint32_t, f32_to_fp8_sr(x, y, Fp8::fnuz, false))
MAP2(f32_to_bf8_sr_map, uint8_t, float, uint32_t, f32_to_bf8_sr(x, y, Fp8::fnuz, false))
MAP1(fp6_to_f32_map, float, uint8_t, fp6_to_f32(x))
MAP1(bf6_to_f32_map, float, uint8_t, bf6_to_f32(x))
MAP1(fp4_to_f32_map, float, uint8_t, fp4_to_f32(x))
MAP1(f32_to_fp6_map, uint8_t, uint32_t, Fp6::encode(x, Rounding::nearest_even, 0))
MAP1(f32_to_bf6_map, uint8_t, uint32_t, Bf6::encode(x, Rounding::nearest_even, 0))
MAP1(f32_to_fp4_map, uint8_t, uint32_t, Fp4::encode(x, Rounding::nearest_even, 0))

MAP1(exp_f32_map, uint32_t, uint32_t, exp_f32(x))
MAP1(log_f32_map, uint32_t, uint32_t, log_f32(x))
MAP1(rcp_f32_map, uint32_t, uint32_t, rcp_f32(x))
MAP1(rsq_f32_map, uint32_t, uint32_t, rsq_f32(x))
MAP1(sqrt_f32_map, uint32_t, uint32_t, sqrt_f32(x))
MAP1(sin_f32_map, uint32_t, uint32_t, sin_f32(x))
MAP1(cos_f32_map, uint32_t, uint32_t, cos_f32(x))
MAP1(exp_f16_map, uint16_t, uint16_t, exp_f16(x))
MAP1(log_f16_map, uint16_t, uint16_t, log_f16(x))
MAP1(rcp_f16_map, uint16_t, uint16_t, rcp_f16(x))
MAP1(rsq_f16_map, uint16_t, uint16_t, rsq_f16(x))
MAP1(sqrt_f16_map, uint16_t, uint16_t, sqrt_f16(x))
MAP1(sin_f16_map, uint16_t, uint16_t, sin_f16(x))
MAP1(cos_f16_map, uint16_t, uint16_t, cos_f16(x))
MAP1(rcp_f64_map, uint64_t, uint64_t, rcp_f64(x))
MAP1(rsq_f64_map, uint64_t, uint64_t, rsq_f64(x))
MAP1(sqrt_f64_map, uint64_t, uint64_t, sqrt_f64(x))
MAP2(trig_preop_f64_map, uint64_t, uint64_t, uint32_t, trig_preop_f64(x, y))

MAP3(fma_f16_map, uint16_t, uint16_t, fma_f16(x, y, z))
MAP2(add_f16_map, uint16_t, uint16_t, uint16_t, add_f16(x, y))
MAP2(mul_f16_map, uint16_t, uint16_t, uint16_t, mul_f16(x, y))

// AMD's division sequence as LLVM emits it for f32 and f64 with denormals on.
extern "C" void divide_f32_map(const uint32_t* a, const uint32_t* b, uint32_t* out, long n) {
  for (long i = 0; i < n; ++i) {
    bool unused, vcc;
    const uint32_t num = a[i], den = b[i];
    const float d = float_of(div_scale_f32(den, den, num, &unused)), m = float_of(div_scale_f32(num, den, num, &vcc));
    const float r0 = float_of(rcp_f32(bits_of(d)));
    const float e0 = __builtin_fmaf(-d, r0, 1.0f), r = __builtin_fmaf(e0, r0, r0), q0 = m * r;
    const float e1 = __builtin_fmaf(-d, q0, m), q1 = __builtin_fmaf(e1, r, q0), e2 = __builtin_fmaf(-d, q1, m);
    out[i] = div_fixup_f32(div_fmas_f32(bits_of(e2), bits_of(r), bits_of(q1), vcc), den, num);
  }
}
extern "C" void divide_f64_map(const uint64_t* a, const uint64_t* b, uint64_t* out, long n) {
  for (long i = 0; i < n; ++i) {
    bool unused, vcc;
    const uint64_t num = a[i], den = b[i];
    const double d = double_of(div_scale_f64(den, den, num, &unused)), m = double_of(div_scale_f64(num, den, num, &vcc));
    const double r0 = double_of(rcp_f64(bits_of(d)));
    const double e0 = __builtin_fma(-d, r0, 1.0), r1 = __builtin_fma(r0, e0, r0);
    const double e1 = __builtin_fma(-d, r1, 1.0), r = __builtin_fma(r1, e1, r1), q = m * r;
    const double e2 = __builtin_fma(-d, q, m);
    out[i] = div_fixup_f64(div_fmas_f64(bits_of(e2), bits_of(r), bits_of(q), vcc), den, num);
  }
}

extern "C" const MfmaInfo* shim_all_mfma(int* count) { return all_mfma(count); }
extern "C" void shim_mfma(const MfmaInfo* info, uint32_t* d, const uint32_t* a, const uint32_t* b, const uint32_t* c,
                          const uint8_t* controls, const uint32_t* scale_a, const uint32_t* scale_b, const uint32_t* index) {
  MfmaCtl ctl;
  ctl.cbsz = controls[0], ctl.abid = controls[1], ctl.blgp = controls[2];
  ctl.fp8_ocp = controls[3], ctl.clamp = controls[4];
  ctl.scale_a_byte = controls[5], ctl.scale_b_byte = controls[6], ctl.silicon = controls[7];
  ctl.scale_a = scale_a, ctl.scale_b = scale_b, ctl.index = index;
  info->fn(d, a, b, c, ctl);
}

// Vectors of 512 bits, where the machine has them, or not. Returns whether they are used.
extern "C" bool shim_wide(bool use) {
#if defined(VGPU_WIDE_VECTORS)
  static const bool has = wide();
  return wide() = use && has;
#else
  return use && false;
#endif
}
