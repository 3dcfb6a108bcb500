// Checks of global, LDS and scratch accesses, and the text of their reports.
#include "isa/launch_state.h"
#include "isa/memory.h"
#include "isa/race.h"

namespace vgpu::isa {
namespace {

const char* verb(Access access) {
  return access == Access::Load ? "load" : access == Access::Store ? "store" : "atomic";
}

std::string describe(const Allocation& a) {
  char text[96];
  snprintf(text, sizeof text, " [0x%llx, +%zu bytes)", static_cast<unsigned long long>(a.base), a.size);
  return (a.tag.empty() ? std::string("allocation") : a.tag) + text;
}

[[noreturn]] void report(const Wave& w, const char* problem, uintptr_t address, unsigned bytes, Access access, int lane) {
  char text[160];
  if (lane < 0) {
    snprintf(text, sizeof text, "%s: scalar %s of %u bytes at 0x%llx", problem, verb(access), bytes,
             static_cast<unsigned long long>(address));
  } else {
    snprintf(text, sizeof text, "%s: %s of %u bytes at 0x%llx by lane %d", problem, verb(access), bytes,
             static_cast<unsigned long long>(address), lane);
  }
  std::string message = text;
  if (const auto near = w.worker->launch->options.memory->nearest(address)) {
    const uintptr_t end = near->base + near->size;
    if (address + bytes > near->base && address < end) {
      message += address + bytes > end ? "; it runs " + std::to_string(address + bytes - end) + " bytes past the end of "
                 : address < near->base ? "; it starts " + std::to_string(near->base - address) + " bytes before "
                                        : "; inside ";
    } else if (address >= end) {
      message += "; " + std::to_string(address - end) + " bytes past the end of ";
    } else {
      message += "; " + std::to_string(near->base - address) + " bytes before ";
    }
    message += describe(*near);
  } else {
    message += "; no allocation is registered";
  }
  fail(message);
}

void remember(MemoryCache& cache, const Allocation& a) {
  cache.next = (cache.next + 1) % MemoryCache::kEntries;
  cache.lo[cache.next] = a.base;
  cache.hi[cache.next] = a.base + a.size;
  cache.writable[cache.next] = !a.read_only;
}

}  // namespace

bool slow_check(Wave& w, const Op& op, uintptr_t address, unsigned bytes, Access access, int lane) {
  (void)op;
  LaunchState& launch = *w.worker->launch;
  const LaunchOptions& options = launch.options;
  if (!launch.checks_global()) {
    if (address < 4096 || address + bytes < address) report(w, "wild pointer", address, bytes, access, lane);
    return false;
  }
  MemoryCache& cache = w.worker->cache;
  const MemoryMap& map = *options.memory;
  if (cache.version != map.version()) {
    cache.clear();
    cache.version = map.version();
  }
  // The argument block belongs to the launch and is in no map.
  const uintptr_t args = reinterpret_cast<uintptr_t>(launch.kernarg);
  if (access == Access::Load && address - args < launch.argument_bytes && address - args + bytes <= launch.argument_bytes)
    return true;
  bool found = false;
  for (int i = 0; i < MemoryCache::kEntries && !found; ++i) {
    if (address >= cache.lo[i] && address < cache.hi[i] && address + bytes <= cache.hi[i] &&
        (access == Access::Load || cache.writable[i])) {
      if (!launch.checks_bytes()) cache.next = i;
      found = true;
    }
  }
  if (!found) {
    const auto a = map.find(address);
    if (!a || address + bytes > a->base + a->size || address + bytes < address) {
      if (options.check_memory) report(w, "access outside every allocation", address, bytes, access, lane);
    } else if (a->freed) {
      if (options.check_memory) report(w, "use after free", address, bytes, access, lane);
    } else if (a->read_only && access != Access::Load) {
      if (options.check_memory) report(w, "write to read-only memory", address, bytes, access, lane);
    } else {
      remember(cache, *a);
    }
  }
  if (launch.checks_bytes()) {
    // These look at every byte, so nothing may stay in the fast path's slot.
    cache.next = 0;
    cache.lo[0] = 1;
    cache.hi[0] = 0;
    if (options.check_uninit) {
      if (access == Access::Store) {
        options.memory->mark_initialised(address, bytes);
      } else if (const uintptr_t bad = options.memory->first_uninitialised(address, bytes)) {
        report(w, "read of memory nobody has written", bad, 1, Access::Load, lane);
      }
    }
    if (options.check_races) {
      const std::string conflict = launch.races->touch(address, bytes, access, w.group->linear);
      if (!conflict.empty()) report(w, conflict.c_str(), address, bytes, access, lane);
    }
  }
  return true;
}

void fail_lds(const Wave& w, uint64_t offset, unsigned bytes, int lane) {
  fail("LDS access of " + std::to_string(bytes) + " bytes at offset " + std::to_string(offset) + " by lane " +
       std::to_string(lane) + " is outside the workgroup's " + std::to_string(w.group->lds.size()) + " bytes");
}

uint8_t* scratch_pointer(Wave& w, const Op& op, int64_t offset, unsigned bytes, int lane) {
  (void)op;
  if (offset < 0 || offset + bytes > w.scratch_size) {
    fail("scratch access of " + std::to_string(bytes) + " bytes at offset " + std::to_string(offset) + " by lane " +
         std::to_string(lane) + " is outside the work-item's " + std::to_string(w.scratch_size) + " bytes");
  }
  return w.scratch + static_cast<size_t>(lane) * w.scratch_size + offset;
}

void count_global(Wave& w, const Form& f, uint64_t mask) {
  const uint64_t bytes = static_cast<uint64_t>(__builtin_popcountll(mask)) * f.bytes;
  Counts& c = w.worker->counts;
  (f.access == Access::Load ? c.bytes_loaded : f.access == Access::Store ? c.bytes_stored : c.bytes_atomic) += bytes;
}

void count_lds(Wave& w, const Form& f, uint64_t mask) {
  const uint64_t bytes = static_cast<uint64_t>(__builtin_popcountll(mask)) * f.bytes;
  Counts& c = w.worker->counts;
  if (f.access != Access::Store) c.lds_bytes_read += bytes;
  if (f.access != Access::Load) c.lds_bytes_written += bytes;
}

}  // namespace vgpu::isa
