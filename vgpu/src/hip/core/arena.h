// Address ranges handed out of one reserved region, each with a red zone behind it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

namespace vgpu::hip {

class Arena {
 public:
  // Reserves address space only; the system backs pages when they are touched.
  explicit Arena(size_t bytes);
  // 4096-aligned start; the red zone on each side is outside the range. 0 when no gap is large enough.
  uintptr_t take(size_t size);
  void give_back(uintptr_t base, size_t size);
  bool contains(uintptr_t address) const { return address >= base_ && address - base_ < bytes_; }

 private:
  static size_t footprint(size_t size);
  uintptr_t base_ = 0;
  size_t bytes_ = 0;
  std::map<uintptr_t, size_t> gaps_;
};

}  // namespace vgpu::hip
