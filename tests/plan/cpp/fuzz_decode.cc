// Feeds mutated encodings to the decoder and runs every plan it accepts on the mock device, for use under sanitizers.
//
//   fuzz_decode COUNT SEED PLAN...      PLAN: files with valid encodings, whose kernels the mock does not know
//
// Any bytes must give an error or a plan that stays within its buffers. Prints what was seen, so that the caller can
// tell that the mutations reached every part of the decoder.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "decode.h"
#include "driver_mock.h"
#include "executor.h"
#include "inflate.h"
#include "text_codec.h"

using namespace jax_aiter;

namespace {

using Bytes = std::vector<uint8_t>;

struct Random {
  uint64_t state;
  uint64_t Next() {  // splitmix64
    uint64_t z = state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  size_t Below(size_t n) { return n ? Next() % n : 0; }
};

void Mutate(Bytes& data, const Bytes& other, Random& random) {
  static const uint8_t kInteresting[] = {0, 1, 2, 0x7F, 0x80, 0xFF, 0x10, 0x40};
  for (size_t i = 0, n = 1 + random.Below(4); i < n && !data.empty(); ++i) {
    size_t at = random.Below(data.size());
    switch (random.Below(7)) {
      case 0: data[at] = static_cast<uint8_t>(random.Next()); break;
      case 1: data[at] ^= static_cast<uint8_t>(1u << random.Below(8)); break;
      case 2: data[at] = kInteresting[random.Below(sizeof(kInteresting))]; break;
      case 3: data.erase(data.begin() + at); break;
      case 4: data.insert(data.begin() + at, static_cast<uint8_t>(random.Next())); break;
      case 5: data.resize(at); break;
      case 6: {  // a piece of another encoding, most often of whole records
        size_t from = random.Below(other.size()), length = random.Below(std::min<size_t>(other.size() - from, 40));
        std::copy_n(other.begin() + from, std::min(length, data.size() - at), data.begin() + at);
        break;
      }
    }
  }
}

void FixChecksum(Bytes& data) {
  if (data.size() < 12) return;
  uint32_t crc = Crc32(data.data() + 12, data.size() - 12);
  for (int i = 0; i < 4; ++i) data[8 + i] = static_cast<uint8_t>(crc >> (8 * i));
}

struct Freer {
  void operator()(void* p) const { std::free(p); }
};

// Host memory for every buffer, each its own allocation so that a step outside one is seen.
bool Execute(Plan plan, Backend& backend) {
  uint64_t total = 0;
  for (const Buffer& b : plan.buffers) {
    if (b.nbytes > (1 << 16)) return false;
    total += b.nbytes;
  }
  if (total > (1 << 16)) return false;
  Executor executor(std::move(plan), backend);
  std::vector<std::unique_ptr<void, Freer>> owned;
  std::vector<Memory> operands(executor.operands()), results(executor.results());
  const size_t scratch_begin = executor.plan().Count(BufferKind::kResult);
  for (const Buffer& b : executor.plan().buffers) {
    size_t alignment = b.alignment < sizeof(void*) ? sizeof(void*) : b.alignment;
    void* memory = nullptr;
    if (posix_memalign(&memory, alignment, b.nbytes) != 0) std::abort();
    owned.emplace_back(memory);
    Memory m{memory, b.nbytes};
    if (b.kind == BufferKind::kOperand) operands[b.index] = m;
    if (b.kind == BufferKind::kResult) results[b.index] = m;
    if (b.kind == BufferKind::kScratch) results[scratch_begin + b.index] = m;
  }
  static bool apart = false;  // every other plan with memory of its own for what is aliased, as XLA may do
  apart = !apart;
  for (auto [operand, result] : executor.plan().aliases) {
    if (!apart) results[result].data = operands[operand].data;
  }
  if (!executor.Initialize(0).ok()) return false;  // a kernel's name was changed
  Status status = executor.Execute(0, operands.data(), results.data(), nullptr);
  // An aliased result need not have its operand's alignment; all else must work.
  if (!status.ok() && status.message().find("not aligned") == std::string::npos) {
    std::fprintf(stderr, "accepted plan failed: %s\n", status.message().c_str());
    std::abort();
  }
  return true;
}

// "launch plan cannot be read: buffer 7, there are ..." without the numbers.
std::string Category(const std::string& message) {
  std::string text;
  for (char c : message) {
    if (c < '0' || c > '9') text += c;
  }
  return text.substr(0, 70);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  const long count = std::atol(argv[1]);
  Random random{static_cast<uint64_t>(std::atol(argv[2]))};
  std::vector<Bytes> seeds;
  for (int i = 3; i < argc; ++i) {
    std::ifstream file(argv[i], std::ios::binary);
    seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  MockDriver::Settings quiet;
  quiet.record = false;
  GlobalMockDriver().Configure(quiet);
  Backend backend(GlobalMockDriver());
  CodeStore store;
  long accepted = 0, executed = 0;
  std::map<std::string, long> refused;
  for (const Bytes& seed : seeds) {
    Plan plan;
    if (!DecodePlan(seed.data(), seed.size(), store, &plan).ok() || !Execute(std::move(plan), backend)) return 3;
  }
  for (long i = 0; i < count; ++i) {
    Bytes data = seeds[random.Below(seeds.size())];
    Mutate(data, seeds[random.Below(seeds.size())], random);
    if (random.Below(20) != 0) FixChecksum(data);  // else nearly every input would end at the checksum
    data.shrink_to_fit();                          // so that reading past the end is seen
    Plan plan;
    Status status = DecodePlan(data.data(), data.size(), store, &plan);
    if (status.ok()) {
      accepted++;
      executed += Execute(std::move(plan), backend);
    } else {
      refused[Category(status.message())]++;
    }
    if (i % 16 == 0) {
      Bytes out(random.Below(2000));
      size_t from = random.Below(data.size());
      (void)Inflate(data.data() + from, data.size() - from, out.data(), out.size());
      (void)DecodeBase64({reinterpret_cast<const char*>(data.data()), data.size() & ~size_t{3}}, &out);
    }
  }
  std::printf("inputs %ld\naccepted %ld\nexecuted %ld\n", count, accepted, executed);
  for (const auto& [message, n] : refused) std::printf("refused %ld %s\n", n, message.c_str());
  return 0;
}
