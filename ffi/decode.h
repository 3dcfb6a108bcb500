// Encoded plan to Plan. The layout is documented in jax_aiter/kernels/wire.py.
#ifndef JAX_AITER_FFI_DECODE_H_
#define JAX_AITER_FFI_DECODE_H_

#include <cstddef>
#include <cstdint>

#include "code_store.h"
#include "plan.h"
#include "status.h"

namespace jax_aiter {

inline constexpr uint16_t kPlanVersion = 2;  // the newest; every version from 1 on is read

// Decodes and checks `size` bytes; every number in `plan` may be relied on afterwards. The input is not trusted: any
// bytes give either a valid plan or an error. Code objects are interned in `store`, after everything was checked.
Status DecodePlan(const uint8_t* data, size_t size, CodeStore& store, Plan* plan);

// The rules a plan must keep beyond its encoding; those of PlanContent.__post_init__ in jax_aiter/kernels/plan/content.py.
Status CheckPlan(const Plan& plan);

}  // namespace jax_aiter

#endif  // JAX_AITER_FFI_DECODE_H_
