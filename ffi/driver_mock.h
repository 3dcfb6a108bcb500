// A driver without a device: records what it is told to do, and fails where a test wants it to.
//
// Memory is host memory and everything happens at once. A mock code object is the text "mock" followed by lines with
// the names of its kernels, so a missing symbol is a name that is not there. Kernels do nothing, except:
//   mock_copy_u32(dst, src, n: u32)        dst[i] = src[i]
//   mock_add_u32(dst, a, b, n: u32)        dst[i] = a[i] + b[i]
// with arguments at their natural alignment, so that a test can follow data through a plan.
#ifndef JAX_AITER_FFI_DRIVER_MOCK_H_
#define JAX_AITER_FFI_DRIVER_MOCK_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "driver.h"

namespace jax_aiter {

class MockDriver final : public Driver {
 public:
  struct Record {
    std::string call;    // "open", "load", "find", "launch", "fill", "copy"
    std::string symbol;  // of find and launch
    int device = -1;
    std::array<uint32_t, 3> grid{}, block{};
    uint32_t shared_bytes = 0;
    std::vector<uint8_t> args;  // of launch: the argument block
    uint64_t dst = 0, src = 0, nbytes = 0;
    uint32_t value = 0, width = 0;
  };

  struct Settings {
    bool record = true;
    bool capturing = false;   // as during graph capture: open, load and find become errors
    int fail_after = -1;      // that many launches, fills and copies succeed, the next fails
    int devices = 64;
    bool fail_load = false;
  };

  void Configure(const Settings& settings);  // also forgets the records
  std::vector<Record> Records() const;

  const char* name() const override { return "mock"; }
  Status Open(int ordinal) override;
  int Enter(int ordinal, Previous* previous) override;
  void Leave(const Previous& previous) override;
  Status LoadModule(const CodeObject& code, void** module) override;
  Status FindKernel(void* module, const Launch& launch, void** kernel) override;
  int LaunchKernel(void* kernel, const Launch& launch, void* args, void* stream) override;
  int Fill(void* dst, uint32_t value, uint32_t width, uint64_t nbytes, void* stream) override;
  int Copy(void* dst, const void* src, uint64_t nbytes, void* stream) override;
  std::string Describe(int code) const override;

 private:
  Status NotWhileCapturing(const char* call) const;
  int Enqueue(Record record);
  void Keep(Record record);

  mutable std::mutex mutex_;
  Settings settings_;
  std::vector<Record> records_;
  using Symbols = std::vector<std::string>;
  std::vector<std::unique_ptr<Symbols>> modules_;  // a module is the list of its kernels' names; kept like every module
};

MockDriver& GlobalMockDriver();

}  // namespace jax_aiter

#endif  // JAX_AITER_FFI_DRIVER_MOCK_H_
