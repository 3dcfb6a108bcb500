// librocm_smi64.so.1: how many devices there are and that xGMI links them all.
#include <cstdint>

#include "companions/refuse.h"
#include "core/options.h"

namespace {
constexpr int kNotSupported = 2;  // RSMI_STATUS_NOT_SUPPORTED
constexpr int kInvalid = 1;       // RSMI_STATUS_INVALID_ARGS
bool valid(uint32_t device) { return device < uint32_t(vgpu::hip::Options::get().devices); }
}  // namespace

VGPU_EXPORT int rsmi_init(uint64_t) { return 0; }
VGPU_EXPORT int rsmi_shut_down() { return 0; }
VGPU_EXPORT int rsmi_num_monitor_devices(uint32_t* count) { return *count = vgpu::hip::Options::get().devices, 0; }
// Bus in bits 8..15, matching hipDeviceGetPCIBusId.
VGPU_EXPORT int rsmi_dev_pci_id_get(uint32_t device, uint64_t* id) {
  return valid(device) ? (*id = uint64_t{device + 1} << 8, 0) : kInvalid;
}
VGPU_EXPORT int rsmi_dev_xgmi_hive_id_get(uint32_t device, uint64_t* id) { return valid(device) ? (*id = 1, 0) : kInvalid; }
VGPU_EXPORT int rsmi_topo_get_link_type(uint32_t from, uint32_t to, uint64_t* hops, int* type) {
  if (!valid(from) || !valid(to)) return kInvalid;
  *hops = 1;
  *type = 2;  // RSMI_IOLINK_TYPE_XGMI
  return 0;
}
VGPU_EXPORT int rsmi_dev_gpu_metrics_info_get(uint32_t, void*) { return kNotSupported; }
VGPU_EXPORT int rsmi_status_string(int status, const char** text) {
  return *text = status == 0 ? "success" : status == kNotSupported ? "not supported" : "invalid arguments", 0;
}
