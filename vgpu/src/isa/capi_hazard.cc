// The part of the C interface that mutation needs: the hazards of a launch, what it executed, and changing an instruction.
#include <algorithm>
#include <cstring>

#include "isa/capi.h"
#include "isa/module.h"

// One report a line, of the latest launch with bit 16 of `checks`.
VGPU_API const char* vgpu_isa_hazards(vgpu_isa* m) {
  m->text.clear();
  for (const std::string& h : m->hazards) m->text += h + "\n";
  return m->text.c_str();
}

// How many instructions that launch executed; their dword indices into the module's code go to `out`.
VGPU_API size_t vgpu_isa_executed(vgpu_isa* m, uint64_t* out, size_t room) {
  std::copy_n(m->executed.begin(), std::min(room, m->executed.size()), out);
  return m->executed.size();
}

// Dwords of the module's code; the first `room` of them go to `out`.
VGPU_API size_t vgpu_isa_code(vgpu_isa* m, int id, uint32_t* out, size_t room) {
  vgpu::Module* module = m->module(id);
  if (!module || !module->impl()->code) return 0;
  const vgpu::isa::Code& code = *module->impl()->code;
  std::memcpy(out, code.words, std::min(room, code.count) * 4);
  return code.count;
}

// Replaces a dword of the loaded copy; the instruction is decoded anew. Not while a launch runs.
VGPU_API int vgpu_isa_poke(vgpu_isa* m, int id, size_t index, uint32_t word) {
  vgpu::Module* module = m->module(id);
  if (!module) return -1;
  if (!module->impl()->code || index >= module->impl()->code->count) return m->fail("no instruction " + std::to_string(index));
  vgpu::isa::Code& code = *module->impl()->code;
  std::memcpy(const_cast<uint32_t*>(code.words) + index, &word, 4);
  code.ops[index] = vgpu::isa::Op{};
  return 0;
}
