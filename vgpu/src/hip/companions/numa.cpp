// librocm_sysdeps_numa.so.1: "not available", after which its users ask no further.
#include "companions/refuse.h"

VGPU_EXPORT int numa_available() { return -1; }

#define X(name) VGPU_REFUSE(name, -1)
X(numa_max_node) X(mbind)
VGPU_EXPORT void* numa_bitmask_alloc(unsigned) { return nullptr; }
VGPU_EXPORT void numa_bitmask_free(void*) {}
VGPU_EXPORT void* numa_bitmask_setbit(void* mask, unsigned) { return mask; }
VGPU_EXPORT long long numa_node_size64(int, long long*) { return -1; }
