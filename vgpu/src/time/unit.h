// One compute unit working through workgroups: a simulation by instruction of its waves, from their traces.
#pragma once

#include "time/table.h"
#include "time/trace.h"

namespace vgpu::timing {

// The memory beyond the first cache, as this compute unit sees it while others work too.
struct Share {
  double line_cycles = 0;   // between two lines that miss
  double latency = 0;       // of a line that misses
};

struct Busy {  // cycles, of one SIMD in the mean, or of the unit that the compute unit has one of
  double matrix = 0, vector = 0, scalar = 0, lds = 0, vector_memory = 0;
};
struct Stalls {  // cycles that waves spent, summed
  double vector_memory = 0, lds = 0, barrier = 0, fetch = 0;
};

struct UnitResult {
  double cycles = 0;         // until the last workgroup ended
  std::vector<double> ends;  // of each workgroup
  Busy busy;
  Stalls stalls;
  double misses = 0, requests = 0;  // lines
};

// `groups` one after another, at most `resident` at once.
UnitResult simulate(const Table& table, const std::vector<Instruction>& code, const std::vector<const GroupTrace*>& groups,
                    unsigned resident, const Share& share);

}  // namespace vgpu::timing
