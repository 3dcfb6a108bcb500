// Executable code of a module: decoded once, lazily, one Op per dword.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>

#include "isa/wave.h"

namespace vgpu::isa {

struct Code {
  Code(const uint32_t* words, size_t count, Arch arch);
  ~Code();
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;

  // Decodes around index (under a lock) and returns that op's handler.
  Handler prepare(uint64_t index) const;

  uintptr_t base() const { return reinterpret_cast<uintptr_t>(words); }

  const uint32_t* words;
  size_t count;
  Arch arch;
  Op* ops;  // zero pages until decoded
  // Flat addresses whose upper half is one of these are LDS or scratch.
  static constexpr uint32_t kSharedHigh = 0x00010000, kPrivateHigh = 0x00020000;

 private:
  mutable std::mutex mutex_;
};

// Text of the instruction at a dword index, for reports.
std::string text_at(const Code& code, uint64_t index);

}  // namespace vgpu::isa
