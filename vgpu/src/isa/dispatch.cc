// Initial state of a workgroup's waves, from the kernel descriptor, as the dispatcher sets it up.
#include <cstdlib>
#include <new>

#include "isa/hazard.h"
#include "isa/launch_state.h"
#include "isa/scheduler.h"
#include "time/trace.h"

namespace vgpu::isa {
namespace {

constexpr size_t kRegisterBytes = 512 * 64 * 4;

// Registers of a wave live as long as the wave object, which workers reuse.
void give_registers(Wave& w) {
  if (w.v) return;
  void* p = nullptr;
  if (posix_memalign(&p, 4096, kRegisterBytes) != 0) throw std::bad_alloc();
  w.v = static_cast<uint32_t*>(p);
}

void clear_registers(const LaunchState& launch, Wave& w) {
  const uint32_t v = std::min(launch.kernel->accum_offset, launch.kernel->vgprs);
  const uint32_t a = launch.kernel->vgprs - v;
  std::memset(w.v, 0, std::min(v, 256u) * 256);
  std::memset(w.reg(256), 0, std::min(a, 256u) * 256);
  std::memset(w.s, 0, sizeof w.s);
}

void put64(Wave& w, unsigned* at, uint64_t x) {
  w.set_s64(*at, x);
  *at += 2;
}

// User SGPRs in the order of the descriptor's enable bits, then preloaded kernel arguments, then workgroup ids.
void set_scalars(const LaunchState& launch, const Workgroup& g, Wave& w) {
  const Kernel& k = *launch.kernel;
  const unsigned properties = k.properties;
  const uint64_t kernarg = reinterpret_cast<uint64_t>(launch.kernarg);
  unsigned at = 0;
  if (properties & 1) {  // private segment buffer: a descriptor of the scratch; flat scratch is used instead
    put64(w, &at, 0);
    put64(w, &at, 0);
  }
  if (properties & 2) put64(w, &at, reinterpret_cast<uint64_t>(launch.dispatch_packet));
  if (properties & 4) put64(w, &at, 0);  // queue pointer
  if (properties & 8) put64(w, &at, kernarg);
  if (properties & 16) put64(w, &at, 1);  // dispatch id
  if (properties & 32) put64(w, &at, 0);  // flat scratch init: architected on this hardware
  if (properties & 64) w.s[at++] = k.scratch_bytes;
  const unsigned preload = k.preload & 0x7f, offset = k.preload >> 7;
  for (unsigned i = 0; i < preload; ++i, ++at) std::memcpy(&w.s[at], launch.kernarg + (offset + i) * 4, 4);
  const unsigned user = k.rsrc2 >> 1 & 31;
  if (at < user) at = user;
  for (int d = 0; d < 3; ++d)
    if (k.rsrc2 >> (7 + d) & 1) w.s[at++] = g.id[d];
  if (k.rsrc2 >> 10 & 1) w.s[at++] = static_cast<uint32_t>(g.waves.size());
}

// Work-item ids packed ten bits each into v0.
void set_ids(const LaunchState& launch, Wave& w) {
  const Dim3 b = launch.block;
  const unsigned dims = launch.kernel->rsrc2 >> 11 & 3;
  uint64_t exec = 0;
  const uint32_t total = b.x * b.y * b.z;
  for (uint32_t l = 0; l < 64; ++l) {
    const uint32_t flat = w.index * 64 + l;
    if (flat >= total) break;
    exec |= 1ull << l;
    uint32_t id = flat % b.x;
    if (dims >= 1) id |= flat / b.x % b.y << 10;
    if (dims >= 2) id |= flat / b.x / b.y << 20;
    w.v[l] = id;
  }
  w.set_s64(kExecLo, exec);
}

uint32_t initial_mode(const Kernel& k) {
  const uint32_t r = k.rsrc1;
  return (r >> 12 & 0xff) | (r >> 21 & 1 ? kModeDx10Clamp : 0) | (r >> 23 & 1 ? kModeIeee : 0) |
         (r >> 26 & 1 ? kModeFp16Ovfl : 0);
}

}  // namespace

Wave::~Wave() { std::free(v); }

void start_group(const LaunchState& launch, uint64_t linear, Worker& worker, Workgroup& g) {
  const Kernel& k = *launch.kernel;
  const uint32_t items = launch.block.x * launch.block.y * launch.block.z;
  const uint32_t waves = (items + 63) / 64;
  g.linear = linear;
  g.id[0] = static_cast<uint32_t>(linear % launch.grid.x);
  g.id[1] = static_cast<uint32_t>(linear / launch.grid.x % launch.grid.y);
  g.id[2] = static_cast<uint32_t>(linear / launch.grid.x / launch.grid.y);
  g.at_barrier = g.done = 0;
  g.lds.assign(launch.lds_bytes, 0);
  g.scratch.assign(static_cast<size_t>(k.scratch_bytes) * 64 * waves, 0);
  while (g.waves.size() < waves) g.waves.push_back(std::make_unique<Wave>());
  g.waves.resize(waves);
  for (uint32_t i = 0; i < waves; ++i) {
    Wave& w = *g.waves[i];
    give_registers(w);
    clear_registers(launch, w);
    w.index = i;
    w.scc = 0;
    w.executed = 0;
    w.vmem_ordered = 0;
    w.landing.clear();
    w.state = WaveState::Ready;
    w.group = &g;
    w.worker = &worker;
    w.code = launch.code;
    w.scratch_size = k.scratch_bytes;
    w.scratch = g.scratch.data() + static_cast<size_t>(i) * 64 * k.scratch_bytes;
    // Code that relies on preloaded arguments starts 256 bytes in, past the fallback that loads them itself.
    w.pc = (k.entry + ((k.preload & 0x7f) ? 256 : 0) - launch.code->base()) / 4;
    set_scalars(launch, g, w);
    set_ids(launch, w);
    w.set_mode(initial_mode(k));
  }
  timing::Recorder* recorder = launch.options.recorder;
  g.tracing = recorder && recorder->traces_group(linear) ? std::make_shared<timing::Tracing>(*recorder, g) : nullptr;
  if (!launch.hazards) return;
  if (!g.hazards) g.hazards = std::make_shared<HazardGroup>(*launch.hazards);
  g.hazards->start(g);
}

}  // namespace vgpu::isa
