#include "isa/inst.h"
namespace vgpu::isa {
std::string print(const Inst& inst) { return inst.info->mnemonic; }
}
namespace vgpu {
std::string disassemble(const void* code, size_t available, Arch arch, unsigned* size) {
  isa::Inst inst;
  if (!isa::decode(static_cast<const uint32_t*>(code), available / 4, arch, &inst)) { *size = 0; return ""; }
  *size = inst.bytes;
  return isa::print(inst);
}
}
