// Times the host's part of launching, for benchmarks/host_overhead.py.
#ifndef JAX_AITER_FFI_TIMING_H_
#define JAX_AITER_FFI_TIMING_H_

#include <cstdint>
#include <vector>

#include "executor.h"

namespace jax_aiter {

// Seconds the calling thread spends enqueueing `plan` `repeats` times on the device's default stream.
//
// `bare`: only the driver's launch call for each Launch step, with arguments packed beforehand: what any caller of the
// driver pays. Otherwise Executor::Execute: what the handler adds is the difference. The caller synchronises.
Status TimeLaunches(Backend& backend, Plan plan, int ordinal, const std::vector<Memory>& operands,
                    const std::vector<Memory>& results, int repeats, bool bare, double* seconds);

}  // namespace jax_aiter

#endif  // JAX_AITER_FFI_TIMING_H_
