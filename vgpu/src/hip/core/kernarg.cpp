// From HIP's launch parameters to the bytes that a kernel reads.
#include <cstring>

#include "core/log.h"
#include "core/module.h"

namespace vgpu::hip {
namespace {

constexpr const char kHidden[] = "hidden_";

Error from_extra(void** extra, std::vector<uint8_t>* out) {
  const void* data = nullptr;
  size_t size = 0;
  bool has_size = false;
  for (; *extra != kLaunchParamEnd; extra += 2) {
    if (extra[0] == kLaunchParamBufferPointer) {
      data = extra[1];
    } else if (extra[0] == kLaunchParamBufferSize) {
      size = *static_cast<const size_t*>(extra[1]);
      has_size = true;
    } else {
      return Error(hipErrorInvalidValue, format("unknown launch parameter %p in `extra`", extra[0]));
    }
  }
  if (!has_size || (size != 0 && data == nullptr)) {
    return Error(hipErrorInvalidValue, "`extra` lacks HIP_LAUNCH_PARAM_BUFFER_POINTER or _SIZE");
  }
  const auto* bytes = static_cast<const uint8_t*>(data);
  out->assign(bytes, bytes + size);
  return Error();
}

}  // namespace

Error pack_kernarg(const Function& function, void** params, void** extra, std::vector<uint8_t>* out) {
  out->clear();
  if (extra != nullptr) return from_extra(extra, out);
  const Kernel& kernel = *function.kernel;
  if (kernel.args.empty() && kernel.kernarg_size != 0 && params != nullptr) {
    return Error(hipErrorInvalidValue, function.name + " has no argument metadata: pass HIP_LAUNCH_PARAM_BUFFER_POINTER");
  }
  size_t index = 0;
  for (const KernelArg& arg : kernel.args) {
    if (arg.kind.compare(0, sizeof kHidden - 1, kHidden) == 0) continue;
    if (params == nullptr || params[index] == nullptr) {
      return Error(hipErrorInvalidValue, format("argument %zu of %s is missing", index, function.name.c_str()));
    }
    if (out->size() < arg.offset + arg.size) out->resize(arg.offset + arg.size);
    std::memcpy(out->data() + arg.offset, params[index++], arg.size);
  }
  return Error();
}

Error check_launch(const KernelWork& work) {
  const Kernel& kernel = *work.function->kernel;
  const dim3& b = work.block;
  const dim3& g = work.grid;
  const uint64_t threads = uint64_t{b.x} * b.y * b.z;
  const char* name = work.function->name.c_str();
  if (threads == 0 || g.x == 0 || g.y == 0 || g.z == 0) {
    return Error(hipErrorInvalidConfiguration, format("%s: grid %ux%ux%u, block %ux%ux%u: every dimension must be at least 1",
                                                      name, g.x, g.y, g.z, b.x, b.y, b.z));
  }
  if (threads > kMaxThreadsPerBlock || threads > kernel.max_flat_workgroup_size) {
    return Error(hipErrorInvalidConfiguration, format("%s: a block of %lu work-items, the kernel allows %u and the device %u",
                                                      name, (unsigned long)threads, kernel.max_flat_workgroup_size,
                                                      kMaxThreadsPerBlock));
  }
  // The packet that starts a kernel counts work-items in 32 bits.
  if (uint64_t{g.x} * b.x > UINT32_MAX || uint64_t{g.y} * b.y > UINT32_MAX || uint64_t{g.z} * b.z > UINT32_MAX) {
    return Error(hipErrorInvalidConfiguration, format("%s: grid %ux%ux%u has 2^32 work-items or more in a dimension", name, g.x, g.y, g.z));
  }
  if (uint64_t{kernel.lds_bytes} + work.dynamic_lds > lds_per_block()) {
    return Error(hipErrorInvalidValue, format("%s: %u + %u bytes of LDS, the device has %u", name, kernel.lds_bytes,
                                              work.dynamic_lds, lds_per_block()));
  }
  return Error();
}

}  // namespace vgpu::hip
