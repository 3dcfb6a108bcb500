// Which workgroups are traced, and what they stand for.
#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "time/estimate.h"

namespace vgpu::timing {

std::vector<uint64_t> spread(Dim3 grid, const std::vector<uint64_t>& among, unsigned count) {
  std::vector<uint64_t> out;
  if (among.empty()) return out;
  const size_t n = among.size();
  for (unsigned i = 0; i < count; ++i) out.push_back(among[n * i / count]);
  // Along each axis the first one's neighbour and one from the middle of those that differ from it in nothing else.
  const uint64_t first = among.front(), step[3] = {1, grid.x, uint64_t{grid.x} * grid.y};
  const uint32_t length[3] = {grid.x, grid.y, grid.z};
  for (int d = 0; d < 3; ++d) {
    if (first / step[d] % length[d] + 1 < length[d]) out.push_back(first + step[d]);
    std::vector<uint64_t> line;
    for (const uint64_t l : among) {
      const uint64_t at = l / step[d] % length[d], base = first / step[d] % length[d];
      if (l != first && l - at * step[d] == first - base * step[d]) line.push_back(l);
    }
    if (!line.empty()) out.push_back(line[line.size() / 2]);
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

Kinds kinds(const std::vector<std::pair<uint64_t, uint64_t>>& executed, uint64_t groups) {
  Kinds out;
  uint64_t most = 0, count = 0;
  for (const auto& e : executed) most = std::max(most, e.second);
  out.least = most / 3;
  for (const auto& e : executed) count += e.second >= out.least;
  if (executed.empty()) return out;
  const auto n = static_cast<double>(executed.size()), p = static_cast<double>(count) / n;
  out.fraction = p;
  if (executed.size() < groups && p > 0) out.error = std::sqrt(p * (1 - p) / n * (1 - n / static_cast<double>(groups))) / p;
  return out;
}

// The same where whole columns along z ran, of which the first workgroups are traced: those behind them may end at once, or differ
// from them in length, which the error has.
Kinds kinds_of_columns(const std::vector<std::pair<uint64_t, uint64_t>>& executed, uint64_t plane) {
  Kinds out = kinds(executed, executed.size());
  std::unordered_map<uint64_t, double> columns;  // how many of each run on
  double first = 0, firsts = 0, all = 0, count = 0;
  for (const auto& [linear, n] : executed) {
    double& running = columns[linear % plane];
    if (n < out.least) continue;
    ++running;
    all += static_cast<double>(n), ++count;
    if (linear < plane) first += static_cast<double>(n), ++firsts;
  }
  const auto n = static_cast<double>(columns.size());
  double square = 0;
  for (const auto& c : columns) square += (c.second - count / n) * (c.second - count / n);
  if (n > 1 && count > 0) out.error = std::sqrt(square / (n - 1) / n * (1 - n / static_cast<double>(plane))) * n / count;
  if (firsts > 0) out.error = std::hypot(out.error, all / count * firsts / first - 1);
  return out;
}

void Sample::finish(const Kernel& kernel, Dim3 block, uint32_t dynamic_lds, const MemoryMap* memory) {
  waves = static_cast<unsigned>((uint64_t{block.x} * block.y * block.z + 63) / 64);
  registers = kernel.vgprs;
  lds_bytes = kernel.lds_bytes + dynamic_lds;
  kinds.least = timing::kinds(recorder.executed, recorder.executed.size()).least;
  traces.clear();
  for (const GroupTrace& g : recorder.traces) {
    size_t n = 0;
    for (const auto& w : g.waves) n += w.size();
    if (n >= kinds.least) traces.push_back(&g);
  }
  std::sort(traces.begin(), traces.end(), [](const GroupTrace* a, const GroupTrace* b) { return a->linear < b->linear; });
  allocations = sharing(recorder.line_bytes, traces, memory);
}

Status take_sample(const Table& table, const Kernel& kernel, Dim3 grid, Dim3 block, uint32_t dynamic_lds, const void* kernarg,
                   size_t kernarg_size, LaunchOptions options, unsigned count, Sample* out) {
  constexpr uint64_t kProbed = 512, kProbe = 800;  // workgroups that are looked at, instructions of each of their waves
  constexpr uint64_t kColumn = 64;                 // workgroups along z that may wait for one another
  const uint64_t all = uint64_t{grid.x} * grid.y * grid.z, plane = uint64_t{grid.x} * grid.y;
  options.threads = 1;
  // Workgroups along z share a tile and may wait for one another at semaphores in memory, which a first look would disturb.
  const bool column = grid.z > 1 && grid.z <= kColumn;
  // A launch that is traced whole runs once: what it leaves in memory is then what it leaves on a device, and the next can go on from it.
  const bool whole = count >= all && !column;
  std::vector<uint64_t> among;
  Kinds found;
  if (column || whole) {
    for (uint64_t i = 0; i < (whole ? all : plane); ++i) among.push_back(i);
  } else {
    Recorder probe;
    for (uint64_t i = 0; i < std::min(all, kProbed); ++i)
      probe.run.push_back(all <= kProbed ? i : i * all / kProbed + (i * 0x9e3779b97f4a7c15ull >> 32) % (all / kProbed));
    probe.wave_limit = kProbe;
    options.recorder = &probe;
    const Status status = launch(kernel, grid, block, dynamic_lds, kernarg, kernarg_size, options);
    if (!status) return status;
    found = kinds(probe.executed, all);
    for (const auto& [linear, n] : probe.executed)
      if (n >= found.least) among.push_back(linear);
    std::sort(among.begin(), among.end());
  }
  Recorder& recorder = out->recorder;
  recorder.line_bytes = static_cast<unsigned>(table.line_bytes);
  recorder.lds_banks = static_cast<unsigned>(table.lds_banks);
  recorder.wanted = recorder.run = spread(grid, among, count);
  if (column) {
    recorder.together = true;
    recorder.run.clear();
    for (const uint64_t l : recorder.wanted)
      for (uint64_t z = 0; z < grid.z; ++z) recorder.run.push_back(l % plane + z * plane);
    std::sort(recorder.run.begin(), recorder.run.end());
    recorder.run.erase(std::unique(recorder.run.begin(), recorder.run.end()), recorder.run.end());
  }
  options.recorder = &recorder;
  const Status status = launch(kernel, grid, block, dynamic_lds, kernarg, kernarg_size, options);
  if (!status) return status;
  if (whole) found = kinds(recorder.executed, all);
  if (column) found = kinds_of_columns(recorder.executed, plane);
  out->grid = grid;
  out->kinds = found;
  out->finish(kernel, block, dynamic_lds, options.memory);
  return status;
}

}  // namespace vgpu::timing
