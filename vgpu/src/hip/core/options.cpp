#include "core/options.h"

#include <cstdio>
#include <cstdlib>
#include <sstream>

#include "core/log.h"

namespace vgpu::hip {
namespace {

const char* text_of(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && value[0] != '\0' ? value : nullptr;
}

[[noreturn]] void reject(const char* name, const std::string& value, const char* rule) {
  log("%s=%s: %s", name, value.c_str(), rule);
  std::_Exit(2);
}

uint64_t number(const char* name, const std::string& value) {
  char* end = nullptr;
  const uint64_t result = std::strtoull(value.c_str(), &end, 10);
  if (value.empty() || *end != '\0') reject(name, value, "not a whole number");
  return result;
}

void parse_checks(const std::string& list, Options& options) {
  std::stringstream stream(list);
  std::string item;
  while (std::getline(stream, item, ',')) {
    if (item == "memory") options.check_memory = true;
    else if (item == "uninit") options.check_memory = options.check_uninit = true;
    else if (item == "races") options.check_memory = options.check_races = true;
    else if (item == "hazard") options.check_memory = options.check_hazards = true;
    else if (item.rfind("order=", 0) == 0) options.order_seed = number("VGPU_CHECK order", item.substr(6));
    else if (item != "none") reject("VGPU_CHECK", item, "expected memory, uninit, races, hazard, order=SEED or none");
  }
}

Options parse() {
  Options options;
  if (const char* arch = text_of("VGPU_ARCH")) {
    if (!parse_arch(arch, &options.arch)) reject("VGPU_ARCH", arch, "expected gfx942 or gfx950");
  }
  if (const char* devices = text_of("VGPU_DEVICES")) {
    const uint64_t count = number("VGPU_DEVICES", devices);
    if (count < 1 || count > 64) reject("VGPU_DEVICES", devices, "expected 1 to 64");
    options.devices = static_cast<int>(count);
  }
  if (const char* memory = text_of("VGPU_MEMORY")) {
    char* end = nullptr;
    const double gib = std::strtod(memory, &end);
    if (*end != '\0' || !(gib > 0) || gib > 1024) reject("VGPU_MEMORY", memory, "expected GiB, above 0 and up to 1024");
    options.memory = static_cast<size_t>(gib * (size_t{1} << 30));
  }
  if (const char* checks = text_of("VGPU_CHECK")) parse_checks(checks, options);
  if (const char* profile = text_of("VGPU_PROFILE")) options.profile = profile;
  if (const char* file = text_of("VGPU_ESTIMATE")) options.estimate = file;
  if (const char* table = text_of("VGPU_ESTIMATE_TABLE")) options.estimate_table = table;
  if (const char* folder = text_of("VGPU_DUMP_CODE")) options.dump_code = folder;
  if (const char* folder = text_of("VGPU_RECORD")) options.record = folder;
  if (const char* threads = text_of("VGPU_THREADS")) options.threads = number("VGPU_THREADS", threads);
  if (const char* limit = text_of("VGPU_MAX_INSTRUCTIONS")) {
    options.max_instructions = number("VGPU_MAX_INSTRUCTIONS", limit);
  }
  if (const char* slice = text_of("VGPU_SLICE")) {
    const uint64_t count = number("VGPU_SLICE", slice);
    if (count < 1 || count > 1000000) reject("VGPU_SLICE", slice, "expected 1 to 1000000 instructions");
    options.slice = static_cast<uint32_t>(count);
  }
  if (const char* arithmetic = text_of("VGPU_ARITH")) {
    const std::string name = arithmetic;
    if (name != "silicon" && name != "fma") reject("VGPU_ARITH", name, "expected silicon or fma");
    options.fma_arithmetic = name == "fma";
  }
  return options;
}

}  // namespace

const Options& Options::get() {
  static const Options options = parse();
  return options;
}

}  // namespace vgpu::hip
