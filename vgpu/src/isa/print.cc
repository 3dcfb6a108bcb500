// Assembly text of scalar and vector ALU instructions, spelled as LLVM spells it so that the two can be compared.
#include "isa/print.h"

#include "isa/decode_parts.h"

namespace vgpu::isa {

std::string number(const char* format, long long x) {
  char text[64];
  snprintf(text, sizeof text, format, x);
  return text;
}

namespace {

// Named registers: one dword, or the pair that starts there.
std::string named(unsigned code, unsigned width) {
  struct Name {
    unsigned code;
    const char *pair, *low, *high;
  };
  static const Name kNames[] = {{kFlatScratchLo, "flat_scratch", "flat_scratch_lo", "flat_scratch_hi"},
                                {kXnackMaskLo, "xnack_mask", "xnack_mask_lo", "xnack_mask_hi"},
                                {kVccLo, "vcc", "vcc_lo", "vcc_hi"},
                                {kExecLo, "exec", "exec_lo", "exec_hi"}};
  for (const Name& n : kNames) {
    if (code == n.code) return width == 2 ? n.pair : n.low;
    if (code == n.code + 1 && width == 1) return n.high;
  }
  return code == kM0 ? "m0" : "";
}

std::string range(const char* prefix, unsigned first, unsigned width) {
  if (width <= 1) return prefix + std::to_string(first);
  return std::string(prefix) + "[" + std::to_string(first) + ":" + std::to_string(first + width - 1) + "]";
}

const char* special_name(unsigned code) {
  switch (code) {
    case kSharedBase: return "src_shared_base";
    case kSharedLimit: return "src_shared_limit";
    case kPrivateBase: return "src_private_base";
    case kPrivateLimit: return "src_private_limit";
    case kPopsExitingWaveId: return "src_pops_exiting_wave_id";
    case kVccz: return "src_vccz";
    case kExecz: return "src_execz";
    case kScc: return "src_scc";
    case kLdsDirect: return "src_lds_direct";
    default: return nullptr;
  }
}

bool ends_with(const std::string& s, const char* tail) {
  const std::string t = tail;
  return s.size() >= t.size() && s.compare(s.size() - t.size(), t.size(), t) == 0;
}

std::string waitcnt(unsigned x) {
  const unsigned vm = (x & 15) | (x >> 14 & 3) << 4, exp = x >> 4 & 7, lgkm = x >> 8 & 15;
  const bool all = vm == 63 && exp == 7 && lgkm == 15;
  std::string out;
  auto put = [&](const char* name, unsigned value, unsigned none) {
    if (value == none && !all) return;
    out += (out.empty() ? "" : " ") + std::string(name) + "(" + std::to_string(value) + ")";
  };
  put("vmcnt", vm, 63);
  put("expcnt", exp, 7);
  put("lgkmcnt", lgkm, 15);
  return out;
}

std::string hwreg(unsigned x) {
  static const char* const kNames[] = {nullptr, "HW_REG_MODE", "HW_REG_STATUS", "HW_REG_TRAPSTS", "HW_REG_HW_ID",
                                       "HW_REG_GPR_ALLOC", "HW_REG_LDS_ALLOC", "HW_REG_IB_STS"};
  const unsigned id = x & 63, offset = x >> 6 & 31, size = (x >> 11) + 1;
  std::string name = id < 8 && kNames[id] ? kNames[id] : id == 15 ? "HW_REG_SH_MEM_BASES" : id == 20 ? "HW_REG_XCC_ID" : std::to_string(id);
  if (offset != 0 || size != 32) name += ", " + std::to_string(offset) + ", " + std::to_string(size);
  return "hwreg(" + name + ")";
}

std::string gpr_idx(unsigned x) {
  static const char* const kNames[] = {"SRC0", "SRC1", "SRC2", "DST"};
  std::string out;
  for (int i = 0; i < 4; ++i)
    if (x >> i & 1) out += (out.empty() ? "" : ",") + std::string(kNames[i]);
  return "gpr_idx(" + out + ")";
}

std::string sopp(const Inst& inst) {
  const std::string& name = inst.info->base;
  const unsigned x = inst.simm16;
  if (name == "s_waitcnt") return name + " " + waitcnt(x);
  if (name == "s_set_gpr_idx_mode") return name + " " + gpr_idx(x & 15);
  if (name == "s_sendmsg" || name == "s_sendmsghalt") {
    if (x == 1) return name + " sendmsg(MSG_INTERRUPT)";
    return name + " " + std::to_string(x);
  }
  static const char* const kBare[] = {"s_barrier", "s_icache_inv", "s_ttracedata", "s_set_gpr_idx_off", "s_wakeup",
                                      "s_endpgm_saved", "s_endpgm_ordered_ps_done"};
  for (const char* bare : kBare)
    if (name == bare) return name;
  if (name == "s_endpgm" && x == 0) return name;
  return name + " " + std::to_string(x);
}

std::string sopk(const Inst& inst) {
  const std::string& name = inst.info->base;
  const std::string reg = operand(inst.vdst, inst.info->width('d') ? inst.info->width('d') : 1, inst);
  if (name == "s_getreg_b32") return name + " " + reg + ", " + hwreg(inst.simm16);
  if (name == "s_setreg_b32") return name + " " + hwreg(inst.simm16) + ", " + reg;
  if (name == "s_setreg_imm32_b32") return name + " " + hwreg(inst.simm16) + ", " + number("0x%llx", inst.literal);
  if (name == "s_call_b64" || name == "s_cbranch_i_fork") return name + " " + reg + ", " + std::to_string(inst.simm16);
  return name + " " + reg + ", " + number("0x%llx", inst.simm16);
}

std::string modified(const Inst& inst, int i, const std::string& text) {
  const bool abs = inst.abs >> i & 1, neg = inst.neg >> i & 1;
  std::string out = text;
  if (inst.sdwa && (inst.sext >> i & 1)) out = "sext(" + out + ")";
  if (abs) out = "|" + out + "|";
  if (!neg) return out;
  // A negated constant would read as another constant.
  const bool constant = inst.src[i] >= 128 && inst.src[i] < 256;
  return constant && !abs ? "neg(" + out + ")" : "-" + out;
}

std::string bit_list(const char* name, unsigned bits_, int count) {
  std::string out = std::string(" ") + name + ":[";
  for (int i = 0; i < count; ++i) out += std::string(i ? "," : "") + (bits_ >> i & 1 ? "1" : "0");
  return out + "]";
}

std::string sdwa_suffix(const Inst& inst, bool two, bool has_dst_sel) {
  static const char* const kSel[] = {"BYTE_0", "BYTE_1", "BYTE_2", "BYTE_3", "WORD_0", "WORD_1", "DWORD"};
  static const char* const kUnused[] = {"UNUSED_PAD", "UNUSED_SEXT", "UNUSED_PRESERVE", "?"};
  std::string out;
  if (has_dst_sel) out = std::string(" dst_sel:") + kSel[inst.dst_sel] + " dst_unused:" + kUnused[inst.dst_unused];
  out += std::string(" src0_sel:") + kSel[inst.src_sel[0]];
  if (two) out += std::string(" src1_sel:") + kSel[inst.src_sel[1]];
  return out;
}

std::string dpp_suffix(const Inst& inst) {
  const unsigned c = inst.dpp_ctrl;
  std::string out = " ";
  if (c <= 0xff) {
    out += number("quad_perm:[%lld,", c & 3) + number("%lld,", c >> 2 & 3) + number("%lld,", c >> 4 & 3) + number("%lld]", c >> 6);
  } else if (c <= 0x10f) out += number("row_shl:%lld", c & 15);
  else if (c <= 0x11f) out += number("row_shr:%lld", c & 15);
  else if (c <= 0x12f) out += number("row_ror:%lld", c & 15);
  else if (c == 0x130) out += "wave_shl:1";
  else if (c == 0x134) out += "wave_rol:1";
  else if (c == 0x138) out += "wave_shr:1";
  else if (c == 0x13c) out += "wave_ror:1";
  else if (c == 0x140) out += "row_mirror";
  else if (c == 0x141) out += "row_half_mirror";
  else if (c == 0x142) out += "row_bcast:15";
  else if (c == 0x143) out += "row_bcast:31";
  else out += number("row_newbcast:%lld", c & 15);
  out += number(" row_mask:0x%llx", inst.row_mask) + number(" bank_mask:0x%llx", inst.bank_mask);
  return out + (inst.bound_ctrl ? " bound_ctrl:1" : "");
}

std::string packed_suffix(const Inst& inst, int count) {
  const unsigned ones = (1u << count) - 1;
  const bool mix = inst.info->base.find("_mix") != std::string::npos;
  std::string out;
  if (inst.op_sel & ones) out += bit_list("op_sel", inst.op_sel, count);
  if ((inst.op_sel_hi & ones) != (mix ? 0 : ones)) out += bit_list("op_sel_hi", inst.op_sel_hi, count);
  if (mix) return out;
  if (inst.neg & ones) out += bit_list("neg_lo", inst.neg, count);
  if (inst.abs & ones) out += bit_list("neg_hi", inst.abs, count);
  return out;
}

std::string mfma_suffix(const Inst& inst) {
  std::string out;
  if (inst.cbsz) out += " cbsz:" + std::to_string(inst.cbsz);
  if (inst.abid && !inst.scaled) out += " abid:" + std::to_string(inst.abid);
  if (inst.blgp) {
    if (inst.info->base.find("_f64_") != std::string::npos) out += bit_list("neg", inst.blgp, 3);
    else out += " blgp:" + std::to_string(inst.blgp);
  }
  return out;
}

// Registers of an f8f6f4 operand, by its format: 8-bit, 6-bit or 4-bit elements.
unsigned matrix_width(const Inst& inst, int i, unsigned width) {
  if (i > 1 || inst.info->base.find("_f8f6f4") == std::string::npos) return width;
  const unsigned format = i == 0 ? inst.cbsz : inst.blgp;
  return format < 2 ? 8 : format < 4 ? 6 : 4;
}

std::string vector(const Inst& inst) {
  const OpInfo& info = *inst.info;
  const bool compare = info.enc == Enc::VOPC, packed = info.enc == Enc::VOP3P;
  const bool mfma = packed && (info.base.find("mfma") != std::string::npos || info.base.find("smfmac") != std::string::npos);
  const bool dot4 = packed && (info.base.find("v_dot4") == 0 || info.base.find("v_dot8") == 0);
  std::string name = info.mnemonic;
  if (inst.sdwa || inst.dpp) name = info.base + (inst.sdwa ? "_sdwa" : "_dpp");
  if (inst.scaled) name = "v_mfma_scale" + info.base.substr(6);
  std::string out = name;
  int sources = 0;
  const char* separator = " ";
  const bool mk = info.base.find("amk_") != std::string::npos || info.base.find("admk_") != std::string::npos;
  const bool ak = info.base.find("aak_") != std::string::npos || info.base.find("adak_") != std::string::npos;
  const bool bitop = info.base.find("bitop3") != std::string::npos;
  for (int i = 0; i < info.count; ++i) {
    const char role = info.operands[i].role;
    const unsigned width = info.operands[i].width;
    std::string text;
    if (role == 'd' || role == 'e') text = operand(inst.vdst, width, inst);
    else if (role == 'b') text = operand(inst.sdst, width, inst);
    else if (role == 'c') text = compare && inst.sdwa_sd ? operand(inst.sdst, 2, inst) : "vcc";
    else {
      const int s = role - '0';
      sources = s + 1;
      if (mk && s == 1) text = number("0x%llx", inst.literal) + ", ";
      text += operand(inst.src[s], mfma ? matrix_width(inst, s, width) : width, inst);
      if (ak && s == 1) text += ", " + number("0x%llx", inst.literal);
      if (!mfma && !bitop && (!packed || info.base.find("_mix") != std::string::npos)) text = modified(inst, s, text);
    }
    out += separator + text;
    separator = ", ";
  }
  if (inst.scaled) {
    for (unsigned code : inst.scale_src) out += ", " + operand(code, 1, inst);
    if (inst.scale_op_sel) out += bit_list("op_sel", inst.scale_op_sel, 3);
    out += bit_list("op_sel_hi", inst.scale_op_sel_hi, 3);
  }
  if (mfma) return out + mfma_suffix(inst);
  if (packed && !dot4 && info.base.find("accvgpr") == std::string::npos) out += packed_suffix(inst, sources);
  if (bitop) out += number(" bitop3:0x%llx", inst.omod << 6 | inst.abs << 3 | inst.neg);
  if (info.enc == Enc::VOP3 && inst.op_sel) {
    // Bit 3 is the destination; it is printed last.
    unsigned list = inst.op_sel & ((1u << sources) - 1);
    list |= (inst.op_sel >> 3 & 1) << sources;
    out += bit_list("op_sel", list, sources + 1);
  }
  if (inst.clamp) out += " clamp";
  if (!bitop && inst.omod) out += inst.omod == 1 ? " mul:2" : inst.omod == 2 ? " mul:4" : " div:2";
  if (inst.sdwa) out += sdwa_suffix(inst, sources > 1, !compare && info.width('d') == 1);
  if (inst.dpp) out += dpp_suffix(inst);
  return out;
}

std::string scalar(const Inst& inst) {
  const OpInfo& info = *inst.info;
  std::string out = info.mnemonic;
  const char* separator = " ";
  for (int i = 0; i < info.count; ++i) {
    const char role = info.operands[i].role;
    const unsigned code = role == 'd' ? inst.vdst : inst.src[role - '0'];
    std::string text = operand(code, info.operands[i].width, inst);
    out += separator + text;
    separator = ", ";
  }
  if (info.base == "s_set_gpr_idx_on") out += ", " + gpr_idx(inst.src[1] & 15);
  return out;
}

}  // namespace

std::string operand(unsigned code, unsigned width, const Inst& inst) {
  if (code >= kAgpr) return range("a", code - kAgpr, width);
  if (code >= kVgpr) return range("v", code - kVgpr, width);
  if (code < 128) {
    std::string name = named(code, width);
    if (!name.empty()) return name;
    if (code >= kTtmp0 && code < kTtmp0 + 16) return range("ttmp", code - kTtmp0, width);
    return range("s", code, width);
  }
  if (code <= 192) return std::to_string(code - 128);
  if (code <= 208) return "-" + std::to_string(code - 192);
  if (code >= 240 && code <= 248) {
    static const char* const kFloats[] = {"0.5", "-0.5", "1.0", "-1.0", "2.0", "-2.0", "4.0", "-4.0"};
    if (code < 248) return kFloats[code - 240];
    return width == 2 && ends_with(inst.info->base, "f64") ? "0.15915494309189532" : "0.15915494";
  }
  if (code == kLiteral) return number("0x%llx", inst.literal);
  const char* special = special_name(code);
  return special ? special : "src" + std::to_string(code);
}

std::string print(const Inst& inst) {
  switch (inst.info->enc) {
    case Enc::SOPP: return sopp(inst);
    case Enc::SOPK: return sopk(inst);
    case Enc::SOP1: case Enc::SOP2: case Enc::SOPC: return scalar(inst);
    case Enc::VOP1: case Enc::VOP2: case Enc::VOPC: case Enc::VOP3: case Enc::VOP3P: return vector(inst);
    default: return print_memory(inst);
  }
}

}  // namespace vgpu::isa

namespace vgpu {

std::string disassemble(const void* code, size_t available, Arch arch, unsigned* size) {
  isa::Inst inst;
  if (!isa::decode(static_cast<const uint32_t*>(code), available / 4, arch, &inst)) {
    *size = 0;
    return "";
  }
  *size = inst.bytes;
  return isa::print(inst);
}

}  // namespace vgpu
