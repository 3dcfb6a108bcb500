#include "isa/lds_shadow.h"

#include <algorithm>

namespace vgpu::isa {
namespace {

constexpr size_t kMostAccesses = (1u << 26) - 2;  // a stamp has 26 bits for them
uint32_t stamp_of(size_t index, int lane) { return static_cast<uint32_t>(index + 1) << 6 | static_cast<uint32_t>(lane); }
bool writes(Access a) { return a != Access::Load; }

}  // namespace

void LdsShadow::start(size_t bytes, size_t waves) {
  writes_.assign(bytes, 0);
  reads_.resize(waves);
  for (auto& r : reads_) r.assign(bytes, 0);
  accesses_.clear();
  at_barrier_.assign(waves, {0, 0});
  epoch_ = settled_ = 0;
}

bool LdsShadow::ordered(uint32_t stamp, const LdsAccess& now, const std::vector<Outstanding>& waves) const {
  const LdsAccess& then = accesses_[(stamp >> 6) - 1];
  if (then.access == Access::Atomic && now.access == Access::Atomic) return true;
  if (then.at == now.at && now.load_to_lds && then.load_to_lds && then.source == now.source) return true;
  if (then.wave == now.wave) {
    if (then.load_to_lds == now.load_to_lds) return true;
    const Outstanding& mine = waves[now.wave];
    return then.number <= (then.load_to_lds ? mine.vm_done() : mine.lds_done());
  }
  const Done& done = at_barrier_[then.wave];
  return then.number <= (then.load_to_lds ? done.vm : done.lds);
}

bool LdsShadow::check(const std::vector<uint32_t>& stamps, const LdsRange& range, const char* kind, const LdsAccess& now,
                      const std::vector<Outstanding>& waves, LdsConflict* conflict) const {
  const uint32_t* p = stamps.data() + range.offset;
  uint32_t latest = 0;
  for (uint32_t b = 0; b < range.bytes; ++b) latest = std::max(latest, p[b]);
  if (latest < stamp_of(settled_, 0)) return true;
  for (uint32_t b = 0; b < range.bytes; ++b) {
    if (p[b] < stamp_of(settled_, 0) || (b && p[b] == p[b - 1]) || ordered(p[b], now, waves)) continue;
    const size_t index = (p[b] >> 6) - 1;
    *conflict = {accesses_[index], kind, range.offset + b, range.lane, static_cast<int>(p[b] & 63), index >= epoch_};
    return false;
  }
  return true;
}

bool LdsShadow::touch(const LdsAccess& access, const std::vector<LdsRange>& ranges, const std::vector<Outstanding>& waves,
                      LdsConflict* conflict) {
  bool fine = true;
  for (const LdsRange& r : ranges) {
    fine = check(writes_, r, writes(access.access) ? "WAW" : "RAW", access, waves, conflict);
    for (size_t w = 0; fine && writes(access.access) && w < reads_.size(); ++w)
      fine = check(reads_[w], r, "WAR", access, waves, conflict);
    if (!fine) break;
  }
  if (accesses_.size() >= kMostAccesses) start(writes_.size(), reads_.size());  // begins anew, knowing nothing of the past
  accesses_.push_back(access);
  for (const LdsRange& r : ranges) {
    std::vector<uint32_t>& stamps = writes(access.access) ? writes_ : reads_[access.wave];
    std::fill_n(stamps.begin() + r.offset, r.bytes, stamp_of(accesses_.size() - 1, r.lane));
  }
  return fine;
}

void LdsShadow::barrier(const std::vector<Outstanding>& waves) {
  for (size_t w = 0; w < waves.size(); ++w) at_barrier_[w] = {waves[w].vm_done(), waves[w].lds_done()};
  const auto settled = [this](const LdsAccess& a) {
    const Done& done = at_barrier_[a.wave];
    return a.number <= (a.load_to_lds ? done.vm : done.lds);
  };
  while (settled_ < accesses_.size() && settled(accesses_[settled_])) ++settled_;
  epoch_ = accesses_.size();
}

}  // namespace vgpu::isa
