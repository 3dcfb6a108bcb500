// Devices, contexts, versions and errors.
#include <cstdio>
#include <cstring>

#include "abi/device_prop.h"
#include "abi/types.h"
#include "core/capture.h"
#include "core/log.h"
#include "core/memory.h"
#include "core/module.h"
#include "core/options.h"
#include "core/stream.h"

using namespace vgpu;
using namespace vgpu::hip;

namespace {

constexpr int kVersion = 70253211;  // the ROCm 7.2 runtime this imitates
constexpr int kComputeUnits = 304;  // MI300X
constexpr int kClockKhz = 2100000;
constexpr int kMemoryClockKhz = 1300000;
constexpr int kMemoryBusBits = 8192;
constexpr int kL2Bytes = 4 << 20;
constexpr int kVgprsPerUnit = 131072;

Error valid_device(int device) {
  if (device >= 0 && device < Options::get().devices) return Error();
  return Error(hipErrorInvalidDevice, format("device %d of %d", device, Options::get().devices));
}

bool is_gfx950() { return Options::get().arch == Arch::gfx950; }
int compute_units() { return is_gfx950() ? 256 : kComputeUnits; }

void fill(hipDeviceProp_tR0600* p, int device) {
  std::memset(p, 0, sizeof *p);
  std::snprintf(p->name, sizeof p->name, "AMD Instinct %s (virtual)", is_gfx950() ? "MI355X" : "MI300X");
  std::snprintf(p->gcnArchName, sizeof p->gcnArchName, "%s:sramecc+:xnack-", arch_name(Options::get().arch));
  std::snprintf(p->uuid, sizeof p->uuid, "vgpu-%010d", device);
  p->totalGlobalMem = Options::get().memory;
  p->sharedMemPerBlock = lds_per_block();
  p->regsPerBlock = p->regsPerMultiprocessor = kVgprsPerUnit;
  p->warpSize = 64;
  p->memPitch = 0x7fffffff;
  p->maxThreadsPerBlock = kMaxThreadsPerBlock;
  for (int i = 0; i < 3; ++i) p->maxThreadsDim[i] = kMaxThreadsPerBlock;
  p->maxGridSize[0] = 0x7fffffff;
  p->maxGridSize[1] = p->maxGridSize[2] = 65536;
  p->clockRate = kClockKhz;
  p->totalConstMem = 0x7fffffff;
  p->major = 9;
  p->minor = is_gfx950() ? 5 : 4;
  p->textureAlignment = p->texturePitchAlignment = p->surfaceAlignment = 256;
  p->multiProcessorCount = compute_units();
  p->canMapHostMemory = 1;
  p->concurrentKernels = 1;
  p->ECCEnabled = 1;
  p->pciBusID = device + 1;
  p->asyncEngineCount = 8;
  p->unifiedAddressing = 1;
  p->memoryClockRate = kMemoryClockKhz;
  p->memoryBusWidth = kMemoryBusBits;
  p->l2CacheSize = kL2Bytes;
  p->maxThreadsPerMultiProcessor = 2048;
  p->streamPrioritiesSupported = 1;
  p->sharedMemPerMultiprocessor = p->sharedMemPerBlockOptin = lds_per_block();
  p->maxSharedMemoryPerMultiProcessor = lds_per_block();
  p->managedMemory = 1;
  p->concurrentManagedAccess = 1;
  p->canUseHostPointerForRegisteredMem = 1;
  p->maxBlocksPerMultiProcessor = 2;
  p->hostRegisterSupported = 1;
  p->memoryPoolsSupported = 1;
  p->clockInstructionRate = 100000;
  p->archFeatures = 0x1ffff & ~(1u << 13 | 1u << 14 | 1u << 16);  // all but surfaces, sync-ext, dynamic parallelism
  p->isLargeBar = 1;
}

}  // namespace

HIP_API hipError_t hipInit(unsigned flags) {
  if (flags != 0) return finish(__func__, Error(hipErrorInvalidValue, "flags must be 0"));
  return hipSuccess;
}

HIP_API hipError_t hipDriverGetVersion(int* version) { return *version = kVersion, hipSuccess; }
HIP_API hipError_t hipRuntimeGetVersion(int* version) { return *version = kVersion, hipSuccess; }
HIP_API hipError_t hipGetDeviceCount(int* count) { return *count = Options::get().devices, hipSuccess; }
HIP_API hipError_t hipGetDevice(int* device) { return *device = current_device(), hipSuccess; }

HIP_API hipError_t hipSetDevice(int device) {
  if (Error error = valid_device(device)) return finish(__func__, error);
  set_current_device(device);
  return hipSuccess;
}

HIP_API hipError_t hipDeviceGet(hipDevice_t* device, int ordinal) {
  if (Error error = valid_device(ordinal)) return finish(__func__, error);
  *device = ordinal;
  return hipSuccess;
}

HIP_API hipError_t hipGetDevicePropertiesR0600(hipDeviceProp_tR0600* properties, int device) {
  if (Error error = valid_device(device)) return finish(__func__, error);
  fill(properties, device);
  return hipSuccess;
}

HIP_API hipError_t hipDeviceGetName(char* name, int size, hipDevice_t device) {
  if (Error error = valid_device(device)) return finish(__func__, error);
  hipDeviceProp_tR0600 properties;
  fill(&properties, device);
  std::snprintf(name, size, "%s", properties.name);
  return hipSuccess;
}

HIP_API hipError_t hipDeviceGetUuid(char* uuid, hipDevice_t device) {
  if (Error error = valid_device(device)) return finish(__func__, error);
  hipDeviceProp_tR0600 properties;
  fill(&properties, device);
  std::memcpy(uuid, properties.uuid, sizeof properties.uuid);
  return hipSuccess;
}

HIP_API hipError_t hipDeviceGetPCIBusId(char* id, int size, int device) {
  if (Error error = valid_device(device)) return finish(__func__, error);
  std::snprintf(id, size, "0000:%02x:00.0", device + 1);
  return hipSuccess;
}

HIP_API hipError_t hipDeviceTotalMem(size_t* bytes, hipDevice_t device) {
  if (Error error = valid_device(device)) return finish(__func__, error);
  *bytes = Options::get().memory;
  return hipSuccess;
}

HIP_API hipError_t hipDeviceComputeCapability(int* major, int* minor, hipDevice_t device) {
  if (Error error = valid_device(device)) return finish(__func__, error);
  *major = 9;
  *minor = is_gfx950() ? 5 : 4;
  return hipSuccess;
}

HIP_API hipError_t hipDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 1;
  *greatest = -1;
  return hipSuccess;
}

HIP_API hipError_t hipDeviceCanAccessPeer(int* can, int device, int peer) {
  if (Error error = valid_device(device)) return finish(__func__, error);
  if (Error error = valid_device(peer)) return finish(__func__, error);
  *can = device != peer;
  return hipSuccess;
}

HIP_API hipError_t hipDeviceEnablePeerAccess(int peer, unsigned flags) {
  if (Error error = valid_device(peer)) return finish(__func__, error);
  if (flags != 0 || peer == current_device()) return finish(__func__, hipErrorInvalidDevice);
  return hipSuccess;
}
HIP_API hipError_t hipDeviceDisablePeerAccess(int peer) { return finish(__func__, valid_device(peer)); }

HIP_API hipError_t hipDeviceSynchronize() {
  if (Error error = forbid_during_capture(__func__)) return finish(__func__, error);
  return finish(__func__, synchronize_device(current_device()));
}

HIP_API hipError_t hipGetLastError() { return take_last_error(); }
HIP_API hipError_t hipPeekAtLastError() { return peek_last_error(); }
HIP_API const char* hipGetErrorString(hipError_t code) { return error_text(code); }
HIP_API const char* hipGetErrorName(hipError_t code) { return error_name(code); }
HIP_API hipError_t hipDrvGetErrorString(hipError_t code, const char** text) { return *text = error_text(code), hipSuccess; }
HIP_API hipError_t hipDrvGetErrorName(hipError_t code, const char** text) { return *text = error_name(code), hipSuccess; }

// Our own: the full message of the last failure, e.g. the interpreter's report. Returns its length.
HIP_API size_t vgpuGetLastErrorMessage(char* out, size_t size) {
  const std::string text = last_error_message();
  if (size != 0) std::snprintf(out, size, "%s", text.c_str());
  return text.size();
}

// One context per device; a context handle is the device ordinal + 1.
HIP_API hipError_t hipDevicePrimaryCtxRetain(hipCtx_t* context, hipDevice_t device) {
  if (Error error = valid_device(device)) return finish(__func__, error);
  *context = reinterpret_cast<hipCtx_t>(static_cast<intptr_t>(device) + 1);
  return hipSuccess;
}
HIP_API hipError_t hipDevicePrimaryCtxRelease(hipDevice_t device) { return finish(__func__, valid_device(device)); }
HIP_API hipError_t hipCtxGetDevice(hipDevice_t* device) { return *device = current_device(), hipSuccess; }
HIP_API hipError_t hipCtxSetCurrent(hipCtx_t context) {
  return hipSetDevice(static_cast<int>(reinterpret_cast<intptr_t>(context)) - 1);
}
HIP_API hipError_t hipCtxGetCurrent(hipCtx_t* context) { return hipDevicePrimaryCtxRetain(context, current_device()); }

namespace {
thread_local std::vector<int> context_stack;
}
HIP_API hipError_t hipCtxPushCurrent(hipCtx_t context) {
  context_stack.push_back(current_device());
  const hipError_t result = hipCtxSetCurrent(context);
  if (result != hipSuccess) context_stack.pop_back();
  return result;
}
HIP_API hipError_t hipCtxPopCurrent(hipCtx_t* context) {
  if (context_stack.empty()) return finish(__func__, hipErrorInvalidContext);
  if (context != nullptr) hipCtxGetCurrent(context);
  set_current_device(context_stack.back());
  context_stack.pop_back();
  return hipSuccess;
}
