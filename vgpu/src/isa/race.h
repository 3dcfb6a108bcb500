// Races between workgroups on global memory: two workgroups touch one byte, one of them writes it, and not both
// accesses are atomic. A launch has no ordering between workgroups except through atomics, so the first atomic a
// workgroup does on any location is taken as synchronisation with everything before it (release/acquire through
// flags), and only accesses of workgroups that have not synchronised since are compared.
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
  // Per byte: last plain writer and last plain reader (+1; 0 is none), and whether an atomic touched it.
  struct Byte {
    uint32_t writer = 0, reader = 0, atomic = 0;
    uint32_t writer_epoch = 0, reader_epoch = 0;
  };
  std::mutex mutex_;
  std::unordered_map<uintptr_t, Byte> bytes_;
  uint32_t epoch_ = 1;                                 // advances at every atomic
  std::unordered_map<uint64_t, uint32_t> synchronised_;  // group -> epoch of its last atomic
};

}  // namespace vgpu::isa
