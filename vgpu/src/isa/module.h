#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "isa/code.h"
#include "isa/device.h"

namespace vgpu {

struct Module::Impl {
  Arch arch = Arch::gfx942;
  MemoryMap* memory = nullptr;
  uint8_t* image = nullptr;      // all segments, at their relative addresses
  size_t image_size = 0;
  std::vector<void*> registered;
  std::map<std::string, Kernel> kernels;
  std::map<std::string, GlobalVar> globals;
  std::unique_ptr<isa::Code> code;  // the executable segment

  ~Impl();
};

}  // namespace vgpu
