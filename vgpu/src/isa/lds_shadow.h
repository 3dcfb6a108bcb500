// Who touched which byte of a workgroup's LDS last, and whether what two waves do to one byte is ordered.
//
// Waves are ordered by s_barrier alone, and an access counts as before the barrier only if its wave had waited for it there
// (lgkmcnt; vmcnt for loads that go to LDS). Within a wave LDS instructions are in order; a load to LDS is in order with other such
// loads and must be waited for by everything else.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "isa/outstanding.h"

namespace vgpu::isa {

// Bytes that one lane touches.
struct LdsRange {
  int lane;
  uint32_t offset, bytes;
};
struct LdsAccess {
  uint64_t at;
  uint32_t number;   // the instruction's, see Outstanding
  uint8_t wave;
  bool load_to_lds;  // counted by vmcnt
  Access access;
  uint64_t source = 0;  // of a load to LDS, see load_source
};
struct LdsConflict {
  LdsAccess other;
  const char* kind = "";
  uint32_t offset = 0;
  int lane = 0, other_lane = 0;
  bool since_barrier = false;  // the other access came after the last barrier, so there was none between
};

// The ranges of an LDS instruction or a load to LDS, from the wave's registers as they are before it runs.
std::vector<LdsRange> lds_ranges(const Wave& w, const Op& op, const Effects& e, Access* access);

// Of a load to LDS: a digest of all that says what it loads and where it puts it, but for the instruction itself. Waves that
// issue one instruction on the same operands write the same bytes to the same place, in whatever order.
uint64_t load_source(const Wave& w, const Effects& e);

class LdsShadow {
 public:
  void start(size_t bytes, size_t waves);
  // Records the access. False, with the first conflict, when it is not ordered with an earlier one.
  bool touch(const LdsAccess& access, const std::vector<LdsRange>& ranges, const std::vector<Outstanding>& waves, LdsConflict* conflict);
  void barrier(const std::vector<Outstanding>& waves);

 private:
  bool ordered(uint32_t stamp, const LdsAccess& now, const std::vector<Outstanding>& waves) const;
  bool check(const std::vector<uint32_t>& stamps, const LdsRange& range, const char* kind, const LdsAccess& now,
             const std::vector<Outstanding>& waves, LdsConflict* conflict) const;

  // A stamp is an access and a lane: (index + 1) << 6 | lane; 0 is nobody.
  std::vector<uint32_t> writes_;
  std::vector<std::vector<uint32_t>> reads_;  // by wave
  std::vector<LdsAccess> accesses_;
  struct Done {
    uint32_t vm, lds;
  };
  std::vector<Done> at_barrier_;  // what each wave had waited for at the last barrier
  size_t epoch_ = 0;              // first access after the last barrier
  size_t settled_ = 0;            // accesses before this one are ordered with everything to come
};

}  // namespace vgpu::isa
