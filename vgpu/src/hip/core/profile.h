// `vgpu run --profile FILE`: one JSON object per line and launch.
#pragma once

#include "core/work.h"
#include "isa/device.h"

namespace vgpu::hip {

void write_profile(const KernelWork& work, const Place& place, const Counts& counts);

}  // namespace vgpu::hip
