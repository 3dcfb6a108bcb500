#include "core/profile.h"

#include <cstdio>
#include <mutex>

#include "core/log.h"
#include "core/module.h"
#include "core/options.h"

namespace vgpu::hip {
std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') (out += '\\') += c;
    else if (static_cast<unsigned char>(c) < 0x20) out += format("\\u%04x", c);
    else out += c;
  }
  return out + "\"";
}

void write_profile(const KernelWork& work, const Place& place, const Counts& c) {
  // Appended line by line and flushed, so that a crash of the program loses nothing.
  static std::mutex mutex;
  static std::FILE* file = [] {
    std::FILE* opened = std::fopen(Options::get().profile.c_str(), "a");
    if (opened == nullptr) log("cannot write the profile to %s", Options::get().profile.c_str());
    return opened;
  }();
  if (file == nullptr) return;
  std::string line = format("{\"kernel\": %s, \"device\": %d, \"stream\": %s", quoted(work.function->name).c_str(),
                            place.device, quoted(place.stream).c_str());
  line += format(", \"grid\": [%u, %u, %u], \"block\": [%u, %u, %u]", work.grid.x, work.grid.y, work.grid.z, work.block.x,
                 work.block.y, work.block.z);
  const std::pair<const char*, uint64_t> fields[] = {
      {"workgroups", c.workgroups}, {"waves", c.waves}, {"instructions", c.instructions},
      {"salu", c.salu}, {"smem", c.smem}, {"valu", c.valu}, {"mfma", c.mfma}, {"lds", c.lds}, {"flat", c.flat},
      {"global", c.global}, {"scratch", c.scratch}, {"buffer", c.buffer}, {"branch", c.branch}, {"other", c.other},
      {"mfma_flops", c.mfma_flops}, {"bytes_loaded", c.bytes_loaded}, {"bytes_stored", c.bytes_stored},
      {"bytes_atomic", c.bytes_atomic}, {"scalar_bytes_loaded", c.scalar_bytes_loaded},
      {"lds_bytes_read", c.lds_bytes_read}, {"lds_bytes_written", c.lds_bytes_written},
      {"branches_taken", c.branches_taken}, {"barriers", c.barriers}};
  for (const auto& [name, value] : fields) line += format(", \"%s\": %lu", name, (unsigned long)value);
  line += "}\n";
  std::lock_guard<std::mutex> lock(mutex);
  std::fwrite(line.data(), 1, line.size(), file);
  std::fflush(file);
}

}  // namespace vgpu::hip
