// Vectors of 512 bits: functions marked VGPU_WIDE are compiled for them whatever the rest is, and are called where wide() says so.
#pragma once
#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#define VGPU_WIDE_VECTORS 1
// F, BW, DQ and VL since Skylake's servers, VBMI2 since Ice Lake and Zen 4.
#define VGPU_WIDE [[gnu::target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi2")]]

namespace vgpu::sem {

// Whether the machine has them. Tests set it to false, to run the other form of the same functions.
bool& wide();

}  // namespace vgpu::sem
#endif
