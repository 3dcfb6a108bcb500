// Words for the parts of a plan, for error messages.
#include "plan.h"

namespace jax_aiter {
namespace {

std::string Dims(const std::array<uint32_t, 3>& d) {
  return "(" + std::to_string(d[0]) + ", " + std::to_string(d[1]) + ", " + std::to_string(d[2]) + ")";
}

}  // namespace

std::string Describe(const Buffer& buffer) {
  static constexpr const char* kKinds[] = {"operand", "result", "scratch"};
  std::string text = kKinds[static_cast<int>(buffer.kind)];
  text += "[" + std::to_string(buffer.index) + "]";
  if (!buffer.name.empty()) text += " " + buffer.name;
  return text + " (" + std::to_string(buffer.nbytes) + " bytes)";
}

std::string Describe(const Plan& plan, size_t step) {
  std::string text = "op " + plan.op + " (" + plan.arch + "), step " + std::to_string(step) + ", ";
  const Step& s = plan.steps[step];
  if (const Launch* launch = std::get_if<Launch>(&s)) {
    return text + "kernel " + launch->symbol + ", grid " + Dims(launch->grid) + ", block " +
           Dims(launch->block) + ", shared " + std::to_string(launch->shared_bytes);
  }
  if (const Fill* fill = std::get_if<Fill>(&s)) {
    return text + "fill of " + Describe(plan.buffers[fill->buffer]);
  }
  if (const Address* address = std::get_if<Address>(&s)) {
    return text + "address of " + Describe(plan.buffers[address->target]) + " -> " +
           Describe(plan.buffers[address->buffer]);
  }
  const Copy& copy = std::get<Copy>(s);
  return text + "copy " + Describe(plan.buffers[copy.src]) + " -> " + Describe(plan.buffers[copy.dst]);
}

}  // namespace jax_aiter
