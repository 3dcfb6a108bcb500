// Clang offload bundles: several code objects in one image, plain or zstd compressed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/error.h"
#include "isa/device.h"

namespace vgpu::hip {

struct CodeObject {
  const void* data = nullptr;
  size_t size = 0;
  std::shared_ptr<std::vector<uint8_t>> storage;  // when decompressed
};

// `image` is an ELF (returned as it is) or a bundle (the entry for `arch` is returned). `size` may be 0.
Error extract_code_object(const void* image, size_t size, Arch arch, CodeObject* out);

}  // namespace vgpu::hip
