// What an instruction reads and writes, for the checks of hazards: registers, counters, the unit it runs on.
#pragma once

#include "isa/memory.h"

namespace vgpu::isa {

// Neighbouring registers in the numbering of operand codes: scalar ones below 128, then v from kVgpr, a from kAgpr.
struct Span {
  uint16_t first = 0;
  uint8_t count = 0;
  uint8_t source = kOther;  // which of the sources it is, for rules that tell them apart
  static constexpr uint8_t kCarry = 8, kOther = 9;  // kCarry: a lane mask, as v_addc_co_u32 and v_cndmask_b32 read
};
constexpr unsigned kRegisterCodes = kAgpr + 256;

enum class Unit : uint8_t { Salu, Valu, Mfma, Smem, Lds, Vmem, Other };
enum class Matrix : uint8_t { None, Xdl, F32, F64 };

// Which lanes of its vector sources an instruction reads, or of its destination it writes.
enum class Touches : uint8_t { Exec, All, Dpp, Lane, FirstLane };

// Instructions with rules of their own.
enum class Kind : uint8_t {
  Plain, Wait, Barrier, Nop, Readlane, Readfirstlane, Writelane, DivFmas, PermlaneSwap, Setreg, Getreg, ReadsM0,
  ReadsZero,  // EXECZ or VCCZ as a source
};

struct Effects {
  Span reads[10], writes[4];
  uint8_t read_count = 0, write_count = 0;
  Unit unit = Unit::Other;
  Kind kind = Kind::Plain;
  Touches lanes = Touches::Exec;
  Matrix matrix = Matrix::None;
  uint8_t passes = 0;          // of a matrix instruction: quarters of the cycles that it holds the matrix unit
  bool arrives_later = false;  // the results come with the memory's answer and must be waited for
  bool counted = false;        // in vmcnt (Vmem) or lgkmcnt (Lds, Smem)
  bool to_lds = false;         // a load from global memory into LDS
  bool flat = false;           // may go to LDS, and then returns in no order
  bool transcendental = false, dot = false, dpp = false;
  bool partial = false;        // writes a part of a register (SDWA, op_sel)
  Span wide_store;             // the data of a store of more than 64 bits, read after issue
  bool scalar_offset = false;  // of a buffer instruction

  bool vector_alu() const { return unit == Unit::Valu || unit == Unit::Mfma; }
  bool memory() const { return unit == Unit::Vmem || unit == Unit::Lds; }
};

Effects effects_of(const Op& op);

// Lanes of the vector sources that `op` reads in the wave's present state.
uint64_t lanes_read(const Wave& w, const Op& op, const Effects& e, const Span& span);
uint64_t lanes_written(const Wave& w, const Op& op, const Effects& e);

// "v5", "s[4:5]", "vcc_lo": the register with this operand code.
std::string register_name(unsigned code);

}  // namespace vgpu::isa
