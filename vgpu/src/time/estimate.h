// Microseconds of a launch, from the traces of some of its workgroups.
#pragma once

#include <string>

#include "isa/device.h"
#include "time/traffic.h"
#include "time/unit.h"

namespace vgpu::timing {

struct Estimate {
  double microseconds = 0, sampling_error = 0;  // the error: relative, one standard deviation
  double launch_us = 0, cycles = 0;             // cycles: of the busiest compute unit
  double groups = 0, long_groups = 0;           // of the grid; of these, those that do not end at once
  unsigned resident = 0, traced = 0;            // workgroups: on a compute unit; in the sample
  double active_units = 0, groups_per_unit = 0;
  double request_bytes = 0, fabric_bytes = 0, hbm_bytes = 0;  // of the launch: beyond L1, beyond L2, beyond the MALL
  double line_cycles = 0, latency = 0;
  std::string bound;                            // what limits lines: l1, l2, mall, hbm
  UnitResult unit;                              // of the workgroups simulated
  std::string json() const;
};

// Which workgroups of a grid to trace: spread over it, with a neighbour along each axis. `among`: ascending linear indices.
std::vector<uint64_t> spread(Dim3 grid, const std::vector<uint64_t>& among, unsigned count);

// The fraction of workgroups that run on, and which of those counted do: the others do less than a third of the longest.
struct Kinds {
  double fraction = 1, error = 0;
  uint64_t least = 0;  // instructions of one that counts
};
Kinds kinds(const std::vector<std::pair<uint64_t, uint64_t>>& executed, uint64_t groups);

// A launch's sample: all that an estimate needs, for any device that has the same lines and banks.
struct Sample {
  Dim3 grid;
  unsigned waves = 0, registers = 0;  // of a workgroup; of a lane
  uint32_t lds_bytes = 0;
  Kinds kinds;
  Recorder recorder;
  std::vector<const GroupTrace*> traces;  // in `recorder`: of workgroups that count
  std::vector<Allocated> allocations;
  // From a launch that `recorder` watched.
  void finish(const Kernel& kernel, Dim3 block, uint32_t dynamic_lds, const MemoryMap* memory);
};

Estimate estimate(const Table& table, const Sample& sample);

// Runs `count` workgroups and neighbours of them, and no others: what the launch leaves in memory is nothing to rely on.
Status take_sample(const Table& table, const Kernel& kernel, Dim3 grid, Dim3 block, uint32_t dynamic_lds, const void* kernarg,
                   size_t kernarg_size, LaunchOptions options, unsigned count, Sample* out);

}  // namespace vgpu::timing
