// libhsa-runtime64.so.1: programs that bypass HIP find no agents. 0x1000 is HSA_STATUS_ERROR.
#include "companions/refuse.h"

VGPU_EXPORT int hsa_status_string(int status, const char** text) {
  return *text = status == 0 ? "success" : "not offered by the virtual device", 0;
}

#define X(name) VGPU_REFUSE(name, 0x1000)
X(hsa_init) X(hsa_iterate_agents) X(hsa_agent_get_info) X(hsa_amd_agent_iterate_memory_pools)
X(hsa_amd_memory_lock_to_pool) X(hsa_amd_memory_pool_get_info) X(hsa_amd_portable_export_dmabuf)
