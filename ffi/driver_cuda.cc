// The CUDA driver API, declared by hand: no CUDA headers are needed to build.
#include <array>
#include <atomic>
#include <mutex>

#include "driver.h"
#include "library.h"

namespace jax_aiter {
namespace {

using CUresult = int;
using CUdeviceptr = unsigned long long;

// From cuda.h.
void* const kLaunchParamEnd = nullptr;
void* const kLaunchParamBufferPointer = reinterpret_cast<void*>(0x01);
void* const kLaunchParamBufferSize = reinterpret_cast<void*>(0x02);
constexpr CUresult kErrorInvalidValue = 1;
constexpr int kFuncMaxThreadsPerBlock = 0;
constexpr int kFuncSharedSizeBytes = 1;
constexpr int kFuncMaxDynamicSharedSizeBytes = 8;
constexpr int kDeviceMaxSharedPerBlockOptin = 97;
constexpr uint32_t kDefaultSharedLimit = 48 * 1024;
constexpr int kMaxDevices = 64;

struct Functions {
  CUresult (*Init)(unsigned);
  CUresult (*DeviceGet)(int*, int);
  CUresult (*DeviceGetAttribute)(int*, int, int);
  CUresult (*DevicePrimaryCtxRetain)(void**, int);
  CUresult (*CtxGetCurrent)(void**);
  CUresult (*CtxGetDevice)(int*);
  CUresult (*CtxPushCurrent)(void*);
  CUresult (*CtxPopCurrent)(void**);
  CUresult (*ModuleLoadData)(void**, const void*);
  CUresult (*ModuleGetFunction)(void**, void*, const char*);
  CUresult (*FuncGetAttribute)(int*, int, void*);
  CUresult (*FuncSetAttribute)(void*, int, int);
  CUresult (*FuncGetParamInfo)(void*, size_t, size_t*, size_t*);  // since CUDA 12.4
  CUresult (*LaunchKernel)(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**,
                           void**);
  CUresult (*MemsetD8Async)(CUdeviceptr, unsigned char, size_t, void*);
  CUresult (*MemsetD16Async)(CUdeviceptr, unsigned short, size_t, void*);
  CUresult (*MemsetD32Async)(CUdeviceptr, unsigned, size_t, void*);
  CUresult (*MemcpyDtoDAsync)(CUdeviceptr, CUdeviceptr, size_t, void*);
  CUresult (*GetErrorName)(CUresult, const char**);
  CUresult (*GetErrorString)(CUresult, const char**);

  // The _v2 names are what cuda.h's macros call today; the plain ones are 32-bit relics.
  Status Load() {
    Library library;
    JAX_AITER_RETURN_IF_ERROR(library.Open("libcuda.so", {"libcuda.so.1", "libcuda.so"}));
    JAX_AITER_RETURN_IF_ERROR(library.Find(&Init, {"cuInit"}));
    JAX_AITER_RETURN_IF_ERROR(library.Find(&DeviceGet, {"cuDeviceGet"}));
    JAX_AITER_RETURN_IF_ERROR(library.Find(&DeviceGetAttribute, {"cuDeviceGetAttribute"}));
    JAX_AITER_RETURN_IF_ERROR(library.Find(&DevicePrimaryCtxRetain, {"cuDevicePrimaryCtxRetain"}));
    JAX_AITER_RETURN_IF_ERROR(library.Find(&CtxGetCurrent, {"cuCtxGetCurrent"}));
    JAX_AITER_RETURN_IF_ERROR(library.Find(&CtxGetDevice, {"cuCtxGetDevice"}));
    JAX_AITER_RETURN_IF_ERROR(library.Find(&CtxPushCurrent, {"cuCtxPushCurrent_v2"}));
    JAX_AITER_RETURN_IF_ERROR(library.Find(&CtxPopCurrent, {"cuCtxPopCurrent_v2"}));
    JAX_AITER_RETURN_IF_ERROR(library.Find(&ModuleLoadData, {"cuModuleLoadData"}));
    JAX_AITER_RETURN_IF_ERROR(library.Find(&ModuleGetFunction, {"cuModuleGetFunction"}));
    JAX_AITER_RETURN_IF_ERROR(library.Find(&FuncGetAttribute, {"cuFuncGetAttribute"}));
    JAX_AITER_RETURN_IF_ERROR(library.Find(&FuncSetAttribute, {"cuFuncSetAttribute"}));
    library.FindOptional(&FuncGetParamInfo, {"cuFuncGetParamInfo"});
    JAX_AITER_RETURN_IF_ERROR(library.Find(&LaunchKernel, {"cuLaunchKernel"}));
    JAX_AITER_RETURN_IF_ERROR(library.Find(&MemsetD8Async, {"cuMemsetD8Async"}));
    JAX_AITER_RETURN_IF_ERROR(library.Find(&MemsetD16Async, {"cuMemsetD16Async"}));
    JAX_AITER_RETURN_IF_ERROR(library.Find(&MemsetD32Async, {"cuMemsetD32Async"}));
    JAX_AITER_RETURN_IF_ERROR(library.Find(&MemcpyDtoDAsync, {"cuMemcpyDtoDAsync_v2"}));
    JAX_AITER_RETURN_IF_ERROR(library.Find(&GetErrorName, {"cuGetErrorName"}));
    return library.Find(&GetErrorString, {"cuGetErrorString"});
  }
};

class Cuda final : public Driver {
 public:
  const char* name() const override { return "CUDA"; }

  Status Open(int ordinal) override {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!loaded_) {
      JAX_AITER_RETURN_IF_ERROR(cu_.Load());  // tried again next time if it fails: the library may come later
      loaded_ = true;
    }
    if (ordinal < 0 || ordinal >= kMaxDevices) {
      return Status(Code::kUnimplemented, "CUDA device " + std::to_string(ordinal) + ", at most " +
                                              std::to_string(kMaxDevices) + " are supported");
    }
    if (contexts_[ordinal].load(std::memory_order_acquire)) return Status();
    JAX_AITER_RETURN_IF_ERROR(Check(cu_.Init(0), "cuInit"));
    int device = 0;
    void* context = nullptr;
    JAX_AITER_RETURN_IF_ERROR(Check(cu_.DeviceGet(&device, ordinal), "cuDeviceGet"));
    // The primary context is XLA's, and the one its streams belong to. Never released, as modules live in it.
    JAX_AITER_RETURN_IF_ERROR(Check(cu_.DevicePrimaryCtxRetain(&context, device), "cuDevicePrimaryCtxRetain"));
    contexts_[ordinal].store(context, std::memory_order_release);
    return Status();
  }

  // XLA may call from a thread that has another device's context current, or none.
  int Enter(int ordinal, Previous* previous) override {
    void* wanted = contexts_[ordinal].load(std::memory_order_acquire);
    if (int code = cu_.CtxGetCurrent(&previous->context)) return code;
    if (previous->context == wanted) return 0;
    int code = cu_.CtxPushCurrent(wanted);
    previous->changed = code == 0;
    return code;
  }
  void Leave(const Previous&) override {
    void* popped = nullptr;
    (void)cu_.CtxPopCurrent(&popped);
  }

  Status LoadModule(const CodeObject& code, void** module) override {
    return Check(cu_.ModuleLoadData(module, code.image.data()), "cuModuleLoadData");
  }

  Status FindKernel(void* module, const Launch& launch, void** kernel) override {
    JAX_AITER_RETURN_IF_ERROR(
        Check(cu_.ModuleGetFunction(kernel, module, launch.symbol.c_str()), "cuModuleGetFunction"));
    JAX_AITER_RETURN_IF_ERROR(CheckBlock(*kernel, launch));
    JAX_AITER_RETURN_IF_ERROR(AllowShared(*kernel, launch));
    return CheckParams(*kernel, launch);
  }

  int LaunchKernel(void* kernel, const Launch& launch, void* args, void* stream) override {
    size_t size = launch.blob.size();
    void* extra[] = {kLaunchParamBufferPointer, args, kLaunchParamBufferSize, &size, kLaunchParamEnd};
    const auto& g = launch.grid;
    const auto& b = launch.block;
    return cu_.LaunchKernel(kernel, g[0], g[1], g[2], b[0], b[1], b[2], launch.shared_bytes, stream, nullptr, extra);
  }

  int Fill(void* dst, uint32_t value, uint32_t width, uint64_t nbytes, void* stream) override {
    CUdeviceptr to = reinterpret_cast<CUdeviceptr>(dst);
    if (width == 1) return cu_.MemsetD8Async(to, static_cast<unsigned char>(value), nbytes, stream);
    if (width == 2) return cu_.MemsetD16Async(to, static_cast<unsigned short>(value), nbytes / 2, stream);
    return cu_.MemsetD32Async(to, value, nbytes / 4, stream);
  }

  int Copy(void* dst, const void* src, uint64_t nbytes, void* stream) override {
    return cu_.MemcpyDtoDAsync(reinterpret_cast<CUdeviceptr>(dst), reinterpret_cast<CUdeviceptr>(src), nbytes, stream);
  }

  std::string Describe(int code) const override {
    const char* name = nullptr;
    const char* text = nullptr;
    cu_.GetErrorName(code, &name);
    cu_.GetErrorString(code, &text);
    return std::string(name ? name : "error") + " (" + std::to_string(code) + "): " + (text ? text : "");
  }

 private:
  Status Check(int code, const char* call) const {
    if (code == 0) return Status();
    return Status(Code::kInternal, std::string(call) + " failed: " + Describe(code));
  }

  // Asking for an attribute also makes the driver load the kernel now: under CUDA's lazy loading the first launch
  // would do it, which may synchronise and is not allowed during graph capture.
  Status CheckBlock(void* kernel, const Launch& launch) const {
    int most = 0;
    JAX_AITER_RETURN_IF_ERROR(
        Check(cu_.FuncGetAttribute(&most, kFuncMaxThreadsPerBlock, kernel), "cuFuncGetAttribute"));
    uint64_t threads = uint64_t{launch.block[0]} * launch.block[1] * launch.block[2];
    if (threads <= static_cast<uint64_t>(most)) return Status();
    return Invalid(std::to_string(threads) + " threads per block, this kernel allows " + std::to_string(most));
  }

  // Above 48 KiB a kernel must opt in. The limit belongs to the kernel, which other plans launch with other sizes, so it
  // is only ever raised; and to what is needed, not to all the device has, as the driver may go by it when it splits the
  // memory that L1 and shared memory have in common. Nothing else is said about that split: asking for shared memory, as
  // Triton's loader does, makes kernels that spill registers up to 1.3 times slower on an H200.
  Status AllowShared(void* kernel, const Launch& launch) {
    int device = 0, optin = 0, fixed = 0, limit = 0;
    JAX_AITER_RETURN_IF_ERROR(Check(cu_.CtxGetDevice(&device), "cuCtxGetDevice"));
    JAX_AITER_RETURN_IF_ERROR(Check(cu_.FuncGetAttribute(&fixed, kFuncSharedSizeBytes, kernel), "cuFuncGetAttribute"));
    uint64_t total = uint64_t{launch.shared_bytes} + static_cast<uint64_t>(fixed);
    if (total <= kDefaultSharedLimit) return Status();
    JAX_AITER_RETURN_IF_ERROR(
        Check(cu_.DeviceGetAttribute(&optin, kDeviceMaxSharedPerBlockOptin, device), "cuDeviceGetAttribute"));
    if (total > static_cast<uint64_t>(optin)) {
      return Invalid(std::to_string(total) + " bytes of shared memory per block, the device has " +
                     std::to_string(optin));
    }
    std::lock_guard<std::mutex> lock(mutex_);  // two plans may raise the limit of one kernel at once
    JAX_AITER_RETURN_IF_ERROR(
        Check(cu_.FuncGetAttribute(&limit, kFuncMaxDynamicSharedSizeBytes, kernel), "cuFuncGetAttribute"));
    const int needed = static_cast<int>(launch.shared_bytes);
    if (limit >= needed) return Status();
    return Check(cu_.FuncSetAttribute(kernel, kFuncMaxDynamicSharedSizeBytes, needed), "cuFuncSetAttribute");
  }

  // A wrong argument layout would make the kernel read garbage addresses. Newer drivers can tell.
  Status CheckParams(void* kernel, const Launch& launch) const {
    if (cu_.FuncGetParamInfo == nullptr || launch.params.empty()) return Status();
    for (size_t i = 0;; ++i) {
      size_t offset = 0, size = 0;
      CUresult code = cu_.FuncGetParamInfo(kernel, i, &offset, &size);
      if (code == kErrorInvalidValue) {  // the documented answer past the last parameter
        if (i == launch.params.size()) return Status();
        return Invalid("the plan passes " + std::to_string(launch.params.size()) + " parameters, the kernel takes " +
                       std::to_string(i));
      }
      JAX_AITER_RETURN_IF_ERROR(Check(code, "cuFuncGetParamInfo"));
      if (i == launch.params.size()) {
        return Invalid("the plan passes " + std::to_string(i) + " parameters, the kernel takes more");
      }
      const Param& p = launch.params[i];
      if (p.offset == offset && p.size == size) continue;
      return Invalid("parameter " + std::to_string(i) + " is " + std::to_string(p.size) + " bytes at offset " +
                     std::to_string(p.offset) + ", the kernel expects " + std::to_string(size) + " at " +
                     std::to_string(offset));
    }
  }

  std::mutex mutex_;
  bool loaded_ = false;
  Functions cu_{};
  std::array<std::atomic<void*>, kMaxDevices> contexts_{};
};

}  // namespace

Driver& CudaDriver() {
  static Cuda* driver = new Cuda;  // never destroyed: XLA threads may outlive static destructors
  return *driver;
}

}  // namespace jax_aiter
