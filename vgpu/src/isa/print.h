// Pieces of the printer that its files share.
#pragma once

#include <string>

#include "isa/inst.h"

namespace vgpu::isa {

std::string number(const char* format, long long x);

// A register, constant or literal operand of the given width in dwords.
std::string operand(unsigned code, unsigned width, const Inst& inst);

std::string print_memory(const Inst& inst);

}  // namespace vgpu::isa
