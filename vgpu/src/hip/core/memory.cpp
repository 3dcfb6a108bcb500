#include "core/memory.h"

#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <vector>

#include "core/arena.h"
#include "core/log.h"
#include "core/options.h"

namespace vgpu::hip::memory {
namespace {

constexpr size_t kHostArenaBytes = size_t{64} << 30;  // address space for pinned memory
// Kernels may touch the whole dword around a live byte: compilers make 8- and 16-bit atomics of 32-bit ones.
// Accesses are therefore checked against sizes rounded up to this; copies against the exact size.
constexpr size_t kAccessGranule = 4;
constexpr size_t kQuarantineBlocks = 4096;            // freed blocks that stay recognisable

struct Device {
  explicit Device(size_t memory) : arena(2 * memory + (size_t{1} << 30)), total(memory) {}
  Arena arena;
  size_t total;
  size_t used = 0;
  size_t quarantined = 0;
};

struct State {
  State() : host(kHostArenaBytes) {
    const Options& options = Options::get();
    for (int i = 0; i < options.devices; ++i) devices.push_back(new Device(options.memory));
    registry.track_initialised(options.check_uninit);
  }
  Arena& arena(const Block& block) {
    return block.kind == MemoryKind::device ? devices[block.device]->arena : host;
  }
  bool manages(uintptr_t address) const {
    if (host.contains(address)) return true;
    for (const Device* device : devices) {
      if (device->arena.contains(address)) return true;
    }
    return false;
  }

  std::mutex mutex;
  MemoryMap registry;
  std::vector<Device*> devices;
  Arena host;
  std::map<uintptr_t, Block> blocks;  // by base; freed ones stay until they leave quarantine
  std::deque<uintptr_t> quarantine;
  uint64_t next_id = 1;
};

State& state() {
  static State* instance = new State;
  return *instance;
}

const Block* containing(State& s, uintptr_t address) {
  auto after = s.blocks.upper_bound(address);
  if (after == s.blocks.begin()) return nullptr;
  const Block& block = std::prev(after)->second;
  return address - block.base < (block.size ? block.size : 1) ? &block : nullptr;
}

const char* kind_name(MemoryKind kind) {
  switch (kind) {
    case MemoryKind::device: return "hipMalloc";
    case MemoryKind::pinned: return "hipHostMalloc";
    case MemoryKind::registered: return "hipHostRegister";
    case MemoryKind::managed: return "hipMallocManaged";
  }
  return "?";
}

void leave_quarantine(State& s) {
  const uintptr_t base = s.quarantine.front();
  s.quarantine.pop_front();
  const Block block = s.blocks.at(base);
  if (block.kind == MemoryKind::device) s.devices[block.device]->quarantined -= block.size;
  s.registry.remove(reinterpret_cast<void*>(base));
  s.blocks.erase(base);
  s.arena(block).give_back(base, block.size);
}

}  // namespace

MemoryMap& map() { return state().registry; }

Error allocate(MemoryKind kind, int device, size_t size, unsigned flags, void** out) {
  State& s = state();
  std::unique_lock<std::mutex> lock(s.mutex);
  Block block{0, size, kind, device, flags, s.next_id, false};
  Device& owner = *s.devices[device];
  if (kind == MemoryKind::device && (size > owner.total || owner.used > owner.total - size)) {
    return Error(hipErrorOutOfMemory, format("device %d has %zu of %zu bytes free, %zu were asked for", device,
                                             owner.total - owner.used, owner.total, size));
  }
  while ((block.base = s.arena(block).take(size)) == 0) {
    if (s.quarantine.empty()) return Error(hipErrorOutOfMemory, format("no address range of %zu bytes is left", size));
    leave_quarantine(s);
  }
  ++s.next_id;
  if (kind == MemoryKind::device) owner.used += size;
  s.blocks[block.base] = block;
  void* ptr = reinterpret_cast<void*>(block.base);
  const size_t accessible = (size + kAccessGranule - 1) / kAccessGranule * kAccessGranule;
  s.registry.add(ptr, accessible, format("%s #%lu of device %d", kind_name(kind), (unsigned long)block.id, device));
  s.registry.mark_uninitialised(block.base, size);
  s.registry.mark_initialised(block.base + size, accessible - size);
  lock.unlock();
  std::memset(ptr, kFreshByte, size);
  trace("%s #%lu: %zu bytes at %p on device %d", kind_name(kind), (unsigned long)block.id, size, ptr, device);
  *out = ptr;
  return Error();
}

Error release(void* ptr, MemoryKind expected) {
  State& s = state();
  std::lock_guard<std::mutex> lock(s.mutex);
  auto found = s.blocks.find(reinterpret_cast<uintptr_t>(ptr));
  if (found == s.blocks.end()) return Error(hipErrorInvalidValue, format("%p was not allocated here", ptr));
  Block& block = found->second;
  if (block.freed) return Error(hipErrorInvalidValue, format("%p (%s #%lu, %zu bytes) was freed before", ptr,
                                                             kind_name(block.kind), (unsigned long)block.id, block.size));
  // hipFree also takes managed memory.
  const bool fits = block.kind == expected || (expected == MemoryKind::device && block.kind == MemoryKind::managed);
  if (!fits) return Error(hipErrorInvalidValue, format("%p comes from %s", ptr, kind_name(block.kind)));
  block.freed = true;
  std::memset(ptr, kFreedByte, block.size);
  s.registry.quarantine(ptr);
  s.quarantine.push_back(block.base);
  if (block.kind == MemoryKind::device) {
    Device& owner = *s.devices[block.device];
    owner.used -= block.size;
    owner.quarantined += block.size;
    // A quarter of the device's memory may sit in quarantine: the arena has twice its size.
    while (!s.quarantine.empty() && owner.quarantined > owner.total / 4) leave_quarantine(s);
  }
  while (s.quarantine.size() > kQuarantineBlocks) leave_quarantine(s);
  return Error();
}

Error register_host(void* ptr, size_t size, unsigned flags) {
  if (ptr == nullptr || size == 0) return Error(hipErrorInvalidValue, "hipHostRegister of nothing");
  State& s = state();
  std::lock_guard<std::mutex> lock(s.mutex);
  const uintptr_t base = reinterpret_cast<uintptr_t>(ptr);
  if (containing(s, base) || containing(s, base + size - 1)) {
    return Error(hipErrorHostMemoryAlreadyRegistered, "");
  }
  s.blocks[base] = Block{base, size, MemoryKind::registered, 0, flags, s.next_id, false};
  s.registry.add(ptr, size, format("hipHostRegister #%lu", (unsigned long)s.next_id++));
  s.registry.mark_initialised(base, size);
  return Error();
}

Error unregister_host(void* ptr) {
  State& s = state();
  std::lock_guard<std::mutex> lock(s.mutex);
  auto found = s.blocks.find(reinterpret_cast<uintptr_t>(ptr));
  if (found == s.blocks.end() || found->second.kind != MemoryKind::registered) {
    return Error(hipErrorHostMemoryNotRegistered, "");
  }
  s.registry.remove(ptr);
  s.blocks.erase(found);
  return Error();
}

std::optional<Block> find(const void* ptr) {
  State& s = state();
  std::lock_guard<std::mutex> lock(s.mutex);
  const Block* block = containing(s, reinterpret_cast<uintptr_t>(ptr));
  if (block == nullptr || block->freed) return std::nullopt;
  return *block;
}

void usage(int device, size_t* free, size_t* total) {
  State& s = state();
  std::lock_guard<std::mutex> lock(s.mutex);
  const Device& owner = *s.devices[device];
  *free = owner.total - owner.used;
  *total = owner.total;
}

Error check_range(const void* ptr, size_t size, const char* what) {
  if (size == 0) return Error();
  if (ptr == nullptr) return Error(hipErrorInvalidValue, format("%s: null pointer", what));
  State& s = state();
  std::lock_guard<std::mutex> lock(s.mutex);
  const uintptr_t address = reinterpret_cast<uintptr_t>(ptr);
  const Block* block = containing(s, address);
  if (block == nullptr) {
    if (!s.manages(address)) return Error();
    return Error(hipErrorInvalidValue, format("%s: %p is in no allocation", what, ptr));
  }
  if (block->freed) {
    return Error(hipErrorInvalidValue, format("%s: %p is in %s #%lu (%zu bytes), which was freed", what, ptr,
                                              kind_name(block->kind), (unsigned long)block->id, block->size));
  }
  const size_t room = block->size - (address - block->base);
  if (size > room) {
    return Error(hipErrorInvalidValue, format("%s: %zu bytes at offset %zu run over the end of %s #%lu (%zu bytes)", what,
                                              size, size_t(address - block->base), kind_name(block->kind),
                                              (unsigned long)block->id, block->size));
  }
  return Error();
}

void copy(void* dst, const void* src, size_t size) {
  std::memmove(dst, src, size);
  State& s = state();
  if (!s.registry.tracks_initialised()) return;
  const auto from = reinterpret_cast<uintptr_t>(src), to = reinterpret_cast<uintptr_t>(dst);
  if (s.registry.find(from)) s.registry.copy_initialised(to, from, size);
  else s.registry.mark_initialised(to, size);
}

void fill(void* dst, uint64_t value, unsigned element_size, size_t count) {
  auto* bytes = static_cast<uint8_t*>(dst);
  if (element_size == 1) std::memset(bytes, static_cast<int>(value), count);
  else for (size_t i = 0; i < count; ++i) std::memcpy(bytes + i * element_size, &value, element_size);
  written(dst, element_size * count);
}

void written(const void* ptr, size_t size) {
  state().registry.mark_initialised(reinterpret_cast<uintptr_t>(ptr), size);
}

}  // namespace vgpu::hip::memory
