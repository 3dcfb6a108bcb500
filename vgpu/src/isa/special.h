#pragma once

#include "isa/wave.h"

namespace vgpu::isa {

// Executes one instruction while GPR-index mode or VSKIP is on.
void exec_special(Wave& w, const Op& op, Handler fn);

}  // namespace vgpu::isa
