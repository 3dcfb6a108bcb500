// HIP's node parameter structs as work.
#pragma once

#include "core/work.h"

namespace vgpu::hip {

Error kernel_work(const hipKernelNodeParams* params, Work* out);
Error fill_work(const hipMemsetParams* params, Work* out);

}  // namespace vgpu::hip
