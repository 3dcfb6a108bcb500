// Shared by the stand-ins for the driver libraries: a log of calls, and calls that must never happen.
#pragma once

#include <cstdint>
#include <cstring>
#include <mutex>
#include <string>

#define EXPORT extern "C" __attribute__((visibility("default")))

inline std::mutex log_mutex;
inline std::string log_text;
inline std::string log_taken;

inline void Log(const std::string& line) {
  std::lock_guard<std::mutex> lock(log_mutex);
  log_text += line + "\n";
}

// The log so far, and forgets it. The result is valid until the next call.
EXPORT const char* fake_take_log() {
  std::lock_guard<std::mutex> lock(log_mutex);
  log_taken = log_text;
  log_text.clear();
  return log_taken.c_str();
}

struct FakeModule {
  int device;
};

struct FakeFunction {
  int device;
  std::string symbol;
  int max_dynamic_shared = 48 * 1024;
};

// dst[i] = a[i] + b[i], from an argument block (dst, a, b, n).
inline void AddU32(const void* args) {
  uint32_t *p[3], n;
  std::memcpy(p, args, sizeof(p));
  std::memcpy(&n, static_cast<const char*>(args) + sizeof(p), sizeof(n));
  for (uint32_t i = 0; i < n; ++i) p[0][i] = p[1][i] + p[2][i];
}

// Reads {1: block pointer, 2: pointer to its size, end}; false if the list is anything else.
inline bool ReadExtra(void** extra, void* end, void** block, size_t* size) {
  if (!extra || extra[0] != reinterpret_cast<void*>(1) || extra[2] != reinterpret_cast<void*>(2) || extra[4] != end) {
    return false;
  }
  *block = extra[1];
  *size = *static_cast<size_t*>(extra[3]);
  return true;
}

// Functions that allocate, wait or copy to the host: a handler that is captured into a graph must not call them.
#define FORBIDDEN(name)         \
  EXPORT int name() {           \
    Log("FORBIDDEN " #name);    \
    return 900;                 \
  }
