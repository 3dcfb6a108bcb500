// jax_aiter._ffi: the handlers as capsules for jax.ffi, and what the tests need to look inside.
#include <nanobind/nanobind.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "decode.h"
#include "driver_mock.h"
#include "handler.h"
#include "inflate.h"
#include "testing.h"
#include "timing.h"

namespace nb = nanobind;

namespace jax_aiter {
namespace {

nb::capsule Capsule(XLA_FFI_Handler* handler) { return nb::capsule(reinterpret_cast<void*>(handler)); }

// {"platform": .., "type": (name, {"type_id": .., "type_info": ..}), "stages": {"instantiate": .., ..}}
nb::dict Registration(const HandlerSet& set) {
  nb::dict type, stages, registration;
  type["type_id"] = nb::capsule(reinterpret_cast<void*>(set.type_id));
  type["type_info"] = nb::capsule(const_cast<void*>(reinterpret_cast<const void*>(set.type_info)));
  stages["instantiate"] = Capsule(set.instantiate);
  if (set.initialize) stages["initialize"] = Capsule(set.initialize);
  stages["execute"] = Capsule(set.execute);
  registration["platform"] = set.platform;
  registration["type"] = nb::make_tuple(set.type_name, type);
  registration["stages"] = stages;
  return registration;
}

nb::list Registrations() {
  nb::list all;
  all.append(Registration(kRocmHandlers));
  all.append(Registration(kCudaHandlers));
  return all;
}

nb::dict BuildInfo() {
  nb::dict info;
  info["xla_ffi_api"] = nb::make_tuple(XLA_FFI_API_MAJOR, XLA_FFI_API_MINOR);
  info["plan_version"] = static_cast<int>(kPlanVersion);
#ifdef __VERSION__
  info["compiler"] = __VERSION__;
#endif
  return info;
}

Backend& BackendNamed(const std::string& name) {
  if (name == "mock") return MockBackend();
  if (name == "hip") return HipBackend();
  if (name == "cuda") return CudaBackend();
  throw std::invalid_argument("driver " + name + ": expected mock, hip or cuda");
}

nb::bytes InflateBytes(nb::bytes packed, size_t size) {
  std::string out(size, '\0');
  if (!Inflate(reinterpret_cast<const uint8_t*>(packed.c_str()), packed.size(), reinterpret_cast<uint8_t*>(out.data()),
               size)) {
    throw std::invalid_argument("not a DEFLATE stream of " + std::to_string(size) + " bytes");
  }
  return nb::bytes(out.data(), out.size());
}

// Buffers are (address, bytes).
using Buffers = std::vector<std::pair<uint64_t, uint64_t>>;

std::vector<Memory> ToMemory(const Buffers& buffers) {
  std::vector<Memory> all;
  for (auto [address, nbytes] : buffers) all.push_back({reinterpret_cast<void*>(address), nbytes});
  return all;
}

double TimeLaunchesOf(const std::string& driver, nb::bytes encoded, int ordinal, const Buffers& operands,
                      const Buffers& results, int repeats, bool bare) {
  Plan plan;
  double seconds = 0;
  Status status = DecodePlan(reinterpret_cast<const uint8_t*>(encoded.c_str()), encoded.size(), GlobalCodeStore(), &plan);
  if (status.ok()) {
    status = TimeLaunches(BackendNamed(driver), std::move(plan), ordinal, ToMemory(operands), ToMemory(results), repeats,
                          bare, &seconds);
  }
  if (!status.ok()) throw std::runtime_error(status.message());
  return seconds;
}

}  // namespace

NB_MODULE(_ffi, m) {
  m.doc() = "Native part of jax_aiter: the XLA FFI handlers that replay launch plans.";
  m.def("registrations", &Registrations, "What to register with jax.ffi, per platform; the type before the stages.");
  m.def("build_info", &BuildInfo, "XLA FFI API version of the headers used, plan version and compiler.");

  nb::module_ testing = m.def_submodule("testing", "Mock device and inspection; not used by the library itself.");
  testing.def("cpu_registration", [] { return Registration(kCpuHandlers); });
  testing.def("use_on_cpu", [](const std::string& driver) { UseBackendOnCpu(BackendNamed(driver)); }, nb::arg("driver"));
  testing.def("modules_loaded", [](const std::string& driver) { return BackendNamed(driver).modules.loaded(); },
              nb::arg("driver"));
  testing.def("code_objects_stored", [] { return GlobalCodeStore().size(); });
  testing.def("inflate", &InflateBytes, nb::arg("packed"), nb::arg("size"));
  testing.def("decode", &DecodeToDict, nb::arg("encoded"), "The decoded plan as a dict; ValueError if it is refused.");
  testing.def("time_launches", &TimeLaunchesOf, nb::arg("driver"), nb::arg("encoded"), nb::arg("ordinal"),
              nb::arg("operands"), nb::arg("results"), nb::arg("repeats"), nb::arg("bare"),
              "Seconds to enqueue a plan `repeats` times on the default stream; see ffi/timing.h. Does not synchronise.");
  testing.def("mock_configure", &ConfigureMock, nb::kw_only(), nb::arg("record") = true, nb::arg("capturing") = false,
              nb::arg("fail_after") = -1, nb::arg("devices") = 64, nb::arg("fail_load") = false);
  testing.def("mock_records", &MockRecords);
}

}  // namespace jax_aiter
