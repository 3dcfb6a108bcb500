#include "testing.h"

#include <array>
#include <stdexcept>
#include <string>
#include <vector>

#include "decode.h"
#include "driver_mock.h"

namespace nb = nanobind;

namespace jax_aiter {
namespace {

nb::tuple Dims(const std::array<uint32_t, 3>& d) { return nb::make_tuple(d[0], d[1], d[2]); }

nb::bytes Bytes(const std::vector<uint8_t>& data, size_t size) { return nb::bytes(data.data(), size); }

nb::str Text(const std::string& text) { return nb::str(text.data(), text.size()); }

nb::dict View(const Launch& launch) {
  nb::list params, pointers;
  for (const Param& p : launch.params) params.append(nb::make_tuple(p.offset, p.size));
  for (const PointerSlot& s : launch.pointers) pointers.append(nb::make_tuple(s.offset, s.buffer, s.byte_offset));
  nb::dict view;
  view["code"] = launch.code;
  view["symbol"] = Text(launch.symbol);
  view["grid"] = Dims(launch.grid);
  view["block"] = Dims(launch.block);
  view["shared_bytes"] = launch.shared_bytes;
  view["blob"] = Bytes(launch.blob, launch.blob.size());
  view["params"] = params;
  view["pointers"] = pointers;
  return view;
}

nb::dict View(const Fill& fill) {
  nb::dict view;
  view["fill"] = nb::make_tuple(fill.buffer, fill.byte_offset, fill.nbytes, fill.value, fill.width);
  return view;
}

nb::dict View(const Copy& copy) {
  nb::dict view;
  view["copy"] = nb::make_tuple(copy.dst, copy.dst_offset, copy.src, copy.src_offset, copy.nbytes);
  return view;
}

nb::dict View(const Address& address) {
  nb::dict view;
  view["address"] = nb::make_tuple(address.buffer, address.byte_offset, address.target, address.target_offset);
  return view;
}

}  // namespace

nb::dict DecodeToDict(nb::bytes encoded) {
  CodeStore store;  // its own: looking at a plan must not keep its code objects in the process
  Plan plan;
  Status status = DecodePlan(reinterpret_cast<const uint8_t*>(encoded.c_str()), encoded.size(), store, &plan);
  if (!status.ok()) throw std::invalid_argument(status.message());
  nb::list codes, buffers, aliases, steps;
  for (const auto& code : plan.codes) codes.append(Bytes(code->image, code->size()));
  for (const Buffer& b : plan.buffers) {
    buffers.append(nb::make_tuple(static_cast<int>(b.kind), b.index, b.nbytes, b.alignment, Text(b.name)));
  }
  for (const auto& [operand, result] : plan.aliases) aliases.append(nb::make_tuple(operand, result));
  for (const Step& step : plan.steps) steps.append(std::visit([](const auto& s) { return View(s); }, step));
  nb::dict view;
  view["op"] = Text(plan.op);
  view["arch"] = Text(plan.arch);
  view["codes"] = codes;
  view["buffers"] = buffers;
  view["aliases"] = aliases;
  view["steps"] = steps;
  return view;
}

void ConfigureMock(bool record, bool capturing, int fail_after, int devices, bool fail_load) {
  MockDriver::Settings settings;
  settings.record = record;
  settings.capturing = capturing;
  settings.fail_after = fail_after;
  settings.devices = devices;
  settings.fail_load = fail_load;
  GlobalMockDriver().Configure(settings);
}

nb::list MockRecords() {
  nb::list records;
  for (const MockDriver::Record& r : GlobalMockDriver().Records()) {
    nb::dict view;
    view["call"] = Text(r.call);
    view["symbol"] = Text(r.symbol);
    view["device"] = r.device;
    view["grid"] = Dims(r.grid);
    view["block"] = Dims(r.block);
    view["shared_bytes"] = r.shared_bytes;
    view["args"] = Bytes(r.args, r.args.size());
    view["dst"] = r.dst;
    view["src"] = r.src;
    view["nbytes"] = r.nbytes;
    view["value"] = r.value;
    view["width"] = r.width;
    records.append(view);
  }
  return records;
}

}  // namespace jax_aiter
