// What this library tells the user, on stderr. Everything goes through here so that it can be captured.
#pragma once

#include <string>

#include "abi/errors.h"

namespace vgpu::hip {

__attribute__((visibility("default"), format(printf, 1, 2))) void log(const char* format, ...);

// Only with VGPU_LOG=1.
__attribute__((visibility("default"), format(printf, 1, 2))) void trace(const char* format, ...);

// Logs that `function` is not implemented and returns hipErrorNotSupported.
hipError_t not_supported(const char* function, const char* why = nullptr);

std::string format(const char* format, ...) __attribute__((visibility("default"), format(printf, 1, 2)));

const char* error_name(hipError_t code);
const char* error_text(hipError_t code);

}  // namespace vgpu::hip
