// libhipsparse.so.4: handles exist, the routines refuse (10, HIPSPARSE_STATUS_NOT_SUPPORTED).
#include "companions/refuse.h"

VGPU_EXPORT int hipsparseCreate(void** handle) { return *handle = new int(0), 0; }
VGPU_EXPORT int hipsparseSetStream(void*, void*) { return 0; }

#define X(name) VGPU_REFUSE(name, 10)
#include "companions/hipsparse.inc"
