// Opcode numbers, mnemonics and operand shapes.
#pragma once

#include <cstdint>
#include <string>

#include "isa/device.h"

namespace vgpu::isa {

enum class Enc : uint8_t {
  SOP2, SOPK, SOP1, SOPC, SOPP, SMEM, VOP2, VOP1, VOPC, VOP3, VOP3P, DS, FLAT, SCRATCH, GLOBAL, MUBUF, MTBUF,
};
constexpr int kEncodings = 17;

// One printed operand. Roles: d destination, e destination naming an SGPR, b second (scalar) destination or
// scalar base, 0 1 2 sources or memory data, a memory address, s scalar address, c VCC.
struct OperandShape {
  char role;
  uint8_t width;  // dwords
};

struct OpInfo {
  Enc enc;
  uint16_t op;
  uint8_t archs;              // bit per Arch
  const char* mnemonic;       // LLVM's, with its _e32/_e64 suffix
  std::string base;           // without that suffix: what handlers are registered under
  OperandShape operands[6];
  uint8_t count;              // of operands

  // Width in dwords of the operand with this role; 0 when it has none.
  uint8_t width(char role) const {
    for (int i = 0; i < count; ++i)
      if (operands[i].role == role) return operands[i].width;
    return 0;
  }
};

// nullptr: no such instruction on that architecture.
const OpInfo* find_op(Arch arch, Enc enc, unsigned op);

// Every row of the table, for the table of executable opcodes.
const OpInfo* op_rows(size_t* count);

}  // namespace vgpu::isa
