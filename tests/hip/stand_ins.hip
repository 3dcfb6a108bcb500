// Our stand-ins for HIP's 16 bit floats and torch's tensor, as functions that a test calls.
#include <torch/all.h>

#include <hip/hip_bf16.h>
#include <hip/hip_bfloat16.h>
#include <hip/hip_fp16.h>

#include <exception>

// Ends a call as the recorder does: by leaving it.
struct Refused : std::exception {};
static std::string rule;
extern "C" void jax_aiter_refuse(const char* text)
{
    rule = text;
    throw Refused();
}
static size_t asked;
extern "C" void* jax_aiter_scratch(size_t nbytes)
{
    asked = nbytes;
    return reinterpret_cast<void*>(0x1000);
}

template <class T>
static unsigned short bits(float value)
{
    return __builtin_bit_cast(unsigned short, T(value));
}
template <class T>
static float value(unsigned short bits)
{
    return static_cast<float>(__builtin_bit_cast(T, bits));
}

#define EACH(name, T)                                                                                                  \
    extern "C" void to_##name(const float* in, unsigned short* out, int n) { for(int i = 0; i < n; ++i) out[i] = bits<T>(in[i]); } \
    extern "C" void from_##name(const unsigned short* in, float* out, int n) { for(int i = 0; i < n; ++i) out[i] = value<T>(in[i]); }
EACH(hip_half, __half)
EACH(hip_bf16, __hip_bfloat16)
EACH(hip_bfloat16, hip_bfloat16)
EACH(torch_half, c10::Half)
EACH(torch_bf16, c10::BFloat16)

// x * c - y * s as a kernel writes it: of 16 bit types each operation rounds.
template <class T>
static void rotated(const float* in, float* out, int n)
{
    for(int i = 0; i + 3 < n; ++i) {
        T x(in[i]), c(in[i + 1]), y(in[i + 2]), s(in[i + 3]);
        T result = x * c - y * s;
        result += x;
        out[i] = static_cast<float>(result);
    }
}
extern "C" void rotate_hip_half(const float* in, float* out, int n) { rotated<__half>(in, out, n); }
extern "C" void rotate_hip_bf16(const float* in, float* out, int n) { rotated<__hip_bfloat16>(in, out, n); }
extern "C" void rotate_hip_bfloat16(const float* in, float* out, int n) { rotated<hip_bfloat16>(in, out, n); }
extern "C" void rotate_torch_half(const float* in, float* out, int n) { rotated<c10::Half>(in, out, n); }
extern "C" void rotate_torch_bf16(const float* in, float* out, int n) { rotated<c10::BFloat16>(in, out, n); }

// What a host function would see: 0, or 1 and the rule in `last_rule`.
template <class F>
static int refused(F body)
{
    try {
        body();
    } catch(const Refused&) {
        return 1;
    }
    return 0;
}
extern "C" const char* last_rule() { return rule.c_str(); }
extern "C" size_t last_scratch() { return asked; }

extern "C" int axis(const torch::Tensor& tensor, int64_t number, int64_t* size, int64_t* stride)
{
    return refused([&] { *size = tensor.size(number), *stride = tensor.stride(number); });
}
extern "C" int contiguous(const torch::Tensor& tensor) { return tensor.is_contiguous(); }
extern "C" int64_t part(const torch::Tensor& tensor, int64_t index, int64_t* numel)
{
    const auto found = tensor[index];
    *numel           = found.numel();
    return reinterpret_cast<int64_t>(found.data_ptr());
}
extern "C" int typed(const torch::Tensor& tensor, int64_t* address)
{
    return refused([&] { *address = reinterpret_cast<int64_t>(tensor.data_ptr<float>()); });
}
extern "C" int checked(const torch::Tensor& tensor)
{
    return refused([&] { TORCH_CHECK(tensor.dim() == 2, "expected two axes, got ", tensor.dim()); });
}
extern "C" int dispatched(const torch::Tensor& tensor, int* nbytes)
{
    return refused([&] {
        AT_DISPATCH_SWITCH(tensor.scalar_type(), "of this test",
                           AT_DISPATCH_CASE(at::ScalarType::Half, [&] { *nbytes = sizeof(scalar_t); })
                           AT_DISPATCH_CASE(at::ScalarType::Float, [&] { *nbytes = sizeof(scalar_t); }));
    });
}
extern "C" int64_t made(int64_t rows, int64_t columns)
{
    const auto tensor = torch::empty({rows, columns}, torch::TensorOptions().dtype(torch::kHalf).device(torch::kCUDA));
    return tensor.stride(0) * 1000 + tensor.numel();
}
