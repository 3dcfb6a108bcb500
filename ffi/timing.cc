#include "timing.h"

#include <chrono>
#include <cstring>
#include <string>
#include <utility>

namespace jax_aiter {
namespace {

using Clock = std::chrono::steady_clock;

double Since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

struct Prepared {
  const Launch* launch;
  void* kernel;
  std::vector<uint8_t> args;
};

Status TimeBare(Backend& backend, const Plan& plan, int ordinal, const std::vector<char*>& addresses, int repeats,
                double* seconds) {
  DeviceScope scope(backend.driver, ordinal);
  if (scope.code() != 0) return Status(Code::kInternal, backend.driver.Describe(scope.code()));
  std::vector<Prepared> all;
  for (const Step& step : plan.steps) {
    const Launch* launch = std::get_if<Launch>(&step);
    if (!launch) continue;
    Prepared p{launch, nullptr, launch->blob};
    JAX_AITER_RETURN_IF_ERROR(backend.modules.FindKernel(ordinal, plan.codes[launch->code], *launch, &p.kernel));
    for (const PointerSlot& slot : launch->pointers) {
      char* address = addresses[slot.buffer] + slot.byte_offset;
      std::memcpy(p.args.data() + slot.offset, &address, sizeof(address));
    }
    all.push_back(std::move(p));
  }
  const Clock::time_point start = Clock::now();
  for (int i = 0; i < repeats; ++i) {
    for (Prepared& p : all) {
      if (int code = backend.driver.LaunchKernel(p.kernel, *p.launch, p.args.data(), nullptr)) {
        return Status(Code::kInternal, backend.driver.Describe(code));
      }
    }
  }
  *seconds = Since(start);
  return Status();
}

}  // namespace

Status TimeLaunches(Backend& backend, Plan plan, int ordinal, const std::vector<Memory>& operands,
                    const std::vector<Memory>& results, int repeats, bool bare, double* seconds) {
  Executor executor(std::move(plan), backend);
  if (operands.size() != executor.operands() || results.size() != executor.results()) {
    return Invalid("the plan has " + std::to_string(executor.operands()) + " operands and " +
                   std::to_string(executor.results()) + " results, scratch included");
  }
  JAX_AITER_RETURN_IF_ERROR(executor.Initialize(ordinal));
  JAX_AITER_RETURN_IF_ERROR(executor.Execute(ordinal, operands.data(), results.data(), nullptr));  // checks, warms up
  if (bare) {
    std::vector<char*> addresses;
    const size_t scratch_begin = executor.plan().Count(BufferKind::kResult);
    for (const Buffer& b : executor.plan().buffers) {
      const Memory& m = b.kind == BufferKind::kOperand  ? operands[b.index]
                        : b.kind == BufferKind::kResult ? results[b.index]
                                                        : results[scratch_begin + b.index];
      addresses.push_back(static_cast<char*>(m.data));
    }
    return TimeBare(backend, executor.plan(), ordinal, addresses, repeats, seconds);
  }
  const Clock::time_point start = Clock::now();
  for (int i = 0; i < repeats; ++i) {
    JAX_AITER_RETURN_IF_ERROR(executor.Execute(ordinal, operands.data(), results.data(), nullptr));
  }
  *seconds = Since(start);
  return Status();
}

}  // namespace jax_aiter
