// `vgpu run --estimate FILE`: one JSON object per line and launch.
#pragma once

#include "core/work.h"
#include "time/estimate.h"

namespace vgpu::hip {

// The sample of a launch that is about to run whole, or null when none is asked for. A malformed table ends the process.
std::unique_ptr<timing::Sample> begin_estimate(const KernelWork& work);
void write_estimate(const KernelWork& work, const Place& place, timing::Sample& sample);

}  // namespace vgpu::hip
