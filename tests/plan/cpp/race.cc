// Many threads initialise and execute plans that share code objects, for use under ThreadSanitizer.
//
//   race mock PLAN...
//   race hip|cuda PLAN... LIBRARY       with a stand-in for the driver library
//
// Each PLAN is an encoded plan over one operand, one result and one scratch buffer of 32 bytes each.
#include <dlfcn.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "decode.h"
#include "driver_mock.h"
#include "executor.h"

using namespace jax_aiter;

namespace {

constexpr int kThreads = 8, kRounds = 40, kDevices = 2;

std::atomic<int> failures{0};

void Expect(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.message().c_str());
  failures++;
}

Plan Decode(const std::vector<uint8_t>& bytes) {
  Plan plan;
  Expect(DecodePlan(bytes.data(), bytes.size(), GlobalCodeStore(), &plan));
  return plan;
}

void Run(Executor& executor, int device) {
  alignas(16) char x[32] = {}, out[32], tmp[32];
  Memory operands[] = {{x, 32}}, results[] = {{out, 32}, {tmp, 32}};
  Expect(executor.Initialize(device));
  Expect(executor.Execute(device, operands, results, nullptr));
}

}  // namespace

int main(int argc, char** argv) {
  const std::string name = argv[1];
  if (name != "mock" && !dlopen(argv[--argc], RTLD_NOW)) return 2;
  MockDriver::Settings settings;
  GlobalMockDriver().Configure(settings);
  Backend backend(name == "mock" ? static_cast<Driver&>(GlobalMockDriver()) : name == "hip" ? HipDriver() : CudaDriver());
  std::vector<std::vector<uint8_t>> encoded;
  for (int i = 2; i < argc; ++i) {
    std::ifstream file(argv[i], std::ios::binary);
    encoded.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  std::vector<std::unique_ptr<Executor>> shared;  // executables that all threads run, on all devices
  for (const auto& bytes : encoded) shared.push_back(std::make_unique<Executor>(Decode(bytes), backend));

  std::atomic<int> waiting{kThreads};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      waiting--;
      while (waiting.load() > 0) std::this_thread::yield();  // all at once, so that first uses collide
      for (int round = 0; round < kRounds; ++round) {
        size_t which = static_cast<size_t>(t + round) % encoded.size();
        Run(*shared[which], (t + round / 2) % kDevices);
        Executor own(Decode(encoded[which]), backend);  // and executables that come and go
        Run(own, t % kDevices);
        (void)backend.modules.loaded();
        if (name == "mock" && round % 10 == 0) (void)GlobalMockDriver().Records();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::printf("modules %zu\ncode objects %zu\nfailures %d\n", backend.modules.loaded(), GlobalCodeStore().size(),
              failures.load());
  return failures.load() != 0;
}
