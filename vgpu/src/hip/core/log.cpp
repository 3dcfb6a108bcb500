#include "core/log.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

namespace vgpu::hip {
namespace {

std::string vformat(const char* format, va_list args) {
  va_list again;
  va_copy(again, args);
  const int size = std::vsnprintf(nullptr, 0, format, again);
  va_end(again);
  std::string text(size < 0 ? 0 : size, '\0');
  if (size > 0) std::vsnprintf(text.data(), text.size() + 1, format, args);
  return text;
}

// One fwrite per line keeps lines of several threads whole.
void write_line(const std::string& text) {
  const std::string line = "[vgpu] " + text + "\n";
  std::fwrite(line.data(), 1, line.size(), stderr);
  std::fflush(stderr);
}

}  // namespace

std::string format(const char* format, ...) {
  va_list args;
  va_start(args, format);
  std::string text = vformat(format, args);
  va_end(args);
  return text;
}

void log(const char* format, ...) {
  va_list args;
  va_start(args, format);
  write_line(vformat(format, args));
  va_end(args);
}

void trace(const char* format, ...) {
  static const bool enabled = [] {
    const char* value = std::getenv("VGPU_LOG");
    return value != nullptr && value[0] != '\0' && value[0] != '0';
  }();
  if (!enabled) return;
  va_list args;
  va_start(args, format);
  write_line(vformat(format, args));
  va_end(args);
}

hipError_t not_supported(const char* function, const char* why) {
  log("%s is not supported by the virtual device%s%s", function, why ? ": " : "", why ? why : "");
  return hipErrorNotSupported;
}

const char* error_name(hipError_t code) {
  switch (code) {
#define X(name, value, text) \
  case name:                 \
    return #name;
    VGPU_HIP_ERRORS(X)
#undef X
  }
  return "hipErrorUnknown";
}

const char* error_text(hipError_t code) {
  switch (code) {
#define X(name, value, text) \
  case name:                 \
    return text;
    VGPU_HIP_ERRORS(X)
#undef X
  }
  return "unknown error";
}

}  // namespace vgpu::hip
