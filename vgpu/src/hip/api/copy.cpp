// Copies and fills.
//
// HIP's rules for pageable host memory are kept: a copy from it has read its source before the call returns,
// a copy to it has finished. Pinned memory is read and written when the stream gets there, so changing a
// pinned buffer too early shows.
#include <cstring>

#include "abi/types.h"
#include "core/capture.h"
#include "core/log.h"
#include "core/memory.h"
#include "core/stream.h"

using namespace vgpu::hip;

namespace {

Error copy(void* dst, const void* src, size_t size, hipStream_t handle, bool blocking) {
  if (size == 0) return Error();
  if (dst == nullptr || src == nullptr) return Error(hipErrorInvalidValue, "copy with a null pointer");
  Stream* stream = nullptr;
  if (Error error = resolve(handle, &stream)) return error;
  const bool capturing = capture_of(stream) != nullptr;
  if (blocking) {
    if (Error error = forbid_during_capture("a blocking copy")) return error;
    if (Error error = forbid_on_capturing("a blocking copy", stream)) return error;
  }
  CopyWork work{dst, src, size, nullptr};
  if (Error error = check(Work(work))) return error;
  const auto from = memory::find(src), to = memory::find(dst);
  const bool from_pageable = !from, to_pageable = !to;
  if (!capturing && !blocking && from_pageable && !to_pageable) {
    const auto* bytes = static_cast<const uint8_t*>(src);
    work.staged = std::make_shared<std::vector<uint8_t>>(bytes, bytes + size);
  }
  if (Error error = enqueue(stream, std::move(work))) return error;
  if (capturing) return Error();
  const bool to_host = to_pageable || to->kind != MemoryKind::device;
  if (blocking || to_pageable || (to_host && !launches_block())) return synchronize(stream);
  return Error();
}

Error set(void* dst, uint64_t value, unsigned element, size_t width, size_t height, size_t pitch, hipStream_t handle,
          bool blocking) {
  if (width == 0 || height == 0) return Error();
  if (dst == nullptr) return Error(hipErrorInvalidValue, "fill of a null pointer");
  Stream* stream = nullptr;
  if (Error error = resolve(handle, &stream)) return error;
  if (blocking) {
    if (Error error = forbid_during_capture("a blocking fill")) return error;
  }
  if (Error error = enqueue(stream, FillWork{dst, value, element, width, height, pitch})) return error;
  return blocking ? synchronize(stream) : Error();
}

}  // namespace

HIP_API hipError_t hipMemcpy(void* dst, const void* src, size_t size, hipMemcpyKind) {
  return finish(__func__, copy(dst, src, size, nullptr, true));
}
HIP_API hipError_t hipMemcpyWithStream(void* dst, const void* src, size_t size, hipMemcpyKind, hipStream_t stream) {
  return finish(__func__, copy(dst, src, size, stream, true));
}
HIP_API hipError_t hipMemcpyAsync(void* dst, const void* src, size_t size, hipMemcpyKind, hipStream_t stream) {
  return finish(__func__, copy(dst, src, size, stream, false));
}
HIP_API hipError_t hipMemcpyHtoD(hipDeviceptr_t dst, const void* src, size_t size) {
  return finish(__func__, copy(dst, src, size, nullptr, true));
}
HIP_API hipError_t hipMemcpyDtoH(void* dst, hipDeviceptr_t src, size_t size) {
  return finish(__func__, copy(dst, src, size, nullptr, true));
}
HIP_API hipError_t hipMemcpyDtoD(hipDeviceptr_t dst, hipDeviceptr_t src, size_t size) {
  return finish(__func__, copy(dst, src, size, nullptr, true));
}
HIP_API hipError_t hipMemcpyHtoDAsync(hipDeviceptr_t dst, const void* src, size_t size, hipStream_t stream) {
  return finish(__func__, copy(dst, src, size, stream, false));
}
HIP_API hipError_t hipMemcpyDtoHAsync(void* dst, hipDeviceptr_t src, size_t size, hipStream_t stream) {
  return finish(__func__, copy(dst, src, size, stream, false));
}
HIP_API hipError_t hipMemcpyDtoDAsync(hipDeviceptr_t dst, hipDeviceptr_t src, size_t size, hipStream_t stream) {
  return finish(__func__, copy(dst, src, size, stream, false));
}
HIP_API hipError_t hipMemcpyPeer(void* dst, int, const void* src, int, size_t size) {
  return finish(__func__, copy(dst, src, size, nullptr, true));
}
HIP_API hipError_t hipMemcpyPeerAsync(void* dst, int, const void* src, int, size_t size, hipStream_t stream) {
  return finish(__func__, copy(dst, src, size, stream, false));
}

HIP_API hipError_t hipMemset(void* dst, int value, size_t size) {
  return finish(__func__, set(dst, value & 0xff, 1, size, 1, size, nullptr, true));
}
HIP_API hipError_t hipMemsetAsync(void* dst, int value, size_t size, hipStream_t stream) {
  return finish(__func__, set(dst, value & 0xff, 1, size, 1, size, stream, false));
}
HIP_API hipError_t hipMemsetD8(hipDeviceptr_t dst, unsigned char value, size_t count) {
  return finish(__func__, set(dst, value, 1, count, 1, count, nullptr, true));
}
HIP_API hipError_t hipMemsetD8Async(hipDeviceptr_t dst, unsigned char value, size_t count, hipStream_t stream) {
  return finish(__func__, set(dst, value, 1, count, 1, count, stream, false));
}
HIP_API hipError_t hipMemsetD16(hipDeviceptr_t dst, unsigned short value, size_t count) {
  return finish(__func__, set(dst, value, 2, count, 1, 2 * count, nullptr, true));
}
HIP_API hipError_t hipMemsetD16Async(hipDeviceptr_t dst, unsigned short value, size_t count, hipStream_t stream) {
  return finish(__func__, set(dst, value, 2, count, 1, 2 * count, stream, false));
}
HIP_API hipError_t hipMemsetD32(hipDeviceptr_t dst, int value, size_t count) {
  return finish(__func__, set(dst, uint32_t(value), 4, count, 1, 4 * count, nullptr, true));
}
HIP_API hipError_t hipMemsetD32Async(hipDeviceptr_t dst, int value, size_t count, hipStream_t stream) {
  return finish(__func__, set(dst, uint32_t(value), 4, count, 1, 4 * count, stream, false));
}
HIP_API hipError_t hipMemset2DAsync(void* dst, size_t pitch, int value, size_t width, size_t height, hipStream_t stream) {
  return finish(__func__, set(dst, value & 0xff, 1, width, height, pitch, stream, false));
}
