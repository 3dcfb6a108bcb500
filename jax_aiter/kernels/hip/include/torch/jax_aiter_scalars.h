// torch's scalar types: the numbers of its enumeration, and the 16 and 8 bit floats of which kernels are instances.
#pragma once

#include <cstdint>
#include <hip/hip_bf16.h>
#include <hip/hip_runtime.h>

namespace c10 {

enum class ScalarType : int8_t {
    Byte = 0, Char = 1, Short = 2, Int = 3, Long = 4, Half = 5, Float = 6, Double = 7, Bool = 11, BFloat16 = 15,
    Float8_e5m2 = 23, Float8_e4m3fn = 24, Float8_e5m2fnuz = 25, Float8_e4m3fnuz = 26,
    UInt16 = 27, UInt32 = 28, UInt64 = 29, Float8_e8m0fnu = 44, Float4_e2m1fn_x2 = 45, Undefined = 46,
};

constexpr int64_t elementSize(ScalarType type)
{
    switch(type) {
    case ScalarType::Short: case ScalarType::Half: case ScalarType::BFloat16: case ScalarType::UInt16: return 2;
    case ScalarType::Int: case ScalarType::Float: case ScalarType::UInt32: return 4;
    case ScalarType::Long: case ScalarType::Double: case ScalarType::UInt64: return 8;
    default: return 1;
    }
}

#if defined(__HIP_DEVICE_COMPILE__)
using bfloat16_bits = __bf16; // one instruction where the GPU has it
#else
using bfloat16_bits = __hip_bfloat16; // by integers: a host's library need not have the other's conversion
#endif

// A float of few bits: kept as such, computed in float32.
#define JAX_AITER_FLOAT16(NAME, NATIVE)                                                                                   \
    struct alignas(2) NAME {                                                                                              \
        unsigned short x;                                                                                                 \
        NAME() = default;                                                                                                 \
        __host__ __device__ NAME(float value) : x(__builtin_bit_cast(unsigned short, static_cast<NATIVE>(value))) {}      \
        __host__ __device__ operator float() const { return static_cast<float>(__builtin_bit_cast(NATIVE, x)); }          \
        __host__ __device__ NAME& operator+=(const NAME& b) { return *this = NAME(float(*this) + float(b)); }             \
        __host__ __device__ NAME& operator-=(const NAME& b) { return *this = NAME(float(*this) - float(b)); }             \
        __host__ __device__ NAME& operator*=(const NAME& b) { return *this = NAME(float(*this) * float(b)); }             \
    };                                                                                                                    \
    JAX_AITER_ARITHMETIC(NAME, +)                                                                                         \
    JAX_AITER_ARITHMETIC(NAME, -)                                                                                         \
    JAX_AITER_ARITHMETIC(NAME, *)                                                                                         \
    JAX_AITER_ARITHMETIC(NAME, /)                                                                                         \
    __host__ __device__ inline NAME operator-(const NAME& a) { return NAME(-float(a)); }
#define JAX_AITER_ARITHMETIC(NAME, op)                                                                                    \
    __host__ __device__ inline NAME operator op(const NAME& a, const NAME& b) { return NAME(float(a) op float(b)); }      \
    __host__ __device__ inline float operator op(const NAME& a, float b) { return float(a) op b; }                        \
    __host__ __device__ inline float operator op(float a, const NAME& b) { return a op float(b); }                        \
    __host__ __device__ inline NAME operator op(const NAME& a, int b) { return NAME(float(a) op float(b)); }              \
    __host__ __device__ inline NAME operator op(int a, const NAME& b) { return NAME(float(a) op float(b)); }

JAX_AITER_FLOAT16(Half, _Float16)
JAX_AITER_FLOAT16(BFloat16, bfloat16_bits)

#define JAX_AITER_BITS8(NAME)                                                                                             \
    struct alignas(1) NAME {                                                                                              \
        struct from_bits_t {};                                                                                            \
        static constexpr __host__ __device__ from_bits_t from_bits() { return {}; }                                       \
        uint8_t x;                                                                                                        \
        NAME() = default;                                                                                                 \
        constexpr __host__ __device__ NAME(uint8_t bits, from_bits_t) : x(bits) {}                                        \
    };
JAX_AITER_BITS8(Float8_e4m3fn)
JAX_AITER_BITS8(Float8_e4m3fnuz)
JAX_AITER_BITS8(Float8_e5m2)
JAX_AITER_BITS8(Float8_e5m2fnuz)

template <ScalarType> struct CppType;
template <class> struct ScalarOf;
#define JAX_AITER_MEANS(name, type)                                             \
    template <> struct CppType<ScalarType::name> { using t = type; };           \
    template <> struct ScalarOf<type> { static constexpr auto value = ScalarType::name; };
JAX_AITER_MEANS(Byte, uint8_t)
JAX_AITER_MEANS(Char, int8_t)
JAX_AITER_MEANS(Short, int16_t)
JAX_AITER_MEANS(Int, int)
JAX_AITER_MEANS(Long, int64_t)
JAX_AITER_MEANS(Half, Half)
JAX_AITER_MEANS(Float, float)
JAX_AITER_MEANS(Double, double)
JAX_AITER_MEANS(Bool, bool)
JAX_AITER_MEANS(BFloat16, BFloat16)
JAX_AITER_MEANS(Float8_e4m3fn, Float8_e4m3fn)
JAX_AITER_MEANS(Float8_e4m3fnuz, Float8_e4m3fnuz)
#undef JAX_AITER_MEANS

} // namespace c10

namespace at {
using c10::BFloat16;
using c10::Half;
using c10::ScalarType;
#define JAX_AITER_NAMED(name, type) constexpr auto name = c10::ScalarType::type;
#define JAX_AITER_NAMES                                                                                                  \
    JAX_AITER_NAMED(kByte, Byte) JAX_AITER_NAMED(kUInt8, Byte) JAX_AITER_NAMED(kChar, Char) JAX_AITER_NAMED(kInt8, Char)  \
    JAX_AITER_NAMED(kShort, Short) JAX_AITER_NAMED(kInt, Int) JAX_AITER_NAMED(kInt32, Int) JAX_AITER_NAMED(kLong, Long)   \
    JAX_AITER_NAMED(kInt64, Long) JAX_AITER_NAMED(kHalf, Half) JAX_AITER_NAMED(kFloat16, Half) JAX_AITER_NAMED(kFloat, Float) \
    JAX_AITER_NAMED(kFloat32, Float) JAX_AITER_NAMED(kDouble, Double) JAX_AITER_NAMED(kBool, Bool)                        \
    JAX_AITER_NAMED(kBFloat16, BFloat16) JAX_AITER_NAMED(kFloat8_e4m3fn, Float8_e4m3fn)                                   \
    JAX_AITER_NAMED(kFloat8_e4m3fnuz, Float8_e4m3fnuz) JAX_AITER_NAMED(kFloat8_e8m0fnu, Float8_e8m0fnu)                   \
    JAX_AITER_NAMED(kFloat4_e2m1fn_x2, Float4_e2m1fn_x2) JAX_AITER_NAMED(kUInt32, UInt32)
JAX_AITER_NAMES
} // namespace at
