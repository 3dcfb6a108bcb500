// The HIP runtime, declared by hand: no HIP headers are needed to build.
#include <cstdio>
#include <mutex>

#include "driver.h"
#include "library.h"

namespace jax_aiter {
namespace {

using hipError_t = int;

// From hip_runtime_api.h: tags of hipModuleLaunchKernel's `extra` list.
void* const kLaunchParamBufferPointer = reinterpret_cast<void*>(0x01);
void* const kLaunchParamBufferSize = reinterpret_cast<void*>(0x02);
void* const kLaunchParamEnd = reinterpret_cast<void*>(0x03);

struct Functions {
  hipError_t (*GetDevice)(int*);
  hipError_t (*SetDevice)(int);
  hipError_t (*GetDeviceCount)(int*);
  hipError_t (*ModuleLoadData)(void**, const void*);
  hipError_t (*ModuleGetFunction)(void**, void*, const char*);
  hipError_t (*ModuleLaunchKernel)(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*,
                                   void**, void**);
  hipError_t (*MemsetD8Async)(void*, unsigned char, size_t, void*);
  hipError_t (*MemsetD16Async)(void*, unsigned short, size_t, void*);
  hipError_t (*MemsetD32Async)(void*, int, size_t, void*);
  hipError_t (*MemcpyDtoDAsync)(void*, void*, size_t, void*);
  const char* (*GetErrorName)(hipError_t);
  const char* (*GetErrorString)(hipError_t);

  Status Load() {
    Library library;
    JAX_AITER_RETURN_IF_ERROR(library.Open("libamdhip64", {"libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so"}));
    JAX_AITER_RETURN_IF_ERROR(library.Find(&GetDevice, {"hipGetDevice"}));
    JAX_AITER_RETURN_IF_ERROR(library.Find(&SetDevice, {"hipSetDevice"}));
    JAX_AITER_RETURN_IF_ERROR(library.Find(&GetDeviceCount, {"hipGetDeviceCount"}));
    JAX_AITER_RETURN_IF_ERROR(library.Find(&ModuleLoadData, {"hipModuleLoadData"}));
    JAX_AITER_RETURN_IF_ERROR(library.Find(&ModuleGetFunction, {"hipModuleGetFunction"}));
    JAX_AITER_RETURN_IF_ERROR(library.Find(&ModuleLaunchKernel, {"hipModuleLaunchKernel"}));
    JAX_AITER_RETURN_IF_ERROR(library.Find(&MemsetD8Async, {"hipMemsetD8Async"}));
    // XLA itself needs neither of these two, so a stand-in for HIP may lack one; Fill says so if it matters.
    library.FindOptional(&MemsetD16Async, {"hipMemsetD16Async"});
    JAX_AITER_RETURN_IF_ERROR(library.Find(&MemsetD32Async, {"hipMemsetD32Async"}));
    JAX_AITER_RETURN_IF_ERROR(library.Find(&MemcpyDtoDAsync, {"hipMemcpyDtoDAsync"}));
    JAX_AITER_RETURN_IF_ERROR(library.Find(&GetErrorName, {"hipGetErrorName"}));
    return library.Find(&GetErrorString, {"hipGetErrorString"});
  }
};

class Hip final : public Driver {
 public:
  const char* name() const override { return "HIP"; }

  Status Open(int ordinal) override {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!loaded_) {
      JAX_AITER_RETURN_IF_ERROR(hip_.Load());  // tried again next time if it fails: the library may come later
      loaded_ = true;
    }
    int count = 0;
    JAX_AITER_RETURN_IF_ERROR(Check(hip_.GetDeviceCount(&count), "hipGetDeviceCount"));
    if (ordinal < 0 || ordinal >= count) {
      return Status(Code::kFailedPrecondition,
                    "HIP device " + std::to_string(ordinal) + ", there are " + std::to_string(count));
    }
    return Status();
  }

  int Enter(int ordinal, Previous* previous) override {
    if (int code = hip_.GetDevice(&previous->ordinal)) return code;
    if (previous->ordinal == ordinal) return 0;
    int code = hip_.SetDevice(ordinal);
    previous->changed = code == 0;
    return code;
  }
  void Leave(const Previous& previous) override { (void)hip_.SetDevice(previous.ordinal); }

  Status LoadModule(const CodeObject& code, void** module) override {
    return Check(hip_.ModuleLoadData(module, code.image.data()), "hipModuleLoadData");
  }

  Status FindKernel(void* module, const Launch& launch, void** kernel) override {
    return Check(hip_.ModuleGetFunction(kernel, module, launch.symbol.c_str()), "hipModuleGetFunction");
  }

  int LaunchKernel(void* kernel, const Launch& launch, void* args, void* stream) override {
    size_t size = launch.blob.size();
    void* extra[] = {kLaunchParamBufferPointer, args, kLaunchParamBufferSize, &size, kLaunchParamEnd};
    const auto& g = launch.grid;
    const auto& b = launch.block;
    return hip_.ModuleLaunchKernel(kernel, g[0], g[1], g[2], b[0], b[1], b[2], launch.shared_bytes, stream, nullptr,
                                   extra);
  }

  int Fill(void* dst, uint32_t value, uint32_t width, uint64_t nbytes, void* stream) override {
    if (width == 1) return hip_.MemsetD8Async(dst, static_cast<unsigned char>(value), nbytes, stream);
    if (width == 4) return hip_.MemsetD32Async(dst, static_cast<int>(value), nbytes / 4, stream);
    if (hip_.MemsetD16Async == nullptr) return kNotSupported;
    return hip_.MemsetD16Async(dst, static_cast<unsigned short>(value), nbytes / 2, stream);
  }

  int Copy(void* dst, const void* src, uint64_t nbytes, void* stream) override {
    return hip_.MemcpyDtoDAsync(dst, const_cast<void*>(src), nbytes, stream);
  }

  std::string Describe(int code) const override {
    const char* name = hip_.GetErrorName(code);
    const char* text = hip_.GetErrorString(code);
    return std::string(name ? name : "error") + " (" + std::to_string(code) + "): " + (text ? text : "");
  }

 private:
  static constexpr int kNotSupported = 801;  // hipErrorNotSupported

  Status Check(int code, const char* call) const {
    if (code == 0) return Status();
    return Status(Code::kInternal, std::string(call) + " failed: " + Describe(code));
  }

  std::mutex mutex_;
  bool loaded_ = false;
  Functions hip_{};
};

}  // namespace

Driver& HipDriver() {
  static Hip* driver = new Hip;  // never destroyed: XLA threads may outlive static destructors
  return *driver;
}

}  // namespace jax_aiter
