#include "core/arena.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <iterator>

#include "core/log.h"
#include "isa/device.h"

namespace vgpu::hip {
namespace {
constexpr size_t kPage = 4096;
static_assert(kRedZoneBytes % kPage == 0);
}  // namespace

Arena::Arena(size_t bytes) : bytes_(bytes) {
  void* start = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (start == MAP_FAILED) {
    log("cannot reserve %zu GiB of address space: %s; give less with --memory", bytes >> 30, std::strerror(errno));
    bytes_ = 0;
    return;
  }
  // Small allocations share huge pages badly: each touches a page here and a page there.
  madvise(start, bytes, MADV_NOHUGEPAGE);
  base_ = reinterpret_cast<uintptr_t>(start);
  gaps_[base_ + kRedZoneBytes] = bytes - kRedZoneBytes;
}

size_t Arena::footprint(size_t size) { return (size + kPage - 1) / kPage * kPage + kRedZoneBytes; }

uintptr_t Arena::take(size_t size) {
  const size_t need = footprint(size);
  for (auto gap = gaps_.begin(); gap != gaps_.end(); ++gap) {
    if (gap->second < need) continue;
    const uintptr_t base = gap->first;
    const size_t rest = gap->second - need;
    gaps_.erase(gap);
    if (rest != 0) gaps_[base + need] = rest;
    return base;
  }
  return 0;
}

void Arena::give_back(uintptr_t base, size_t size) {
  size_t bytes = footprint(size);
  // Large ranges return their pages to the system.
  if (bytes >= (size_t{1} << 20)) madvise(reinterpret_cast<void*>(base), bytes, MADV_DONTNEED);
  auto next = gaps_.lower_bound(base);
  if (next != gaps_.end() && base + bytes == next->first) {
    bytes += next->second;
    next = gaps_.erase(next);
  }
  if (next != gaps_.begin()) {
    auto before = std::prev(next);
    if (before->first + before->second == base) {
      before->second += bytes;
      return;
    }
  }
  gaps_[base] = bytes;
}

}  // namespace vgpu::hip
