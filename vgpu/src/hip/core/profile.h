// `vgpu run --profile FILE`: one JSON object per line and launch.
#pragma once

#include "core/work.h"
#include "isa/device.h"

namespace vgpu::hip {

// As a JSON string.
std::string quoted(const std::string& text);

void write_profile(const KernelWork& work, const Place& place, const Counts& counts);

}  // namespace vgpu::hip
