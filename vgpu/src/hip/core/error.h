// An error code with the sentence that explains it, and the thread's "last error" of HIP.
#pragma once

#include <string>
#include <utility>

#include "abi/errors.h"

namespace vgpu::hip {

struct Error {
  hipError_t code = hipSuccess;
  std::string message;

  Error() = default;
  Error(hipError_t code, std::string message) : code(code), message(std::move(message)) {}
  explicit operator bool() const { return code != hipSuccess; }
};

// Every entry point returns through this: it keeps hipGetLastError right, and logs the message of a failure.
hipError_t finish(const char* function, const Error& error);
hipError_t finish(const char* function, hipError_t code);

hipError_t take_last_error();
hipError_t peek_last_error();
// The message of the last failure of any thread; VGPU's own query (vgpuGetLastErrorMessage).
std::string last_error_message();

}  // namespace vgpu::hip
