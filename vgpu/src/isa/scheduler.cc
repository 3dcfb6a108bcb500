#include "isa/scheduler.h"

#include <xmmintrin.h>

#include <algorithm>

#include "isa/hazard.h"
#include "isa/launch_state.h"
#include "isa/pool.h"
#include "isa/special.h"
#include "time/trace.h"

namespace vgpu::isa {
namespace {

// Instructions a wave runs before the next one gets its turn, unless the launch says otherwise. The waves of a real
// workgroup advance side by side, and kernels exist that rely on it (AITER's fp8 MLA kernels: one wave writes LDS that
// another reads some dozens of instructions later, with no barrier), so the slice is short. Longer ones are hardly faster.
constexpr uint32_t kSlice = 8;
// Rounds over the resident workgroups without one finishing after which another is admitted: they may be waiting
// for it.
constexpr unsigned kPatience = 1 << 15;

// Runs until the slice ends or the wave yields. Returns the instructions executed. The checks of hazards and the traces are
// compiled into a loop of their own: they must cost nothing when they are off.
template <bool kWatched>
uint32_t run_slice(Wave& w) {
  const Code& code = *w.code;
  Worker& worker = *w.worker;
  const uint32_t slice = worker.launch->options.slice ? worker.launch->options.slice : kSlice;
  _mm_setcsr(w.mxcsr32);
  w.yield = false;
  uint32_t n = 0;
  uint64_t at = w.pc;
  try {
    while (n < slice && !w.yield) {
      at = w.pc;
      if (at >= code.count) fail("the program counter left the code");
      const Op& op = code.ops[at];
      Handler fn = __atomic_load_n(&op.fn, __ATOMIC_ACQUIRE);
      if (!fn) fn = code.prepare(at);
      w.pc = at + op.words;
      ++n;
      ++w.executed;
      ++worker.by_class[static_cast<int>(op.cls)];
      if (kWatched && w.group->hazards) w.group->hazards->before(w, at, op);
      if (kWatched && w.group->tracing) w.group->tracing->before(w, at, op);
      if (w.special) exec_special(w, op, fn);
      else fn(w, op);
    }
  } catch (const ExecError& e) {
    throw ExecError(report_text(w, at, e.what()));
  }
  return n;
}

void fold_counts(Worker& w) {
  Counts& c = w.counts;
  const uint64_t* n = w.by_class;
  auto of = [n](Class k) { return n[static_cast<int>(k)]; };
  c.salu = of(Class::Salu);
  c.smem = of(Class::Smem);
  c.valu = of(Class::Valu);
  c.mfma = of(Class::Mfma);
  c.lds = of(Class::Lds);
  c.flat = of(Class::Flat);
  c.global = of(Class::Global);
  c.scratch = of(Class::Scratch);
  c.buffer = of(Class::Buffer);
  c.branch = of(Class::Branch);
  c.other = of(Class::Other);
  c.instructions = 0;
  for (int i = 0; i < kClasses; ++i) c.instructions += n[i];
}

class Residents {
 public:
  Residents(LaunchState& launch, Worker& worker) : launch_(launch), worker_(worker) {
    const unsigned workers = std::max(1u, launch.options.threads ? launch.options.threads : hardware_threads());
    // As many workgroups as the device would hold at two per compute unit, split over the workers.
    limit_ = std::max<size_t>(1, (2 * launch.options.compute_units + workers - 1) / workers);
  }

  bool admit() {
    if (groups_.size() >= limit_) return false;
    uint64_t linear = launch_.next_group.fetch_add(1);
    if (linear >= launch_.total_groups) return false;
    const timing::Recorder* recorder = launch_.options.recorder;
    if (recorder && !recorder->run.empty()) linear = recorder->run[linear];
    std::unique_ptr<Workgroup> g;
    if (spare_.empty()) g = std::make_unique<Workgroup>();
    else g = std::move(spare_.back()), spare_.pop_back();
    start_group(launch_, linear, worker_, *g);
    worker_.counts.waves += g->waves.size();
    ++worker_.counts.workgroups;
    groups_.push_back(std::move(g));
    return true;
  }

  bool empty() const { return groups_.empty(); }

  // One turn for every wave. Returns whether a workgroup finished.
  bool round() {
    refresh_cache();
    bool finished = false;
    uint64_t executed = 0;
    for (size_t i = 0; i < groups_.size();) {
      Workgroup& g = *groups_[i];
      executed += turn(g);
      if (g.done == g.waves.size()) {
        if (launch_.options.recorder) launch_.options.recorder->finish(g, g.tracing.get());
        spare_.push_back(std::move(groups_[i]));
        groups_.erase(groups_.begin() + static_cast<std::ptrdiff_t>(i));
        finished = true;
      } else {
        ++i;
      }
    }
    watch(executed);
    if (launch_.options.cancel && launch_.options.cancel->load())
      throw ExecError("kernel " + launch_.kernel->name + ": cancelled");
    return finished;
  }

 private:
  uint64_t turn(Workgroup& g) {
    uint64_t executed = 0;
    const uint64_t limit = launch_.options.recorder ? launch_.options.recorder->wave_limit : 0;
    for (auto& wave : g.waves) {
      if (wave->state != WaveState::Ready) continue;
      executed += g.hazards || g.tracing ? run_slice<true>(*wave) : run_slice<false>(*wave);
      if (limit && wave->executed > limit) wave->state = WaveState::Done;
      if (wave->state == WaveState::Barrier) ++g.at_barrier;
      if (wave->state == WaveState::Done) ++g.done;
    }
    // Waves that ended do not hold a barrier up.
    if (g.at_barrier && g.at_barrier + g.done == g.waves.size()) {
      g.at_barrier = 0;
      if (g.hazards) g.hazards->barrier();
      for (auto& wave : g.waves)
        if (wave->state == WaveState::Barrier) wave->state = WaveState::Ready;
    }
    return executed;
  }

  // The count that all workers share is written seldom: a round may be eight instructions long, and each write would take the line
  // away from the other workers.
  void watch(uint64_t executed) {
    const uint64_t limit = launch_.options.max_instructions;
    uncounted_ += executed;
    if (!limit || uncounted_ < std::min<uint64_t>(limit / 16, 1 << 16)) return;
    const uint64_t total = launch_.instructions.fetch_add(uncounted_) + uncounted_;
    uncounted_ = 0;
    if (total > limit)
      throw ExecError("kernel " + launch_.kernel->name + ": watchdog: more than " + std::to_string(limit) + " instructions executed");
  }

  void refresh_cache() {
    MemoryCache& cache = worker_.cache;
    if (!launch_.checks_global() || cache.version == launch_.options.memory->version()) return;
    cache.clear();
    cache.version = launch_.options.memory->version();
  }

  LaunchState& launch_;
  Worker& worker_;
  size_t limit_;
  uint64_t uncounted_ = 0;
  std::vector<std::unique_ptr<Workgroup>> groups_, spare_;
};

void record_error(LaunchState& launch, const std::string& text) {
  const std::lock_guard<std::mutex> lock(launch.mutex);
  if (launch.error.empty()) launch.error = text;
  launch.stop = true;
}

}  // namespace

void work(LaunchState& launch) {
  const unsigned saved = _mm_getcsr();
  Worker worker;
  worker.launch = &launch;
  worker.cache.clear();
  if (!launch.checks_global()) {
    // Nothing to check but the null page: one entry covers everything.
    worker.cache.lo[0] = 4096;
    worker.cache.hi[0] = UINTPTR_MAX;
    worker.cache.writable[0] = true;
  }
  try {
    Residents residents(launch, worker);
    unsigned idle_rounds = 0;
    while (!launch.stop) {
      if (residents.empty()) {
        if (!residents.admit()) break;
        if (launch.options.recorder && launch.options.recorder->together)
          while (residents.admit()) {}
        idle_rounds = 0;
      }
      if (residents.round()) idle_rounds = 0;
      else if (++idle_rounds >= kPatience && residents.admit()) idle_rounds = 0;
    }
  } catch (const std::exception& e) {
    record_error(launch, e.what());
  }
  _mm_setcsr(saved);
  fold_counts(worker);
  const std::lock_guard<std::mutex> lock(launch.mutex);
  launch.counts.add(worker.counts);
}

}  // namespace vgpu::isa
