#include "isa/race.h"

namespace vgpu::isa {

std::string RaceDetector::touch(uintptr_t address, unsigned size, Access access, uint64_t group) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const uint32_t me = static_cast<uint32_t>(group) + 1;
  if (access == Access::Atomic) {
    synchronised_[group] = ++epoch_;
    return "";
  }
  const auto seen = synchronised_.find(group);
  const uint32_t since = seen == synchronised_.end() ? 0 : seen->second;
  // Another group's access conflicts unless it came before my last atomic.
  auto conflicts = [&](uint32_t other, uint32_t epoch) { return other && other != me && epoch >= since; };
  for (uintptr_t a = address; a < address + size; ++a) {
    Byte& byte = bytes_[a];
    if (conflicts(byte.writer, byte.writer_epoch))
      return std::string("race: ") + (access == Access::Store ? "store" : "load") + " and store by workgroup " +
             std::to_string(byte.writer - 1);
    if (access == Access::Store) {
      if (conflicts(byte.reader, byte.reader_epoch))
        return "race: store and load by workgroup " + std::to_string(byte.reader - 1);
      byte.writer = me;
      byte.writer_epoch = epoch_;
    } else {
      byte.reader = me;
      byte.reader_epoch = epoch_;
    }
  }
  return "";
}

}  // namespace vgpu::isa
