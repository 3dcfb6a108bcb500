#include "time/traffic.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <tuple>

namespace vgpu::timing {
namespace {

constexpr double kSame = 0.5;  // workgroups share an allocation's lines when they have more than this part of them in common

struct Touched {
  double lines = 0;                         // of the allocation
  std::vector<std::vector<uint64_t>> sets;  // by trace, sorted
};

std::map<uintptr_t, Touched> by_allocation(unsigned line_bytes, const std::vector<const GroupTrace*>& traces, const MemoryMap* memory) {
  std::map<uintptr_t, Touched> found;
  for (size_t k = 0; k < traces.size(); ++k) {
    std::vector<uint64_t> lines = traces[k]->lines;
    std::sort(lines.begin(), lines.end());
    lines.erase(std::unique(lines.begin(), lines.end()), lines.end());
    uintptr_t base = 0, end = 0;
    for (const uint64_t line : lines) {
      const auto address = static_cast<uintptr_t>(line * line_bytes);
      if (address < base || address >= end) {
        auto a = memory ? memory->find(address + line_bytes - 1) : std::nullopt;
        if (memory && !a) a = memory->find(address);
        base = a ? a->base : address & ~uintptr_t{0xfffff};  // memory that nobody registered: by the MiB
        end = base + (a ? a->size : 0x100000);
      }
      Touched& to = found[base];
      if (to.sets.empty()) to.sets.resize(traces.size());
      to.lines = std::ceil(static_cast<double>(end - base) / line_bytes);
      to.sets[k].push_back(line);
    }
  }
  return found;
}

Allocated compare(const std::vector<const GroupTrace*>& traces, const Touched& touched) {
  Allocated out;
  out.lines = touched.lines;
  bool known[3] = {false, false, false}, near_same[3] = {false, false, false};
  for (const auto& t : touched.sets) out.each += static_cast<double>(t.size()) / static_cast<double>(traces.size());
  for (size_t i = 0; i < traces.size(); ++i) {
    for (size_t j = i + 1; j < traces.size(); ++j) {
      const auto &a = touched.sets[i], &b = touched.sets[j];
      int axis = -1, differ = 0;
      for (int d = 0; d < 3; ++d)
        if (traces[i]->id[d] != traces[j]->id[d]) axis = d, ++differ;
      if (differ != 1 || a.empty() || b.empty()) continue;
      std::vector<uint64_t> both;
      std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(both));
      known[axis] = true;
      const bool same = static_cast<double>(both.size()) >= kSame * static_cast<double>(std::min(a.size(), b.size()));
      if (!same) out.along[axis] = true;
      if (same && traces[i]->id[axis] + 1 == traces[j]->id[axis]) near_same[axis] = true;
    }
  }
  // Nothing known of an axis: the safe side is that nothing is shared along it.
  for (int d = 0; d < 3; ++d)
    if (!known[d]) out.along[d] = true;
  for (int d = 0; d < 3; ++d) out.local |= out.along[d] && near_same[d];
  return out;
}

// Distinct positions along the axes that matter among the workgroups first, first + step, ...
double distinct(const Allocated& a, Dim3 grid, uint64_t first, uint64_t step, uint64_t end) {
  std::set<std::tuple<uint64_t, uint64_t, uint64_t>> seen;
  uint64_t counted = 0;
  for (uint64_t l = first; l < end && counted < 4096; l += step, ++counted)
    seen.insert({a.along[0] ? l % grid.x : 0, a.along[1] ? l / grid.x % grid.y : 0, a.along[2] ? l / grid.x / grid.y : 0});
  const double all = std::ceil(static_cast<double>(end - std::min(first, end)) / static_cast<double>(step));
  return counted ? static_cast<double>(seen.size()) * std::max(1.0, all / static_cast<double>(counted)) : 0;
}

// What is fetched over the launch: `once` when the cache keeps it between rounds, `rounds` times `each` when it keeps nothing.
double with_reuse(double once, double in_rounds, double cache_lines) {
  if (in_rounds <= once) return once;
  const double kept = once > 0 ? std::min(1.0, cache_lines / once) : 1;
  return once + (in_rounds - once) * (1 - kept);
}

}  // namespace

std::vector<Allocated> sharing(unsigned line_bytes, const std::vector<const GroupTrace*>& traces, const MemoryMap* memory) {
  std::vector<Allocated> out;
  for (const auto& [base, touched] : by_allocation(line_bytes, traces, memory)) out.push_back(compare(traces, touched));
  return out;
}

Traffic traffic(const Table& table, Dim3 grid, const std::vector<Allocated>& allocations, double groups, double at_once) {
  Traffic out;
  const auto dies = static_cast<uint64_t>(table.dies);
  const auto round = static_cast<uint64_t>(std::ceil(std::min(groups, at_once))), all = static_cast<uint64_t>(std::ceil(groups));
  const double rounds = groups / std::max(1.0, static_cast<double>(round));
  double once = 0, in_rounds = 0, die_once = 0, die_rounds = 0;
  for (const Allocated& a : allocations) {
    auto lines = [&](double positions) { return std::min(a.lines, positions * a.each); };
    // Neighbours that share do so as often on the whole as it takes not to exceed the allocation.
    const double positions = distinct(a, grid, 0, 1, all), alone = a.local ? std::min(1.0, a.lines / (positions * a.each)) : 1;
    once += lines(positions);
    in_rounds += rounds * lines(alone * distinct(a, grid, 0, 1, round));
    for (uint64_t d = 0; d < dies; ++d) {
      die_once += lines(alone * distinct(a, grid, d, dies, all));
      die_rounds += rounds * lines(alone * distinct(a, grid, d, dies, round));
    }
  }
  out.hbm_lines = with_reuse(once, in_rounds, table.mall_bytes / table.line_bytes);
  out.fabric_lines = std::max(out.hbm_lines, with_reuse(die_once, die_rounds, table.dies * table.l2_bytes / table.line_bytes));
  return out;
}

}  // namespace vgpu::timing
