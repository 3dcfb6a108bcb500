// The XLA FFI handlers of custom call "jax_aiter.run_plan.v1", one set per platform.
#ifndef JAX_AITER_FFI_HANDLER_H_
#define JAX_AITER_FFI_HANDLER_H_

#include "executor.h"
#include "xla/ffi/api/ffi.h"

namespace jax_aiter {

// Every platform has its own state type. Each platform's plugin keeps its own registry of types and writes the id it
// assigned into the type's `id`; one shared variable would carry one plugin's id into another.
struct Rocm {};
struct Cuda {};
struct Cpu {};  // tests only: the drivers behind it are a mock or stand-ins for the real libraries

template <typename Platform>
struct State {
  static xla::ffi::TypeId id;
  static const xla::ffi::TypeInfo info;

  State(Plan plan, Backend& backend) : executor(std::move(plan), backend) {}
  Executor executor;
};

struct HandlerSet {
  const char* platform;
  const char* type_name;
  xla::ffi::TypeId* type_id;
  const xla::ffi::TypeInfo* type_info;
  XLA_FFI_Handler* instantiate;
  XLA_FFI_Handler* initialize;
  XLA_FFI_Handler* execute;
};

extern const HandlerSet kRocmHandlers;
extern const HandlerSet kCudaHandlers;
extern const HandlerSet kCpuHandlers;

// The backend that plans on platform "cpu" get from now on.
void UseBackendOnCpu(Backend& backend);

Backend& HipBackend();
Backend& CudaBackend();
Backend& MockBackend();

}  // namespace jax_aiter

#endif  // JAX_AITER_FFI_HANDLER_H_
