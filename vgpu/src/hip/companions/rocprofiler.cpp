// librocprofiler-sdk.so.1: no tracing (`vgpu run --profile` counts instead). Status 24 is
// ROCPROFILER_STATUS_ERROR_NOT_IMPLEMENTED. The plugin registers itself as a tool at start; that call is
// accepted and simply never followed by a callback.
#include <chrono>
#include <cstdint>

#include "companions/refuse.h"

VGPU_EXPORT int rocprofiler_force_configure(void*) { return 0; }
VGPU_EXPORT const char* rocprofiler_get_status_string(int status) {
  return status == 0 ? "success" : "not implemented by the virtual device";
}
VGPU_EXPORT int rocprofiler_get_timestamp(uint64_t* ns) {
  *ns = std::chrono::steady_clock::now().time_since_epoch().count();
  return 0;
}

#define X(name) VGPU_REFUSE(name, 24)
#include "companions/rocprofiler.inc"
