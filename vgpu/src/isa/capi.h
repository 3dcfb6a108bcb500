// What the files of the C interface share.
#pragma once

#include <sys/mman.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "isa/device.h"

namespace vgpu::timing {
struct Sample;
}

#define VGPU_API extern "C" __attribute__((visibility("default")))

struct vgpu_isa {
  vgpu::Arch arch;
  vgpu::MemoryMap memory;
  std::vector<std::shared_ptr<vgpu::Module>> modules;
  std::map<void*, std::pair<void*, size_t>> blocks;  // user pointer -> mapping
  std::string error, text;
  std::vector<std::string> hazards;  // of the latest launch that collected them
  std::vector<uint64_t> executed;    // and the instructions that it ran
  std::shared_ptr<vgpu::timing::Sample> sample;  // of the latest estimate

  ~vgpu_isa() {
    modules.clear();
    for (auto& b : blocks) munmap(b.second.first, b.second.second);
  }
  int fail(const std::string& what) {
    error = what;
    return -1;
  }
  vgpu::Module* module(int id) {
    if (id >= 0 && static_cast<size_t>(id) < modules.size()) return modules[static_cast<size_t>(id)].get();
    fail("no module " + std::to_string(id));
    return nullptr;
  }
  const vgpu::Kernel* kernel(int id, const char* name) {
    vgpu::Module* m = module(id);
    const vgpu::Kernel* k = m ? m->kernel(name) : nullptr;
    if (m && !k) fail(std::string("no kernel ") + name);
    return k;
  }
};
