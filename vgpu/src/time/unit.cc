#include "time/unit.h"

#include <algorithm>
#include <deque>
#include <functional>
#include <queue>
#include <unordered_map>

namespace vgpu::timing {
namespace {

using isa::Kind;
using isa::Unit;

constexpr unsigned kFetchDwords = 16;  // of code that come with one fetch
constexpr double kAddressLanes = 16;   // of a vector memory instruction in a cycle

struct WaveRun {
  const GroupTrace* group = nullptr;
  const std::vector<Step>* steps = nullptr;
  size_t next = 0, number = 0;  // number: of its workgroup among those given
  double ready = 0;
  unsigned simd = 0;
  uint64_t salt = 0;  // a trace that stands for several workgroups has other lines in each
  std::vector<double> vector_memory, lgkm;  // when each instruction is done, in order
  struct Result {
    uint16_t first = 0;
    double ready = 0;
  } results[4];  // of the latest matrix instructions: earlier ones are ready
  unsigned latest = 0;
};

// Time at which all but the latest `outstanding` are done.
double done(const std::vector<double>& times, unsigned outstanding) {
  return times.size() > outstanding ? times[times.size() - 1 - outstanding] : 0;
}
void push(std::vector<double>* times, double at) { times->push_back(times->empty() ? at : std::max(at, times->back())); }

class Simulation {
 public:
  Simulation(const Table& table, const std::vector<Instruction>& code, const std::vector<const GroupTrace*>& groups,
             unsigned resident, const Share& share)
      : t_(table), code_(code), groups_(groups), share_(share), fetched_(code.size() / kFetchDwords + 1), simds_(size_t(table.simds)),
        left_(groups.size()), waiting_(groups.size()) {
    result_.ends.assign(groups.size(), 0);
    for (unsigned i = 0; i < std::max(1u, resident) && next_group_ < groups.size(); ++i) start(0);
  }

  UnitResult run() {
    while (!queue_.empty()) {
      const size_t i = queue_.top().second;
      queue_.pop();
      step(i);
    }
    for (const double end : result_.ends) result_.cycles = std::max(result_.cycles, end);
    for (double Busy::*f : {&Busy::matrix, &Busy::vector, &Busy::scalar}) result_.busy.*f /= t_.simds;
    return result_;
  }

 private:
  struct Simd {
    double vector = 0, matrix = 0, scalar = 0;  // free from
  };

  void start(double at) {
    const size_t number = next_group_++;
    at = std::max(at, last_start_ + (number ? t_.group_cycles : 0));
    last_start_ = at;
    const GroupTrace* g = groups_[number];
    left_[number] = g->waves.size();
    for (const auto& steps : g->waves) {
      WaveRun w;
      w.group = g, w.steps = &steps, w.number = number, w.ready = at, w.simd = next_simd_++ % simds_.size();
      w.salt = static_cast<uint64_t>(std::count(groups_.begin(), groups_.begin() + static_cast<std::ptrdiff_t>(number), g)) << 56;
      waves_.push_back(std::move(w));
      queue_.emplace(at, waves_.size() - 1);
    }
    if (g->waves.empty()) result_.ends[number] = at;
  }

  void end(WaveRun& w) {
    // What it has stored need not have arrived.
    result_.ends[w.number] = std::max(result_.ends[w.number], w.ready);
    if (--left_[w.number] == 0) {
      std::vector<double>().swap(w.vector_memory);
      if (next_group_ < groups_.size()) start(result_.ends[w.number]);
    } else {
      release(w.number);
    }
  }

  // Lets the waves of a workgroup past a barrier when all that have not ended are there.
  void release(size_t number) {
    auto& at = waiting_[number];
    if (at.empty() || at.size() < left_[number]) return;
    double latest = 0;
    for (const size_t i : at) latest = std::max(latest, waves_[i].ready);
    for (const size_t i : at) {
      result_.stalls.barrier += latest - waves_[i].ready;
      waves_[i].ready = latest + t_.barrier_cycles;
      queue_.emplace(waves_[i].ready, i);
    }
    at.clear();
  }

  void step(size_t index) {
    WaveRun& w = waves_[index];
    if (w.next == w.steps->size()) {
      end(w);
      return;
    }
    const Step s = (*w.steps)[w.next++];
    const Instruction& i = code_[s.at];
    Simd& simd = simds_[w.simd];
    double t = w.ready;
    char& fetched = fetched_[s.at / kFetchDwords];
    if (!fetched) {
      fetched = 1;
      t += t_.fetch_cycles;
      result_.stalls.fetch += t_.fetch_cycles;
    }
    double held = t_.issue_cycles;  // until the wave's next instruction
    switch (i.unit) {
      case Unit::Valu: {
        const double cycles = i.transcendental ? t_.transcendental_cycles : i.f64 ? t_.f64_cycles : t_.issue_cycles;
        t = std::max(t, simd.vector);
        simd.vector = t + cycles;
        result_.busy.vector += cycles;
        break;
      }
      case Unit::Mfma: {
        const double cycles = i.passes * 4.0;
        t = std::max({t, simd.vector, simd.matrix});
        for (const WaveRun::Result& r : w.results)
          if (i.added && r.first == i.added) t = std::max(t, r.ready);
        w.results[w.latest++ % 4] = {i.result, t + cycles + t_.matrix_result_cycles};
        simd.vector = t + t_.issue_cycles;
        simd.matrix = t + cycles;
        result_.busy.matrix += cycles;
        break;
      }
      case Unit::Lds: if (i.counted) t = lds(w, s, t); break;
      case Unit::Smem: if (i.counted) scalar_memory(w, s, t); break;
      case Unit::Vmem: if (i.counted) t = vector_memory(w, s, i, t); break;
      default: t = scalar(w, i, simd, t, &held); break;
    }
    w.ready = t + held;
    if (i.branch && w.next < w.steps->size() && (*w.steps)[w.next].at != s.at + i.words) w.ready += t_.branch_cycles;
    if (i.kind == Kind::Barrier) {
      waiting_[w.number].push_back(index);
      release(w.number);
    } else {
      queue_.emplace(w.ready, index);
    }
  }

  double scalar(WaveRun& w, const Instruction& i, Simd& simd, double t, double* held) {
    if (i.kind == Kind::Wait) {
      const double vm = done(w.vector_memory, (i.simm16 & 15) | (i.simm16 >> 14 & 3) << 4);
      const double lgkm = done(w.lgkm, i.simm16 >> 8 & 15);
      result_.stalls.vector_memory += std::max(0.0, vm - t);
      result_.stalls.lds += std::max(0.0, lgkm - std::max(t, vm));
      return std::max({t, vm, lgkm});
    }
    if (i.kind == Kind::Nop) {
      *held = t_.issue_cycles * ((i.simm16 & 15) + 1);
    } else if (i.sleeps) {
      *held = 64.0 * (i.simm16 & 127);
    } else if (i.kind != Kind::Barrier) {
      t = std::max(t, simd.scalar);
      simd.scalar = t + t_.issue_cycles;
      result_.busy.scalar += t_.issue_cycles;
    }
    return t;
  }

  double lds(WaveRun& w, const Step& s, double t) {
    t = std::max(t, lds_ - t_.queue_cycles);
    lds_ = std::max(t, lds_) + s.cost;
    result_.busy.lds += s.cost;
    push(&w.lgkm, lds_ + t_.lds_latency);
    return t;
  }

  void scalar_memory(WaveRun& w, const Step& s, double t) {
    const Lines& a = w.group->accesses[s.cost];
    double at = t + t_.scalar_latency;
    for (uint32_t k = 0; k < a.count; ++k) {
      const auto [found, fresh] = scalar_lines_.try_emplace(w.group->lines[a.first + k], 0.0);
      if (fresh) found->second = at + share_.latency;
      at = std::max(at, found->second);
    }
    push(&w.lgkm, at);
  }

  // Sends a line's request to the memory beyond; when its answer is here.
  double miss(double t, double cycles) {
    double at = std::max(t, memory_);
    if (in_flight_.size() >= size_t(t_.lines_in_flight)) {
      at = std::max(at, in_flight_.front());
      in_flight_.pop_front();
    }
    memory_ = at + cycles;
    ++result_.misses;
    const double arrival = at + share_.latency;
    in_flight_.push_back(arrival);
    return arrival;
  }

  double vector_memory(WaveRun& w, const Step& s, const Instruction& i, double t) {
    const Lines& a = w.group->accesses[s.cost];
    const double cycles = std::max({64 / kAddressLanes, a.bytes / t_.l1_bytes_per_cycle, double(a.count)});
    t = std::max(t, l1_ - t_.queue_cycles);
    l1_ = std::max(t, l1_) + cycles;
    result_.busy.vector_memory += cycles;
    result_.requests += a.count;
    double at = l1_ + t_.l1_latency;
    for (uint32_t k = 0; k < a.count; ++k) {
      const uint64_t line = w.group->lines[a.first + k] ^ w.salt;
      if (i.loads && !i.atomic) {
        const auto found = l1_lines_.find(line);
        if (found != l1_lines_.end()) {
          at = std::max(at, found->second);
          continue;
        }
        const double arrival = miss(l1_, share_.line_cycles) + t_.l1_latency;
        keep(line, arrival);
        at = std::max(at, arrival);
      } else {
        // Stored parts of a line take the path of a whole one; the wave goes on once the second cache has them.
        const double full = std::min(1.0, a.bytes / (a.count * t_.line_bytes));
        const double arrival = miss(l1_, std::max(share_.line_cycles * (i.atomic ? 1 : full), i.atomic ? t_.atomic_cycles : 0));
        at = std::max(at, std::min(arrival, l1_ + t_.l1_latency + t_.l2_latency));
        if (i.loads) at = std::max(at, arrival);
      }
    }
    if (i.to_lds) lds_ = std::max(lds_, t) + a.bytes / (t_.lds_banks * 4);
    push(&w.vector_memory, at);
    return t;
  }

  void keep(uint64_t line, double arrival) {
    l1_lines_[line] = arrival;
    l1_order_.push_back(line);
    if (l1_order_.size() <= size_t(t_.l1_bytes / t_.line_bytes)) return;
    l1_lines_.erase(l1_order_.front());
    l1_order_.pop_front();
  }

  const Table& t_;
  const std::vector<Instruction>& code_;
  const std::vector<const GroupTrace*>& groups_;
  const Share& share_;
  UnitResult result_;
  std::vector<char> fetched_;
  std::vector<Simd> simds_;
  std::vector<size_t> left_;                  // waves of each workgroup that have not ended
  std::vector<std::vector<size_t>> waiting_;  // of each workgroup, waves at the barrier
  std::deque<WaveRun> waves_;
  using Event = std::pair<double, size_t>;
  std::priority_queue<Event, std::vector<Event>, std::greater<Event>> queue_;
  size_t next_group_ = 0;
  unsigned next_simd_ = 0;
  double last_start_ = 0, lds_ = 0, l1_ = 0, memory_ = 0;  // free from
  std::deque<double> in_flight_;
  std::unordered_map<uint64_t, double> l1_lines_, scalar_lines_;  // when they are here
  std::deque<uint64_t> l1_order_;
};

}  // namespace

UnitResult simulate(const Table& table, const std::vector<Instruction>& code, const std::vector<const GroupTrace*>& groups,
                    unsigned resident, const Share& share) {
  return Simulation(table, code, groups, resident, share).run();
}

}  // namespace vgpu::timing
