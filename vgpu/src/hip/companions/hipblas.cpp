// libhipblas.so.3: handles exist, the routines refuse (status 7, HIPBLAS_STATUS_NOT_SUPPORTED).
#include "companions/refuse.h"

VGPU_EXPORT int hipblasCreate(void** handle) { return *handle = new int(0), 0; }
VGPU_EXPORT int hipblasSetStream(void*, void*) { return 0; }

#define X(name) VGPU_REFUSE(name, 7)
#include "companions/hipblas.inc"
