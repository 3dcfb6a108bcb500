#include "core/module.h"

#include <sys/stat.h>

#include <cstdio>
#include <functional>
#include <set>

#include "core/log.h"
#include "core/memory.h"
#include "core/offload_bundle.h"
#include "core/options.h"
#include "core/record.h"

namespace vgpu::hip {
namespace {

struct Registry {
  std::mutex mutex;
  std::set<LoadedModule*> modules;
  std::set<const void*> functions;
};
Registry& registry() {
  static auto* instance = new Registry;
  return *instance;
}

void dump(const void* image, size_t size) {
  const std::string& folder = Options::get().dump_code;
  if (folder.empty()) return;
  mkdir(folder.c_str(), 0777);
  const std::string bytes(static_cast<const char*>(image), size);
  const std::string path = format("%s/%016zx.co", folder.c_str(), std::hash<std::string>()(bytes));
  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (file == nullptr || std::fwrite(image, 1, size, file) != size) log("cannot write %s", path.c_str());
  if (file != nullptr) std::fclose(file);
}

}  // namespace

uint32_t lds_per_block() { return Options::get().arch == Arch::gfx950 ? 160 * 1024 : 64 * 1024; }

Error load_module(const void* image, size_t size, LoadedModule** out) {
  if (image == nullptr) return Error(hipErrorInvalidValue, "no image");
  CodeObject code;
  if (Error error = extract_code_object(image, size, Options::get().arch, &code)) return error;
  dump(code.data, code.size);
  std::string message;
  auto module = load_code_object(code.data, code.size, Options::get().arch, memory::map(), &message);
  if (!module) return Error(hipErrorInvalidImage, message);
  auto loaded = std::make_unique<LoadedModule>();
  keep_code_object(module.get(), code.data, code.size);
  loaded->module = std::move(module);
  Registry& r = registry();
  std::lock_guard<std::mutex> lock(r.mutex);
  *out = loaded.release();
  r.modules.insert(*out);
  return Error();
}

Error resolve(hipModule_t module) {
  Registry& r = registry();
  std::lock_guard<std::mutex> lock(r.mutex);
  if (r.modules.count(module) == 0) return Error(hipErrorInvalidHandle, format("%p is not a loaded module", (void*)module));
  return Error();
}

Error unload_module(hipModule_t module) {
  Registry& r = registry();
  {
    std::lock_guard<std::mutex> lock(r.mutex);
    if (r.modules.erase(module) == 0) return Error(hipErrorInvalidHandle, format("%p is not a loaded module", (void*)module));
    for (const auto& [name, function] : module->functions) r.functions.erase(function.get());
  }
  delete module;
  return Error();
}

Error get_function(LoadedModule* module, const std::string& name, Function** out) {
  std::lock_guard<std::mutex> lock(module->mutex);
  auto& slot = module->functions[name];
  if (!slot) {
    const Kernel* kernel = module->module->kernel(name);
    if (kernel == nullptr) {
      module->functions.erase(name);
      return Error(hipErrorNotFound, "no kernel is called " + name);
    }
    slot = std::make_unique<Function>();
    slot->kernel = kernel;
    slot->module = module->module;
    slot->name = name;
    Registry& r = registry();
    std::lock_guard<std::mutex> registry_lock(r.mutex);
    r.functions.insert(slot.get());
  }
  *out = slot.get();
  return Error();
}

Error function_of(const void* function_or_stub, Function** out) {
  {
    Registry& r = registry();
    std::lock_guard<std::mutex> lock(r.mutex);
    if (r.functions.count(function_or_stub) != 0) {
      *out = static_cast<Function*>(const_cast<void*>(function_or_stub));
      return Error();
    }
  }
  return function_of_stub(function_or_stub, out);
}

}  // namespace vgpu::hip
