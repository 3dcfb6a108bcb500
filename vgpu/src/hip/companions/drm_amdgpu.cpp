// librocm_sysdeps_drm_amdgpu.so.1: there is no kernel driver (-1).
#include "companions/refuse.h"

#define X(name) VGPU_REFUSE(name, -1)
X(amdgpu_bo_cpu_map) X(amdgpu_bo_export) X(amdgpu_bo_free) X(amdgpu_bo_import) X(amdgpu_bo_query_info)
X(amdgpu_bo_set_metadata) X(amdgpu_bo_va_op) X(amdgpu_device_deinitialize) X(amdgpu_device_get_fd)
X(amdgpu_device_initialize) X(amdgpu_query_gpu_info)

VGPU_EXPORT const char* amdgpu_get_marketing_name(void*) { return "virtual device"; }
