// A process-wide thread pool. The calling thread always takes part, so that a launch makes progress even when every
// helper is busy with another.
#pragma once

#include <functional>

namespace vgpu::isa {

// Runs `work` in the caller and in up to `helpers` pool threads at once; returns when all of them are done.
void run_with_helpers(unsigned helpers, const std::function<void()>& work);

unsigned hardware_threads();

}  // namespace vgpu::isa
