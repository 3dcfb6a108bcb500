// Running one kernel: the hand-over to the interpreter.
#include "core/estimate.h"
#include "core/log.h"
#include "core/memory.h"
#include "core/module.h"
#include "core/options.h"
#include "core/profile.h"
#include "core/record.h"
#include "core/work.h"

namespace vgpu::hip {

Error run_kernel(const KernelWork& work, const Place& place) {
  const Options& options = Options::get();
  LaunchOptions launch_options;
  launch_options.memory = &memory::map();
  launch_options.check_memory = options.check_memory;
  launch_options.check_uninit = options.check_uninit;
  launch_options.check_races = options.check_races;
  launch_options.check_hazards = options.check_hazards;
  launch_options.threads = options.threads;
  launch_options.max_instructions = options.max_instructions;
  launch_options.slice = options.slice;
  launch_options.fma_arithmetic = options.fma_arithmetic;
  if (!options.record.empty()) record_launch(work);
  const std::unique_ptr<timing::Sample> sample = begin_estimate(work);
  if (sample) launch_options.recorder = &sample->recorder;
  Counts counts;
  if (!options.profile.empty()) launch_options.counts = &counts;
  const Kernel& kernel = *work.function->kernel;
  trace("%s: %s grid %ux%ux%u block %ux%ux%u lds %u kernarg %zu", place.stream.c_str(), work.function->name.c_str(),
        work.grid.x, work.grid.y, work.grid.z, work.block.x, work.block.y, work.block.z, work.dynamic_lds,
        work.kernarg.size());
  const Status status = launch(kernel, {work.grid.x, work.grid.y, work.grid.z}, {work.block.x, work.block.y, work.block.z},
                               work.dynamic_lds, work.kernarg.data(), work.kernarg.size(), launch_options);
  if (!status) return Error(hipErrorLaunchFailure, status.message);
  if (!options.profile.empty()) write_profile(work, place, counts);
  if (sample) write_estimate(work, place, *sample);
  return Error();
}

}  // namespace vgpu::hip
