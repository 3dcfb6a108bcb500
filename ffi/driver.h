// What the executor needs of a GPU driver. Implemented for HIP, for CUDA, and as a mock for tests.
//
// The calls made while a program runs (Enter, Leave, LaunchKernel, Fill, Copy) return the driver's own code, 0 for
// success, and build no strings; `Describe` turns a code into words afterwards. None of them allocates, waits or
// touches host memory, so they may be captured into a graph. Those made at initialisation return a Status.
#ifndef JAX_AITER_FFI_DRIVER_H_
#define JAX_AITER_FFI_DRIVER_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "plan.h"
#include "status.h"

namespace jax_aiter {

class Driver {
 public:
  virtual ~Driver() = default;

  virtual const char* name() const = 0;

  // Finds the driver library and makes device `ordinal` usable. Called before anything else for that device, from
  // any thread, any number of times.
  virtual Status Open(int ordinal) = 0;

  // Makes `ordinal` the calling thread's device until Leave, which restores what was there before.
  struct Previous {
    void* context = nullptr;
    int ordinal = -1;
    bool changed = false;
  };
  virtual int Enter(int ordinal, Previous* previous) = 0;
  virtual void Leave(const Previous& previous) = 0;

  // Loads an image on the entered device. The image must outlive the module; modules are never unloaded.
  virtual Status LoadModule(const CodeObject& code, void** module) = 0;
  // Finds launch.symbol in `module` and checks that the device can launch it as asked.
  virtual Status FindKernel(void* module, const Launch& launch, void** kernel) = 0;

  // `args` is the finished argument block of launch.blob.size() bytes.
  virtual int LaunchKernel(void* kernel, const Launch& launch, void* args, void* stream) = 0;
  virtual int Fill(void* dst, uint32_t value, uint32_t width, uint64_t nbytes, void* stream) = 0;
  virtual int Copy(void* dst, const void* src, uint64_t nbytes, void* stream) = 0;

  virtual std::string Describe(int code) const = 0;
};

Driver& HipDriver();
Driver& CudaDriver();

// RAII around Enter and Leave.
class DeviceScope {
 public:
  DeviceScope(Driver& driver, int ordinal) : driver_(driver), code_(driver.Enter(ordinal, &previous_)) {}
  ~DeviceScope() {
    if (previous_.changed) driver_.Leave(previous_);
  }
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;
  int code() const { return code_; }

 private:
  Driver& driver_;
  Driver::Previous previous_;
  int code_;
};

}  // namespace jax_aiter

#endif  // JAX_AITER_FFI_DRIVER_H_
