// bfloat16 as HIP spells it: 16 bits, rounded to nearest even; what AITER's kernels use of it.
#pragma once

#include <hip/hip_runtime.h>

struct __hip_bfloat16_raw {
    unsigned short x;
};

struct __hip_bfloat16 {
    unsigned short __x;

    __hip_bfloat16() = default;
    __host__ __device__ __hip_bfloat16(const __hip_bfloat16_raw& raw) : __x(raw.x) {}
    __host__ __device__ __hip_bfloat16(float value)
    {
        const unsigned bits = __builtin_bit_cast(unsigned, value);
        const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;  // its payload may lie in the low half alone
        __x = static_cast<unsigned short>((nan ? bits | 0x400000u : bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
    }
    __host__ __device__ __hip_bfloat16(double value) : __hip_bfloat16(static_cast<float>(value)) {}
    __host__ __device__ __hip_bfloat16(int value) : __hip_bfloat16(static_cast<float>(value)) {}
    __host__ __device__ operator float() const { return __builtin_bit_cast(float, static_cast<unsigned>(__x) << 16); }
    __host__ __device__ operator __hip_bfloat16_raw() const { return __hip_bfloat16_raw{__x}; }
    __host__ __device__ __hip_bfloat16& operator+=(const __hip_bfloat16& b) { return *this = __hip_bfloat16(float(*this) + float(b)); }
    __host__ __device__ __hip_bfloat16& operator*=(const __hip_bfloat16& b) { return *this = __hip_bfloat16(float(*this) * float(b)); }
};

#define JAX_AITER_BF16(op) \
    __host__ __device__ inline __hip_bfloat16 operator op(const __hip_bfloat16& a, const __hip_bfloat16& b) { return float(a) op float(b); }
JAX_AITER_BF16(+)
JAX_AITER_BF16(-)
JAX_AITER_BF16(*)
JAX_AITER_BF16(/)
#undef JAX_AITER_BF16

struct __hip_bfloat162 {
    __hip_bfloat16 x, y;
};

__host__ __device__ inline float __bfloat162float(__hip_bfloat16 a) { return a; }
__host__ __device__ inline __hip_bfloat16 __float2bfloat16(float a) { return a; }
__host__ __device__ inline __hip_bfloat16 __float2bfloat16_rn(float a) { return a; }
__host__ __device__ inline float2 __bfloat1622float2(__hip_bfloat162 a) { return float2{float(a.x), float(a.y)}; }
__host__ __device__ inline __hip_bfloat162 __float22bfloat162_rn(float2 a) { return __hip_bfloat162{a.x, a.y}; }
__host__ __device__ inline __hip_bfloat162 __floats2bfloat162_rn(float a, float b) { return __hip_bfloat162{a, b}; }
__host__ __device__ inline __hip_bfloat162 __float2bfloat162_rn(float a) { return __hip_bfloat162{a, a}; }
__host__ __device__ inline __hip_bfloat162 __bfloat162bfloat162(__hip_bfloat16 a) { return __hip_bfloat162{a, a}; }
__host__ __device__ inline __hip_bfloat162 __halves2bfloat162(__hip_bfloat16 a, __hip_bfloat16 b) { return __hip_bfloat162{a, b}; }
__host__ __device__ inline unsigned short __bfloat16_as_ushort(__hip_bfloat16 a) { return a.__x; }
__host__ __device__ inline __hip_bfloat16 __ushort_as_bfloat16(unsigned short a) { return __hip_bfloat16_raw{a}; }
__host__ __device__ inline __hip_bfloat16 __hadd(__hip_bfloat16 a, __hip_bfloat16 b) { return a + b; }
__host__ __device__ inline __hip_bfloat16 __hmul(__hip_bfloat16 a, __hip_bfloat16 b) { return a * b; }
__host__ __device__ inline __hip_bfloat162 __hadd2(__hip_bfloat162 a, __hip_bfloat162 b) { return {a.x + b.x, a.y + b.y}; }
__host__ __device__ inline __hip_bfloat162 __hmul2(__hip_bfloat162 a, __hip_bfloat162 b) { return {a.x * b.x, a.y * b.y}; }
__device__ inline __hip_bfloat16 __hfma(__hip_bfloat16 a, __hip_bfloat16 b, __hip_bfloat16 c) { return __ocml_fma_f32(a, b, c); }
__device__ inline __hip_bfloat162 __hfma2(__hip_bfloat162 a, __hip_bfloat162 b, __hip_bfloat162 c)
{
    return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};
}
