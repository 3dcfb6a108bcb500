// What the estimate of time needs to know of a workgroup: for each wave the instructions that it executed, with the lines of memory
// and the cycles of LDS that each one took. Recorded while the interpreter runs, for the workgroups that are asked for.
#pragma once

#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "isa/effects.h"

namespace vgpu::isa {
struct Workgroup;
struct Code;
}

namespace vgpu::timing {

// An instruction of the code, as far as time goes.
struct Instruction {
  isa::Unit unit = isa::Unit::Other;
  isa::Kind kind = isa::Kind::Plain;
  uint8_t passes = 0, words = 1;
  bool known = false, counted = false, loads = false, atomic = false, to_lds = false, branch = false;
  bool transcendental = false, f64 = false, sleeps = false;
  uint16_t simm16 = 0;
  uint32_t bytes = 0;  // per lane, of a memory instruction
  uint16_t result = 0, added = 0;  // of a matrix instruction: first register of D, of C if it is one
};

struct Step {
  uint32_t at;    // dword index of the instruction
  uint32_t cost;  // LDS: cycles; vector and scalar memory: index of its Lines
};

struct Lines {
  uint32_t first, count;  // in GroupTrace::lines
  uint32_t bytes;         // of the active lanes
};

struct GroupTrace {
  uint64_t linear = 0;
  uint32_t id[3] = {0, 0, 0};
  std::vector<std::vector<Step>> waves;
  std::vector<Lines> accesses;
  std::vector<uint64_t> lines;  // address / line_bytes
};

class Recorder;

// The trace of one running workgroup.
class Tracing {
 public:
  Tracing(Recorder& recorder, const isa::Workgroup& g);
  // Called before the instruction runs.
  void before(const isa::Wave& w, uint64_t at, const isa::Op& op);
  GroupTrace trace;

 private:
  uint32_t lds(const isa::Wave& w, uint64_t at, const isa::Op& op);

  Recorder& recorder_;
  std::unordered_map<uint64_t, uint32_t> lds_cycles_;  // by instruction and pattern of addresses
};

// What a launch records, and which of its workgroups run.
class Recorder {
 public:
  std::vector<uint64_t> wanted;  // linear indices of those to trace, ascending
  std::vector<uint64_t> run;     // of those to run; empty: all
  bool together = false;         // those of `run` may wait for one another: all are resident from the start
  uint64_t wave_limit = 0;       // a wave ends after so many instructions; 0: none
  unsigned line_bytes = 128, lds_banks = 32;

  // Found after the launch, in no order.
  std::vector<GroupTrace> traces;
  std::vector<std::pair<uint64_t, uint64_t>> executed;  // of each group that ran: its linear index, its instructions
  std::vector<Instruction> instructions;  // by dword index

  void start(const isa::Code& code);
  bool traces_group(uint64_t linear) const;
  const Instruction& instruction(uint64_t at, const isa::Op& op);
  // A group has ended; `tracing` is null when it was not traced.
  void finish(const isa::Workgroup& g, Tracing* tracing);

 private:
  std::mutex mutex_;
};

// The lines that a vector memory instruction touches, appended; returns the bytes of its active lanes.
uint32_t vector_lines(const isa::Wave& w, const isa::Op& op, const Instruction& i, unsigned line_bytes, std::vector<uint64_t>* out);
uint32_t scalar_lines(const isa::Wave& w, const isa::Op& op, unsigned line_bytes, std::vector<uint64_t>* out);
// Cycles that the banks need.
uint32_t lds_cycles(const isa::Wave& w, const isa::Op& op, unsigned banks);

}  // namespace vgpu::timing
