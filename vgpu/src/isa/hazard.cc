#include "isa/hazard.h"

#include "isa/launch_state.h"

namespace vgpu::isa {

HazardLaunch::HazardLaunch(const Code& code, std::vector<std::string>* collect)
    : code_(code), collect_(collect), by_index_(code.count) {}

const Effects& HazardLaunch::effects(uint64_t at, const Op& op) {
  if (const Effects* known = by_index_[at].load(std::memory_order_acquire)) return *known;
  const std::lock_guard<std::mutex> lock(mutex_);
  effects_.push_back(effects_of(op));
  by_index_[at].store(&effects_.back(), std::memory_order_release);
  return effects_.back();
}

void HazardLaunch::report(const Wave& w, uint64_t at, uint64_t other, const char* kind, const std::string& text) {
  const std::string what = std::string("hazard: ") + text + " " + place_of(w, other);
  if (!collect_) fail(what);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (seen_.insert({other, at, kind}).second) collect_->push_back(report_text(w, at, what));
}

std::vector<uint64_t> HazardLaunch::executed() const {
  std::vector<uint64_t> out;
  for (uint64_t i = 0; i < by_index_.size(); ++i)
    if (by_index_[i].load()) out.push_back(i);
  return out;
}

std::string place_of(const Wave& w, uint64_t at) {
  const uintptr_t pc = w.code->base() + at * 4;
  char text[96];
  snprintf(text, sizeof text, "pc 0x%llx (kernel entry %+lld): ", static_cast<unsigned long long>(pc),
           static_cast<long long>(pc) - static_cast<long long>(w.worker->launch->kernel->entry));
  return text + text_at(*w.code, at);
}

std::string report_text(const Wave& w, uint64_t at, const std::string& what) {
  const Workgroup& g = *w.group;
  char who[128];
  snprintf(who, sizeof who, "; workgroup (%u, %u, %u), wave %u", g.id[0], g.id[1], g.id[2], w.index);
  return "kernel " + w.worker->launch->kernel->name + ": " + what + "; at " + place_of(w, at) + who;
}

void HazardGroup::start(const Workgroup& g) {
  outstanding_.assign(g.waves.size(), Outstanding());
  wait_states_.resize(g.waves.size());
  for (WaitStates& s : wait_states_) s.clear();
  lds_.start(g.lds.size(), g.waves.size());
}

void HazardGroup::before(const Wave& w, uint64_t at, const Op& op) {
  const Effects& e = launch_.effects(at, op);
  if ((w.mode & kModeVskip) && (e.vector_alu() || e.memory())) return;
  distances(w, at, op, e);
  registers(w, at, op, e);
  if (e.counted) memory(w, at, op, e);
  if (e.kind == Kind::Wait) {
    const unsigned x = op.inst.simm16;
    outstanding_[w.index].wait((x & 15) | (x >> 14 & 3) << 4, x >> 8 & 15);
  }
}

void HazardGroup::distances(const Wave& w, uint64_t at, const Op& op, const Effects& e) {
  Distance d;
  if (wait_states_[w.index].step(op, e, at, w.code->arch, &d)) return;
  const bool setreg = e.kind == Kind::Setreg || e.kind == Kind::Getreg;
  launch_.report(w, at, d.other, "wait states",
                 std::string(d.rule) + ": " + (setreg ? "hwreg " + std::to_string(d.code) : register_name(d.code)) + " needs " +
                     std::to_string(d.needed) + " wait states, there are " + std::to_string(d.found) + "; after");
}

void HazardGroup::registers(const Wave& w, uint64_t at, const Op& op, const Effects& e) {
  // Its vector registers are elsewhere in that mode, see special.cc.
  if ((w.mode & kModeGprIdx) && op.cls == Class::Valu) return;
  const Outstanding& waits = outstanding_[w.index];
  auto report = [&](const Load& load, unsigned code, uint64_t lanes, const char* verb, const char* kind) {
    const uint64_t both = load.lanes & lanes;
    const std::string lane = code >= kVgpr && both ? " by lane " + std::to_string(__builtin_ctzll(both)) : "";
    launch_.report(w, at, load.at, kind,
                   register_name(code) + " is " + verb + lane + " before the load into it is awaited (s_waitcnt " + waits.awaits(load) +
                       "); ordered at");
  };
  unsigned code = 0;
  for (int i = 0; i < e.read_count; ++i) {
    const Span& span = e.reads[i];
    if (!waits.pending(span, ~0ull, nullptr, &code)) continue;
    const uint64_t lanes = span.first >= kVgpr ? lanes_read(w, op, e, span) : ~0ull;
    if (const Load* load = waits.pending(span, lanes, nullptr, &code)) return report(*load, code, lanes, "read", "read");
  }
  const Counter vm = Counter::Vm, lds = Counter::Lds;
  const Counter* in_order = e.unit == Unit::Vmem ? &vm : e.unit == Unit::Lds ? &lds : nullptr;
  for (int i = 0; i < e.write_count; ++i) {
    if (!waits.pending(e.writes[i], ~0ull, nullptr, &code)) continue;
    const uint64_t lanes = lanes_written(w, op, e);
    if (const Load* load = waits.pending(e.writes[i], lanes, in_order, &code))
      return report(*load, code, lanes, "overwritten", "overwritten");
  }
}

void HazardGroup::memory(const Wave& w, uint64_t at, const Op& op, const Effects& e) {
  std::vector<LdsRange> ranges;
  Access access = Access::Load;
  if (e.unit == Unit::Lds || e.to_lds || e.flat) ranges = lds_ranges(w, op, e, &access);
  const uint32_t number = outstanding_[w.index].issue(e, at, w.exec(), e.flat && !ranges.empty());
  if (ranges.empty()) return;
  const LdsAccess now{at, number, static_cast<uint8_t>(w.index), e.unit == Unit::Vmem, access, e.to_lds ? load_source(w, e) : 0};
  LdsConflict c;
  if (lds_.touch(now, ranges, outstanding_, &c)) return;
  const char* what = c.since_barrier ? "no s_barrier between" : "not awaited before the s_barrier between";
  if (c.other.wave == w.index) what = "not awaited";
  char text[200];
  snprintf(text, sizeof text, "%s on LDS byte %u by lane %d after lane %d of wave %u, %s (s_waitcnt %s); the other access at", c.kind,
           c.offset, c.lane, c.other_lane, c.other.wave, what, c.other.load_to_lds ? "vmcnt" : "lgkmcnt");
  launch_.report(w, at, c.other.at, c.kind, text);
}

}  // namespace vgpu::isa
