// Registers and units from the decoded fields and the table's operand shapes; what the encoding does not say is named here.
#include "isa/effects.h"

#include "isa/print.h"
#include "sem/mfma.h"

namespace vgpu::isa {
namespace {

bool starts(const std::string& text, const char* prefix) { return text.rfind(prefix, 0) == 0; }
bool has(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }
bool is_register(unsigned code) { return code < 128 || code >= kVgpr; }

struct Builder {
  const Op& op;
  const Inst& inst;
  const OpInfo& info;
  const std::string& name;
  Effects e;

  explicit Builder(const Op& o) : op(o), inst(o.inst), info(*o.inst.info), name(o.inst.info->base) {}

  void read(unsigned code, unsigned count, uint8_t source = Span::kOther) {
    if (count && is_register(code)) e.reads[e.read_count++] = {static_cast<uint16_t>(code), static_cast<uint8_t>(count), source};
  }
  void write(unsigned code, unsigned count) {
    if (count && is_register(code)) e.writes[e.write_count++] = {static_cast<uint16_t>(code), static_cast<uint8_t>(count)};
  }

  // Sources as lower() resolved them: an accumulator and a carry mask are among them.
  void sources() {
    for (unsigned i = 0; i < 3; ++i) {
      unsigned count = info.width(static_cast<char>('0' + i));
      if (i < op.sources && op.width[i] > count) count = op.width[i];
      const bool carry = find_lane(name) && (op.aux & kHasCin) && (op.aux >> kCinShift & 3) == i;
      read(inst.src[i], count, carry ? Span::kCarry : static_cast<uint8_t>(i));
      if (i < op.sources && (inst.src[i] == kVccz || inst.src[i] == kExecz)) e.kind = Kind::ReadsZero;
    }
  }

  // VCC is written where it stands before the first source.
  void vcc() {
    bool seen_source = false;
    for (int i = 0; i < info.count; ++i) {
      const char role = info.operands[i].role;
      if (role == '0') seen_source = true;
      if (role != 'c') continue;
      if (seen_source) read(kVccLo, 2, Span::kCarry);
      else write(info.enc == Enc::VOPC ? inst.sdst : unsigned{kVccLo}, 2);
    }
  }

  void scalar() {
    e.unit = Unit::Salu;
    if (starts(name, "s_waitcnt")) e.kind = Kind::Wait;
    if (name == "s_barrier") e.kind = Kind::Barrier;
    if (name == "s_nop") e.kind = Kind::Nop;
    if (starts(name, "s_sendmsg") || starts(name, "s_movrel")) e.kind = Kind::ReadsM0;
    if (e.kind == Kind::ReadsM0) read(kM0, 1);
    if (starts(name, "s_setreg")) e.kind = Kind::Setreg;
    if (starts(name, "s_getreg")) e.kind = Kind::Getreg;
    if (has(name, "vccz") || has(name, "vccnz")) read(kVccLo, 2);
    sources();
    const unsigned d = info.width('d');
    const bool only_reads = starts(name, "s_cmpk") || starts(name, "s_setreg");
    const bool also_reads = starts(name, "s_addk") || starts(name, "s_mulk") || starts(name, "s_cmov") || starts(name, "s_bitset");
    if (only_reads || also_reads) read(inst.vdst, d);
    if (!only_reads) write(inst.vdst, d);
    if (has(name, "saveexec") || has(name, "wrexec")) write(kExecLo, 2);
  }

  void matrix() {
    const auto& m = *static_cast<const sem::MfmaInfo*>(op.lane);
    e.unit = Unit::Mfma;
    e.lanes = Touches::All;
    e.matrix = has(name, "_f64_") ? Matrix::F64 : name.rfind("_f32") == name.size() - 4 && !has(name, "xf32") ? Matrix::F32 : Matrix::Xdl;
    const bool wide_input = has(name, "f8f6f4") && (inst.cbsz < 2 || inst.blgp < 2);
    const bool slow = m.blocks > 1 || e.matrix == Matrix::F32 || (m.m == 32 && m.k == 4 && !has(name, "xf32")) || wide_input;
    if (e.matrix == Matrix::F64) e.passes = m.m == 4 ? 4 : 8;
    else if (m.m == 4) e.passes = 2;
    else e.passes = static_cast<uint8_t>((m.m == 16 ? 4 : 8) * (slow ? 2 : 1));
    auto registers = [&](unsigned format, unsigned full) {
      return !has(name, "f8f6f4") ? full : format < 2 ? 8u : format < 4 ? 6u : 4u;
    };
    read(inst.src[0], registers(inst.cbsz, m.a_regs), 0);
    read(inst.src[1], registers(inst.blgp, m.b_regs), 1);
    if (starts(name, "v_smfmac")) {
      read(inst.src[2], 1);
      read(inst.vdst, m.c_regs, 2);
    } else {
      read(inst.src[2], m.c_regs, 2);
    }
    if (inst.scaled)
      for (const uint16_t code : inst.scale_src) read(code, 1);
    write(inst.vdst, m.c_regs);
  }

  void vector() {
    e.unit = Unit::Valu;
    e.dpp = inst.dpp;
    if (inst.dpp) e.lanes = Touches::Dpp;
    for (const char* t : {"v_exp_", "v_log_", "v_rcp_", "v_rsq_", "v_sqrt_", "v_sin_", "v_cos_"}) e.transcendental |= starts(name, t);
    e.dot = starts(name, "v_dot");
    e.partial = inst.sdwa ? inst.dst_sel != 6 && info.enc != Enc::VOPC : info.enc == Enc::VOP3 && (inst.op_sel & 8);
    sources();
    vcc();
    if (info.width('d')) write(inst.vdst, info.width('d'));
    if (info.width('e')) write(inst.vdst, info.width('e'));
    if (info.width('b')) write(inst.sdst, info.width('b'));
    if (starts(name, "v_cmpx")) write(kExecLo, 2);
    if (starts(name, "v_div_fmas")) {
      e.kind = Kind::DivFmas;
      read(kVccLo, 2, Span::kCarry);
    }
    if (name == "v_readlane_b32") e.kind = Kind::Readlane, e.lanes = Touches::Lane;
    if (name == "v_readfirstlane_b32") e.kind = Kind::Readfirstlane, e.lanes = Touches::FirstLane;
    if (name == "v_writelane_b32") e.kind = Kind::Writelane, e.lanes = Touches::Lane;
    const bool permlane = starts(name, "v_permlane");
    if (permlane) e.kind = Kind::PermlaneSwap, e.lanes = Touches::All;
    if (permlane || name == "v_swap_b32") {
      read(inst.vdst, 1);
      write(inst.src[0], 1);
    }
  }

  void scalar_memory() {
    e.unit = Unit::Smem;
    if (starts(name, "s_dcache")) return;
    e.counted = true;
    read(inst.srsrc, info.width('b'));
    if (info.width('b') && (inst.soffset_en || !inst.imm_offset)) read(inst.soffset & 127u, 1);
    const bool atomic = has(name, "atomic"), store = has(name, "store");
    if (atomic || store) read(inst.vdst, info.width('d'));
    if (store || (atomic && !inst.sc0)) return;
    e.arrives_later = true;
    write(inst.vdst, atomic ? form(op).registers : info.width('d'));
  }

  void lds() {
    e.unit = Unit::Lds;
    if (name == "ds_nop") return;
    e.counted = true;
    read(inst.addr, info.width('a'));
    read(inst.data0, info.width('0'), 0);
    read(inst.data1, info.width('1'), 1);
    if (has(name, "addtid")) e.kind = Kind::ReadsM0, read(kM0, 1);
    e.arrives_later = info.width('d') != 0;
    write(inst.vdst, info.width('d'));
  }

  void vector_memory() {
    e.unit = Unit::Vmem;
    const bool buffer = info.enc == Enc::MUBUF || info.enc == Enc::MTBUF;
    if (name == "buffer_wbl2" || name == "buffer_inv") return;
    e.counted = true;
    e.flat = info.enc == Enc::FLAT;
    const bool scratch = info.enc == Enc::SCRATCH, scalar_base = !buffer && inst.saddr != 0x7f;
    unsigned address = info.width('a');
    if (buffer) address = unsigned{inst.offen} + inst.idxen;
    else if (scratch) address = inst.sve;
    else if (scalar_base) address = 1;
    read(inst.addr, address);
    if (scalar_base) read(inst.saddr, scratch ? 1 : 2);
    if (buffer) {
      read(inst.srsrc, 4);
      e.scalar_offset = inst.soffset < 128;
      if (e.scalar_offset) read(inst.soffset, 1);
    }
    e.to_lds = has(name, "load_lds") || (buffer && inst.lds);
    if (e.to_lds) {
      if (!buffer) e.kind = Kind::ReadsM0;  // the documents do not ask for a distance before buffer loads
      read(kM0, 1);
      return;
    }
    const bool load = has(name, "load"), atomic = has(name, "atomic");
    const unsigned data = load && !buffer ? info.width('d') : info.width('0');
    if (load || (atomic && inst.sc0)) {
      e.arrives_later = true;
      write(buffer ? inst.data0 : inst.vdst, load ? data : form(op).registers);
    }
    if (load) return;
    read(inst.data0, data, 0);
    if (data > 2) e.wide_store = {inst.data0, static_cast<uint8_t>(data)};
  }

  void build() {
    switch (info.enc) {
      case Enc::SOP1: case Enc::SOP2: case Enc::SOPC: case Enc::SOPK: case Enc::SOPP: return scalar();
      case Enc::SMEM: return scalar_memory();
      case Enc::DS: return lds();
      case Enc::FLAT: case Enc::GLOBAL: case Enc::SCRATCH: case Enc::MUBUF: case Enc::MTBUF: return vector_memory();
      default: return op.cls == Class::Mfma ? matrix() : vector();
    }
  }
};

}  // namespace

Effects effects_of(const Op& op) {
  if (!op.inst.info) return {};  // not an instruction: executing it fails
  Builder b(op);
  b.build();
  return b.e;
}

uint64_t lanes_read(const Wave& w, const Op& op, const Effects& e, const Span& span) {
  const uint64_t exec = w.exec();
  switch (e.lanes) {
    case Touches::All: return ~0ull;
    case Touches::Lane: return 1ull << (src32(w, op, 1) & 63);
    case Touches::FirstLane: return exec ? exec & -exec : 1;
    case Touches::Dpp: break;
    default: return exec;
  }
  if (span.source != 0) return exec;
  int8_t from[64];
  if (!dpp_sources(op.inst.dpp_ctrl, from)) return exec;
  uint64_t lanes = 0;
  for (int l = 0; l < 64; ++l) {
    const bool enabled = (op.inst.row_mask >> (l / 16) & 1) && (op.inst.bank_mask >> (l / 4 % 4) & 1);
    if (enabled && (exec >> l & 1) && from[l] >= 0) lanes |= 1ull << from[l];
  }
  return lanes & exec;  // a source lane that is off counts as no source
}

uint64_t lanes_written(const Wave& w, const Op& op, const Effects& e) {
  if (e.lanes == Touches::All) return ~0ull;
  if (e.kind == Kind::Writelane) return 1ull << (src32(w, op, 1) & 63);
  return w.exec();
}

std::string register_name(unsigned code) { return operand(code, 1, Inst()); }

}  // namespace vgpu::isa
