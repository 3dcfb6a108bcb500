#include "core/error.h"

#include <mutex>

#include "core/log.h"

namespace vgpu::hip {
namespace {

thread_local hipError_t last_error = hipSuccess;
std::mutex message_mutex;
std::string& message_slot() {
  static auto* text = new std::string;
  return *text;
}

}  // namespace

hipError_t finish(const char* function, const Error& error) {
  if (!error) return hipSuccess;
  // Being asked "is it done yet?" too early is not a failure.
  if (error.code == hipErrorNotReady) return error.code;
  last_error = error.code;
  const char* text = error.message.empty() ? error_text(error.code) : error.message.c_str();
  log("%s failed: %s (%s)", function, error_name(error.code), text);
  std::lock_guard<std::mutex> lock(message_mutex);
  message_slot() = text;
  return error.code;
}

hipError_t finish(const char* function, hipError_t code) { return finish(function, Error(code, "")); }

hipError_t take_last_error() { return std::exchange(last_error, hipSuccess); }
hipError_t peek_last_error() { return last_error; }

std::string last_error_message() {
  std::lock_guard<std::mutex> lock(message_mutex);
  return message_slot();
}

}  // namespace vgpu::hip
