// Allocation and pointer queries.
#include <cstring>

#include "abi/types.h"
#include "core/capture.h"
#include "core/log.h"
#include "core/memory.h"
#include "core/stream.h"

using namespace vgpu::hip;

namespace {

Error allocate(const char* function, MemoryKind kind, void** out, size_t size, unsigned flags) {
  if (Error error = forbid_during_capture(function)) return error;
  if (out == nullptr) return Error(hipErrorInvalidValue, "no place for the pointer");
  *out = nullptr;
  if (size == 0) return Error();
  return memory::allocate(kind, current_device(), size, flags, out);
}

Error release(const char* function, void* ptr, MemoryKind kind) {
  if (ptr == nullptr) return Error();
  if (Error error = forbid_during_capture(function)) return error;
  // As on hardware: freeing waits for the device, so that queued work never sees its memory vanish. Errors
  // stay with their streams, for whoever synchronises them.
  if (const auto block = memory::find(ptr)) {
    for (Stream* stream : streams_of(block->device)) stream->queue->drain();
  }
  return memory::release(ptr, kind);
}

}  // namespace

HIP_API hipError_t hipMalloc(void** ptr, size_t size) {
  return finish(__func__, allocate(__func__, MemoryKind::device, ptr, size, 0));
}
HIP_API hipError_t hipExtMallocWithFlags(void** ptr, size_t size, unsigned flags) {
  return finish(__func__, allocate(__func__, MemoryKind::device, ptr, size, flags));
}
HIP_API hipError_t hipMallocManaged(void** ptr, size_t size, unsigned flags) {
  return finish(__func__, allocate(__func__, MemoryKind::managed, ptr, size, flags));
}
HIP_API hipError_t hipHostMalloc(void** ptr, size_t size, unsigned flags) {
  return finish(__func__, allocate(__func__, MemoryKind::pinned, ptr, size, flags));
}
HIP_API hipError_t hipHostAlloc(void** ptr, size_t size, unsigned flags) {
  return finish(__func__, allocate(__func__, MemoryKind::pinned, ptr, size, flags));
}
HIP_API hipError_t hipFree(void* ptr) { return finish(__func__, release(__func__, ptr, MemoryKind::device)); }
HIP_API hipError_t hipHostFree(void* ptr) { return finish(__func__, release(__func__, ptr, MemoryKind::pinned)); }

HIP_API hipError_t hipHostRegister(void* ptr, size_t size, unsigned flags) {
  return finish(__func__, memory::register_host(ptr, size, flags));
}
HIP_API hipError_t hipHostUnregister(void* ptr) { return finish(__func__, memory::unregister_host(ptr)); }

HIP_API hipError_t hipHostGetDevicePointer(void** device, void* host, unsigned) {
  if (!memory::find(host)) return finish(__func__, hipErrorInvalidValue);
  *device = host;
  return hipSuccess;
}

HIP_API hipError_t hipMemGetInfo(size_t* free, size_t* total) {
  return memory::usage(current_device(), free, total), hipSuccess;
}

HIP_API hipError_t hipMemGetAddressRange(hipDeviceptr_t* base, size_t* size, hipDeviceptr_t ptr) {
  const auto block = memory::find(ptr);
  if (!block) return finish(__func__, Error(hipErrorNotFound, format("%p is in no allocation", ptr)));
  if (base != nullptr) *base = reinterpret_cast<void*>(block->base);
  if (size != nullptr) *size = block->size;
  return hipSuccess;
}

namespace {
hipMemoryType type_of(MemoryKind kind) {
  switch (kind) {
    case MemoryKind::device: return hipMemoryTypeDevice;
    case MemoryKind::managed: return hipMemoryTypeManaged;
    default: return hipMemoryTypeHost;
  }
}
}  // namespace

HIP_API hipError_t hipPointerGetAttributes(hipPointerAttribute_t* out, const void* ptr) {
  const auto block = memory::find(ptr);
  *out = {};
  if (!block) return out->type = hipMemoryTypeUnregistered, out->device = -1, hipSuccess;
  const bool host = block->kind != MemoryKind::device;
  *out = {type_of(block->kind), block->device, const_cast<void*>(ptr), host ? const_cast<void*>(ptr) : nullptr,
          block->kind == MemoryKind::managed, block->flags};
  return hipSuccess;
}

HIP_API hipError_t hipPointerGetAttribute(void* data, hipPointer_attribute attribute, hipDeviceptr_t ptr) {
  const auto block = memory::find(ptr);
  // Callers use this to tell device from host memory, so "unknown" is an ordinary answer: not logged.
  if (!block) return hipErrorInvalidValue;
  switch (attribute) {
    case HIP_POINTER_ATTRIBUTE_MEMORY_TYPE: *static_cast<unsigned*>(data) = type_of(block->kind); break;
    case HIP_POINTER_ATTRIBUTE_DEVICE_POINTER: *static_cast<void**>(data) = ptr; break;
    case HIP_POINTER_ATTRIBUTE_HOST_POINTER:
      if (block->kind == MemoryKind::device) return hipErrorInvalidValue;
      *static_cast<void**>(data) = ptr;
      break;
    case HIP_POINTER_ATTRIBUTE_BUFFER_ID: *static_cast<unsigned long long*>(data) = block->id; break;
    case HIP_POINTER_ATTRIBUTE_IS_MANAGED: *static_cast<bool*>(data) = block->kind == MemoryKind::managed; break;
    case HIP_POINTER_ATTRIBUTE_DEVICE_ORDINAL: *static_cast<int*>(data) = block->device; break;
    case HIP_POINTER_ATTRIBUTE_RANGE_START_ADDR: *static_cast<uintptr_t*>(data) = block->base; break;
    case HIP_POINTER_ATTRIBUTE_RANGE_SIZE: *static_cast<size_t*>(data) = block->size; break;
    case HIP_POINTER_ATTRIBUTE_MAPPED: *static_cast<bool*>(data) = true; break;
    default: return not_supported("hipPointerGetAttribute", "this attribute");
  }
  return hipSuccess;
}

// Several attributes at once. Unlike the function above this one does not fail on ordinary host memory: what
// an attribute has no answer for is set to zero.
HIP_API hipError_t hipDrvPointerGetAttributes(unsigned count, hipPointer_attribute* attributes, void** data,
                                              hipDeviceptr_t ptr) {
  for (unsigned i = 0; i < count; ++i) {
    const bool byte = attributes[i] == HIP_POINTER_ATTRIBUTE_IS_MANAGED || attributes[i] == HIP_POINTER_ATTRIBUTE_MAPPED;
    const bool word = attributes[i] == HIP_POINTER_ATTRIBUTE_MEMORY_TYPE || attributes[i] == HIP_POINTER_ATTRIBUTE_DEVICE_ORDINAL;
    std::memset(data[i], 0, byte ? 1 : word ? 4 : 8);
    const hipError_t status = hipPointerGetAttribute(data[i], attributes[i], ptr);
    if (status == hipErrorNotSupported) return finish(__func__, status);
  }
  return hipSuccess;
}
