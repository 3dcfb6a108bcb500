// Vector memory: from lane addresses to host pointers, checked, and the transfers between them and registers.
//
// The address handlers (flat, buffer, ds, scratch) produce one host pointer per active lane and then call one
// transfer, which is the same for every space.
#pragma once

#include <cstdint>
#include <string>

#include "isa/registry.h"

namespace vgpu::isa {

enum class Access : uint8_t { Load, Store, Atomic };

struct LanePointers {
  uint8_t* p[64];
  uint64_t mask;  // lanes that take part
};

// Moves data for the lanes of the mask. reg is the first data register; for atomics `ret` receives the values
// before, or is null.
using Transfer = void (*)(const LanePointers&, uint32_t* reg, uint32_t* ret);

// How a memory instruction moves data; packed into Op.aux by prepare_memory.
struct Form {
  uint8_t bytes;      // per lane in memory
  Access access;
  bool returns;       // atomics
  uint8_t registers;  // dwords of register data per lane that a load writes
};
inline Form form(const Op& op) {
  return {static_cast<uint8_t>(op.aux & 0xff), static_cast<Access>(op.aux >> 8 & 3), (op.aux >> 10 & 1) != 0,
          static_cast<uint8_t>(op.aux >> 16 & 0xff)};
}
inline uint32_t pack_form(unsigned bytes, Access access, bool returns, unsigned registers) {
  return bytes | static_cast<unsigned>(access) << 8 | (returns ? 1u << 10 : 0) | registers << 16;
}

// Picks transfer and form from the part of a mnemonic after the space, e.g. "load_dwordx4", "atomic_add_x2".
bool prepare_transfer(Op& op, const std::string& action, bool returns, std::string* why);
// Atomic operations by name ("add", "pk_add_bf16", "cmpswap_x2" ...).
Transfer find_atomic(const std::string& name, unsigned* bytes);

// True when the access must not be done by plain pointer use alone: some check is on.
bool slow_check(Wave& w, const Op& op, uintptr_t address, unsigned bytes, Access access, int lane);

// Every byte of global memory a kernel touches goes through this. Throws a report for an illegal access.
inline void check_global(Wave& w, const Op& op, uintptr_t address, unsigned bytes, Access access, int lane) {
  const MemoryCache& cache = w.worker->cache;
  const int i = cache.next;
  // The second comparison also catches an end that wraps around.
  if (address >= cache.lo[i] && address < cache.hi[i] && address + bytes <= cache.hi[i] &&
      (access == Access::Load || cache.writable[i]))
    return;
  slow_check(w, op, address, bytes, access, lane);
}

[[noreturn]] void fail_lds(const Wave& w, uint64_t offset, unsigned bytes, int lane);
// A direct load orders `values` into LDS; s_waitcnt lands all but the wave's latest `may_be_outstanding` memory instructions.
void order_lds_load(Wave& w, const Op& op, uint64_t offset, unsigned step, uint64_t mask, const uint32_t* values);
void land_lds_loads(Wave& w, unsigned may_be_outstanding);
// One more vector memory instruction is issued: vmcnt holds no more than 63, so the one before those has arrived.
inline void count_vmem(Wave& w) {
  ++w.vmem_ordered;
  if (!w.landing.empty()) land_lds_loads(w, 63);
}

inline uint8_t* lds_pointer(Wave& w, const Op&, uint64_t offset, unsigned bytes, int lane) {
  std::vector<uint8_t>& lds = w.group->lds;
  if (offset >= lds.size() || offset + bytes > lds.size()) fail_lds(w, offset, bytes, lane);
  return lds.data() + offset;
}
uint8_t* scratch_pointer(Wave& w, const Op& op, int64_t offset, unsigned bytes, int lane);

inline void run_transfer(const Op& op, const LanePointers& lanes, uint32_t* reg, uint32_t* ret) {
  reinterpret_cast<Transfer>(const_cast<void*>(op.lane))(lanes, reg, ret);
}

// Adds to the launch's byte counters.
void count_global(Wave& w, const Form& f, uint64_t mask);
void count_lds(Wave& w, const Form& f, uint64_t mask);

}  // namespace vgpu::isa
