// Runs the workgroups of a launch on one worker thread.
#pragma once

#include "isa/launch_state.h"
#include "isa/wave.h"

namespace vgpu::isa {

// Takes workgroups from the launch until none is left. Errors go to launch.error and stop the launch.
void work(LaunchState& launch);

// Sets up a workgroup's waves as the hardware's dispatcher would (dispatch.cc).
void start_group(const LaunchState& launch, uint64_t linear, Worker& worker, Workgroup& group);

}  // namespace vgpu::isa
