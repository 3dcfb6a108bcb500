// The stand-in for torch::Tensor: plain data, laid out as the tensor struct that AITER's later releases take themselves.
#pragma once

#include <initializer_list>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "jax_aiter_scalars.h"

// Ends the recording of a call; the rule is why. The recorder defines it.
extern "C" [[noreturn]] void jax_aiter_refuse(const char* rule);
// The address of memory that lives as long as the call; the recorder defines it.
extern "C" void* jax_aiter_scratch(size_t nbytes);

namespace jax_aiter {
template <class... Parts>
[[noreturn]] void refuse(const Parts&... parts)
{
    std::ostringstream text;
    (text << ... << parts);
    jax_aiter_refuse(text.str().c_str());
}
} // namespace jax_aiter

namespace c10 {

inline std::ostream& operator<<(std::ostream& out, ScalarType type) { return out << "dtype " << static_cast<int>(type); }
inline const char* toString(ScalarType) { return "a dtype"; }

enum class DeviceType : int8_t { CPU = 0, CUDA = 1 };

struct Device {
    DeviceType kind;
    int id;
    DeviceType type() const { return kind; }
    int index() const { return id; }
    bool is_cuda() const { return kind == DeviceType::CUDA; }
    bool is_cpu() const { return kind == DeviceType::CPU; }
    bool operator==(const Device& other) const { return kind == other.kind && id == other.id; }
    bool operator!=(const Device& other) const { return !(*this == other); }
};
inline std::ostream& operator<<(std::ostream& out, const Device& device) { return out << "device " << device.id; }

template <class T>
struct ArrayRef {
    const T* first;
    size_t count;
    ArrayRef(const T* data, size_t n) : first(data), count(n) {}
    ArrayRef(const std::initializer_list<T>& list) : first(list.begin()), count(list.size()) {}
    ArrayRef(const std::vector<T>& list) : first(list.data()), count(list.size()) {}
    const T* begin() const { return first; }
    const T* end() const { return first + count; }
    size_t size() const { return count; }
    const T& operator[](size_t i) const { return first[i]; }
    bool operator==(const ArrayRef& other) const { return std::equal(begin(), end(), other.begin(), other.end()); }
    bool operator!=(const ArrayRef& other) const { return !(*this == other); }
};
using IntArrayRef = ArrayRef<int64_t>;

// The product of the first `axes` sizes.
inline int64_t size_to_dim_(int axes, IntArrayRef sizes)
{
    int64_t product = 1;
    for(int axis = 0; axis < axes; ++axis)
        product *= sizes[axis];
    return product;
}

} // namespace c10

namespace caffe2 {
struct TypeMeta {
    c10::ScalarType type;
    TypeMeta(c10::ScalarType value) : type(value) {}
    c10::ScalarType toScalarType() const { return type; }
    size_t itemsize() const { return c10::elementSize(type); }
    operator c10::ScalarType() const { return type; }
};
inline bool operator==(const TypeMeta& a, const TypeMeta& b) { return a.type == b.type; }
inline bool operator!=(const TypeMeta& a, const TypeMeta& b) { return a.type != b.type; }
inline bool operator==(const TypeMeta& a, c10::ScalarType b) { return a.type == b; }
inline bool operator!=(const TypeMeta& a, c10::ScalarType b) { return a.type != b; }
inline std::ostream& operator<<(std::ostream& out, const TypeMeta& meta) { return out << meta.type; }
} // namespace caffe2

namespace at {

using c10::Device;
using c10::IntArrayRef;

struct TensorOptions {
    c10::ScalarType type = c10::ScalarType::Float;
    TensorOptions() = default;
    TensorOptions(c10::ScalarType value) : type(value) {}
    TensorOptions dtype(c10::ScalarType value) const { return {value}; }
    template <class... Where> TensorOptions device(Where...) const { return *this; }
};

struct Tensor {
    void* address;
    size_t count;
    int axes; // -1: there is no tensor
    int64_t shape[8];
    int64_t steps[8];
    int type;
    int device_id; // not negative: of a GPU

    bool defined() const { return axes >= 0; }
    int64_t dim() const { return axes; }
    int64_t ndimension() const { return axes; }
    int64_t numel() const { return static_cast<int64_t>(count); }
    int64_t size(int64_t axis) const { return shape[at_axis(axis)]; }
    int64_t stride(int64_t axis) const { return steps[at_axis(axis)]; }
    IntArrayRef sizes() const { return {shape, static_cast<size_t>(axes)}; }
    IntArrayRef strides() const { return {steps, static_cast<size_t>(axes)}; }
    c10::ScalarType scalar_type() const { return static_cast<c10::ScalarType>(type); }
    caffe2::TypeMeta dtype() const { return scalar_type(); }
    int64_t element_size() const { return c10::elementSize(scalar_type()); }
    int64_t itemsize() const { return element_size(); }
    size_t nbytes() const { return count * element_size(); }
    Device device() const { return {device_id < 0 ? c10::DeviceType::CPU : c10::DeviceType::CUDA, device_id}; }
    int64_t get_device() const { return device_id; }
    bool is_cuda() const { return device_id >= 0; }
    bool is_cpu() const { return device_id < 0; }
    TensorOptions options() const { return {scalar_type()}; }
    void* data_ptr() const { return address; }
    const void* const_data_ptr() const { return address; }

    template <class T>
    T* data_ptr() const
    {
        if(c10::ScalarOf<T>::value != scalar_type())
            jax_aiter::refuse("expected a tensor of ", c10::ScalarOf<T>::value, ", got ", scalar_type());
        return static_cast<T*>(address);
    }

    bool is_contiguous() const
    {
        int64_t expected = 1;
        for(int axis = axes - 1; count != 0 && axis >= 0; --axis) {
            if(shape[axis] != 1 && steps[axis] != expected)
                return false;
            expected *= shape[axis];
        }
        return true;
    }

    // The part at one index of the first axis.
    Tensor operator[](int64_t index) const
    {
        Tensor part  = *this;
        part.address = static_cast<char*>(address) + index * stride(0) * element_size();
        part.count   = count / static_cast<size_t>(size(0));
        part.axes    = axes - 1;
        std::copy(shape + 1, shape + axes, part.shape);
        std::copy(steps + 1, steps + axes, part.steps);
        return part;
    }
    // Two axes exchanged, of the same memory.
    Tensor transpose(int64_t first, int64_t second) const
    {
        Tensor turned = *this;
        std::swap(turned.shape[at_axis(first)], turned.shape[at_axis(second)]);
        std::swap(turned.steps[at_axis(first)], turned.steps[at_axis(second)]);
        return turned;
    }
    template <class... A> [[noreturn]] Tensor to(const A&...) const { jax_aiter_refuse("AITER's host code copies a tensor"); }
    template <class T> [[noreturn]] T item() const { jax_aiter_refuse("AITER's host code reads an element of a tensor"); }

private:
    int at_axis(int64_t axis) const
    {
        if(axis < -axes || axis >= axes)
            jax_aiter::refuse("axis ", axis, " of a tensor of ", axes, " axes");
        return static_cast<int>(axis < 0 ? axis + axes : axis);
    }
};

// Memory that the host function asks for becomes a scratch buffer of the plan.
inline Tensor empty(std::initializer_list<int64_t> sizes, TensorOptions options = {})
{
    Tensor made{nullptr, 1, static_cast<int>(sizes.size()), {}, {}, static_cast<int>(options.type), 0};
    if(sizes.size() > 8)
        jax_aiter::refuse("a tensor of ", sizes.size(), " axes");
    std::copy(sizes.begin(), sizes.end(), made.shape);
    for(int axis = made.axes - 1; axis >= 0; --axis) {
        made.steps[axis] = static_cast<int64_t>(made.count);
        made.count *= static_cast<size_t>(made.shape[axis]);
    }
    made.address = jax_aiter_scratch(made.nbytes());
    return made;
}
inline Tensor empty_like(const Tensor& other)
{
    Tensor made  = other;
    made.address = jax_aiter_scratch(other.nbytes());
    if(!other.is_contiguous())
        jax_aiter::refuse("memory like that of a tensor that is not contiguous");
    return made;
}
[[noreturn]] inline Tensor from_blob(const void*, std::initializer_list<int64_t>, TensorOptions = {})
{
    jax_aiter_refuse("AITER's host code hands over memory of its own");
}
template <class... A> [[noreturn]] Tensor& sum_out(const A&...) { jax_aiter_refuse("AITER's host code calls torch's sum"); }

inline std::optional<Device> device_of(const Tensor& tensor) { return tensor.device(); }

} // namespace at

using at::device_of;

namespace torch {
using namespace at;
using Dtype = c10::ScalarType;
constexpr auto kCUDA = c10::DeviceType::CUDA;
constexpr auto kCPU = c10::DeviceType::CPU;
} // namespace torch
