// libhipfft.so.0: transforms refuse (14, HIPFFT_NOT_IMPLEMENTED). Plans are made all the same, because XLA ends
// the process when it cannot make one, but reports a transform that fails as an ordinary error.
#include <cstddef>

#include "companions/refuse.h"

namespace {
int no_workspace(size_t* bytes) {
  if (bytes != nullptr) *bytes = 0;
  return 0;
}
}  // namespace

VGPU_EXPORT int hipfftCreate(void** plan) { return *plan = new int(0), 0; }
VGPU_EXPORT int hipfftDestroy(void* plan) { return delete static_cast<int*>(plan), 0; }
VGPU_EXPORT int hipfftSetAutoAllocation(void*, int) { return 0; }
VGPU_EXPORT int hipfftSetStream(void*, void*) { return 0; }
VGPU_EXPORT int hipfftSetWorkArea(void*, void*) { return 0; }
VGPU_EXPORT int hipfftMakePlan1d(void*, int, int, int, size_t* work) { return no_workspace(work); }
VGPU_EXPORT int hipfftMakePlan2d(void*, int, int, int, size_t* work) { return no_workspace(work); }
VGPU_EXPORT int hipfftMakePlan3d(void*, int, int, int, int, size_t* work) { return no_workspace(work); }
VGPU_EXPORT int hipfftMakePlanMany(void*, int, int*, int*, int, int, int*, int, int, int, int, size_t* work) {
  return no_workspace(work);
}

#define X(name) VGPU_REFUSE(name, 14)
#include "companions/hipfft.inc"
