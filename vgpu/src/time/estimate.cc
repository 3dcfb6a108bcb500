#include "time/estimate.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace vgpu::timing {
namespace {

constexpr double kUneven = 1.1;  // longest over shortest workgroup: from there on they are no longer taken for one another
constexpr unsigned kRounds = 2;  // of resident workgroups that are simulated; more follow in the pace of the last

unsigned residents(const Table& t, const Sample& s) {
  const double granule = 8, registers = std::max(granule, std::ceil(s.registers / granule) * granule);
  const double per_simd = std::min(t.waves_per_simd, std::floor(t.registers_per_lane / registers)), waves = std::max(1u, s.waves);
  // The waves of a workgroup go to the SIMDs in turn; those of small ones fill them up.
  double groups = waves >= t.simds ? std::floor(per_simd / std::ceil(waves / t.simds)) : std::floor(per_simd * t.simds / waves);
  if (s.lds_bytes) groups = std::min(groups, std::floor(t.lds_bytes / s.lds_bytes));
  return static_cast<unsigned>(std::max(1.0, groups));
}

struct Limits {
  double line_cycles;
  const char* bound;
};

Limits limits(const Table& t, double active, double fabric_part, double hbm_part) {
  const double hertz = t.clock_ghz * 1e9, line = t.line_bytes;
  const double per_die = std::max(1.0, active / t.dies);
  const std::pair<double, const char*> all[] = {
      {line / t.l1_bytes_per_cycle, "l1"},
      {per_die * line / (t.l2_bytes_per_cycle * t.l2_efficiency), "l2"},
      {active * fabric_part * line / (t.mall_bytes_per_second / hertz * t.l2_efficiency), "mall"},
      {active * hbm_part * line / (t.hbm_bytes_per_second / hertz * t.hbm_efficiency), "hbm"},
  };
  Limits out{0, "l1"};
  for (const auto& [cycles, name] : all)
    if (cycles > out.line_cycles) out = {cycles, name};
  return out;
}

}  // namespace

Estimate estimate(const Table& t, const Sample& sample) {
  Estimate e;
  e.groups = double(sample.grid.x) * sample.grid.y * sample.grid.z;
  e.long_groups = std::max(1.0, std::round(e.groups * sample.kinds.fraction));
  e.launch_us = t.launch_us;
  const std::vector<const GroupTrace*>& traces = sample.traces;
  e.traced = static_cast<unsigned>(traces.size());
  e.resident = residents(t, sample);
  e.active_units = std::min(t.compute_units, e.long_groups);
  e.groups_per_unit = std::ceil(e.long_groups / e.active_units);
  if (traces.empty()) {
    e.microseconds = t.launch_us;
    return e;
  }
  const auto simulated = static_cast<size_t>(std::min(e.groups_per_unit, double(kRounds * e.resident)));
  std::vector<double> sizes;
  for (const GroupTrace* g : traces) {
    size_t n = 0;
    for (const auto& w : g->waves) n += w.size();
    sizes.push_back(static_cast<double>(n));
  }
  const auto longest = std::max_element(sizes.begin(), sizes.end());
  const bool uneven = *longest > kUneven * *std::min_element(sizes.begin(), sizes.end());
  std::vector<const GroupTrace*> queue;
  for (size_t i = 0; i < simulated; ++i)
    queue.push_back(traces[uneven && simulated < traces.size() ? i * traces.size() / simulated : i % traces.size()]);
  const Traffic lines = traffic(t, sample.grid, sample.allocations, e.long_groups, t.compute_units * e.resident);
  // How many lines miss the first cache does not depend on how fast they come, to a good approximation: a first pass counts them.
  Share share{t.line_bytes / t.l1_bytes_per_cycle, t.l2_latency + t.hbm_ns * t.clock_ghz};
  const std::vector<const GroupTrace*> one(queue.begin(), queue.begin() + static_cast<std::ptrdiff_t>(std::min<size_t>(simulated, e.resident)));
  const UnitResult first = simulate(t, sample.recorder.instructions, one, e.resident, share);
  const double requests = std::max(1.0, first.misses / static_cast<double>(one.size()) * e.long_groups);
  const double fabric = std::min(1.0, lines.fabric_lines / requests), hbm = std::min(1.0, lines.hbm_lines / requests);
  const Limits limit = limits(t, e.active_units, fabric, hbm);
  share.line_cycles = limit.line_cycles;
  e.unit = simulate(t, sample.recorder.instructions, queue, e.resident, share);
  e.line_cycles = share.line_cycles, e.latency = share.latency, e.bound = limit.bound;
  e.request_bytes = requests * t.line_bytes;
  e.fabric_bytes = fabric * e.request_bytes, e.hbm_bytes = hbm * e.request_bytes;
  e.cycles = e.unit.cycles;
  if (e.groups_per_unit > static_cast<double>(simulated)) {
    std::vector<double> ends = e.unit.ends;
    std::sort(ends.begin(), ends.end());
    const size_t before = simulated - e.resident;
    const double pace = (ends.back() - ends[before - 1]) / e.resident;
    e.cycles += (e.groups_per_unit - static_cast<double>(simulated)) * pace;
  }
  if (uneven) {  // a launch lasts at least as long as its longest workgroup, which may be any unit's
    const UnitResult alone = simulate(t, sample.recorder.instructions, {traces[static_cast<size_t>(longest - sizes.begin())]}, 1, share);
    if (alone.cycles > e.cycles) e.cycles = alone.cycles, e.unit = alone;
  }
  const double matrix = std::min(1.0, e.unit.busy.matrix / std::max(1.0, e.unit.cycles)) * e.active_units / t.compute_units;
  const double clock = t.clock_ghz * (1 - matrix * (1 - std::min(1.0, t.matrix_clock)));
  e.microseconds = t.launch_us + e.cycles / (clock * 1e3);
  double mean = 0, square = 0;
  for (const double s : sizes) mean += s / static_cast<double>(sizes.size());
  for (const double s : sizes) square += (s - mean) * (s - mean);
  const auto n = static_cast<double>(sizes.size());
  const double spread = n > 1 && n < e.long_groups ? std::sqrt(square / (n - 1) / n) / mean : 0;
  e.sampling_error = std::sqrt(spread * spread + sample.kinds.error * sample.kinds.error);
  return e;
}

std::string Estimate::json() const {
  std::string text = "{";
  auto add = [&](const char* name, double x) {
    char buffer[96];
    snprintf(buffer, sizeof buffer, "%s\"%s\": %.9g", text.size() > 1 ? ", " : "", name, x);
    text += buffer;
  };
  add("us", microseconds), add("sampling_error", sampling_error), add("launch_us", launch_us), add("cycles", cycles);
  add("groups", groups), add("long_groups", long_groups), add("resident", resident), add("traced", traced);
  add("active_units", active_units), add("groups_per_unit", groups_per_unit);
  add("request_bytes", request_bytes), add("fabric_bytes", fabric_bytes), add("hbm_bytes", hbm_bytes);
  add("line_cycles", line_cycles), add("latency", latency);
  const double c = std::max(1.0, unit.cycles);
  add("matrix", unit.busy.matrix / c), add("vector", unit.busy.vector / c), add("scalar", unit.busy.scalar / c);
  add("lds", unit.busy.lds / c), add("vector_memory", unit.busy.vector_memory / c);
  add("wait_vector_memory", unit.stalls.vector_memory / c), add("wait_lds", unit.stalls.lds / c);
  add("wait_barrier", unit.stalls.barrier / c), add("wait_fetch", unit.stalls.fetch / c);
  add("l1_hits", unit.requests > 0 ? 1 - unit.misses / unit.requests : 0);
  return text + ", \"bound\": \"" + bound + "\"}";
}

}  // namespace vgpu::timing
