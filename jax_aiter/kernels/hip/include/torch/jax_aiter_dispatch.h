// torch's checks, and its choice of a kernel's instance by dtype.
#pragma once

#include "jax_aiter_tensor.h"

#define JAX_AITER_CHECK(condition, ...)                                               \
    if(!(condition)) {                                                                \
        ::jax_aiter::refuse(#condition " is not so" __VA_OPT__(, "; ", __VA_ARGS__)); \
    }
#define TORCH_CHECK(condition, ...) JAX_AITER_CHECK(condition __VA_OPT__(,) __VA_ARGS__)
#define TORCH_INTERNAL_ASSERT(condition, ...) JAX_AITER_CHECK(condition __VA_OPT__(,) __VA_ARGS__)
#define AT_ERROR(...) ::jax_aiter::refuse(__VA_ARGS__)
#define TORCH_WARN(...)
#define TORCH_WARN_ONCE(...)
#define C10_HIP_KERNEL_LAUNCH_CHECK()
#define C10_CUDA_KERNEL_LAUNCH_CHECK()
#define AT_CUDA_CHECK(call) (void)(call)

#define AT_DISPATCH_SWITCH(TYPE, NAME, ...)                                     \
    [&] {                                                                       \
        const auto jax_aiter_type = ::caffe2::TypeMeta(TYPE).toScalarType();    \
        constexpr const char* jax_aiter_name = NAME;                            \
        switch(jax_aiter_type) {                                                \
            __VA_ARGS__                                                         \
        default: ::jax_aiter::refuse(jax_aiter_name, " has no instance for ", jax_aiter_type); \
        }                                                                       \
    }()
#define AT_DISPATCH_CASE(TYPE, ...)                                             \
    case TYPE: {                                                                \
        using scalar_t [[maybe_unused]] = ::c10::CppType<TYPE>::t;              \
        return __VA_ARGS__();                                                   \
    }
