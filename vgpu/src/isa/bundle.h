#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "isa/device.h"

namespace vgpu::isa {

// Finds the ELF code object in an image that may be an offload bundle. size 0 means unknown.
bool select_code_object(const void* image, size_t size, Arch arch, const uint8_t** elf, size_t* elf_size,
                        std::string* error);

}  // namespace vgpu::isa
