#include "executor.h"

#include <cstring>
#include <string>
#include <utility>

namespace jax_aiter {

Executor::Executor(Plan plan, Backend& backend)
    : plan_(std::move(plan)),
      backend_(backend),
      operands_(plan_.Count(BufferKind::kOperand)),
      scratch_begin_(plan_.Count(BufferKind::kResult)),
      results_(scratch_begin_ + plan_.Count(BufferKind::kScratch)) {}

Status Executor::Initialize(int ordinal) {
  if (ordinal < 0 || ordinal >= kMaxDevices) {
    return Status(Code::kUnimplemented, "device ordinal " + std::to_string(ordinal) + ", supported are 0 .. " +
                                            std::to_string(kMaxDevices - 1));
  }
  // XLA calls this before every execution, hence the way out without a lock.
  if (ready_[ordinal].load(std::memory_order_acquire)) return Status();
  std::lock_guard<std::mutex> lock(mutex_);
  if (owned_[ordinal]) return Status();

  const std::string where = "op " + plan_.op + " (" + plan_.arch + ")";
  Driver& driver = backend_.driver;
  JAX_AITER_RETURN_IF_ERROR(driver.Open(ordinal).In(where));
  DeviceScope scope(driver, ordinal);
  if (scope.code() != 0) {
    return Status(Code::kInternal, where + ": " + driver.name() + " cannot use device " + std::to_string(ordinal) +
                                       ": " + driver.Describe(scope.code()));
  }
  auto kernels = std::make_unique<Kernels>(plan_.steps.size(), nullptr);
  for (size_t i = 0; i < plan_.steps.size(); ++i) {
    const Launch* launch = std::get_if<Launch>(&plan_.steps[i]);
    if (!launch) continue;
    Status status = backend_.modules.FindKernel(ordinal, plan_.codes[launch->code], *launch, &(*kernels)[i]);
    if (!status.ok()) return status.In(jax_aiter::Describe(plan_, i));
  }
  owned_[ordinal] = std::move(kernels);
  ready_[ordinal].store(owned_[ordinal].get(), std::memory_order_release);
  return Status();
}

// Addresses by buffer number, after checking them against the buffer table. An aliased operand is where its result is: `Execute`
// copies it there if XLA keeps the two apart.
Status Executor::Resolve(const Memory* operands, const Memory* results, char** addresses) const {
  for (size_t i = 0; i < plan_.buffers.size(); ++i) {
    const Buffer& b = plan_.buffers[i];
    const Memory& memory = b.kind == BufferKind::kOperand  ? operands[b.index]
                           : b.kind == BufferKind::kResult ? results[b.index]
                                                           : results[scratch_begin_ + b.index];
    if (memory.nbytes != b.nbytes) {
      return Invalid("op " + plan_.op + ": " + Describe(b) + " was given " + std::to_string(memory.nbytes) + " bytes");
    }
    void* data = memory.data;
    for (const auto& [operand, result] : plan_.aliases) {
      if (b.kind == BufferKind::kOperand && b.index == operand) data = results[result].data;
    }
    if (reinterpret_cast<uintptr_t>(data) % b.alignment != 0 && b.nbytes != 0) {
      return Invalid("op " + plan_.op + ": " + Describe(b) + " is not aligned to " + std::to_string(b.alignment) +
                     " bytes");
    }
    addresses[i] = static_cast<char*>(data);
  }
  for (const auto& [operand, result] : plan_.aliases) {
    const uintptr_t from = reinterpret_cast<uintptr_t>(operands[operand].data);
    const uintptr_t to = reinterpret_cast<uintptr_t>(results[result].data);
    if (from != to && (from < to ? to - from : from - to) < results[result].nbytes) {
      return Invalid("op " + plan_.op + ": operand " + std::to_string(operand) + " and result " +
                     std::to_string(result) + " share a part of their memory");
    }
  }
  return Status();
}

// XLA may break the aliases that a call declares: on GPUs it gives a custom call the slices of a loop's stacked inputs and outputs
// as operand and result (its dynamic slice fusion). Then the result is filled with the operand first.
int Executor::CopyAliased(const Memory* operands, const Memory* results, void* stream) const {
  for (const auto& [operand, result] : plan_.aliases) {
    const Memory &from = operands[operand], &to = results[result];
    if (from.data == to.data || to.nbytes == 0) continue;
    if (int code = backend_.driver.Copy(to.data, from.data, to.nbytes, stream)) return code;
  }
  return 0;
}

int Executor::Run(const Step& step, void* kernel, char* const* addresses, void* stream) const {
  Driver& driver = backend_.driver;
  if (const Launch* launch = std::get_if<Launch>(&step)) {
    alignas(16) unsigned char args[kMaxArgumentBytes];
    if (!launch->blob.empty()) std::memcpy(args, launch->blob.data(), launch->blob.size());  // not even 0 bytes from null
    for (const PointerSlot& slot : launch->pointers) {
      char* address = addresses[slot.buffer] + slot.byte_offset;
      std::memcpy(args + slot.offset, &address, sizeof(address));
    }
    return driver.LaunchKernel(kernel, *launch, args, stream);
  }
  if (const Fill* fill = std::get_if<Fill>(&step)) {
    if (fill->nbytes == 0) return 0;
    return driver.Fill(addresses[fill->buffer] + fill->byte_offset, fill->value, fill->width, fill->nbytes, stream);
  }
  if (const Address* address = std::get_if<Address>(&step)) {
    // Two fills rather than a copy from the host: their values are taken now, also when a graph is being captured, so
    // nothing of ours has to outlive the call. A graph is captured anew for buffers at other addresses, as for arguments.
    const uint64_t value = reinterpret_cast<uintptr_t>(addresses[address->target] + address->target_offset);
    char* place = addresses[address->buffer] + address->byte_offset;
    if (int code = driver.Fill(place, static_cast<uint32_t>(value), 4, 4, stream)) return code;
    return driver.Fill(place + 4, static_cast<uint32_t>(value >> 32), 4, 4, stream);
  }
  const Copy& copy = std::get<Copy>(step);
  if (copy.nbytes == 0) return 0;
  return driver.Copy(addresses[copy.dst] + copy.dst_offset, addresses[copy.src] + copy.src_offset, copy.nbytes, stream);
}

Status Executor::Execute(int ordinal, const Memory* operands, const Memory* results, void* stream) {
  const Kernels* kernels =
      ordinal >= 0 && ordinal < kMaxDevices ? ready_[ordinal].load(std::memory_order_acquire) : nullptr;
  if (!kernels) {
    return Status(Code::kFailedPrecondition,
                  "op " + plan_.op + ": executed on device " + std::to_string(ordinal) + " before it was initialised");
  }
  char* addresses[kMaxBuffers];
  JAX_AITER_RETURN_IF_ERROR(Resolve(operands, results, addresses));
  Driver& driver = backend_.driver;
  DeviceScope scope(driver, ordinal);
  if (scope.code() != 0) {
    return Status(Code::kInternal, "op " + plan_.op + ": " + driver.name() + " cannot use device " +
                                       std::to_string(ordinal) + ": " + driver.Describe(scope.code()));
  }
  if (int code = CopyAliased(operands, results, stream)) {
    return Status(Code::kInternal, "op " + plan_.op + ": an operand that is updated in place could not be copied: " +
                                       driver.name() + " reports " + driver.Describe(code));
  }
  for (size_t i = 0; i < plan_.steps.size(); ++i) {
    if (int code = Run(plan_.steps[i], (*kernels)[i], addresses, stream)) {
      return Status(Code::kInternal, jax_aiter::Describe(plan_, i) + ": " + driver.name() +
                                         " reports " + driver.Describe(code));
    }
  }
  return Status();
}

}  // namespace jax_aiter
