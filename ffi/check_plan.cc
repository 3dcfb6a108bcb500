// Everything the executor relies on without looking again.
#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include "decode.h"

namespace jax_aiter {
namespace {

constexpr uint64_t kMaxThreadsPerBlock = 1024;

// Buffers of a kind are numbered 0, 1, ... in order, so that they map to the custom call's operands and results.
Status CheckBuffers(const Plan& plan) {
  uint32_t next[3] = {0, 0, 0};
  for (const Buffer& b : plan.buffers) {
    if (b.index != next[static_cast<int>(b.kind)]++) return Invalid(Describe(b) + " is out of order");
  }
  return Status();
}

Status CheckRange(const Plan& plan, uint32_t buffer, uint64_t offset, uint64_t nbytes) {
  if (buffer >= plan.buffers.size()) {
    return Invalid("buffer " + std::to_string(buffer) + ", the plan has " + std::to_string(plan.buffers.size()));
  }
  const Buffer& b = plan.buffers[buffer];
  if (offset <= b.nbytes && nbytes <= b.nbytes - offset) return Status();
  return Invalid(std::to_string(nbytes) + " bytes at offset " + std::to_string(offset) + " lie outside " + Describe(b));
}

Status CheckStep(const Plan& plan, const Launch& launch) {
  if (launch.symbol.empty()) return Invalid("no kernel name");
  uint64_t threads = uint64_t{1};
  for (int i = 0; i < 3; ++i) {
    if (launch.grid[i] == 0 || launch.block[i] == 0) return Invalid("a grid or block dimension is zero");
    if (launch.block[i] > kMaxThreadsPerBlock) return Invalid("the block is too large");
    if (uint64_t{launch.grid[i]} * launch.block[i] > UINT32_MAX && plan.arch.rfind("sm_", 0) != 0) {
      return Invalid("more than 2**32 - 1 work-items in a dimension");
    }
    threads *= launch.block[i];
  }
  if (threads > kMaxThreadsPerBlock) return Invalid("the block is too large");
  if (launch.shared_bytes > INT32_MAX) return Invalid("the shared memory size is too large");
  uint64_t end = 0;
  for (const PointerSlot& slot : launch.pointers) {
    if (slot.offset < end) return Invalid("pointers overlap in the argument block");
    end = uint64_t{slot.offset} + sizeof(uint64_t);
    if (end > launch.blob.size()) return Invalid("a pointer lies outside the argument block");
    for (uint64_t i = slot.offset; i < end; ++i) {
      if (launch.blob[i] != 0) return Invalid("the argument block is not zero where an address goes");
    }
    JAX_AITER_RETURN_IF_ERROR(CheckRange(plan, slot.buffer, slot.byte_offset, 0));
  }
  return Status();
}

Status CheckStep(const Plan& plan, const Fill& fill) {
  if (fill.width != 1 && fill.width != 2 && fill.width != 4) return Invalid("the width is not 1, 2 or 4");
  if (fill.width < 4 && fill.value >> (8 * fill.width) != 0) return Invalid("the value does not fit the width");
  if (fill.nbytes % fill.width != 0 || fill.byte_offset % fill.width != 0) {
    return Invalid("the range is not a multiple of the width");
  }
  return CheckRange(plan, fill.buffer, fill.byte_offset, fill.nbytes);
}

// The memory behind a buffer: an aliased result is its operand.
std::pair<BufferKind, uint32_t> MemoryOf(const Plan& plan, uint32_t buffer) {
  const Buffer& b = plan.buffers[buffer];
  for (const auto& [operand, result] : plan.aliases) {
    if (b.kind == BufferKind::kResult && b.index == result) return {BufferKind::kOperand, operand};
  }
  return {b.kind, b.index};
}

Status CheckStep(const Plan& plan, const Copy& copy) {
  JAX_AITER_RETURN_IF_ERROR(CheckRange(plan, copy.dst, copy.dst_offset, copy.nbytes));
  JAX_AITER_RETURN_IF_ERROR(CheckRange(plan, copy.src, copy.src_offset, copy.nbytes));
  uint64_t low = std::min(copy.dst_offset, copy.src_offset), high = std::max(copy.dst_offset, copy.src_offset);
  if (high - low < copy.nbytes && MemoryOf(plan, copy.dst) == MemoryOf(plan, copy.src)) {
    return Invalid("source and destination overlap");
  }
  return Status();
}

Status CheckStep(const Plan& plan, const Address& address) {
  if (address.byte_offset % sizeof(uint64_t) != 0) return Invalid("an address is stored at no multiple of 8 bytes");
  JAX_AITER_RETURN_IF_ERROR(CheckRange(plan, address.buffer, address.byte_offset, sizeof(uint64_t)));
  return CheckRange(plan, address.target, address.target_offset, 0);
}

Status CheckAliases(const Plan& plan) {
  const size_t operands = plan.Count(BufferKind::kOperand), results = plan.Count(BufferKind::kResult);
  std::set<uint32_t> used[2];
  for (const auto& [operand, result] : plan.aliases) {
    if (operand >= operands || result >= results) return Invalid("an alias names a missing operand or result");
    if (!used[0].insert(operand).second || !used[1].insert(result).second) return Invalid("a buffer is aliased twice");
    uint64_t sizes[2] = {0, 0};
    for (const Buffer& b : plan.buffers) {
      if (b.kind == BufferKind::kOperand && b.index == operand) sizes[0] = b.nbytes;
      if (b.kind == BufferKind::kResult && b.index == result) sizes[1] = b.nbytes;
    }
    if (sizes[0] != sizes[1]) return Invalid("aliased buffers differ in size");
  }
  return Status();
}

}  // namespace

Status CheckPlan(const Plan& plan) {
  if (plan.op.empty() || plan.arch.empty()) return Invalid("it has no op or arch name");
  JAX_AITER_RETURN_IF_ERROR(CheckBuffers(plan));
  JAX_AITER_RETURN_IF_ERROR(CheckAliases(plan));
  for (size_t i = 0; i < plan.steps.size(); ++i) {
    Status status = std::visit([&](const auto& step) { return CheckStep(plan, step); }, plan.steps[i]);
    // Describe looks buffers up by number, which only a plan that passed may do: name the step alone.
    if (!status.ok()) return status.In("step " + std::to_string(i));
  }
  return Status();
}

}  // namespace jax_aiter
