// Loaded code objects and the functions in them.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "core/work.h"
#include "isa/device.h"

namespace vgpu::hip {

struct Function {
  const Kernel* kernel = nullptr;
  std::shared_ptr<Module> module;  // queued launches outlive hipModuleUnload's caller otherwise
  std::string name;
  uint32_t max_dynamic_lds = 0;    // raised by hipFuncSetAttribute
};

struct LoadedModule {
  std::shared_ptr<Module> module;
  std::mutex mutex;
  std::map<std::string, std::unique_ptr<Function>> functions;
};

// `size` 0: read from the image's own headers.
Error load_module(const void* image, size_t size, LoadedModule** out);
// Unknown handles (also freed ones) are refused.
Error resolve(hipModule_t module);
Error unload_module(hipModule_t module);
Error get_function(LoadedModule* module, const std::string& name, Function** out);

// Host stubs registered by compiler generated code (__hipRegisterFunction). A device function pointer
// handed to HIP may be either: a hipFunction_t, or the address of such a stub.
Error function_of_stub(const void* stub, Function** out);
Error function_of(const void* function_or_stub, Function** out);

// The kernel's argument block from HIP's two ways of passing arguments. `extra` wins when both are given.
Error pack_kernarg(const Function& function, void** params, void** extra, std::vector<uint8_t>* out);
// Launch limits of the device and of the kernel.
Error check_launch(const KernelWork& work);

constexpr uint32_t kMaxThreadsPerBlock = 1024;
uint32_t lds_per_block();  // 64 KiB on gfx942, 160 KiB on gfx950

}  // namespace vgpu::hip
