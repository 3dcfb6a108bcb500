// Transcendental opcodes of f32 and f16, eight lanes at a time.
#include "isa/registry.h"
#include "sem/transcendental_f16.h"

namespace vgpu::isa {
namespace {

using sem::U32x8;

U32x8 load(const uint32_t* p) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(p)); }
void store(uint32_t* p, U32x8 x) { _mm256_store_si256(reinterpret_cast<__m256i*>(p), x); }

using Function = U32x8 (*)(U32x8);

template <Function F>
void lanes_f32(Lanes& v) {
  for (int l = 0; l < 64; l += 8) store(v.out + l, F(load(v.a + l)));
}

// f16 denormals as far as MODE[7:6] keeps them; MXCSR cannot flush them, as they are normal numbers in f32.
U32x8 flushed(U32x8 h) {
  const U32x8 tiny = _mm256_cmpeq_epi32(_mm256_and_si256(h, _mm256_set1_epi32(0x7c00)), _mm256_setzero_si256());
  return _mm256_andnot_si256(_mm256_and_si256(tiny, _mm256_set1_epi32(0x3ff)), h);
}
template <Function F>
void lanes_f16(Lanes& v) {
  const bool in = !(v.w->mode & 0x40), result = !(v.w->mode & 0x80);
  for (int l = 0; l < 64; l += 8) {
    const U32x8 low = _mm256_and_si256(load(v.a + l), _mm256_set1_epi32(0xffff));
    const U32x8 r = F(in ? flushed(low) : low);
    store(v.out + l, result ? flushed(r) : r);
  }
}

const LaneDef kDefs[] = {
    {"v_exp_f32", lanes_f32<sem::exp_f32>, "f:f"}, {"v_log_f32", lanes_f32<sem::log_f32>, "f:f"},
    {"v_rcp_f32", lanes_f32<sem::rcp_f32>, "f:f"}, {"v_rsq_f32", lanes_f32<sem::rsq_f32>, "f:f"},
    {"v_sqrt_f32", lanes_f32<sem::sqrt_f32>, "f:f"}, {"v_sin_f32", lanes_f32<sem::sin_f32>, "f:f"},
    {"v_cos_f32", lanes_f32<sem::cos_f32>, "f:f"},
    // The integer-flag form differs only in which exceptions it may raise.
    {"v_rcp_iflag_f32", lanes_f32<sem::rcp_f32>, "f:f"},
    {"v_exp_legacy_f32", lanes_f32<sem::exp_f32>, "f:f"}, {"v_log_legacy_f32", lanes_f32<sem::log_f32>, "f:f"},
    {"v_exp_f16", lanes_f16<sem::exp_f16>, "h:h"}, {"v_log_f16", lanes_f16<sem::log_f16>, "h:h"},
    {"v_rcp_f16", lanes_f16<sem::rcp_f16>, "h:h"}, {"v_rsq_f16", lanes_f16<sem::rsq_f16>, "h:h"},
    {"v_sqrt_f16", lanes_f16<sem::sqrt_f16>, "h:h"}, {"v_sin_f16", lanes_f16<sem::sin_f16>, "h:h"},
    {"v_cos_f16", lanes_f16<sem::cos_f16>, "h:h"},
};

}  // namespace

void register_valu_transcendental() { add(kDefs, sizeof kDefs / sizeof kDefs[0]); }

}  // namespace vgpu::isa
