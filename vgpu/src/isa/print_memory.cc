// Assembly text of memory instructions.
#include "isa/print.h"

namespace vgpu::isa {
namespace {

std::string cache_bits(const Inst& inst) {
  return std::string(inst.sc0 ? " sc0" : "") + (inst.nt ? " nt" : "") + (inst.sc1 ? " sc1" : "");
}

struct List {
  std::string text;
  void add(const std::string& item) { text += (text.empty() ? " " : ", ") + item; }
};

bool contains(const std::string& s, const char* part) { return s.find(part) != std::string::npos; }

std::string smem(const Inst& inst) {
  const OpInfo& info = *inst.info;
  List list;
  if (info.width('d')) {
    if (contains(info.base, "s_atc_probe")) list.add(std::to_string(inst.vdst));
    else list.add(operand(inst.vdst, info.width('d'), inst));
  } else if (contains(info.base, "s_atc_probe")) {
    list.add(std::to_string(inst.vdst));
  }
  if (info.width('b')) {
    list.add(operand(inst.srsrc, info.width('b'), inst));
    const std::string immediate = number(inst.offset < 0 ? "-0x%llx" : "0x%llx", inst.offset < 0 ? -inst.offset : inst.offset);
    if (!inst.imm_offset) list.add(operand(inst.soffset, 1, inst));
    else if (!inst.soffset_en) list.add(immediate);
    else list.add(operand(inst.soffset, 1, inst) + " offset:" + immediate);
  }
  return info.base + list.text + (inst.sc0 ? " glc" : "");
}

// ds_swizzle's offset in LLVM's macro notation.
std::string swizzle(unsigned offset) {
  if (offset >= 0xc000) return std::to_string(offset);
  std::string out = "swizzle(";
  if (offset & 0x8000) {
    out += "QUAD_PERM";
    for (int i = 0; i < 4; ++i) out += "," + std::to_string(offset >> (2 * i) & 3);
    return out + ")";
  }
  const unsigned keep = offset & 31, set = offset >> 5 & 31, flip = offset >> 10 & 31;
  const unsigned group = 32 - keep;
  auto power = [](unsigned x) { return x && !(x & (x - 1)); };
  if (set == 0 && keep == 31 && power(flip)) return out + "SWAP," + std::to_string(flip) + ")";
  if (set == 0 && keep == 31 && flip && power(flip + 1)) return out + "REVERSE," + std::to_string(flip + 1) + ")";
  if (group > 1 && power(group) && set < group && flip == 0)
    return out + "BROADCAST," + std::to_string(group) + "," + std::to_string(set) + ")";
  out += "BITMASK_PERM,\"";
  for (unsigned bit = 16; bit; bit >>= 1) {
    const bool zero = !(keep & bit) && !(set & bit), one = !(keep & bit) && (set & bit);
    out += zero ? (flip & bit ? '1' : '0') : one ? (flip & bit ? '0' : '1') : (flip & bit ? 'i' : 'p');
  }
  return out + "\")";
}

std::string ds(const Inst& inst) {
  const OpInfo& info = *inst.info;
  List list;
  for (int i = 0; i < info.count; ++i) {
    const char role = info.operands[i].role;
    const unsigned code = role == 'd' ? inst.vdst : role == 'a' ? inst.addr : role == '0' ? inst.data0 : inst.data1;
    list.add(operand(code, info.operands[i].width, inst));
  }
  std::string out = info.base + list.text;
  const unsigned offset = static_cast<unsigned>(inst.offset);
  if (contains(info.base, "read2") || contains(info.base, "write2") || contains(info.base, "xchg2")) {
    if (offset & 255) out += " offset0:" + std::to_string(offset & 255);
    if (offset >> 8) out += " offset1:" + std::to_string(offset >> 8);
  } else if (info.base == "ds_swizzle_b32" && offset) {
    out += " offset:" + swizzle(offset);
  } else if (offset) {
    out += " offset:" + std::to_string(offset);
  }
  return out + (inst.gds ? " gds" : "");
}

std::string flat(const Inst& inst) {
  const OpInfo& info = *inst.info;
  const bool atomic = contains(info.base, "atomic"), load = contains(info.base, "load");
  const bool to_lds = contains(info.base, "load_lds");
  const bool scratch = info.enc == Enc::SCRATCH;
  const bool scalar = inst.saddr != 0x7f;
  List list;
  const unsigned data = info.width('0');
  if (atomic && inst.sc0) list.add(operand(inst.vdst, contains(info.base, "cmpswap") ? data / 2 : data, inst));
  if (load && !to_lds) list.add(operand(inst.vdst, info.width('d'), inst));
  if (scratch) list.add(inst.sve ? operand(inst.addr, 1, inst) : "off");
  else list.add(operand(inst.addr, scalar ? 1 : 2, inst));
  if (data) list.add(operand(inst.data0, data, inst));
  if (info.enc != Enc::FLAT) list.add(scalar ? operand(inst.saddr, scratch ? 1 : 2, inst) : "off");
  std::string out = info.base + list.text;
  if (inst.offset) out += " offset:" + std::to_string(inst.offset);
  return out + cache_bits(inst);
}

std::string mubuf(const Inst& inst) {
  const OpInfo& info = *inst.info;
  if (info.base == "buffer_wbl2" || info.base == "buffer_inv") return info.base + cache_bits(inst);
  List list;
  if (!inst.lds && info.width('0')) list.add(operand(inst.data0, info.width('0'), inst));
  if (inst.offen && inst.idxen) list.add(operand(inst.addr, 2, inst));
  else if (inst.offen || inst.idxen) list.add(operand(inst.addr, 1, inst));
  else list.add("off");
  list.add(operand(inst.srsrc, 4, inst));
  list.add(operand(inst.soffset, 1, inst));
  std::string out = info.base + list.text;
  if (info.enc == Enc::MTBUF) {
    const unsigned format = inst.nfmt << 4 | inst.dfmt;
    if (format != 1) out += " format:" + std::to_string(format);
  }
  if (inst.idxen) out += " idxen";
  if (inst.offen) out += " offen";
  if (inst.offset) out += " offset:" + std::to_string(inst.offset);
  return out + cache_bits(inst) + (inst.lds ? " lds" : "");
}

}  // namespace

std::string print_memory(const Inst& inst) {
  switch (inst.info->enc) {
    case Enc::SMEM: return smem(inst);
    case Enc::DS: return ds(inst);
    case Enc::FLAT: case Enc::GLOBAL: case Enc::SCRATCH: return flat(inst);
    default: return mubuf(inst);
  }
}

}  // namespace vgpu::isa
