// A file is one line of JSON, then the code object, the argument block and the allocations, without gaps.
#include "core/record.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>

#include "core/log.h"
#include "core/memory.h"
#include "core/module.h"
#include "core/options.h"

namespace vgpu::hip {
namespace {

// Larger launches are left out: a record holds all that the arguments point to.
constexpr size_t kMostBytes = size_t{256} << 20;

struct Images {
  std::mutex mutex;
  std::map<const Module*, std::string> by_module;
};
Images& images() {
  static auto* instance = new Images;
  return *instance;
}

// The live allocations that some aligned eight bytes of the arguments point into, constants of other modules among them.
std::map<uintptr_t, size_t> pointed_to(const std::vector<uint8_t>& kernarg) {
  std::map<uintptr_t, size_t> found;
  for (size_t at = 0; at + 8 <= kernarg.size(); at += 8) {
    uintptr_t value = 0;
    std::memcpy(&value, kernarg.data() + at, 8);
    const auto a = memory::map().find(value);
    if (a && !a->freed) found[a->base] = a->size;
  }
  return found;
}

}  // namespace

void keep_code_object(const Module* module, const void* image, size_t size) {
  if (Options::get().record.empty()) return;
  std::lock_guard<std::mutex> lock(images().mutex);
  images().by_module[module] = std::string(static_cast<const char*>(image), size);
}

void record_launch(const KernelWork& work) {
  std::lock_guard<std::mutex> lock(images().mutex);
  const std::string& folder = Options::get().record;
  const std::string& image = images().by_module[work.function->module.get()];
  const std::string& name = work.function->name;
  const std::string path = format("%s/%016zx.launch", folder.c_str(), std::hash<std::string>()(image + name));
  struct stat present;
  if (stat(path.c_str(), &present) == 0) return;
  const auto buffers = pointed_to(work.kernarg);
  size_t total = 0;
  std::string list;
  for (const auto& [base, size] : buffers) {
    total += size;
    list += format("%s[%zu, %zu]", list.empty() ? "" : ", ", static_cast<size_t>(base), size);
  }
  if (total > kMostBytes) return log("%s is not recorded: its arguments point to %zu bytes", name.c_str(), total);
  mkdir(folder.c_str(), 0777);
  const std::string partial = format("%s.%d", path.c_str(), getpid());
  std::FILE* file = std::fopen(partial.c_str(), "wb");
  if (file == nullptr) return log("cannot write %s", partial.c_str());
  const std::string head =
      format("{\"arch\": \"%s\", \"kernel\": \"%s\", \"grid\": [%u, %u, %u], \"block\": [%u, %u, %u], \"lds\": %u, \"image\": %zu, "
             "\"kernarg\": %zu, \"buffers\": [%s]}\n",
             arch_name(Options::get().arch), name.c_str(), work.grid.x, work.grid.y, work.grid.z, work.block.x, work.block.y,
             work.block.z, work.dynamic_lds, image.size(), work.kernarg.size(), list.c_str());
  bool good = std::fwrite(head.data(), 1, head.size(), file) == head.size();
  good &= std::fwrite(image.data(), 1, image.size(), file) == image.size();
  good &= std::fwrite(work.kernarg.data(), 1, work.kernarg.size(), file) == work.kernarg.size();
  for (const auto& [base, size] : buffers) good &= std::fwrite(reinterpret_cast<const void*>(base), 1, size, file) == size;
  good &= std::fclose(file) == 0;
  if (!good || std::rename(partial.c_str(), path.c_str()) != 0) log("cannot write %s", path.c_str());
}

}  // namespace vgpu::hip
