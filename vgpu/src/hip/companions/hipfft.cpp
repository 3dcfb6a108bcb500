// libhipfft.so.0: refuses (14, HIPFFT_NOT_IMPLEMENTED).
#include "companions/refuse.h"

#define X(name) VGPU_REFUSE(name, 14)
#include "companions/hipfft.inc"
