// Kernel launches.
#include "abi/types.h"
#include "core/log.h"
#include "core/module.h"
#include "core/stream.h"

using namespace vgpu::hip;

namespace {

Error launch(const void* handle, dim3 grid, dim3 block, size_t lds, hipStream_t stream_handle, void** params, void** extra) {
  Stream* stream = nullptr;
  if (Error error = resolve(stream_handle, &stream)) return error;
  KernelWork work;
  if (Error error = function_of(handle, &work.function)) return error;
  work.grid = grid;
  work.block = block;
  work.dynamic_lds = static_cast<uint32_t>(lds);
  if (Error error = check_launch(work)) return error;
  if (Error error = pack_kernarg(*work.function, params, extra, &work.kernarg)) return error;
  return vgpu::hip::launch(stream, std::move(work));
}

// HIP's "Ext" launch counts work-items, not workgroups.
Error launch_global(const void* handle, dim3 global, dim3 block, size_t lds, hipStream_t stream, void** params, void** extra) {
  if (block.x == 0 || block.y == 0 || block.z == 0) return Error(hipErrorInvalidConfiguration, "empty block");
  if (global.x % block.x || global.y % block.y || global.z % block.z) {
    return Error(hipErrorNotSupported, "a grid that is no multiple of the block (partial workgroups)");
  }
  return launch(handle, {global.x / block.x, global.y / block.y, global.z / block.z}, block, lds, stream, params, extra);
}

}  // namespace

HIP_API hipError_t hipModuleLaunchKernel(hipFunction_t function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                                         unsigned bz, unsigned lds, hipStream_t stream, void** params, void** extra) {
  return finish(__func__, launch(function, {gx, gy, gz}, {bx, by, bz}, lds, stream, params, extra));
}

HIP_API hipError_t hipExtModuleLaunchKernel(hipFunction_t function, uint32_t gx, uint32_t gy, uint32_t gz, uint32_t bx,
                                            uint32_t by, uint32_t bz, size_t lds, hipStream_t stream, void** params,
                                            void** extra, hipEvent_t start, hipEvent_t stop, uint32_t) {
  Stream* resolved = nullptr;
  if (Error error = resolve(stream, &resolved)) return finish(__func__, error);
  if (start != nullptr) record(start, resolved);
  Error error = launch_global(function, {gx, gy, gz}, {bx, by, bz}, lds, stream, params, extra);
  if (stop != nullptr && !error) record(stop, resolved);
  return finish(__func__, error);
}

HIP_API hipError_t hipLaunchKernel(const void* function, dim3 grid, dim3 block, void** params, size_t lds, hipStream_t stream) {
  return finish(__func__, launch(function, grid, block, lds, stream, params, nullptr));
}

// Grid-wide synchronisation needs every workgroup resident at once, which the interpreter does not promise.
HIP_API hipError_t hipLaunchCooperativeKernel(const void*, dim3, dim3, void**, unsigned, hipStream_t) {
  return finish(__func__, not_supported("hipLaunchCooperativeKernel"));
}
HIP_API hipError_t hipModuleLaunchCooperativeKernel(hipFunction_t, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                                                    unsigned, hipStream_t, void**) {
  return finish(__func__, not_supported("hipModuleLaunchCooperativeKernel"));
}
