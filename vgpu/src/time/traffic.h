// Bytes beyond the caches: which lines the workgroups of a launch share, extrapolated from those of a few.
#pragma once

#include <vector>

#include "isa/device.h"
#include "time/table.h"
#include "time/trace.h"

namespace vgpu::timing {

struct Traffic {
  double fabric_lines = 0;  // that some die's L2 must fetch
  double hbm_lines = 0;     // that memory must deliver
};

// What the traced workgroups touch of one allocation.
struct Allocated {
  double lines = 0;                       // of the allocation
  double each = 0;                        // that one workgroup touches
  bool along[3] = {false, false, false};  // workgroups that differ along this axis touch other ones
  bool local = false;                     // along some axis neighbours touch the same ones and far workgroups do not
};

// `traces`: of workgroups that run on, some of which differ along one axis alone.
std::vector<Allocated> sharing(unsigned line_bytes, const std::vector<const GroupTrace*>& traces, const MemoryMap* memory);

// `groups`: how many there are of the kind. `at_once`: on the device.
Traffic traffic(const Table& table, Dim3 grid, const std::vector<Allocated>& allocations, double groups, double at_once);

}  // namespace vgpu::timing
