// Which code objects are loaded on which device, shared by all executables of the process.
#ifndef JAX_AITER_FFI_MODULE_TABLE_H_
#define JAX_AITER_FFI_MODULE_TABLE_H_

#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "driver.h"
#include "plan.h"
#include "status.h"

namespace jax_aiter {

// Modules are never unloaded. An executable may be destroyed while its kernels still wait in a stream, and captured
// graphs keep kernel handles of their own, so there is no moment at which unloading is known to be safe; and a model
// that is traced again finds its kernels already on the device. The cost is bounded by the distinct code objects used.
class ModuleTable {
 public:
  explicit ModuleTable(Driver& driver) : driver_(driver) {}

  // Loads `code` on device `ordinal` unless it is there, and finds the launch's kernel in it. Thread-safe; different
  // modules load in parallel. The calling thread must have entered the device. A failed load is tried again by the
  // next caller, because the reason (say, memory) may have gone.
  Status FindKernel(int ordinal, const std::shared_ptr<const CodeObject>& code, const Launch& launch, void** kernel);

  size_t loaded() const;

 private:
  struct Entry {
    std::mutex mutex;
    std::shared_ptr<const CodeObject> code;  // its image must live as long as the module
    void* module = nullptr;
  };

  Driver& driver_;
  mutable std::mutex mutex_;
  std::map<std::pair<int, const CodeObject*>, std::shared_ptr<Entry>> entries_;
};

}  // namespace jax_aiter

#endif  // JAX_AITER_FFI_MODULE_TABLE_H_
