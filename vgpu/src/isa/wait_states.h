// Distances in wait states that the hardware does not keep by itself: "VALU writes an SGPR, a vector memory instruction reads it: 5".
//
// A wait state is the issue of one instruction; s_nop N is N + 1 of them. The clock here is the least that the hardware can have
// taken: stalls for memory are not in it, the time that the matrix unit is busy with the one before is.
#pragma once

#include <cstdint>
#include <string>

#include "isa/effects.h"

namespace vgpu::isa {

struct Distance {
  unsigned needed = 0, found = 0;
  uint64_t other = 0;   // dword index of the earlier instruction
  unsigned code = 0;    // the register; hwreg id for Setreg
  const char* rule = "";
};

class WaitStates {
 public:
  WaitStates() { clear(); }
  void clear();
  // False, with the distance that is too short, when `op` comes too early. Then takes it into account either way.
  bool step(const Op& op, const Effects& e, uint64_t at, Arch arch, Distance* wrong);

 private:
  static constexpr int64_t kLongAgo = -1000;
  struct Writer {
    int64_t clock = kLongAgo;
    uint64_t at = 0;
    const OpInfo* info = nullptr;
    Unit unit = Unit::Other;
    Matrix matrix = Matrix::None;
    uint8_t passes = 0;
    bool transcendental = false, dot = false, partial = false;
    Span to;
  };
  struct Event {
    int64_t clock = kLongAgo;
    uint64_t at = 0;
    uint8_t passes = 0;
    bool scalar_offset = false;
  };
  struct Rule {
    unsigned needed = 0;
    const char* text = "";
    void demand(unsigned n, const char* why) {
      if (n > needed) needed = n, text = why;
    }
  };

  void after_vector_alu(const Writer& d, const Effects& e, const Span& use, const OpInfo* info, Rule* rule) const;
  void after_matrix(const Writer& d, const Effects& e, const Span& use, bool gfx950, Rule* rule) const;
  Rule read_rule(const Writer& d, const Effects& e, const Span& use, unsigned code, const OpInfo* info, bool gfx950) const;
  bool check(const Op& op, const Effects& e, bool gfx950, Distance* wrong) const;
  void record(const Op& op, const Effects& e, uint64_t at);

  int64_t clock_ = 0, matrix_free_ = 0;
  Writer writers_[kRegisterCodes];
  Event matrix_c_[kRegisterCodes];     // read as C by a matrix instruction
  Event wide_stores_[kRegisterCodes];  // data of a store of more than 64 bits
  Event setreg_[64];
};

}  // namespace vgpu::isa
