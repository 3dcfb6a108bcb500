#include "core/estimate.h"

#include <cstdio>
#include <cstdlib>
#include <mutex>

#include "core/log.h"
#include "core/memory.h"
#include "core/module.h"
#include "core/options.h"
#include "core/profile.h"

namespace vgpu::hip {
namespace {

constexpr unsigned kTraced = 4;         // workgroups, besides neighbours of the first
constexpr uint64_t kConsidered = 4096;  // from which they are drawn

const timing::Table& table() {
  static const timing::Table parsed = [] {
    timing::Table t;
    std::string error;
    if (timing::parse_table(Options::get().estimate_table, &t, &error)) return t;
    log("VGPU_ESTIMATE_TABLE: %s", error.c_str());
    std::_Exit(2);
  }();
  return parsed;
}

}  // namespace

std::unique_ptr<timing::Sample> begin_estimate(const KernelWork& work) {
  if (Options::get().estimate.empty()) return nullptr;
  auto sample = std::make_unique<timing::Sample>();
  sample->grid = {work.grid.x, work.grid.y, work.grid.z};
  const uint64_t all = uint64_t{work.grid.x} * work.grid.y * work.grid.z, considered = std::min(all, kConsidered);
  std::vector<uint64_t> among;
  for (uint64_t i = 0; i < considered; ++i) among.push_back(i * all / considered);
  timing::Recorder& recorder = sample->recorder;
  recorder.wanted = timing::spread(sample->grid, among, kTraced);
  recorder.line_bytes = static_cast<unsigned>(table().line_bytes);
  recorder.lds_banks = static_cast<unsigned>(table().lds_banks);
  return sample;
}

void write_estimate(const KernelWork& work, const Place& place, timing::Sample& sample) {
  sample.kinds = timing::kinds(sample.recorder.executed, sample.recorder.executed.size());
  sample.finish(*work.function->kernel, {work.block.x, work.block.y, work.block.z}, work.dynamic_lds, &memory::map());
  const std::string fields = timing::estimate(table(), sample).json();
  static std::mutex mutex;
  static std::FILE* file = [] {
    std::FILE* opened = std::fopen(Options::get().estimate.c_str(), "a");
    if (opened == nullptr) log("cannot write estimates to %s", Options::get().estimate.c_str());
    return opened;
  }();
  if (file == nullptr) return;
  std::string line = format("{\"kernel\": %s, \"device\": %d, \"stream\": %s", quoted(work.function->name).c_str(), place.device,
                            quoted(place.stream).c_str());
  line += format(", \"grid\": [%u, %u, %u], \"block\": [%u, %u, %u], ", work.grid.x, work.grid.y, work.grid.z, work.block.x,
                 work.block.y, work.block.z);
  line += fields.substr(1) + "\n";
  const std::lock_guard<std::mutex> lock(mutex);
  std::fwrite(line.data(), 1, line.size(), file);
  std::fflush(file);
}

}  // namespace vgpu::hip
