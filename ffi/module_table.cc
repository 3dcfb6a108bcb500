#include "module_table.h"

#include <cinttypes>
#include <cstdio>
#include <string>

namespace jax_aiter {
namespace {

std::string Name(const CodeObject& code) {
  char id[17];
  std::snprintf(id, sizeof(id), "%016" PRIx64, code.id);
  return "code object " + std::string(id, 12) + " (" + std::to_string(code.size()) + " bytes)";
}

}  // namespace

Status ModuleTable::FindKernel(int ordinal, const std::shared_ptr<const CodeObject>& code, const Launch& launch,
                               void** kernel) {
  std::shared_ptr<Entry> entry;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    std::shared_ptr<Entry>& slot = entries_[{ordinal, code.get()}];
    if (!slot) {
      slot = std::make_shared<Entry>();
      slot->code = code;
    }
    entry = slot;
  }
  std::lock_guard<std::mutex> lock(entry->mutex);
  if (!entry->module) {
    void* module = nullptr;
    JAX_AITER_RETURN_IF_ERROR(driver_.LoadModule(*code, &module).In("loading " + Name(*code)));
    entry->module = module;
  }
  return driver_.FindKernel(entry->module, launch, kernel).In(Name(*code));
}

size_t ModuleTable::loaded() const {
  std::lock_guard<std::mutex> lock(mutex_);
  size_t n = 0;
  for (const auto& [key, entry] : entries_) {
    std::lock_guard<std::mutex> entry_lock(entry->mutex);
    n += entry->module != nullptr;
  }
  return n;
}

}  // namespace jax_aiter
