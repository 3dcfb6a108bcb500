#include <cstring>
#include <map>
#include <mutex>
#include <shared_mutex>

#include "isa/device.h"

namespace vgpu {
namespace {

struct Entry {
  Allocation info;
  std::vector<bool> written;  // per byte, while initialisation is tracked
};

}  // namespace

struct MemoryMap::Impl {
  mutable std::shared_mutex mutex;
  std::map<uintptr_t, Entry> entries;
  std::atomic<uint64_t> version{1};
  std::atomic<bool> tracking{false};

  // Entry that contains addr, or null. The caller holds the lock.
  Entry* containing(uintptr_t addr) {
    auto it = entries.upper_bound(addr);
    if (it == entries.begin()) return nullptr;
    --it;
    return addr - it->first < it->second.info.size ? &it->second : nullptr;
  }
  void set_written(uintptr_t addr, size_t size, bool value) {
    Entry* e = containing(addr);
    if (!e || e->written.empty()) return;
    const size_t at = addr - e->info.base;
    for (size_t i = at; i < at + size && i < e->written.size(); ++i) e->written[i] = value;
  }
};

MemoryMap::MemoryMap() : impl_(std::make_unique<Impl>()) {}
MemoryMap::~MemoryMap() = default;

void MemoryMap::add(void* ptr, size_t size, std::string tag, bool read_only) {
  const std::unique_lock<std::shared_mutex> lock(impl_->mutex);
  Entry e;
  e.info = {reinterpret_cast<uintptr_t>(ptr), size, std::move(tag), false, read_only};
  if (impl_->tracking) e.written.assign(size, false);
  impl_->entries[e.info.base] = std::move(e);
  ++impl_->version;
}

void MemoryMap::quarantine(void* ptr) {
  const std::unique_lock<std::shared_mutex> lock(impl_->mutex);
  const auto it = impl_->entries.find(reinterpret_cast<uintptr_t>(ptr));
  if (it == impl_->entries.end()) return;
  it->second.info.freed = true;
  ++impl_->version;
}

void MemoryMap::remove(void* ptr) {
  const std::unique_lock<std::shared_mutex> lock(impl_->mutex);
  impl_->entries.erase(reinterpret_cast<uintptr_t>(ptr));
  ++impl_->version;
}

std::optional<Allocation> MemoryMap::find(uintptr_t addr) const {
  const std::shared_lock<std::shared_mutex> lock(impl_->mutex);
  const Entry* e = impl_->containing(addr);
  if (!e) return std::nullopt;
  return e->info;
}

std::optional<Allocation> MemoryMap::nearest(uintptr_t addr) const {
  const std::shared_lock<std::shared_mutex> lock(impl_->mutex);
  auto after = impl_->entries.upper_bound(addr);
  const Entry* best = nullptr;
  uintptr_t distance = UINTPTR_MAX;
  if (after != impl_->entries.end()) {
    best = &after->second;
    distance = after->first - addr;
  }
  if (after != impl_->entries.begin()) {
    --after;
    const uintptr_t end = after->first + after->second.info.size;
    const uintptr_t gap = addr < end ? 0 : addr - end;
    if (gap <= distance) best = &after->second;
  }
  if (!best) return std::nullopt;
  return best->info;
}

uint64_t MemoryMap::version() const { return impl_->version.load(std::memory_order_acquire); }

void MemoryMap::track_initialised(bool on) {
  const std::unique_lock<std::shared_mutex> lock(impl_->mutex);
  impl_->tracking = on;
  // What exists already counts as written: nobody recorded its history.
  for (auto& e : impl_->entries) {
    if (on) e.second.written.assign(e.second.info.size, true);
    else e.second.written = {};
  }
}
bool MemoryMap::tracks_initialised() const { return impl_->tracking; }

void MemoryMap::mark_initialised(uintptr_t addr, size_t size) {
  if (!impl_->tracking) return;
  const std::unique_lock<std::shared_mutex> lock(impl_->mutex);
  impl_->set_written(addr, size, true);
}
void MemoryMap::mark_uninitialised(uintptr_t addr, size_t size) {
  if (!impl_->tracking) return;
  const std::unique_lock<std::shared_mutex> lock(impl_->mutex);
  impl_->set_written(addr, size, false);
}
void MemoryMap::copy_initialised(uintptr_t dst, uintptr_t src, size_t size) {
  if (!impl_->tracking) return;
  const std::unique_lock<std::shared_mutex> lock(impl_->mutex);
  Entry *to = impl_->containing(dst), *from = impl_->containing(src);
  if (!to || to->written.empty()) return;
  const size_t at = dst - to->info.base;
  for (size_t i = 0; i < size && at + i < to->written.size(); ++i) {
    const size_t j = from ? src - from->info.base + i : 0;
    to->written[at + i] = !from || from->written.empty() || j >= from->written.size() || from->written[j];
  }
}
uintptr_t MemoryMap::first_uninitialised(uintptr_t addr, size_t size) const {
  if (!impl_->tracking) return 0;
  const std::shared_lock<std::shared_mutex> lock(impl_->mutex);
  const Entry* e = impl_->containing(addr);
  if (!e || e->written.empty()) return 0;
  const size_t at = addr - e->info.base;
  for (size_t i = at; i < at + size && i < e->written.size(); ++i)
    if (!e->written[i]) return e->info.base + i;
  return 0;
}

}  // namespace vgpu
