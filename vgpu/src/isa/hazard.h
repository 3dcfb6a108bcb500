// --check=hazard: what the interpreter, which finishes every instruction before the next, would otherwise let pass.
#pragma once

#include <atomic>
#include <deque>
#include <mutex>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "isa/code.h"
#include "isa/lds_shadow.h"
#include "isa/wait_states.h"

namespace vgpu::isa {

// What the workers of a launch share: the effects of each instruction, found once, and the hazards when they are collected.
class HazardLaunch {
 public:
  // Without `collect` the first hazard fails the launch.
  HazardLaunch(const Code& code, std::vector<std::string>* collect);
  const Effects& effects(uint64_t at, const Op& op);
  // One hazard between the instruction at `at`, about to run, and the earlier one at `other`.
  void report(const Wave& w, uint64_t at, uint64_t other, const char* kind, const std::string& text);
  // Instructions that were executed, as dword indices in order.
  std::vector<uint64_t> executed() const;

 private:
  const Code& code_;
  std::vector<std::string>* collect_;
  std::vector<std::atomic<const Effects*>> by_index_;
  std::mutex mutex_;
  std::deque<Effects> effects_;
  std::set<std::tuple<uint64_t, uint64_t, std::string>> seen_;
};

// The shadow of one workgroup.
class HazardGroup {
 public:
  explicit HazardGroup(HazardLaunch& launch) : launch_(launch) {}
  void start(const Workgroup& g);
  // Called before the instruction runs.
  void before(const Wave& w, uint64_t at, const Op& op);
  // All waves have arrived and go on.
  void barrier() { lds_.barrier(outstanding_); }

 private:
  void registers(const Wave& w, uint64_t at, const Op& op, const Effects& e);
  void memory(const Wave& w, uint64_t at, const Op& op, const Effects& e);
  void distances(const Wave& w, uint64_t at, const Op& op, const Effects& e);

  HazardLaunch& launch_;
  std::vector<Outstanding> outstanding_;  // by wave
  std::vector<WaitStates> wait_states_;   // by wave
  LdsShadow lds_;
};

// "pc 0x...  (kernel entry +16): v_add_u32 v1, v2, v3".
std::string place_of(const Wave& w, uint64_t at);
// "kernel k: <what>; at <place>; workgroup (0, 0, 0), wave 1".
std::string report_text(const Wave& w, uint64_t at, const std::string& what);

}  // namespace vgpu::isa
