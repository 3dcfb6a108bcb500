// A stand-in for libamdhip64.so over host memory, with two devices.
#include "fake_common.h"

static thread_local int device = 0;

EXPORT int hipGetDevice(int* d) { *d = device; return 0; }
EXPORT int hipSetDevice(int d) { device = d; Log("set " + std::to_string(d)); return 0; }
EXPORT int hipGetDeviceCount(int* n) { *n = 2; return 0; }

EXPORT int hipModuleLoadData(FakeModule** module, const void* image) {
  if (std::memcmp(image, "hsaco", 5) != 0) return 209;
  *module = new FakeModule{device};
  Log("load on " + std::to_string(device));
  return 0;
}

EXPORT int hipModuleGetFunction(FakeFunction** function, FakeModule* module, const char* symbol) {
  if (std::strncmp(symbol, "absent", 6) == 0) return 500;
  *function = new FakeFunction{module->device, symbol};
  return 0;
}

EXPORT int hipModuleLaunchKernel(FakeFunction* f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                                 unsigned bz, unsigned shared, void*, void** params, void** extra) {
  void* block = nullptr;
  size_t size = 0;
  if (params || !ReadExtra(extra, reinterpret_cast<void*>(3), &block, &size)) return 1;
  if (f->device != device) return 101;
  if (f->symbol == "fails") return 719;
  unsigned dims[] = {gx, gy, gz, bx, by, bz, shared};
  std::string line = "launch " + f->symbol;
  for (unsigned d : dims) line += " " + std::to_string(d);
  Log(line + " args " + std::to_string(size));
  if (f->symbol == "add") AddU32(block);
  return 0;
}

EXPORT int hipMemsetD8Async(void* p, unsigned char v, size_t n, void*) {
  std::memset(p, v, n);
  Log("memset8 " + std::to_string(n));
  return 0;
}
#ifndef WITHOUT_MEMSET_D16
EXPORT int hipMemsetD16Async(void* p, unsigned short v, size_t n, void*) {
  for (size_t i = 0; i < n; ++i) static_cast<unsigned short*>(p)[i] = v;
  Log("memset16 " + std::to_string(n));
  return 0;
}
#endif
EXPORT int hipMemsetD32Async(void* p, int v, size_t n, void*) {
  for (size_t i = 0; i < n; ++i) static_cast<int*>(p)[i] = v;
  Log("memset32 " + std::to_string(n));
  return 0;
}
EXPORT int hipMemcpyDtoDAsync(void* dst, void* src, size_t n, void*) {
  std::memcpy(dst, src, n);
  Log("copy " + std::to_string(n));
  return 0;
}

EXPORT const char* hipGetErrorName(int code) { return code == 719 ? "hipErrorLaunchFailure" : "hipErrorOther"; }
EXPORT const char* hipGetErrorString(int) { return "as the stand-in says"; }

FORBIDDEN(hipMalloc)
FORBIDDEN(hipMallocAsync)
FORBIDDEN(hipFree)
FORBIDDEN(hipMemcpy)
FORBIDDEN(hipMemcpyAsync)
FORBIDDEN(hipStreamSynchronize)
FORBIDDEN(hipDeviceSynchronize)
FORBIDDEN(hipStreamQuery)
FORBIDDEN(hipModuleUnload)
