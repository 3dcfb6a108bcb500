// Device and pinned host memory: who owns which bytes, how much is left, and what was freed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "core/error.h"
#include "isa/device.h"

namespace vgpu::hip {

enum class MemoryKind { device, pinned, registered, managed };

struct Block {
  uintptr_t base = 0;
  size_t size = 0;
  MemoryKind kind = MemoryKind::device;
  int device = 0;
  unsigned flags = 0;
  uint64_t id = 0;
  bool freed = false;
};

namespace memory {

// Byte that fills new memory: NaN as a float of any width, -1 as an integer. Freed memory gets the other.
constexpr uint8_t kFreshByte = 0xff;
constexpr uint8_t kFreedByte = 0xfe;

// The registry shared with the interpreter.
MemoryMap& map();

Error allocate(MemoryKind kind, int device, size_t size, unsigned flags, void** out);
// `expected` guards against hipFree of pinned memory and the like.
Error release(void* ptr, MemoryKind expected);
Error register_host(void* ptr, size_t size, unsigned flags);
Error unregister_host(void* ptr);

// The live block that contains ptr.
std::optional<Block> find(const void* ptr);
// Bytes in use and configured on a device.
void usage(int device, size_t* free, size_t* total);

// A range must lie inside one live block if it touches memory that this library manages; other addresses
// are ordinary host memory, which only copies may touch. `what` names the operation in the error.
Error check_range(const void* ptr, size_t size, const char* what);

void copy(void* dst, const void* src, size_t size);
void fill(void* dst, uint64_t value, unsigned element_size, size_t count);
// The host wrote these bytes (libraries that compute on the host): they count as initialised.
void written(const void* ptr, size_t size);

}  // namespace memory
}  // namespace vgpu::hip
