#include "time/trace.h"

#include <algorithm>

#include "isa/code.h"
#include "isa/launch_state.h"

namespace vgpu::timing {
namespace {

using isa::Unit;

bool has(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

Instruction describe(const isa::Op& op) {
  Instruction i;
  i.known = true;
  i.words = op.words;
  if (!op.inst.info) return i;
  const isa::Effects e = isa::effects_of(op);
  const std::string& name = op.inst.info->base;
  i.unit = e.unit;
  i.kind = e.kind;
  i.passes = e.passes;
  i.counted = e.counted;
  i.atomic = has(name, "atomic");
  i.loads = e.arrives_later || e.to_lds;
  i.to_lds = e.to_lds;
  i.branch = op.cls == isa::Class::Branch;
  i.transcendental = e.transcendental;
  i.f64 = e.unit == Unit::Valu && has(name, "_f64");
  i.sleeps = name == "s_sleep";
  i.simm16 = op.inst.simm16;
  if (e.unit == Unit::Mfma) {
    i.result = e.writes[0].first;
    for (int k = 0; k < e.read_count; ++k)
      if (e.reads[k].source == 2) i.added = e.reads[k].first;
  }
  if (e.unit == Unit::Vmem && e.counted) i.bytes = isa::form(op).bytes;
  return i;
}

}  // namespace

void Recorder::start(const isa::Code& code) {
  instructions.assign(code.count, Instruction());
  traces.clear();
  executed.clear();
}

bool Recorder::traces_group(uint64_t linear) const { return std::binary_search(wanted.begin(), wanted.end(), linear); }

// Several workers may describe the same instruction at once; all write the same.
const Instruction& Recorder::instruction(uint64_t at, const isa::Op& op) {
  Instruction& i = instructions[at];
  if (i.known) return i;
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!i.known) i = describe(op);
  return i;
}

void Recorder::finish(const isa::Workgroup& g, Tracing* tracing) {
  uint64_t n = 0;
  for (const auto& w : g.waves) n += w->executed;
  const std::lock_guard<std::mutex> lock(mutex_);
  executed.emplace_back(g.linear, n);
  if (tracing) traces.push_back(std::move(tracing->trace));
}

Tracing::Tracing(Recorder& recorder, const isa::Workgroup& g) : recorder_(recorder) {
  trace.linear = g.linear;
  std::copy_n(g.id, 3, trace.id);
  trace.waves.resize(g.waves.size());
}

void Tracing::before(const isa::Wave& w, uint64_t at, const isa::Op& op) {
  const Instruction& i = recorder_.instruction(at, op);
  uint32_t cost = 0;
  if (i.counted) {
    if (i.unit == Unit::Lds) {
      cost = lds(w, at, op);
    } else {
      cost = static_cast<uint32_t>(trace.accesses.size());
      const auto first = static_cast<uint32_t>(trace.lines.size());
      const uint32_t bytes = i.unit == Unit::Smem ? scalar_lines(w, op, recorder_.line_bytes, &trace.lines)
                                                  : vector_lines(w, op, i, recorder_.line_bytes, &trace.lines);
      trace.accesses.push_back({first, static_cast<uint32_t>(trace.lines.size()) - first, bytes});
    }
  }
  trace.waves[w.index].push_back({static_cast<uint32_t>(at), cost});
}

// The same pattern, moved by whole rows of banks, takes the same time: most instructions of a loop ask once.
uint32_t Tracing::lds(const isa::Wave& w, uint64_t at, const isa::Op& op) {
  const uint32_t* address = w.vreg(op.inst.addr);
  const uint64_t exec = w.exec();
  const uint32_t row = recorder_.lds_banks * 4, base = exec ? address[__builtin_ctzll(exec)] / row * row : 0;
  uint64_t hash = (at ^ exec) * 0x9e3779b97f4a7c15ull;
  for (int l = 0; l < 64; ++l) hash = (hash ^ (exec >> l & 1 ? address[l] - base : 0u)) * 0x100000001b3ull;
  const auto [found, fresh] = lds_cycles_.try_emplace(hash, 0u);
  if (fresh) found->second = lds_cycles(w, op, recorder_.lds_banks);
  return found->second;
}

}  // namespace vgpu::timing
