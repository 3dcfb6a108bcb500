// State of a running wave and of its workgroup.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "isa/device.h"
#include "isa/inst.h"

namespace vgpu::isa {

struct Wave;
struct Op;
struct Workgroup;
struct LaunchState;
struct Code;
class HazardGroup;
}
namespace vgpu::timing {
class Tracing;
}
namespace vgpu::isa {
using Handler = void (*)(Wave&, const Op&);

// Classes of the profile, one per field of Counts.
enum class Class : uint8_t { Salu, Smem, Valu, Mfma, Lds, Flat, Global, Scratch, Buffer, Branch, Other };
constexpr int kClasses = 11;

enum class Src : uint8_t { None, Sgpr, Vgpr, Const, Special };

// An instruction ready to execute. One per dword of code, so that the program counter indexes it directly.
struct Op {
  Handler fn;              // null until decoded
  const void* lane;        // what the handler applies per lane (a lane kernel, an MFMA description)
  uint64_t k[3];           // value of constant sources
  Src kind[3];
  uint8_t width[3];        // of the sources, dwords
  char type[3];            // of the sources, see valu.h
  char dtype;
  uint8_t dwidth;
  uint8_t sources;
  Class cls;
  uint8_t words;           // length in dwords
  uint8_t flags;           // handler's own
  uint32_t aux;            // handler's own
  Inst inst;
};

// Thrown by handlers, turned into a Status by the scheduler; never leaves the library.
struct ExecError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// MODE register fields.
constexpr uint32_t kModeRound32 = 3, kModeRound64 = 3 << 2, kModeDenorm32 = 3 << 4, kModeDenorm64 = 3 << 6;
constexpr uint32_t kModeDx10Clamp = 1 << 8, kModeIeee = 1 << 9, kModeFp16Ovfl = 1 << 23, kModeVskip = 1 << 28,
                   kModeGprIdx = 1 << 27;

// Allocation bounds a worker saw recently: the memory checks' fast path.
struct MemoryCache {
  static constexpr int kEntries = 8;
  uintptr_t lo[kEntries], hi[kEntries];
  bool writable[kEntries];
  int next = 0;
  uint64_t version = ~0ull;
  void clear() {
    for (int i = 0; i < kEntries; ++i) lo[i] = 1, hi[i] = 0;
  }
};

// One per worker thread of a launch.
struct Worker {
  LaunchState* launch = nullptr;
  MemoryCache cache;
  Counts counts;
  uint64_t by_class[kClasses] = {};
};

// A load to LDS on its way, see landing.cc.
struct LdsLoad {
  uint64_t number;  // among the wave's vector memory instructions
  const Op* op;
  uint64_t offset;  // of lane 0, in bytes; the lanes follow `step` bytes apart
  unsigned step;
  uint64_t mask;
  std::vector<uint32_t> values;  // [dword][64]
};

enum class WaveState : uint8_t { Ready, Barrier, Done };

struct Wave {
  // Indexed by scalar operand code: s0..s101, flat_scratch, xnack_mask, vcc, ttmp, m0, exec.
  alignas(64) uint32_t s[128];
  uint32_t* v = nullptr;       // [512][64]: v0..v255 then a0..a255, lane fastest
  uint64_t pc = 0;             // dword index into code->ops
  uint32_t scc = 0;
  uint32_t mode = 0;
  bool special = false;        // GPR-index mode or VSKIP is on: the slow loop runs
  bool yield = false;          // ends the time slice (s_sleep, s_barrier, s_endpgm)
  bool same_mxcsr = true;      // f64/f16 arithmetic can use the f32 control word
  uint32_t mxcsr32 = 0x1f80, mxcsr64 = 0x1f80;
  WaveState state = WaveState::Ready;
  uint32_t index = 0;          // within the workgroup
  uint64_t executed = 0;       // instructions, also the clock of s_memtime
  uint64_t initial_exec = 0;
  uint64_t vmem_ordered = 0;   // vector memory instructions so far: what s_waitcnt vmcnt counts
  std::vector<LdsLoad> landing;
  Workgroup* group = nullptr;
  Worker* worker = nullptr;
  const Code* code = nullptr;
  uint8_t* scratch = nullptr;  // 64 lanes * scratch_size
  uint32_t scratch_size = 0;

  uint64_t s64(unsigned code_) const {
    uint64_t x;
    std::memcpy(&x, &s[code_], 8);
    return x;
  }
  void set_s64(unsigned code_, uint64_t x) { std::memcpy(&s[code_], &x, 8); }
  uint64_t exec() const { return s64(kExecLo); }
  uint64_t vcc() const { return s64(kVccLo); }
  // Register number in the unified numbering: 0..255 V, 256..511 A.
  uint32_t* reg(unsigned n) const { return v + n * 64; }
  uint32_t* vreg(unsigned operand) const { return v + (operand - kVgpr) * 64; }
  void set_mode(uint32_t value);

  Wave() = default;
  ~Wave();
  Wave(const Wave&) = delete;
  Wave& operator=(const Wave&) = delete;
};

struct Workgroup {
  uint32_t id[3] = {0, 0, 0};
  uint64_t linear = 0;
  std::vector<std::unique_ptr<Wave>> waves;
  std::vector<uint8_t> lds;
  std::vector<uint8_t> scratch;
  uint32_t at_barrier = 0, done = 0;
  uint64_t executed = 0;
  std::shared_ptr<HazardGroup> hazards;  // null: not checked
  std::shared_ptr<timing::Tracing> tracing;  // null: not traced
};

// Value of a scalar or constant source, in the low width*32 bits.
uint64_t special_source(const Wave& w, unsigned code);

inline uint32_t src32(const Wave& w, const Op& op, int i) {
  if (op.kind[i] == Src::Sgpr) return w.s[op.inst.src[i]];
  if (op.kind[i] == Src::Const) return static_cast<uint32_t>(op.k[i]);
  return static_cast<uint32_t>(special_source(w, op.inst.src[i]));
}
inline uint64_t src64(const Wave& w, const Op& op, int i) {
  if (op.kind[i] == Src::Sgpr) return w.s64(op.inst.src[i]);
  if (op.kind[i] == Src::Const) return op.k[i];
  return special_source(w, op.inst.src[i]);
}

[[noreturn]] void fail(const std::string& what);

}  // namespace vgpu::isa
