// librocsolver.so.0: refuses (2, rocblas_status_not_implemented).
#include "companions/refuse.h"

#define X(name) VGPU_REFUSE(name, 2)
#include "companions/rocsolver.inc"
