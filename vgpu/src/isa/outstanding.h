// Memory instructions on their way and the registers that they will write: what s_waitcnt has to wait for.
//
// vmcnt counts vector memory instructions, stores too, and goes down in the order of issue. lgkmcnt counts LDS instructions, which
// answer in order, and scalar loads, which answer in any: as long as one of those is on its way only lgkmcnt(0) says anything about
// it, while k LDS instructions from some one on keep the count at k or more, whatever else is counted. A FLAT instruction that
// reaches LDS is counted in both and answers in no order.
#pragma once

#include <vector>

#include "isa/effects.h"

namespace vgpu::isa {

enum class Counter : uint8_t { Vm, Lds, Smem, Flat };

struct Load {
  Counter counter;
  uint32_t number;  // among the wave's instructions of this counter, from 1; Flat: of Vm
  uint64_t at;      // dword index of the instruction
  uint64_t lanes;
  Span to;
};

class Outstanding {
 public:
  void clear() { *this = Outstanding(); }
  // Returns the instruction's number. Later ones have to be awaited as well, in order.
  uint32_t issue(const Effects& e, uint64_t at, uint64_t lanes, bool flat_in_lds);
  void wait(unsigned vm, unsigned lgkm);

  // A load that will still write one of these registers in one of these lanes, or null. Loads that answer in order with
  // `in_order` are left out.
  const Load* pending(const Span& span, uint64_t lanes, const Counter* in_order, unsigned* code) const;
  // The count that would have awaited it: "vmcnt(2)".
  std::string awaits(const Load& load) const;

  uint32_t vm_done() const { return vm_done_; }
  uint32_t lds_done() const { return lds_done_; }

 private:
  static constexpr unsigned kMostVm = 63, kMostLgkm = 15;
  void mark(const Span& to);

  uint32_t vm_issued_ = 0, vm_done_ = 0, lds_issued_ = 0, lds_done_ = 0;
  std::vector<Load> loads_;
  uint64_t marked_[kRegisterCodes / 64] = {};  // registers that some load will write
};

}  // namespace vgpu::isa
