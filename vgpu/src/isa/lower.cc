// From decoded fields to an executable Op: finds the handler, resolves constants, refuses what is unsupported.
#include <mutex>
#include <set>

#include "isa/registry.h"

namespace vgpu::isa {
namespace {

// Messages live as long as the process: ops point at them.
const char* intern(const std::string& text) {
  static std::mutex mutex;
  static std::set<std::string> pool;
  const std::lock_guard<std::mutex> lock(mutex);
  return pool.insert(text).first->c_str();
}

void exec_refused(Wave&, const Op& op) { fail(static_cast<const char*>(op.lane)); }

void refuse(Op& op, const std::string& why) {
  op.fn = exec_refused;
  op.lane = intern(why);
  op.cls = Class::Other;
}

constexpr uint32_t kFloat32[9] = {0x3f000000, 0xbf000000, 0x3f800000, 0xbf800000, 0x40000000,
                                  0xc0000000, 0x40800000, 0xc0800000, 0x3e22f983};
constexpr uint16_t kFloat16[9] = {0x3800, 0xb800, 0x3c00, 0xbc00, 0x4000, 0xc000, 0x4400, 0xc400, 0x3118};
constexpr uint64_t kFloat64[9] = {0x3fe0000000000000, 0xbfe0000000000000, 0x3ff0000000000000,
                                  0xbff0000000000000, 0x4000000000000000, 0xc000000000000000,
                                  0x4010000000000000, 0xc010000000000000, 0x3fc45f306dc9c882};

bool is_wide(char type) { return type == 'd' || type == 'q' || type == 'Q' || type == 'm' || type == 'p'; }

bool constant(unsigned code, char type, uint32_t literal, uint64_t* out) {
  const bool wide = type == 'd' || type == 'q' || type == 'Q' || type == 'm';
  if (code >= 128 && code <= 208) {
    const int64_t x = code <= 192 ? static_cast<int64_t>(code) - 128 : 192 - static_cast<int64_t>(code);
    *out = static_cast<uint64_t>(x);
    return true;
  }
  if (code >= 240 && code <= 248) {
    const int i = static_cast<int>(code) - 240;
    *out = wide ? kFloat64[i] : type == 'h' || type == 'w' ? kFloat16[i] : kFloat32[i];
    return true;
  }
  if (code == kLiteral) {
    // A 32-bit literal is the high half of a double, sign-extended for signed and zero-extended for untyped
    // 64-bit integers.
    *out = type == 'd' ? static_cast<uint64_t>(literal) << 32
         : type == 'q' ? static_cast<uint64_t>(static_cast<int64_t>(static_cast<int32_t>(literal))) : literal;
    return true;
  }
  return false;
}

bool is_special(unsigned code) {
  return (code >= kSharedBase && code <= kPrivateLimit) || code == kVccz || code == kExecz || code == kScc;
}

bool resolve(Op& op, int i, unsigned code, char type, std::string* why) {
  op.inst.src[i] = static_cast<uint16_t>(code);
  op.type[i] = type;
  op.width[i] = is_wide(type) ? 2 : 1;
  if (code >= kVgpr) {
    op.kind[i] = Src::Vgpr;
  } else if (code < 128) {
    op.kind[i] = Src::Sgpr;
  } else if (constant(code, type, op.inst.literal, &op.k[i])) {
    if (code == kLiteral && !op.inst.has_literal) {
      *why = "literal constant in an encoding that has none";
      return false;
    }
    op.kind[i] = Src::Const;
  } else if (is_special(code)) {
    op.kind[i] = Src::Special;
  } else {
    *why = "source operand " + std::to_string(code) + " is not supported";
    return false;
  }
  return true;
}

bool is_float(char type) { return type == 'f' || type == 'd' || type == 'h'; }

bool lower_lanes(Op& op, const LaneDef& def, std::string* why) {
  Inst& inst = op.inst;
  const OpInfo& info = *inst.info;
  op.cls = Class::Valu;
  op.lane = reinterpret_cast<const void*>(def.fn);
  op.flags = static_cast<uint8_t>(def.flags);
  const char* t = def.types;
  op.dtype = *t++;
  if (*t == 'm') {
    op.aux |= kHasCout;
    if (info.enc == Enc::VOP2) inst.sdst = kVccLo;
    ++t;
  }
  op.dwidth = is_wide(op.dtype) && op.dtype != 'm' ? 2 : 1;
  if (*t != ':') {
    *why = "bad type string in the handler table";
    return false;
  }
  ++t;
  // fmamk: the literal is the middle source; fmaak: the last.
  const std::string& base = info.base;
  const bool mk = base.find("amk_") != std::string::npos || base.find("admk_") != std::string::npos;
  const bool ak = base.find("aak_") != std::string::npos || base.find("adak_") != std::string::npos;
  bool modifiable = true;
  for (int i = 0; *t; ++t, ++i) {
    unsigned code = inst.src[i];
    if (mk && i == 2) code = inst.src[1];
    if ((mk && i == 1) || (ak && i == 2)) code = kLiteral;
    if ((def.flags & kAccumulate) && !t[1]) code = inst.vdst;
    if (*t == 'm') {
      op.aux |= kHasCin | static_cast<uint32_t>(i) << kCinShift;
      if (info.enc == Enc::VOP2) code = kVccLo;
      if (!resolve(op, i, code, 'm', why)) return false;
      continue;
    }
    if (mk && i == 1) {  // keep the register operand before it is overwritten
      const unsigned last = inst.src[1];
      if (!resolve(op, 1, kLiteral, *t, why) || !resolve(op, 2, last, t[1], why)) return false;
      op.sources = 3;
      break;
    }
    if (!resolve(op, i, code, *t, why)) return false;
    op.sources = static_cast<uint8_t>(i + 1);
    if (((inst.abs | inst.neg) >> i & 1) && !is_float(*t)) modifiable = false;
  }
  if (def.flags & kOwnModifiers) {
    op.fn = exec_lanes_plain;
    if ((def.flags & kAccumulate) && (inst.abs | inst.neg | inst.op_sel | inst.omod)) {
      *why = "modifiers on this instruction";
      return false;
    }
    if (!inst.sdwa && !inst.dpp) return true;
    *why = "DPP or SDWA on this instruction";
    return false;
  }
  if (!modifiable) {
    *why = "abs/neg on an integer operand";
    return false;
  }
  const bool wide_control = op.dtype == 'd' || op.dtype == 'h' || op.type[0] == 'd' || op.type[0] == 'h';
  if (wide_control) op.aux |= kF64Control;
  if (info.base.compare(0, 6, "v_cmpx") == 0) op.aux |= kWritesExec;
  int8_t from[64];
  if (inst.dpp && !dpp_sources(inst.dpp_ctrl, from)) {
    *why = "DPP control " + std::to_string(inst.dpp_ctrl) + " is not supported";
    return false;
  }
  if (inst.omod && !is_float(op.dtype)) {
    *why = "output modifier on an integer result";
    return false;
  }
  const bool plain = !inst.dpp && !inst.sdwa && !inst.abs && !inst.neg && !inst.omod && !inst.clamp && !inst.op_sel &&
                     op.aux == 0 && op.dtype != 'm' && !(op.flags & kKeepHigh);
  op.fn = plain ? exec_lanes_plain : exec_lanes;
  return true;
}

bool lower_scalar(Op& op, const ScalarDef& def, Arch arch, std::string* why) {
  op.fn = def.fn;
  op.cls = def.cls;
  const char* t = def.types;
  while (*t && *t != ':') ++t;
  if (*t == ':') ++t;
  for (int i = 0; *t; ++t, ++i) {
    if (!resolve(op, i, op.inst.src[i], *t, why)) return false;
    op.sources = static_cast<uint8_t>(i + 1);
  }
  return !def.prepare || def.prepare(op, arch, why);
}

}  // namespace

void fail(const std::string& what) { throw ExecError(what); }

void lower(Op& op, Arch arch) {
  op.words = op.inst.bytes / 4;
  const std::string& base = op.inst.info->base;
  std::string why;
  if (const LaneDef* def = find_lane(base)) {
    if (lower_lanes(op, *def, &why)) return;
  } else if (const ScalarDef* scalar = find_scalar(base)) {
    if (lower_scalar(op, *scalar, arch, &why)) return;
  } else {
    why = "instruction is not implemented";
  }
  refuse(op, why);
}

bool executable(const OpInfo& info, Arch) { return find_lane(info.base) || find_scalar(info.base); }

}  // namespace vgpu::isa
