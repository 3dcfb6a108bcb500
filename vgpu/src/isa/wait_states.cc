// The rules are those of the CDNA3 and CDNA4 ISA documents' tables of manually inserted wait states and required independent
// instructions, with the numbers that LLVM keeps for gfx942 and gfx950; docs/hazards.md lists them.
#include "isa/wait_states.h"

#include <algorithm>

namespace vgpu::isa {
namespace {

constexpr int64_t kLongest = 24;  // no rule asks for more

// Wait states from a matrix instruction to others that touch its result, by passes. On gfx950 longer ones take one more.
unsigned xdl(unsigned passes, unsigned extra, bool gfx950) { return passes + extra + (gfx950 && passes != 2 ? 1 : 0); }

}  // namespace

void WaitStates::clear() {
  clock_ = matrix_free_ = 0;
  std::fill(std::begin(writers_), std::end(writers_), Writer());
  std::fill(std::begin(matrix_c_), std::end(matrix_c_), Event());
  std::fill(std::begin(wide_stores_), std::end(wide_stores_), Event());
  std::fill(std::begin(setreg_), std::end(setreg_), Event());
}

void WaitStates::after_matrix(const Writer& d, const Effects& e, const Span& use, bool gfx950, Rule* rule) const {
  const unsigned p = d.passes;
  const bool small_f64 = p == 4;
  if (e.unit != Unit::Mfma) {
    if (d.matrix == Matrix::F64) {
      rule->demand(small_f64 ? (e.memory() ? 9 : 6) : (e.memory() ? 18 : 11), "f64 matrix result to vector ALU or memory");
    } else {
      rule->demand(d.matrix == Matrix::Xdl ? xdl(p, 3, gfx950) : p + 2, "matrix result to vector ALU or memory");
    }
    return;
  }
  if (use.source != 2) {
    if (d.matrix == Matrix::F64) rule->demand(small_f64 ? 6 : gfx950 ? 19 : 11, "f64 matrix result as A or B");
    else rule->demand(d.matrix == Matrix::Xdl ? xdl(p, 3, gfx950) : p + 2, "matrix result as A or B");
    return;
  }
  if (d.to.first == use.first && d.to.count == use.count && d.passes == e.passes && (d.matrix == e.matrix || d.matrix == Matrix::F32)) {
    if (d.matrix == Matrix::F64 && e.matrix == Matrix::F64 && small_f64 && e.passes == 4) rule->demand(4, "f64 4x4 result as C");
    else if (p == 2 && d.matrix == Matrix::Xdl) rule->demand(2, "result of two passes as C");
  } else if (d.matrix == Matrix::F64) {
    if (e.matrix != Matrix::Xdl) rule->demand(small_f64 ? 4 : gfx950 ? 17 : 9, "a part of an f64 matrix result as C");
  } else if (d.matrix == Matrix::Xdl) {
    rule->demand(xdl(p, 1, gfx950), "a part of a matrix result as C");
  } else {
    rule->demand(p, "a part of an f32 matrix result as C");
  }
}

void WaitStates::after_vector_alu(const Writer& d, const Effects& e, const Span& use, const OpInfo* info, Rule* rule) const {
  if (d.dot) {
    if (e.vector_alu() && (d.info != info || use.source != 2)) rule->demand(3, "dot product to another instruction");
  } else if (e.unit == Unit::Mfma) {
    rule->demand(2, "vector ALU result to matrix instruction");
  }
  if (e.dpp && use.source == 0) rule->demand(2, "vector ALU result through DPP");
  if (e.kind == Kind::PermlaneSwap) rule->demand(2, "vector ALU result to permlane swap");
  if (e.kind == Kind::Readlane || e.kind == Kind::Readfirstlane) rule->demand(1, "vector ALU result to lane read");
  if (d.transcendental && e.vector_alu() && !e.transcendental) rule->demand(1, "transcendental result");
  if (d.partial && e.vector_alu()) rule->demand(1, "result with destination select");
}

WaitStates::Rule WaitStates::read_rule(const Writer& d, const Effects& e, const Span& use, unsigned code, const OpInfo* info,
                                       bool gfx950) const {
  Rule rule;
  if (code >= kVgpr) {
    if (d.matrix != Matrix::None) after_matrix(d, e, use, gfx950, &rule);
    else if (d.unit == Unit::Valu) after_vector_alu(d, e, use, info, &rule);
    return rule;
  }
  if (d.unit == Unit::Salu && code == kM0 && e.kind == Kind::ReadsM0) rule.demand(1, "scalar ALU writes M0");
  if (d.unit != Unit::Valu) return rule;
  const bool lane = e.kind == Kind::Readlane || e.kind == Kind::Writelane;
  if (e.unit == Unit::Vmem) rule.demand(5, "vector ALU writes a scalar register, vector memory reads it");
  if (lane && use.source == 1) rule.demand(4, "vector ALU writes the lane select");
  if (e.kind == Kind::DivFmas && (code == kVccLo || code == kVccHi)) rule.demand(4, "vector ALU writes VCC before v_div_fmas");
  if (e.vector_alu() && use.source != Span::kCarry) rule.demand(2, "vector ALU writes a scalar register, vector ALU reads it as a constant");
  return rule;
}

bool WaitStates::check(const Op& op, const Effects& e, bool gfx950, Distance* wrong) const {
  auto short_of = [&](const Rule& rule, int64_t clock, uint64_t other, unsigned code) {
    const int64_t found = clock_ - clock - 1;
    if (found >= static_cast<int64_t>(rule.needed)) return false;
    *wrong = {rule.needed, static_cast<unsigned>(found), other, code, rule.text};
    return true;
  };
  auto recent = [&](int64_t clock) { return clock_ - clock <= kLongest; };
  for (int i = 0; i < e.read_count; ++i) {
    const Span& use = e.reads[i];
    for (unsigned c = use.first; c < unsigned{use.first} + use.count; ++c) {
      const Writer& d = writers_[c];
      if (recent(d.clock) && short_of(read_rule(d, e, use, c, op.inst.info, gfx950), d.clock, d.at, c)) return false;
    }
  }
  const Writer& exec = writers_[kExecLo];
  if (exec.unit == Unit::Valu && recent(exec.clock)) {
    Rule rule;
    if (e.dpp) rule.demand(5, "vector ALU writes EXEC before DPP");
    if (e.unit == Unit::Mfma) rule.demand(4, "vector ALU writes EXEC before a matrix instruction");
    if (e.kind == Kind::Readlane || e.kind == Kind::Readfirstlane || e.kind == Kind::Writelane || e.kind == Kind::PermlaneSwap)
      rule.demand(4, "vector ALU writes EXEC before a lane access");
    if (short_of(rule, exec.clock, exec.at, kExecLo)) return false;
  }
  for (const unsigned code : {unsigned{kVccLo}, unsigned{kExecLo}}) {
    const Writer& d = writers_[code];
    Rule rule;
    if (e.kind == Kind::ReadsZero && d.unit == Unit::Valu) rule.demand(5, "vector ALU writes VCC or EXEC before VCCZ or EXECZ is read");
    if (short_of(rule, d.clock, d.at, code)) return false;
  }
  const bool late = e.unit == Unit::Valu || e.memory();  // writes that the matrix unit does not order
  for (int i = 0; late && i < e.write_count; ++i) {
    const Span& to = e.writes[i];
    for (unsigned c = std::max<unsigned>(to.first, kVgpr); c < unsigned{to.first} + to.count; ++c) {
      const Writer& d = writers_[c];
      Rule over;
      if (d.matrix == Matrix::F64) over.demand(d.passes == 4 ? 6 : 11, "written over an f64 matrix result");
      else if (d.matrix != Matrix::None)
        over.demand(d.matrix == Matrix::Xdl ? xdl(d.passes, 3, gfx950) : d.passes + 2u, "written over a matrix result");
      else if (d.dot && d.info != op.inst.info) over.demand(3, "written over a dot product");
      if (recent(d.clock) && short_of(over, d.clock, d.at, c)) return false;
      Rule under, stored;
      under.demand(matrix_c_[c].passes - 1u, "written over the C of a matrix instruction");
      if (recent(matrix_c_[c].clock) && short_of(under, matrix_c_[c].clock, matrix_c_[c].at, c)) return false;
      stored.demand((e.unit == Unit::Valu ? 2u : 1u) - wide_stores_[c].scalar_offset, "written over the data of a wide store");
      if (recent(wide_stores_[c].clock) && short_of(stored, wide_stores_[c].clock, wide_stores_[c].at, c))
        return false;
    }
  }
  if (e.kind == Kind::Setreg || e.kind == Kind::Getreg) {
    const Event& last = setreg_[op.inst.simm16 & 63];
    Rule rule;
    rule.demand(2, "s_setreg before an access to the same hardware register");
    if (recent(last.clock) && short_of(rule, last.clock, last.at, op.inst.simm16 & 63)) return false;
  }
  return true;
}

void WaitStates::record(const Op& op, const Effects& e, uint64_t at) {
  for (int i = 0; i < e.write_count; ++i) {
    const Span& to = e.writes[i];
    const Writer d{clock_, at, op.inst.info, e.unit, e.matrix, e.passes, e.transcendental, e.dot, e.partial, to};
    std::fill_n(writers_ + to.first, to.count, d);
  }
  if (e.matrix == Matrix::Xdl)
    for (int i = 0; i < e.read_count; ++i)
      if (e.reads[i].source == 2) std::fill_n(matrix_c_ + e.reads[i].first, e.reads[i].count, Event{clock_, at, e.passes, false});
  if (e.wide_store.count) std::fill_n(wide_stores_ + e.wide_store.first, e.wide_store.count, Event{clock_, at, 0, e.scalar_offset});
  if (e.kind == Kind::Setreg) setreg_[op.inst.simm16 & 63] = {clock_, at, 0, false};
}

bool WaitStates::step(const Op& op, const Effects& e, uint64_t at, Arch arch, Distance* wrong) {
  ++clock_;
  if (e.unit == Unit::Mfma) {
    clock_ = std::max(clock_, matrix_free_);
    matrix_free_ = clock_ + e.passes;
  }
  const bool fine = check(op, e, arch == Arch::gfx950, wrong);
  record(op, e, at);
  if (e.kind == Kind::Nop) clock_ += op.inst.simm16 & 15;
  return fine;
}

}  // namespace vgpu::isa
