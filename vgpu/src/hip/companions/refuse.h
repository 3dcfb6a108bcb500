// Companion libraries: the functions that only have to exist, and to say clearly that they do nothing.
#pragma once

#include "core/log.h"

#define VGPU_EXPORT extern "C" __attribute__((visibility("default")))

// A function that logs and returns its library's "not supported" status. The arguments are not looked at.
#define VGPU_REFUSE(name, status)                                                                  \
  VGPU_EXPORT int name() {                                                                         \
    vgpu::hip::log(#name ": this library is not part of the virtual device; see vgpu's README");   \
    return status;                                                                                 \
  }
