// Conversions between integer and floating-point formats, and packing conversions.
#include <immintrin.h>

#include "isa/code.h"
#include "isa/registry.h"
#include "sem/convert.h"
#include "sem/fp8.h"

namespace vgpu::isa {
namespace {

sem::Fp8 kind(const Lanes& v) { return v.w->code->arch == Arch::gfx950 ? sem::Fp8::ocp : sem::Fp8::fnuz; }
bool overflow_clamps(const Lanes& v) { return v.w->mode & kModeFp16Ovfl; }
sem::Round round16(const Lanes& v) { return static_cast<sem::Round>(v.w->mode >> 2 & 3); }
uint16_t h(uint32_t x) { return static_cast<uint16_t>(x); }

LANE_U1(f32_i32, as_u32(static_cast<float>(static_cast<int32_t>(x))))
LANE_U1(f32_u32, as_u32(static_cast<float>(x)))
LANE_U1(i32_f32, sem::f32_to_i32(as_f32(x)))
LANE_U1(u32_f32, sem::f32_to_u32(as_f32(x)))
LANE_U1(rpi_i32_f32, sem::rpi_i32_f32(as_f32(x)))
LANE_U1(flr_i32_f32, sem::flr_i32_f32(as_f32(x)))
LANE_U1(off_f32_i4, as_u32(sem::off_f32_i4(x)))
// The processor's conversions keep denormals whatever MXCSR says, as the default modes want.
void f16_f32(Lanes& v) {
  if (round16(v) != sem::Round::nearest_even || overflow_clamps(v)) {
    for (int l = 0; l < 64; ++l) v.out[l] = sem::f32_to_f16(as_f32(v.a[l]), round16(v), overflow_clamps(v));
    return;
  }
  for (int l = 0; l < 64; l += 8) {
    const __m256 x = _mm256_loadu_ps(reinterpret_cast<const float*>(v.a + l));
    const __m128i halves = _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(v.out + l), _mm256_cvtepu16_epi32(halves));
  }
}
void f32_f16(Lanes& v) {
  for (int l = 0; l < 64; l += 8) {
    const __m256i x = _mm256_and_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(v.a + l)),
                                       _mm256_set1_epi32(0xffff));
    const __m128i halves = _mm_packus_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    _mm256_storeu_ps(reinterpret_cast<float*>(v.out + l), _mm256_cvtph_ps(halves));
  }
}
LANE_U1(f32_ubyte0, as_u32(static_cast<float>(x & 255)))
LANE_U1(f32_ubyte1, as_u32(static_cast<float>(x >> 8 & 255)))
LANE_U1(f32_ubyte2, as_u32(static_cast<float>(x >> 16 & 255)))
LANE_U1(f32_ubyte3, as_u32(static_cast<float>(x >> 24)))
LANE_U1(f16_u16, sem::u16_to_f16(h(x), round16(v)))
LANE_U1(f16_i16, sem::i16_to_f16(static_cast<int16_t>(x), round16(v)))
LANE_U1(u16_f16, sem::f16_to_u16(h(x)))
LANE_U1(i16_f16, h(static_cast<uint32_t>(sem::f16_to_i16(h(x)))))
LANE_U1(norm_i16_f16, h(static_cast<uint32_t>(sem::pknorm_i16_f16(h(x)))))
LANE_U1(norm_u16_f16, sem::pknorm_u16_f16(h(x)))
VGPU_LANES(i32_f64, out[l] = static_cast<uint32_t>(sem::f64_to_i32(as_f64(pair(a, l)))))
VGPU_LANES(u32_f64, out[l] = sem::f64_to_u32(as_f64(pair(a, l))))
VGPU_LANES(f64_i32, set_pair(out, l, as_u64(static_cast<double>(static_cast<int32_t>(a[l])))))
VGPU_LANES(f64_u32, set_pair(out, l, as_u64(static_cast<double>(a[l]))))
VGPU_LANES(f64_f32, set_pair(out, l, as_u64(static_cast<double>(as_f32(a[l])))))
VGPU_LANES(f32_f64, out[l] = as_u32(static_cast<float>(as_f64(pair(a, l)))))

uint32_t pack(uint32_t low, uint32_t high) { return (low & 0xffff) | high << 16; }
LANE_U2(pkrtz_f16_f32, pack(sem::f32_to_f16_rtz(as_f32(x)), sem::f32_to_f16_rtz(as_f32(y))))
LANE_U2(pknorm_i16_f32, pack(static_cast<uint32_t>(sem::pknorm_i16_f32(as_f32(x))),
                             static_cast<uint32_t>(sem::pknorm_i16_f32(as_f32(y)))))
LANE_U2(pknorm_u16_f32, pack(sem::pknorm_u16_f32(as_f32(x)), sem::pknorm_u16_f32(as_f32(y))))
LANE_U2(pknorm_i16_f16, pack(static_cast<uint32_t>(sem::pknorm_i16_f16(h(x))),
                             static_cast<uint32_t>(sem::pknorm_i16_f16(h(y)))))
LANE_U2(pknorm_u16_f16, pack(sem::pknorm_u16_f16(h(x)), sem::pknorm_u16_f16(h(y))))
LANE_U2(pk_u16_u32, pack(sem::sat_u16_u32(x), sem::sat_u16_u32(y)))
LANE_U2(pk_i16_i32, pack(static_cast<uint32_t>(sem::sat_i16_i32(static_cast<int32_t>(x))),
                         static_cast<uint32_t>(sem::sat_i16_i32(static_cast<int32_t>(y)))))
// Byte number S1 of S2 is replaced.
LANE_U3(pk_u8_f32, (z & ~(255u << (8 * (y & 3)))) | sem::f32_to_u8(as_f32(x)) << (8 * (y & 3)))

// 8-bit floats. SDWA chooses the byte or half of the source; op_sel that of the destination.
void refuse_op_sel(const Lanes& v) {
  if (v.op->inst.op_sel) fail("op_sel on a conversion from 8-bit floats is not supported");
}
template <bool Bf8>
float from8(uint32_t code, sem::Fp8 format) {
  return Bf8 ? sem::bf8_to_f32(static_cast<uint8_t>(code), format) : sem::fp8_to_f32(static_cast<uint8_t>(code), format);
}
template <bool Bf8>
void f32_from8(Lanes& v) {
  const sem::Fp8 format = kind(v);
  refuse_op_sel(v);
  for (int l = 0; l < 64; ++l) v.out[l] = as_u32(from8<Bf8>(v.a[l] & 255, format));
}
template <bool Bf8>
void pk_f32_from8(Lanes& v) {
  const sem::Fp8 format = kind(v);
  refuse_op_sel(v);
  for (int l = 0; l < 64; ++l) {
    const uint32_t x = v.a[l];
    v.out[l] = as_u32(from8<Bf8>(x & 255, format));
    v.out[64 + l] = as_u32(from8<Bf8>(x >> 8 & 255, format));
  }
}
template <bool Bf8>
uint32_t to8(uint32_t x, sem::Fp8 format, bool saturate) {
  return Bf8 ? sem::f32_to_bf8(as_f32(x), format, saturate) : sem::f32_to_fp8(as_f32(x), format, saturate);
}
// The other half of the destination is kept.
template <bool Bf8>
void pk_to8(Lanes& v) {
  const sem::Fp8 format = kind(v);
  const bool saturate = overflow_clamps(v);
  const unsigned shift = v.op->inst.op_sel & 8 ? 16 : 0;
  for (int l = 0; l < 64; ++l) {
    const uint32_t two = to8<Bf8>(v.a[l], format, saturate) | to8<Bf8>(v.b[l], format, saturate) << 8;
    v.out[l] = (v.c[l] & ~(0xffffu << shift)) | two << shift;
  }
}
// op_sel[3:2] is the destination byte, the others are kept; S1 is the random word.
template <bool Bf8>
void sr_to8(Lanes& v) {
  const sem::Fp8 format = kind(v);
  const bool saturate = overflow_clamps(v);
  const unsigned shift = 8 * (v.op->inst.op_sel >> 2 & 3);
  for (int l = 0; l < 64; ++l) {
    const uint32_t code = Bf8 ? sem::f32_to_bf8_sr(as_f32(v.a[l]), v.b[l], format, saturate)
                              : sem::f32_to_fp8_sr(as_f32(v.a[l]), v.b[l], format, saturate);
    v.out[l] = (v.c[l] & ~(255u << shift)) | code << shift;
  }
}

const LaneDef kDefs[] = {
    {"v_cvt_f32_i32", f32_i32, "f:u"}, {"v_cvt_f32_u32", f32_u32, "f:u"}, {"v_cvt_i32_f32", i32_f32, "u:f"},
    {"v_cvt_u32_f32", u32_f32, "u:f"}, {"v_cvt_rpi_i32_f32", rpi_i32_f32, "u:f"},
    {"v_cvt_flr_i32_f32", flr_i32_f32, "u:f"}, {"v_cvt_off_f32_i4", off_f32_i4, "f:u"},
    {"v_cvt_f16_f32", f16_f32, "h:f"}, {"v_cvt_f32_f16", f32_f16, "f:h"}, {"v_cvt_f32_ubyte0", f32_ubyte0, "f:u"},
    {"v_cvt_f32_ubyte1", f32_ubyte1, "f:u"}, {"v_cvt_f32_ubyte2", f32_ubyte2, "f:u"},
    {"v_cvt_f32_ubyte3", f32_ubyte3, "f:u"}, {"v_cvt_f16_u16", f16_u16, "h:w"}, {"v_cvt_f16_i16", f16_i16, "h:w"},
    {"v_cvt_u16_f16", u16_f16, "w:h"}, {"v_cvt_i16_f16", i16_f16, "w:h"},
    {"v_cvt_norm_i16_f16", norm_i16_f16, "w:h"}, {"v_cvt_norm_u16_f16", norm_u16_f16, "w:h"},
    {"v_cvt_i32_f64", i32_f64, "u:d"}, {"v_cvt_u32_f64", u32_f64, "u:d"}, {"v_cvt_f64_i32", f64_i32, "d:u"},
    {"v_cvt_f64_u32", f64_u32, "d:u"}, {"v_cvt_f64_f32", f64_f32, "d:f"}, {"v_cvt_f32_f64", f32_f64, "f:d"},
    {"v_cvt_pkrtz_f16_f32", pkrtz_f16_f32, "u:ff"}, {"v_cvt_pknorm_i16_f32", pknorm_i16_f32, "u:ff"},
    {"v_cvt_pknorm_u16_f32", pknorm_u16_f32, "u:ff"}, {"v_cvt_pknorm_i16_f16", pknorm_i16_f16, "u:hh"},
    {"v_cvt_pknorm_u16_f16", pknorm_u16_f16, "u:hh"}, {"v_cvt_pk_u16_u32", pk_u16_u32, "u:uu"},
    {"v_cvt_pk_i16_i32", pk_i16_i32, "u:uu"}, {"v_cvt_pk_u8_f32", pk_u8_f32, "u:fuu"},
    {"v_cvt_f32_fp8", f32_from8<false>, "f:u"}, {"v_cvt_f32_bf8", f32_from8<true>, "f:u"},
    {"v_cvt_pk_f32_fp8", pk_f32_from8<false>, "Q:u"}, {"v_cvt_pk_f32_bf8", pk_f32_from8<true>, "Q:u"},
    {"v_cvt_pk_fp8_f32", pk_to8<false>, "u:ffu", kAccumulate}, {"v_cvt_pk_bf8_f32", pk_to8<true>, "u:ffu", kAccumulate},
    {"v_cvt_sr_fp8_f32", sr_to8<false>, "u:fuu", kAccumulate}, {"v_cvt_sr_bf8_f32", sr_to8<true>, "u:fuu", kAccumulate},
};

}  // namespace

void register_valu_convert() { add(kDefs, sizeof kDefs / sizeof kDefs[0]); }

}  // namespace vgpu::isa
