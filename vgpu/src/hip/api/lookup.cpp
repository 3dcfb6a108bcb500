// Finding this library's functions by name, as launchers do that open the runtime themselves.
#include <dlfcn.h>

#include "abi/types.h"
#include "core/error.h"
#include "core/log.h"

using namespace vgpu::hip;

HIP_API hipError_t hipGetProcAddress(const char* name, void** function, int, uint64_t, int* status) {
  // Some names are versioned macros in the headers.
  const std::string symbol = std::string(name) == "hipGetDeviceProperties" ? "hipGetDevicePropertiesR0600" : name;
  Dl_info self;
  dladdr(reinterpret_cast<void*>(&hipGetProcAddress), &self);
  void* library = dlopen(self.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
  *function = library ? dlsym(library, symbol.c_str()) : nullptr;
  if (library != nullptr) dlclose(library);
  if (status != nullptr) *status = *function == nullptr;  // 1: symbol not found
  if (*function != nullptr) return hipSuccess;
  return finish(__func__, Error(hipErrorNotFound, format("no function is called %s", name)));
}
