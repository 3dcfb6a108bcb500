#include "wide.h"

#if defined(VGPU_WIDE_VECTORS)
namespace vgpu::sem {
namespace {

bool has() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi2");
}

}  // namespace

bool& wide() {
  static bool use = has();
  return use;
}

}  // namespace vgpu::sem
#endif
