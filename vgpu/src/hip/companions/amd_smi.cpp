// libamd_smi.so.26: no management interface. Status 2 is AMDSMI_STATUS_NOT_SUPPORTED; XLA then assumes defaults.
#include "companions/refuse.h"

VGPU_EXPORT int amdsmi_status_code_to_string(int status, const char** text) {
  return *text = status == 0 ? "success" : "not supported by the virtual device", 0;
}

// Asked at every start, so said only with VGPU_LOG=1.
#define X(name)                                           \
  VGPU_EXPORT int name() {                                \
    vgpu::hip::trace(#name ": no management interface"); \
    return 2;                                             \
  }
X(amdsmi_init) X(amdsmi_get_gpu_metrics_info) X(amdsmi_get_pcie_info) X(amdsmi_get_processor_handle_from_bdf)
X(amdsmi_get_processor_handles) X(amdsmi_get_processor_type) X(amdsmi_get_socket_handles) X(amdsmi_get_xgmi_info)
X(amdsmi_topo_get_link_type)
