// Checks a launch request, builds its kernel argument block and runs it.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "isa/hazard.h"
#include "isa/module.h"
#include "isa/pool.h"
#include "isa/race.h"
#include "isa/scheduler.h"
#include "time/trace.h"

namespace vgpu {
namespace {

using namespace isa;

bool hidden(const KernelArg& a) { return a.kind.compare(0, 7, "hidden_") == 0; }

std::string dims(Dim3 d) {
  return "(" + std::to_string(d.x) + ", " + std::to_string(d.y) + ", " + std::to_string(d.z) + ")";
}

std::string check(const Kernel& k, Dim3 grid, Dim3 block, uint32_t lds, size_t kernarg_size) {
  if (!grid.x || !grid.y || !grid.z) return "grid " + dims(grid) + " has a zero dimension";
  if (!block.x || !block.y || !block.z) return "block " + dims(block) + " has a zero dimension";
  const uint64_t items = uint64_t{block.x} * block.y * block.z;
  if (items > 1024) return "block " + dims(block) + " has more than 1024 work-items";
  if (items > k.max_flat_workgroup_size)
    return "block " + dims(block) + " exceeds the kernel's limit of " + std::to_string(k.max_flat_workgroup_size) + " work-items";
  const uint32_t limit = k.module->arch() == Arch::gfx950 ? 160 * 1024 : 64 * 1024;
  if (lds > limit) return "LDS of " + std::to_string(lds) + " bytes exceeds " + std::to_string(limit);
  for (const KernelArg& a : k.args) {
    if (!hidden(a) && a.offset + a.size > kernarg_size)
      return "argument '" + a.name + "' at byte " + std::to_string(a.offset) + " is not covered by the " +
             std::to_string(kernarg_size) + " bytes of kernel arguments given";
  }
  if (k.args.empty() && kernarg_size < k.kernarg_size)
    return "the kernel takes " + std::to_string(k.kernarg_size) + " bytes of arguments, " + std::to_string(kernarg_size) + " were given";
  return "";
}

// Value of an implicit argument; unknown ones (queues, heaps, printf) are zero.
uint64_t hidden_value(const std::string& kind, Dim3 grid, Dim3 block, uint32_t dynamic_lds, const uint32_t* offset) {
  const uint32_t g[3] = {grid.x, grid.y, grid.z}, b[3] = {block.x, block.y, block.z};
  for (int d = 0; d < 3; ++d) {
    const char axis = static_cast<char>('x' + d);
    if (kind == std::string("hidden_block_count_") + axis) return g[d];
    if (kind == std::string("hidden_group_size_") + axis) return b[d];
    if (kind == std::string("hidden_global_offset_") + axis) return offset[d];
  }
  if (kind == "hidden_grid_dims") return grid.z > 1 || block.z > 1 ? 3 : grid.y > 1 || block.y > 1 ? 2 : 1;
  if (kind == "hidden_dynamic_lds_size") return dynamic_lds;
  if (kind == "hidden_private_base") return Code::kPrivateHigh;
  if (kind == "hidden_shared_base") return Code::kSharedHigh;
  return 0;  // hidden_remainder_*: grids are whole workgroups
}

// hsa_kernel_dispatch_packet_t.
struct DispatchPacket {
  uint16_t header = 2, setup = 3;
  uint16_t workgroup[3] = {1, 1, 1}, reserved0 = 0;
  uint32_t grid[3] = {1, 1, 1};
  uint32_t private_size = 0, group_size = 0;
  uint64_t kernel_object = 0, kernarg = 0, reserved2 = 0, signal = 0;
};
static_assert(sizeof(DispatchPacket) == 64, "layout is fixed by HSA");

// Kernel arguments and, at the end, the dispatch packet.
struct ArgumentBlock {
  explicit ArgumentBlock(size_t args) : size((args + 63) / 64 * 64 + sizeof(DispatchPacket) + 64) {
    if (posix_memalign(&memory, 4096, size) != 0) throw std::bad_alloc();
    std::memset(memory, 0, size);
  }
  ~ArgumentBlock() { std::free(memory); }
  ArgumentBlock(const ArgumentBlock&) = delete;
  ArgumentBlock& operator=(const ArgumentBlock&) = delete;
  void* memory = nullptr;
  size_t size;
};

void fill_arguments(const Kernel& k, LaunchState& state, uint8_t* block, const void* kernarg, size_t kernarg_size,
                    uint32_t dynamic_lds) {
  if (kernarg_size) std::memcpy(block, kernarg, kernarg_size);
  for (const KernelArg& a : k.args) {
    if (!hidden(a) || a.offset + a.size <= kernarg_size || a.size > 8) continue;
    const uint64_t x = hidden_value(a.kind, state.grid, state.block, dynamic_lds, state.options.global_offset);
    std::memcpy(block + a.offset, &x, a.size);
  }
}

}  // namespace

void Counts::add(const Counts& o) {
  static_assert(sizeof(Counts) % sizeof(uint64_t) == 0, "all fields are uint64_t");
  auto* mine = reinterpret_cast<uint64_t*>(this);
  const auto* theirs = reinterpret_cast<const uint64_t*>(&o);
  for (size_t i = 0; i < sizeof(Counts) / sizeof(uint64_t); ++i) mine[i] += theirs[i];
}

Status launch(const Kernel& kernel, Dim3 grid, Dim3 block, uint32_t dynamic_lds, const void* kernarg,
              size_t kernarg_size, const LaunchOptions& options) {
  const uint32_t lds = kernel.lds_bytes + dynamic_lds;
  std::string problem = check(kernel, grid, block, lds, kernarg_size);
  if (!problem.empty()) return Status::error("kernel " + kernel.name + ": " + problem);
  if ((options.check_memory || options.check_uninit || options.check_races) && !options.memory)
    return Status::error("kernel " + kernel.name + ": checks need LaunchOptions::memory");
  try {
    LaunchState state;
    state.kernel = &kernel;
    state.code = kernel.module->impl()->code.get();
    state.options = options;
    state.grid = grid;
    state.block = block;
    state.lds_bytes = lds;
    state.total_groups = uint64_t{grid.x} * grid.y * grid.z;
    if (timing::Recorder* recorder = options.recorder) {
      recorder->start(*state.code);
      if (!recorder->run.empty()) state.total_groups = recorder->run.size();
    }
    if (options.check_races) state.races = std::make_unique<RaceDetector>();
    if (options.check_hazards) state.hazards = std::make_unique<HazardLaunch>(*state.code, options.hazards);

    size_t args = std::max<size_t>(kernarg_size, kernel.kernarg_size);
    for (const KernelArg& a : kernel.args) args = std::max<size_t>(args, a.offset + a.size);
    const ArgumentBlock memory(args);
    auto* bytes = static_cast<uint8_t*>(memory.memory);
    fill_arguments(kernel, state, bytes, kernarg, kernarg_size, dynamic_lds);
    state.kernarg = bytes;
    state.argument_bytes = memory.size;
    DispatchPacket packet;
    const uint32_t g[3] = {grid.x, grid.y, grid.z}, b[3] = {block.x, block.y, block.z};
    for (int d = 0; d < 3; ++d) {
      packet.workgroup[d] = static_cast<uint16_t>(b[d]);
      packet.grid[d] = g[d] * b[d];
    }
    packet.private_size = kernel.scratch_bytes;
    packet.group_size = lds;
    packet.kernarg = reinterpret_cast<uint64_t>(bytes);
    state.dispatch_packet = bytes + memory.size - sizeof packet;
    std::memcpy(state.dispatch_packet, &packet, sizeof packet);

    const uint64_t wanted = options.threads ? options.threads : hardware_threads();
    const unsigned helpers = static_cast<unsigned>(std::min<uint64_t>(wanted, state.total_groups) - 1);
    run_with_helpers(helpers, [&state] { work(state); });
    if (options.counts) *options.counts = state.counts;
    if (state.hazards && options.executed) *options.executed = state.hazards->executed();
    if (!state.error.empty()) return Status::error(state.error);
  } catch (const std::exception& e) {
    return Status::error("kernel " + kernel.name + ": " + e.what());
  }
  return {};
}

}  // namespace vgpu
