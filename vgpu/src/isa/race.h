// Races between workgroups on global memory: two workgroups touch one byte with plain accesses and at least one
// writes it. Workgroups are ordered only through atomics: an access conflicts unless the other one happened before this
// workgroup's latest atomic (which may have been its flag or semaphore). Atomics themselves never conflict.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_map>

#include "isa/memory.h"

namespace vgpu::isa {

class RaceDetector {
 public:
  // Records the access; returns a description of the conflict, or "".
  std::string touch(uintptr_t address, unsigned bytes, Access access, uint64_t group);

 private:
  // Per byte: last plain writer and last plain reader (+1; 0 is none), and when.
  struct Byte {
    uint32_t writer = 0, reader = 0;
    uint32_t writer_epoch = 0, reader_epoch = 0;
  };
  std::mutex mutex_;
  std::unordered_map<uintptr_t, Byte> bytes_;
  uint32_t epoch_ = 1;                                 // advances at every atomic
  std::unordered_map<uint64_t, uint32_t> synchronised_;  // group -> epoch of its last atomic
};

}  // namespace vgpu::isa
