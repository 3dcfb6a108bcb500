// The part of torch that AITER's launch code uses, over tensors that are only an address, sizes and strides. Host only.
#pragma once
#include <hip/hip_runtime.h>

#include <optional>
#include <sstream>
#include <stdexcept>
#include <tuple>

namespace c10 {
enum class ScalarType : int { Byte, Char, Short, Int, Long, Half, Float, Double, BFloat16 = 15, Float8_e4m3fn = 24, Float8_e4m3fnuz = 26, UInt32 = 28 };
inline size_t size_of(ScalarType t) {
    switch (t) {
        case ScalarType::Int:
        case ScalarType::UInt32:
        case ScalarType::Float: return 4;
        case ScalarType::Long:
        case ScalarType::Double: return 8;
        case ScalarType::Short:
        case ScalarType::Half:
        case ScalarType::BFloat16: return 2;
        default: return 1;
    }
}
inline std::ostream& operator<<(std::ostream& out, ScalarType t) { return out << "dtype " << int(t); }
struct Half {
    uint16_t bits;
};
struct BFloat16 {
    uint16_t bits;
};
}  // namespace c10

namespace at {
using c10::ScalarType;
// Laid out as `call.Tensor` has it.
struct Tensor {
    char* address;
    int64_t rank, sizes[8], strides[8];
    ScalarType type;
    int64_t place(int64_t d) const { return d < 0 ? d + rank : d; }
    int64_t size(int64_t d) const { return sizes[place(d)]; }
    int64_t stride(int64_t d) const { return strides[place(d)]; }
    int64_t dim() const { return rank; }
    int64_t numel() const {
        int64_t n = 1;
        for (int64_t d = 0; d < rank; d++) n *= sizes[d];
        return n;
    }
    ScalarType dtype() const { return type; }
    ScalarType scalar_type() const { return type; }
    size_t element_size() const { return c10::size_of(type); }
    size_t itemsize() const { return c10::size_of(type); }
    void* data_ptr() const { return address; }
    bool is_contiguous() const { return true; }
    void zero_() const { hipMemsetAsync(address, 0, numel() * element_size(), nullptr); }
};
}  // namespace at

namespace caffe2 {
struct TypeMeta {
    at::ScalarType type;
    at::ScalarType toScalarType() const { return type; }
};
}  // namespace caffe2

namespace torch {
using at::ScalarType;
using at::Tensor;
constexpr auto kUInt8 = ScalarType::Byte, kInt8 = ScalarType::Char, kInt32 = ScalarType::Int, kHalf = ScalarType::Half;
constexpr auto kFloat = ScalarType::Float, kBFloat16 = ScalarType::BFloat16;
constexpr auto kFloat8_e4m3fn = ScalarType::Float8_e4m3fn, kFloat8_e4m3fnuz = ScalarType::Float8_e4m3fnuz;
inline Tensor empty_like(Tensor t) {  // asked for even where a result is given
    t.address = nullptr;
    return t;
}
}  // namespace torch

namespace at::hip {
inline int device_of(const Tensor&) { return 0; }
inline hipStream_t getCurrentHIPStream() { return nullptr; }
struct OptionalHIPGuardMasqueradingAsCUDA {
    explicit OptionalHIPGuardMasqueradingAsCUDA(int) {}
};
}  // namespace at::hip
using at::hip::device_of;

template <class... Part>
[[noreturn]] inline void refuse(const Part&... part) {
    std::ostringstream text;
    (text << ... << part);
    throw std::runtime_error(text.str());
}
#define TORCH_CHECK(condition, ...) \
    if (!(condition)) refuse(__VA_ARGS__)
#undef assert
#define assert(condition) TORCH_CHECK(condition, "assert(" #condition ")")
