// What all workers of one launch share.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>

#include "isa/device.h"

namespace vgpu::isa {

class HazardLaunch;
class RaceDetector;
struct Code;

struct LaunchState {
  const Kernel* kernel = nullptr;
  const Code* code = nullptr;
  LaunchOptions options;
  Dim3 grid, block;
  uint32_t lds_bytes = 0;
  uint8_t* kernarg = nullptr;       // argument block, dispatch packet at its end
  size_t argument_bytes = 0;
  void* dispatch_packet = nullptr;
  uint64_t total_groups = 0;
  std::atomic<uint64_t> next_group{0};
  std::atomic<uint64_t> instructions{0};
  std::atomic<bool> stop{false};
  std::unique_ptr<RaceDetector> races;
  std::unique_ptr<HazardLaunch> hazards;

  std::mutex mutex;       // guards the two below
  std::string error;      // the first one
  Counts counts;

  bool checks_bytes() const { return options.check_uninit || options.check_races; }
  bool checks_global() const { return options.memory && (options.check_memory || checks_bytes()); }
};

}  // namespace vgpu::isa
