// A stand-in for libcuda.so over host memory, with two devices and the driver's rules about current contexts.
#include <map>
#include <utility>
#include <vector>

#include "fake_common.h"

static int contexts[2] = {0, 1};  // the address is the context, the value its device
static thread_local std::vector<int*> stack;

static int Current() { return stack.empty() ? -1 : *stack.back(); }


EXPORT int cuInit(unsigned) { return 0; }
EXPORT int cuDeviceGet(int* device, int ordinal) { *device = ordinal; return ordinal < 2 ? 0 : 101; }
EXPORT int cuDeviceGetAttribute(int* value, int attribute, int) { *value = attribute == 97 ? 232448 : 0; return 0; }
EXPORT int cuDevicePrimaryCtxRetain(int** context, int device) {
  *context = &contexts[device];
  Log("retain " + std::to_string(device));
  return 0;
}
EXPORT int cuCtxGetCurrent(int** context) { *context = stack.empty() ? nullptr : stack.back(); return 0; }
EXPORT int cuCtxGetDevice(int* device) { *device = Current(); return Current() < 0 ? 201 : 0; }
EXPORT int cuCtxPushCurrent_v2(int* context) { stack.push_back(context); return 0; }
EXPORT int cuCtxPopCurrent_v2(int** context) { *context = stack.back(); stack.pop_back(); return 0; }

EXPORT int cuModuleLoadData(FakeModule** module, const void* image) {
  if (Current() < 0) return 201;
  if (std::memcmp(image, "cubin", 5) != 0) return 200;
  *module = new FakeModule{Current()};
  Log("load on " + std::to_string(Current()));
  return 0;
}
EXPORT int cuModuleGetFunction(FakeFunction** function, FakeModule* module, const char* symbol) {
  if (std::strncmp(symbol, "absent", 6) == 0) return 500;
  static std::mutex mutex;
  static std::map<std::pair<FakeModule*, std::string>, FakeFunction> functions;  // one handle per kernel, as in the driver
  std::lock_guard<std::mutex> lock(mutex);
  *function = &functions.try_emplace({module, symbol}, FakeFunction{module->device, symbol}).first->second;
  return 0;
}
EXPORT int cuFuncGetAttribute(int* value, int attribute, FakeFunction* f) {
  const int fixed = f->symbol == "static_shared" ? 1024 : 0;
  *value = attribute == 0 ? 256 : attribute == 1 ? fixed : attribute == 8 ? f->max_dynamic_shared : -1;
  return 0;
}
EXPORT int cuFuncSetAttribute(FakeFunction* f, int attribute, int value) {
  if (attribute != 8) return 1;
  f->max_dynamic_shared = value;
  Log("shared limit " + std::to_string(value));
  return 0;
}
EXPORT int cuFuncSetCacheConfig(FakeFunction*, int) { return 0; }
EXPORT int cuFuncGetParamInfo(FakeFunction* f, size_t i, size_t* offset, size_t* size) {
  if (i >= (f->symbol == "add" ? 4u : 1u)) return 1;
  *offset = 8 * i;
  *size = i == 3 ? 4 : 8;
  return 0;
}

EXPORT int cuLaunchKernel(FakeFunction* f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                          unsigned shared, void*, void** params, void** extra) {
  void* block = nullptr;
  size_t size = 0;
  if (params || !ReadExtra(extra, nullptr, &block, &size)) return 1;
  if (f->device != Current()) return 201;
  if (static_cast<int>(shared) > f->max_dynamic_shared) return 1;
  if (f->symbol == "fails") return 719;
  unsigned dims[] = {gx, gy, gz, bx, by, bz, shared};
  std::string line = "launch " + f->symbol;
  for (unsigned d : dims) line += " " + std::to_string(d);
  Log(line + " args " + std::to_string(size));
  if (f->symbol == "add") AddU32(block);
  return 0;
}

EXPORT int cuMemsetD8Async(unsigned long long p, unsigned char v, size_t n, void*) {
  std::memset(reinterpret_cast<void*>(p), v, n);
  Log("memset8 " + std::to_string(n));
  return 0;
}
EXPORT int cuMemsetD16Async(unsigned long long p, unsigned short v, size_t n, void*) {
  for (size_t i = 0; i < n; ++i) reinterpret_cast<unsigned short*>(p)[i] = v;
  Log("memset16 " + std::to_string(n));
  return 0;
}
EXPORT int cuMemsetD32Async(unsigned long long p, unsigned v, size_t n, void*) {
  for (size_t i = 0; i < n; ++i) reinterpret_cast<unsigned*>(p)[i] = v;
  Log("memset32 " + std::to_string(n));
  return 0;
}
EXPORT int cuMemcpyDtoDAsync_v2(unsigned long long dst, unsigned long long src, size_t n, void*) {
  std::memcpy(reinterpret_cast<void*>(dst), reinterpret_cast<void*>(src), n);
  Log("copy " + std::to_string(n));
  return 0;
}

EXPORT int cuGetErrorName(int code, const char** name) {
  *name = code == 719 ? "CUDA_ERROR_LAUNCH_FAILED" : "CUDA_ERROR_OTHER";
  return 0;
}
EXPORT int cuGetErrorString(int, const char** text) { *text = "as the stand-in says"; return 0; }

FORBIDDEN(cuMemAlloc_v2)
FORBIDDEN(cuMemAllocAsync)
FORBIDDEN(cuMemFree_v2)
FORBIDDEN(cuMemcpyDtoH_v2)
FORBIDDEN(cuMemcpyHtoD_v2)
FORBIDDEN(cuStreamSynchronize)
FORBIDDEN(cuCtxSynchronize)
FORBIDDEN(cuStreamQuery)
FORBIDDEN(cuModuleUnload)
