// Stream-ordered allocation. Memory is taken at once (a kernel argument needs its address), and given back
// when the stream gets there.
#include "abi/types.h"
#include "core/capture.h"
#include "core/log.h"
#include "core/memory.h"
#include "core/stream.h"

namespace vgpu::hip {
struct MemPool {
  int device;
};
}  // namespace vgpu::hip

using namespace vgpu::hip;

namespace {

Error default_pool(int device, hipMemPool_t* out) {
  static std::vector<MemPool*>* pools = new std::vector<MemPool*>;
  static std::mutex mutex;
  std::lock_guard<std::mutex> lock(mutex);
  if (device < 0) return Error(hipErrorInvalidDevice, "");
  while (pools->size() <= size_t(device)) pools->push_back(new MemPool{static_cast<int>(pools->size())});
  *out = (*pools)[device];
  return Error();
}

Error malloc_async(void** out, size_t size, hipStream_t handle) {
  Stream* stream = nullptr;
  if (Error error = resolve(handle, &stream)) return error;
  // Capturing an allocation would need graph memory nodes, which are not offered here.
  if (Error error = forbid_on_capturing("hipMallocAsync", stream)) return error;
  if (size == 0) return *out = nullptr, Error();
  return memory::allocate(MemoryKind::device, stream->device, size, 0, out);
}

Error free_async(void* ptr, hipStream_t handle) {
  if (ptr == nullptr) return Error();
  Stream* stream = nullptr;
  if (Error error = resolve(handle, &stream)) return error;
  if (Error error = forbid_on_capturing("hipFreeAsync", stream)) return error;
  if (!memory::find(ptr)) return Error(hipErrorInvalidValue, format("%p is in no allocation", ptr));
  Op op;
  op.what = "hipFreeAsync";
  op.always = true;
  op.run = [ptr](Queue&) { return memory::release(ptr, MemoryKind::device); };
  push(stream, std::move(op));
  return Error();
}

}  // namespace

HIP_API hipError_t hipMallocAsync(void** out, size_t size, hipStream_t stream) {
  return finish(__func__, malloc_async(out, size, stream));
}
HIP_API hipError_t hipFreeAsync(void* ptr, hipStream_t stream) { return finish(__func__, free_async(ptr, stream)); }
HIP_API hipError_t hipMallocFromPoolAsync(void** out, size_t size, hipMemPool_t, hipStream_t stream) {
  return finish(__func__, malloc_async(out, size, stream));
}
HIP_API hipError_t hipDeviceGetDefaultMemPool(hipMemPool_t* pool, int device) {
  return finish(__func__, default_pool(device, pool));
}
HIP_API hipError_t hipDeviceGetMemPool(hipMemPool_t* pool, int device) {
  return finish(__func__, default_pool(device, pool));
}
// Pools keep nothing back here, so thresholds and reuse policies have no effect to set.
HIP_API hipError_t hipMemPoolSetAttribute(hipMemPool_t, int, void*) { return hipSuccess; }
HIP_API hipError_t hipMemPoolTrimTo(hipMemPool_t, size_t) { return hipSuccess; }
