// HIP's older bfloat16, a name of its own: AITER's newer host code names it as a type of tensors.
#pragma once

#include <hip/hip_bf16.h>

struct hip_bfloat16 {
    unsigned short data;

    hip_bfloat16() = default;
    __host__ __device__ explicit hip_bfloat16(float value) : data(__hip_bfloat16(value).__x) {}
    __host__ __device__ operator float() const { return __hip_bfloat16(__hip_bfloat16_raw{data}); }
};
