// Every other function of HIP 7's runtime API: present, so that programs load, and refusing when called.
#include "abi/types.h"
#include "core/error.h"
#include "core/log.h"

// Callers pass arguments that are never looked at; the C calling convention allows that.
#define X(name) \
  HIP_API hipError_t name() { return vgpu::hip::finish(#name, vgpu::hip::not_supported(#name)); }
#include "api/unsupported.inc"
#undef X
