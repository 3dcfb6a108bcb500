#include "isa/outstanding.h"

#include <algorithm>

namespace vgpu::isa {

uint32_t Outstanding::issue(const Effects& e, uint64_t at, uint64_t lanes, bool flat_in_lds) {
  Counter counter = Counter::Smem;
  uint32_t number = 0;
  if (e.unit == Unit::Vmem) {
    counter = flat_in_lds ? Counter::Flat : Counter::Vm;
    number = ++vm_issued_;
    if (flat_in_lds) ++lds_issued_;
  } else if (e.unit == Unit::Lds) {
    counter = Counter::Lds;
    number = ++lds_issued_;
  }
  if (e.arrives_later) {
    for (int i = 0; i < e.write_count; ++i) {
      loads_.push_back({counter, number, at, lanes, e.writes[i]});
      mark(e.writes[i]);
    }
  }
  // The counters hold no more: an instruction is not issued before one of the earlier ones is done.
  if (vm_issued_ - vm_done_ > kMostVm || lds_issued_ - lds_done_ > kMostLgkm) wait(kMostVm, kMostLgkm);
  return number;
}

void Outstanding::wait(unsigned vm, unsigned lgkm) {
  vm_done_ = std::max(vm_done_, vm_issued_ - std::min<uint32_t>(vm, vm_issued_));
  lds_done_ = std::max(lds_done_, lds_issued_ - std::min<uint32_t>(lgkm, lds_issued_));
  const auto arrived = [&](const Load& load) {
    switch (load.counter) {
      case Counter::Vm: return load.number <= vm_done_;
      case Counter::Lds: return load.number <= lds_done_;
      case Counter::Smem: return lgkm == 0;
      default: return vm == 0 && lgkm == 0;
    }
  };
  loads_.erase(std::remove_if(loads_.begin(), loads_.end(), arrived), loads_.end());
  std::fill(std::begin(marked_), std::end(marked_), 0);
  for (const Load& load : loads_) mark(load.to);
}

void Outstanding::mark(const Span& to) {
  for (unsigned r = to.first; r < unsigned{to.first} + to.count; ++r) marked_[r / 64] |= 1ull << (r % 64);
}

const Load* Outstanding::pending(const Span& span, uint64_t lanes, const Counter* in_order, unsigned* code) const {
  for (unsigned r = span.first; r < unsigned{span.first} + span.count; ++r) {
    if (!(marked_[r / 64] >> (r % 64) & 1)) continue;
    for (const Load& load : loads_) {
      if (r < load.to.first || r >= unsigned{load.to.first} + load.to.count) continue;
      if (r >= kVgpr && !(load.lanes & lanes)) continue;
      if (in_order && *in_order == load.counter && (load.counter == Counter::Vm || load.counter == Counter::Lds)) continue;
      *code = r;
      return &load;
    }
  }
  return nullptr;
}

std::string Outstanding::awaits(const Load& load) const {
  switch (load.counter) {
    case Counter::Vm: return "vmcnt(" + std::to_string(vm_issued_ - load.number) + ")";
    case Counter::Lds: return "lgkmcnt(" + std::to_string(lds_issued_ - load.number) + ")";
    case Counter::Smem: return "lgkmcnt(0)";
    default: return "vmcnt(0) lgkmcnt(0)";
  }
}

}  // namespace vgpu::isa
