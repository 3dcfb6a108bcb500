// Modules, functions and occupancy.
#include <algorithm>
#include <cstdio>

#include "abi/types.h"
#include "core/log.h"
#include "core/module.h"
#include "core/options.h"

using namespace vgpu;
using namespace vgpu::hip;

namespace {

Error load_file(const char* path, hipModule_t* out) {
  std::FILE* file = std::fopen(path, "rb");
  if (file == nullptr) return Error(hipErrorInvalidValue, format("cannot read %s", path));
  std::vector<char> bytes;
  char chunk[65536];
  for (size_t got; (got = std::fread(chunk, 1, sizeof chunk, file)) != 0;) bytes.insert(bytes.end(), chunk, chunk + got);
  std::fclose(file);
  if (bytes.size() < 64) return Error(hipErrorInvalidImage, format("%s is too short", path));
  return load_module(bytes.data(), bytes.size(), out);
}

Error global(hipDeviceptr_t* ptr, size_t* size, hipModule_t module, const char* name) {
  if (Error error = resolve(module)) return error;
  const auto found = module->module->global(name);
  if (!found) return Error(hipErrorNotFound, format("no global is called %s", name));
  if (ptr != nullptr) *ptr = found->ptr;
  if (size != nullptr) *size = found->size;
  return Error();
}

Error attribute(int* value, hipFunction_attribute which, const void* handle) {
  Function* function = nullptr;
  if (Error error = function_of(handle, &function)) return error;
  const Kernel& kernel = *function->kernel;
  switch (which) {
    case HIP_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = kernel.max_flat_workgroup_size; break;
    case HIP_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES: *value = kernel.lds_bytes; break;
    case HIP_FUNC_ATTRIBUTE_CONST_SIZE_BYTES: *value = 0; break;
    case HIP_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES: *value = kernel.scratch_bytes; break;
    case HIP_FUNC_ATTRIBUTE_NUM_REGS: *value = kernel.vgprs; break;
    case HIP_FUNC_ATTRIBUTE_PTX_VERSION:
    case HIP_FUNC_ATTRIBUTE_BINARY_VERSION: *value = Options::get().arch == Arch::gfx950 ? 95 : 94; break;
    case HIP_FUNC_ATTRIBUTE_CACHE_MODE_CA: *value = 0; break;
    case HIP_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: *value = lds_per_block() - kernel.lds_bytes; break;
    case HIP_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT: *value = 0; break;
    default: return Error(hipErrorInvalidValue, format("function attribute %d", which));
  }
  return Error();
}

Error set_attribute(const void* handle, int which, int value) {
  Function* function = nullptr;
  if (Error error = function_of(handle, &function)) return error;
  if (which == HIP_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT) return Error();  // a hint
  if (which != HIP_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) return Error(hipErrorInvalidValue, "attribute cannot be set");
  if (value < 0 || value + function->kernel->lds_bytes > lds_per_block()) {
    return Error(hipErrorInvalidValue, format("%d bytes of dynamic LDS, the device has %u", value, lds_per_block()));
  }
  function->max_dynamic_lds = value;
  return Error();
}

// Workgroups that fit on one compute unit: limited by VGPRs (512 per lane on each of 4 SIMDs, in steps of 8),
// by 8 waves per SIMD, and by LDS.
Error occupancy(int* blocks, const void* handle, int block_size, size_t dynamic_lds) {
  Function* function = nullptr;
  if (Error error = function_of(handle, &function)) return error;
  const Kernel& kernel = *function->kernel;
  if (block_size <= 0 || block_size > int(kernel.max_flat_workgroup_size)) return *blocks = 0, Error();
  const unsigned vgprs = std::max(8u, (kernel.vgprs + 7) / 8 * 8);
  const unsigned waves_per_simd = std::min(8u, 512 / vgprs);
  const unsigned waves = (block_size + 63) / 64;
  unsigned fit = 4 * waves_per_simd / waves;
  const size_t lds = kernel.lds_bytes + dynamic_lds;
  if (lds != 0) fit = std::min<size_t>(fit, lds_per_block() / lds);
  *blocks = fit;
  return Error();
}

Error potential(int* grid, int* block, const void* handle, size_t dynamic_lds, int limit) {
  Function* function = nullptr;
  if (Error error = function_of(handle, &function)) return error;
  const int most = function->kernel->max_flat_workgroup_size;
  *block = limit > 0 ? std::min(limit, most) : most;
  int per_unit = 0;
  if (Error error = occupancy(&per_unit, handle, *block, dynamic_lds)) return error;
  *grid = std::max(1, per_unit) * (Options::get().arch == Arch::gfx950 ? 256 : 304);
  return Error();
}

}  // namespace

HIP_API hipError_t hipModuleLoadData(hipModule_t* module, const void* image) {
  return finish(__func__, load_module(image, 0, module));
}
HIP_API hipError_t hipModuleLoadDataEx(hipModule_t* module, const void* image, unsigned, void*, void**) {
  return finish(__func__, load_module(image, 0, module));
}
HIP_API hipError_t hipModuleLoad(hipModule_t* module, const char* path) { return finish(__func__, load_file(path, module)); }
HIP_API hipError_t hipModuleUnload(hipModule_t module) { return finish(__func__, unload_module(module)); }

HIP_API hipError_t hipModuleGetFunction(hipFunction_t* function, hipModule_t module, const char* name) {
  if (Error error = resolve(module)) return finish(__func__, error);
  return finish(__func__, get_function(module, name, function));
}
HIP_API hipError_t hipModuleGetGlobal(hipDeviceptr_t* ptr, size_t* size, hipModule_t module, const char* name) {
  return finish(__func__, global(ptr, size, module, name));
}
HIP_API hipError_t hipGetFuncBySymbol(hipFunction_t* function, const void* symbol) {
  return finish(__func__, function_of_stub(symbol, function));
}
HIP_API hipError_t hipFuncGetAttribute(int* value, hipFunction_attribute which, hipFunction_t function) {
  return finish(__func__, attribute(value, which, function));
}
HIP_API hipError_t hipFuncSetAttribute(const void* function, int which, int value) {
  return finish(__func__, set_attribute(function, which, value));
}
HIP_API hipError_t hipFuncSetCacheConfig(const void*, int) { return hipSuccess; }  // a hint AMD devices ignore

HIP_API hipError_t hipFuncGetAttributes(hipFuncAttributes* out, const void* handle) {
  *out = {};
  int local = 0, shared = 0;
  const std::pair<hipFunction_attribute, int*> wanted[] = {
      {HIP_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, &out->maxThreadsPerBlock},
      {HIP_FUNC_ATTRIBUTE_NUM_REGS, &out->numRegs},
      {HIP_FUNC_ATTRIBUTE_BINARY_VERSION, &out->binaryVersion},
      {HIP_FUNC_ATTRIBUTE_PTX_VERSION, &out->ptxVersion},
      {HIP_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, &out->maxDynamicSharedSizeBytes},
      {HIP_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES, &local},
      {HIP_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, &shared}};
  for (const auto& [which, value] : wanted) {
    if (Error error = attribute(value, which, handle)) return finish(__func__, error);
  }
  out->localSizeBytes = local;
  out->sharedSizeBytes = shared;
  return hipSuccess;
}

HIP_API hipError_t hipModuleOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, hipFunction_t function, int size, size_t lds) {
  return finish(__func__, occupancy(blocks, function, size, lds));
}
HIP_API hipError_t hipModuleOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, hipFunction_t function, int size,
                                                                               size_t lds, unsigned) {
  return finish(__func__, occupancy(blocks, function, size, lds));
}
HIP_API hipError_t hipOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* function, int size, size_t lds) {
  return finish(__func__, occupancy(blocks, function, size, lds));
}
HIP_API hipError_t hipModuleOccupancyMaxPotentialBlockSize(int* grid, int* block, hipFunction_t function, size_t lds, int limit) {
  return finish(__func__, potential(grid, block, function, lds, limit));
}
HIP_API hipError_t hipOccupancyMaxPotentialBlockSize(int* grid, int* block, const void* function, size_t lds, int limit) {
  return finish(__func__, potential(grid, block, function, lds, limit));
}
