// A decoded instruction: the encoded fields by name, nothing interpreted.
#pragma once

#include <cstdint>
#include <string>

#include "isa/optable.h"

namespace vgpu::isa {

// Operand codes as encoded: 0..127 scalar registers, 128..254 constants and special values, 255 literal,
// 256..511 v0..v255. Accumulation registers a0..a255 get codes of their own:
constexpr uint16_t kVgpr = 256, kAgpr = 512;
enum : uint16_t {
  kFlatScratchLo = 102, kXnackMaskLo = 104, kVccLo = 106, kVccHi = 107, kTtmp0 = 108, kM0 = 124,
  kExecLo = 126, kExecHi = 127, kSharedBase = 235, kSharedLimit = 236, kPrivateBase = 237,
  kPrivateLimit = 238, kPopsExitingWaveId = 239, kVccz = 251, kExecz = 252, kScc = 253, kLdsDirect = 254,
  kLiteral = 255,
};

struct Inst {
  const OpInfo* info = nullptr;
  uint8_t bytes = 0;
  uint16_t vdst = 0;           // destination code, in the same numbering as sources
  uint16_t sdst = 0;           // scalar destination of VOP3-SD, VOPC
  uint16_t src[3] = {0, 0, 0};
  bool has_literal = false;
  uint32_t literal = 0;
  uint16_t simm16 = 0;

  // VOP3 / VOP3P / SDWA / DPP modifiers; one bit per source.
  uint8_t abs = 0, neg = 0, omod = 0, op_sel = 0, op_sel_hi = 0;  // VOP3P: abs holds neg_hi
  bool clamp = false;

  bool sdwa = false, sdwa_sd = false;
  uint8_t dst_sel = 6, dst_unused = 0, src_sel[2] = {6, 6}, sext = 0;

  bool dpp = false, bound_ctrl = false;
  uint16_t dpp_ctrl = 0;
  uint8_t row_mask = 15, bank_mask = 15;

  // MFMA
  uint8_t cbsz = 0, abid = 0, blgp = 0;
  // gfx950 scaled MFMA: the second half carries the operation, the first the scales.
  uint16_t scale_src[2] = {0, 0};
  bool scaled = false;
  uint8_t scale_op_sel = 0, scale_op_sel_hi = 0;

  // Memory
  uint16_t addr = 0, data0 = 0, data1 = 0, saddr = 0x7f, srsrc = 0, soffset = 0x80;
  int32_t offset = 0;          // signed byte offset; DS: offset0 | offset1 << 8
  bool sc0 = false, sc1 = false, nt = false, lds = false, gds = false, offen = false, idxen = false;
  bool sve = false;            // scratch: vaddr used
  bool imm_offset = false, soffset_en = false;  // SMEM
  uint8_t dfmt = 0, nfmt = 0;  // MTBUF
};

// Decodes the instruction at words[0]; false when it is not one or is cut off.
bool decode(const uint32_t* words, size_t count, Arch arch, Inst* out);

// Assembly text in LLVM's style. pc is only used for nothing but symmetry with branches, which print their
// raw immediate as LLVM does.
std::string print(const Inst& inst);

}  // namespace vgpu::isa
