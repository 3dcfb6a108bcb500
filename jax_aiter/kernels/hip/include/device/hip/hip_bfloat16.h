// HIP's older bfloat16, a name of its own: AITER's newer host code names it as a type of tensors. Each operation rounds.
#pragma once

#include <hip/hip_bf16.h>

struct hip_bfloat16 {
    unsigned short data;

    hip_bfloat16() = default;
    __host__ __device__ explicit hip_bfloat16(float value) : data(__hip_bfloat16(value).__x) {}
    __host__ __device__ hip_bfloat16& operator=(float value) { return *this = hip_bfloat16(value); }
    __host__ __device__ operator float() const { return __hip_bfloat16(__hip_bfloat16_raw{data}); }
};

#define JAX_AITER_BFLOAT16(op)                                                                                                      \
    __host__ __device__ inline hip_bfloat16 operator op(hip_bfloat16 a, hip_bfloat16 b) { return hip_bfloat16(float(a) op float(b)); } \
    __host__ __device__ inline hip_bfloat16& operator op##=(hip_bfloat16& a, hip_bfloat16 b) { return a = a op b; }
JAX_AITER_BFLOAT16(+)
JAX_AITER_BFLOAT16(-)
JAX_AITER_BFLOAT16(*)
JAX_AITER_BFLOAT16(/)
#undef JAX_AITER_BFLOAT16

__host__ __device__ inline hip_bfloat16 operator-(hip_bfloat16 a) { return hip_bfloat16(-float(a)); }
