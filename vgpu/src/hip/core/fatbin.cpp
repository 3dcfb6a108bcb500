// What hipcc-compiled host code calls at load time: device code embedded in it, and the host functions that
// stand for kernels. Nothing is unpacked before a kernel of it is launched.
#include <cstring>
#include <map>

#include "abi/types.h"
#include "core/log.h"
#include "core/module.h"
#include "core/stream.h"

namespace vgpu::hip {
namespace {

constexpr uint32_t kWrapperMagic = 0x48495046;  // "HIPF"

struct Wrapper {
  uint32_t magic, version;
  const void* image;
  const void* unused;
};

struct FatBinary {
  const void* image = nullptr;
  LoadedModule* module = nullptr;  // once needed
};

struct Registry {
  std::mutex mutex;
  std::map<const void*, std::pair<FatBinary*, std::string>> stubs;
};
Registry& registry() {
  static auto* instance = new Registry;
  return *instance;
}

struct Configuration {
  dim3 grid, block;
  size_t lds;
  hipStream_t stream;
};
thread_local std::vector<Configuration> configurations;

}  // namespace

Error function_of_stub(const void* stub, Function** out) {
  Registry& r = registry();
  std::lock_guard<std::mutex> lock(r.mutex);
  auto found = r.stubs.find(stub);
  if (found == r.stubs.end()) return Error(hipErrorInvalidDeviceFunction, format("%p is no kernel of a loaded program", stub));
  auto& [binary, name] = found->second;
  if (binary->module == nullptr) {
    if (Error error = load_module(binary->image, 0, &binary->module)) return error;
  }
  return get_function(binary->module, name, out);
}

}  // namespace vgpu::hip

using namespace vgpu::hip;

HIP_API void** __hipRegisterFatBinary(const void* data) {
  const auto* wrapper = static_cast<const Wrapper*>(data);
  auto* binary = new FatBinary;
  if (wrapper->magic == kWrapperMagic) binary->image = wrapper->image;
  else log("__hipRegisterFatBinary: unknown wrapper magic %08x; its kernels cannot be launched", wrapper->magic);
  return reinterpret_cast<void**>(binary);
}

HIP_API void __hipUnregisterFatBinary(void** handle) {
  auto* binary = reinterpret_cast<FatBinary*>(handle);
  Registry& r = registry();
  std::lock_guard<std::mutex> lock(r.mutex);
  for (auto stub = r.stubs.begin(); stub != r.stubs.end();) {
    stub = stub->second.first == binary ? r.stubs.erase(stub) : std::next(stub);
  }
  delete binary;  // its module stays: a queued launch may still use it, and the process is ending
}

HIP_API void __hipRegisterFunction(void** handle, const void* stub, char*, const char* device_name, unsigned, void*, void*,
                                   void*, void*, int*) {
  Registry& r = registry();
  std::lock_guard<std::mutex> lock(r.mutex);
  r.stubs[stub] = {reinterpret_cast<FatBinary*>(handle), device_name};
}

HIP_API void __hipRegisterVar(void**, void*, char*, const char* name, int, size_t, int, int) {
  // Device variables are reached by hipModuleGetGlobal here; the hip*Symbol functions say so when called.
  trace("device variable %s registered", name);
}

HIP_API hipError_t __hipPushCallConfiguration(dim3 grid, dim3 block, size_t lds, hipStream_t stream) {
  configurations.push_back({grid, block, lds, stream});
  return hipSuccess;
}

HIP_API hipError_t __hipPopCallConfiguration(dim3* grid, dim3* block, size_t* lds, hipStream_t* stream) {
  if (configurations.empty()) return finish("__hipPopCallConfiguration", hipErrorMissingConfiguration);
  const Configuration top = configurations.back();
  configurations.pop_back();
  *grid = top.grid;
  *block = top.block;
  *lds = top.lds;
  *stream = top.stream;
  return hipSuccess;
}
