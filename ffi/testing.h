// Python views of a decoded plan and of the mock driver's records.
#ifndef JAX_AITER_FFI_TESTING_H_
#define JAX_AITER_FFI_TESTING_H_

#include <nanobind/nanobind.h>

namespace jax_aiter {

nanobind::dict DecodeToDict(nanobind::bytes encoded);
void ConfigureMock(bool record, bool capturing, int fail_after, int devices, bool fail_load);
nanobind::list MockRecords();

}  // namespace jax_aiter

#endif  // JAX_AITER_FFI_TESTING_H_
