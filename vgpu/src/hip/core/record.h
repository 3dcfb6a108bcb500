// VGPU_RECORD: the first launch of every kernel as a file that can be run again without the program, by vgpu/benchmarks/mutation.py.
#pragma once

#include <string>

#include "core/work.h"
#include "isa/device.h"

namespace vgpu::hip {

// Keeps a module's code object for the records of its kernels. Does nothing unless recording is on.
void keep_code_object(const Module* module, const void* image, size_t size);

// Writes the launch, with the memory that its arguments point to as it is now, unless the kernel has been recorded before.
void record_launch(const KernelWork& work);

}  // namespace vgpu::hip
