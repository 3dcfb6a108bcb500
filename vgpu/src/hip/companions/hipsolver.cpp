// libhipsolver.so.1: handles exist, the routines refuse (7, HIPSOLVER_STATUS_NOT_SUPPORTED).
#include "companions/refuse.h"

VGPU_EXPORT int hipsolverCreate(void** handle) { return *handle = new int(0), 0; }
VGPU_EXPORT int hipsolverSetStream(void*, void*) { return 0; }

#define X(name) VGPU_REFUSE(name, 7)
#include "companions/hipsolver.inc"
