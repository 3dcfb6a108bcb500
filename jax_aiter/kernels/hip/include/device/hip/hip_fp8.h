// HIP's 8 bit floats as AITER's kernels know them: names of types that hold bits; they convert by instructions of their own.
#pragma once

#include <hip/hip_runtime.h>

typedef unsigned char __hip_fp8_storage_t;
typedef unsigned short __hip_fp8x2_storage_t;
typedef unsigned int __hip_fp8x4_storage_t;

struct __hip_fp8_e4m3 {
    __hip_fp8_storage_t __x;
};
struct __hip_fp8_e5m2 {
    __hip_fp8_storage_t __x;
};
struct __hip_fp8_e4m3_fnuz {
    __hip_fp8_storage_t __x;
};
struct __hip_fp8_e5m2_fnuz {
    __hip_fp8_storage_t __x;
};
