// Half precision as HIP spells it, on clang's own _Float16; what AITER's kernels use of it.
#pragma once

#include <hip/hip_runtime.h>

struct __half_raw {
    union {
        _Float16 data;
        unsigned short x;
    };
};

typedef _Float16 _Float16_2 __attribute__((ext_vector_type(2)));

struct __half2_raw {
    union {
        _Float16_2 data;
        struct {
            __half_raw x, y;
        };
    };
};

struct __half {
    union {
        _Float16 data;
        unsigned short __x;
    };

    __half() = default;
    __host__ __device__ __half(const __half_raw& raw) : data(raw.data) {}
    __host__ __device__ __half(_Float16 value) : data(value) {}
    __host__ __device__ __half(float value) : data(static_cast<_Float16>(value)) {}
    __host__ __device__ __half(double value) : data(static_cast<_Float16>(value)) {}
    __host__ __device__ __half(int value) : data(static_cast<_Float16>(value)) {}
    __host__ __device__ operator float() const { return static_cast<float>(data); }
    __host__ __device__ operator _Float16() const { return data; }
    __host__ __device__ operator __half_raw() const { return __half_raw{{data}}; }
    __host__ __device__ __half& operator+=(const __half& other) { data += other.data; return *this; }
    __host__ __device__ __half& operator*=(const __half& other) { data *= other.data; return *this; }
    __host__ __device__ friend __half operator+(const __half& a, const __half& b) { return static_cast<_Float16>(a.data + b.data); }
    __host__ __device__ friend __half operator-(const __half& a, const __half& b) { return static_cast<_Float16>(a.data - b.data); }
    __host__ __device__ friend __half operator*(const __half& a, const __half& b) { return static_cast<_Float16>(a.data * b.data); }
    __host__ __device__ friend __half operator/(const __half& a, const __half& b) { return static_cast<_Float16>(a.data / b.data); }
};
using half = __half;

struct __half2 {
    union {
        struct {
            __half x, y;
        };
        _Float16_2 data;
    };

    __half2() = default;
    __host__ __device__ __half2(const __half2_raw& raw) : data(raw.data) {}
    __host__ __device__ __half2(_Float16_2 value) : data(value) {}
    __host__ __device__ __half2(const __half& a, const __half& b) : x(a), y(b) {}
    __host__ __device__ operator __half2_raw() const { return __half2_raw{{data}}; }
    __host__ __device__ __half2& operator+=(const __half2& other) { data += other.data; return *this; }
    __host__ __device__ __half2& operator*=(const __half2& other) { data *= other.data; return *this; }
};
using half2 = __half2;

__host__ __device__ inline float __half2float(__half a) { return static_cast<float>(a.data); }
__host__ __device__ inline __half __float2half(float a) { return a; }
__host__ __device__ inline __half __float2half_rn(float a) { return a; }
__host__ __device__ inline float2 __half22float2(__half2 a) { return float2{__half2float(a.x), __half2float(a.y)}; }
__host__ __device__ inline __half2 __float22half2_rn(float2 a) { return __half2{__half{a.x}, __half{a.y}}; }
__host__ __device__ inline __half2 __floats2half2_rn(float a, float b) { return __half2{__half{a}, __half{b}}; }
__host__ __device__ inline __half2 __half2half2(__half a) { return __half2{a, a}; }
__host__ __device__ inline __half2 __halves2half2(__half a, __half b) { return __half2{a, b}; }
__host__ __device__ inline __half __low2half(__half2 a) { return a.x; }
__host__ __device__ inline __half __high2half(__half2 a) { return a.y; }
__host__ __device__ inline unsigned short __half_as_ushort(__half a) { return a.__x; }
__host__ __device__ inline __half __ushort_as_half(unsigned short a) { __half_raw raw; raw.x = a; return raw; }
__host__ __device__ inline __half __hadd(__half a, __half b) { return a + b; }
__host__ __device__ inline __half __hmul(__half a, __half b) { return a * b; }
__host__ __device__ inline __half2 __hadd2(__half2 a, __half2 b) { return _Float16_2(a.data + b.data); }
__host__ __device__ inline __half2 __hmul2(__half2 a, __half2 b) { return _Float16_2(a.data * b.data); }
__device__ inline __half2 __hfma2(__half2 a, __half2 b, __half2 c) { return __builtin_elementwise_fma(a.data, b.data, c.data); }
__device__ inline __half __hneg(__half a) { return _Float16(-a.data); }
__device__ inline __half hceil(__half a) { return __ocml_ceil_f16(a.data); }
__device__ inline __half hfloor(__half a) { return __ocml_floor_f16(a.data); }
__device__ inline __half hexp(__half a) { return __ocml_exp_f16(a.data); }
__device__ inline __half hlog(__half a) { return __ocml_log_f16(a.data); }
__device__ inline __half hsin(__half a) { return __ocml_sin_f16(a.data); }
