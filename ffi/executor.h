// A decoded plan and, per device, its kernels: what one custom call of an executable keeps between executions.
#ifndef JAX_AITER_FFI_EXECUTOR_H_
#define JAX_AITER_FFI_EXECUTOR_H_

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "driver.h"
#include "module_table.h"
#include "plan.h"
#include "status.h"

namespace jax_aiter {

// A driver with the modules loaded through it; one per driver and process.
struct Backend {
  explicit Backend(Driver& d) : driver(d), modules(d) {}
  Driver& driver;
  ModuleTable modules;
};

// The address and size of one operand or result, as XLA gives them.
struct Memory {
  void* data;
  uint64_t nbytes;
};

class Executor {
 public:
  Executor(Plan plan, Backend& backend);

  const Plan& plan() const { return plan_; }
  size_t operands() const { return operands_; }
  size_t results() const { return results_; }  // scratch included: it follows the results

  // Makes the plan's kernels ready on device `ordinal`. Thread-safe; does nothing the second time.
  Status Initialize(int ordinal);

  // Enqueues the steps on `stream`. Only after Initialize(ordinal) succeeded. `operands` and `results` point to as many
  // entries as operands() and results() say.
  Status Execute(int ordinal, const Memory* operands, const Memory* results, void* stream);

 private:
  static constexpr int kMaxDevices = 64;
  using Kernels = std::vector<void*>;  // by step; null for steps that launch nothing

  Status Resolve(const Memory* operands, const Memory* results, char** addresses) const;
  int CopyAliased(const Memory* operands, const Memory* results, void* stream) const;
  int Run(const Step& step, void* kernel, char* const* addresses, void* stream) const;

  const Plan plan_;
  Backend& backend_;
  const size_t operands_;
  const size_t scratch_begin_;  // scratch buffers follow the results in the custom call
  const size_t results_;

  std::mutex mutex_;
  std::array<std::unique_ptr<const Kernels>, kMaxDevices> owned_;           // guarded by mutex_
  std::array<std::atomic<const Kernels*>, kMaxDevices> ready_{};            // published once, then read without a lock
};

}  // namespace jax_aiter

#endif  // JAX_AITER_FFI_EXECUTOR_H_
