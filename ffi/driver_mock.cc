#include "driver_mock.h"

#include <cstring>
#include <sstream>
#include <utility>

namespace jax_aiter {
namespace {

constexpr int kErrorLaunch = 719;
constexpr int kErrorDevice = 101;

thread_local int current_device = 0;

template <typename T>
T Read(const void* args, size_t offset) {
  T value;
  std::memcpy(&value, static_cast<const char*>(args) + offset, sizeof(T));
  return value;
}

void RunKnownKernel(const Launch& launch, const void* args) {
  if (launch.symbol == "mock_copy_u32" && launch.blob.size() == 20) {
    std::memmove(Read<void*>(args, 0), Read<void*>(args, 8), Read<uint32_t>(args, 16) * sizeof(uint32_t));
  } else if (launch.symbol == "mock_add_u32" && launch.blob.size() == 28) {
    auto* dst = Read<uint32_t*>(args, 0);
    auto *a = Read<uint32_t*>(args, 8), *b = Read<uint32_t*>(args, 16);
    for (uint32_t i = 0; i < Read<uint32_t>(args, 24); ++i) dst[i] = a[i] + b[i];
  }
}

}  // namespace

void MockDriver::Configure(const Settings& settings) {
  std::lock_guard<std::mutex> lock(mutex_);
  settings_ = settings;
  records_.clear();
}

std::vector<MockDriver::Record> MockDriver::Records() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return records_;
}

Status MockDriver::NotWhileCapturing(const char* call) const {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!settings_.capturing) return Status();
  return Status(Code::kInternal, std::string(call) + " is not permitted while the stream is capturing");
}

void MockDriver::Keep(Record record) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (settings_.record) records_.push_back(std::move(record));
}

Status MockDriver::Open(int ordinal) {
  JAX_AITER_RETURN_IF_ERROR(NotWhileCapturing("open"));
  Record record;
  record.call = "open";
  record.device = ordinal;
  Keep(std::move(record));
  return Status();
}

int MockDriver::Enter(int ordinal, Previous* previous) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (ordinal >= settings_.devices) return kErrorDevice;
  }
  previous->ordinal = current_device;
  previous->changed = current_device != ordinal;
  current_device = ordinal;
  return 0;
}

void MockDriver::Leave(const Previous& previous) { current_device = previous.ordinal; }

Status MockDriver::LoadModule(const CodeObject& code, void** module) {
  JAX_AITER_RETURN_IF_ERROR(NotWhileCapturing("load"));
  Record record;
  record.call = "load";
  record.device = current_device;
  record.nbytes = code.size();
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (settings_.fail_load) return Status(Code::kInternal, "mock: out of memory");
  }
  std::istringstream lines(std::string(reinterpret_cast<const char*>(code.image.data()), code.size()));
  std::string line;
  if (!std::getline(lines, line) || line != "mock") return Status(Code::kInternal, "mock: not a mock code object");
  auto symbols = std::make_unique<Symbols>();
  while (std::getline(lines, line)) symbols->push_back(line);
  *module = symbols.get();
  Keep(std::move(record));
  std::lock_guard<std::mutex> lock(mutex_);
  modules_.push_back(std::move(symbols));
  return Status();
}

Status MockDriver::FindKernel(void* module, const Launch& launch, void** kernel) {
  JAX_AITER_RETURN_IF_ERROR(NotWhileCapturing("find"));
  Record record;
  record.call = "find";
  record.symbol = launch.symbol;
  record.device = current_device;
  for (std::string& symbol : *static_cast<Symbols*>(module)) {
    if (symbol != launch.symbol) continue;
    *kernel = &symbol;
    Keep(std::move(record));
    return Status();
  }
  return Status(Code::kInternal, "mock: named symbol not found");
}

int MockDriver::Enqueue(Record record) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (settings_.fail_after == 0) return kErrorLaunch;
  if (settings_.fail_after > 0) settings_.fail_after--;
  record.device = current_device;
  if (settings_.record) records_.push_back(std::move(record));
  return 0;
}

int MockDriver::LaunchKernel(void* kernel, const Launch& launch, void* args, void*) {
  Record record;
  record.call = "launch";
  record.symbol = *static_cast<std::string*>(kernel);
  record.grid = launch.grid;
  record.block = launch.block;
  record.shared_bytes = launch.shared_bytes;
  auto* bytes = static_cast<const uint8_t*>(args);
  record.args.assign(bytes, bytes + launch.blob.size());
  if (int code = Enqueue(std::move(record))) return code;
  RunKnownKernel(launch, args);
  return 0;
}

int MockDriver::Fill(void* dst, uint32_t value, uint32_t width, uint64_t nbytes, void*) {
  Record record;
  record.call = "fill";
  record.dst = reinterpret_cast<uint64_t>(dst);
  record.nbytes = nbytes;
  record.value = value;
  record.width = width;
  if (int code = Enqueue(std::move(record))) return code;
  // Little-endian, like every host XLA runs on: the low bytes of `value` are the element.
  for (uint64_t i = 0; i < nbytes; i += width) std::memcpy(static_cast<char*>(dst) + i, &value, width);
  return 0;
}

int MockDriver::Copy(void* dst, const void* src, uint64_t nbytes, void*) {
  Record record;
  record.call = "copy";
  record.dst = reinterpret_cast<uint64_t>(dst);
  record.src = reinterpret_cast<uint64_t>(src);
  record.nbytes = nbytes;
  if (int code = Enqueue(std::move(record))) return code;
  std::memcpy(dst, src, nbytes);
  return 0;
}

std::string MockDriver::Describe(int code) const {
  const char* text = code == kErrorLaunch ? "mockErrorLaunchFailure" : "mockErrorInvalidDevice";
  return std::string(text) + " (" + std::to_string(code) + ")";
}

MockDriver& GlobalMockDriver() {
  static MockDriver* driver = new MockDriver;
  return *driver;
}

}  // namespace jax_aiter
