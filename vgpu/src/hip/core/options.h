// What `vgpu run` asked for. It reaches this process through environment variables, read once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "isa/device.h"

namespace vgpu::hip {

struct Options {
  Arch arch = Arch::gfx942;        // VGPU_ARCH
  int devices = 1;                 // VGPU_DEVICES
  size_t memory = size_t{16} << 30;  // VGPU_MEMORY, in GiB (fractions allowed), per device
  bool check_memory = false;       // VGPU_CHECK=memory
  bool check_uninit = false;       // VGPU_CHECK=uninit
  bool check_races = false;        // VGPU_CHECK=races
  bool check_hazards = false;      // VGPU_CHECK=hazard
  std::optional<uint64_t> order_seed;  // VGPU_CHECK=order=SEED
  std::string profile;             // VGPU_PROFILE: file, JSON lines
  std::string dump_code;           // VGPU_DUMP_CODE: folder that receives every loaded code object
  std::string estimate;            // VGPU_ESTIMATE: file, JSON lines
  std::string estimate_table;      // VGPU_ESTIMATE_TABLE: the device's numbers, name=value
  std::string record;              // VGPU_RECORD: folder that receives the first launch of every kernel
  unsigned threads = 0;            // VGPU_THREADS; 0 = all cores
  uint64_t max_instructions = 0;   // VGPU_MAX_INSTRUCTIONS per launch; 0 = no limit
  uint32_t slice = 0;              // VGPU_SLICE: instructions a wave runs before the next one's turn; 0 = default
  bool fma_arithmetic = false;     // VGPU_ARITH=fma: matrix instructions as fused multiply-adds; silicon is the default

  // One per process. A malformed variable is reported and ends the process with exit status 2: a check that
  // silently did not run would be worse.
  static const Options& get();
};

}  // namespace vgpu::hip
