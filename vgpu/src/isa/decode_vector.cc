// VOP1, VOP2, VOPC with their SDWA and DPP forms, VOP3, VOP3P and the matrix instructions.
#include <cstring>

#include "isa/decode_parts.h"

namespace vgpu::isa {
namespace {

constexpr uint16_t kSdwaCode = 249, kDppCode = 250;

bool decode_sdwa(const Words& w, bool is_vopc, Inst* out) {
  if (w.count < 2) return false;
  const uint32_t y = w.p[1];
  out->sdwa = true;
  out->bytes = 8;
  out->src[0] = bits(y, 7, 0) + (bits(y, 23, 23) ? 0 : kVgpr);
  if (bits(y, 31, 31)) out->src[1] -= kVgpr;  // the VOP2 field then names an SGPR
  if (is_vopc) {
    out->sdwa_sd = bits(y, 15, 15);
    out->sdst = static_cast<uint16_t>(out->sdwa_sd ? bits(y, 14, 8) : unsigned{kVccLo});
  } else {
    out->dst_sel = bits(y, 10, 8);
    out->dst_unused = bits(y, 12, 11);
    out->clamp = bits(y, 13, 13);
    out->omod = bits(y, 15, 14);
  }
  out->src_sel[0] = bits(y, 18, 16);
  out->src_sel[1] = bits(y, 26, 24);
  out->sext = bits(y, 19, 19) | bits(y, 27, 27) << 1;
  out->neg = bits(y, 20, 20) | bits(y, 28, 28) << 1;
  out->abs = bits(y, 21, 21) | bits(y, 29, 29) << 1;
  return out->dst_sel < 7 && out->src_sel[0] < 7 && out->src_sel[1] < 7;
}

bool decode_dpp(const Words& w, Inst* out) {
  if (w.count < 2) return false;
  const uint32_t y = w.p[1];
  out->dpp = true;
  out->bytes = 8;
  out->src[0] = bits(y, 7, 0) + kVgpr;
  out->dpp_ctrl = bits(y, 16, 8);
  out->bound_ctrl = bits(y, 19, 19);
  out->neg = bits(y, 20, 20) | bits(y, 22, 22) << 1;
  out->abs = bits(y, 21, 21) | bits(y, 23, 23) << 1;
  out->bank_mask = bits(y, 27, 24);
  out->row_mask = bits(y, 31, 28);
  return true;
}

}  // namespace

bool decode_vop12c(const Words& w, Inst* out) {
  const uint32_t x = w.p[0];
  const uint32_t top = bits(x, 31, 25);
  const bool is_vop1 = top == 0b0111111, is_vopc = top == 0b0111110;
  out->bytes = 4;
  out->src[0] = bits(x, 8, 0);
  if (is_vop1) {
    out->info = find_op(w.arch, Enc::VOP1, bits(x, 16, 9));
    out->vdst = bits(x, 24, 17) + kVgpr;
  } else if (is_vopc) {
    out->info = find_op(w.arch, Enc::VOPC, bits(x, 24, 17));
    out->src[1] = bits(x, 16, 9) + kVgpr;
    out->sdst = kVccLo;
  } else {
    out->info = find_op(w.arch, Enc::VOP2, bits(x, 30, 25));
    out->src[1] = bits(x, 16, 9) + kVgpr;
    out->vdst = bits(x, 24, 17) + kVgpr;
  }
  if (!out->info) return false;
  const OpInfo& info = *out->info;
  if (info.operands[0].role == 'e') out->vdst -= kVgpr;  // v_readfirstlane_b32
  if (info.base == "v_accvgpr_mov_b32") {
    out->vdst = out->vdst - kVgpr + kAgpr;
    if (out->src[0] >= kVgpr) out->src[0] += kAgpr - kVgpr;
  }
  const char* tail = info.base.c_str() + 2;
  const bool mandatory_literal = !is_vop1 && !is_vopc &&
      (!std::strncmp(tail, "madak", 5) || !std::strncmp(tail, "madmk", 5) || !std::strncmp(tail, "fmaak", 5) ||
       !std::strncmp(tail, "fmamk", 5));
  if (mandatory_literal || out->src[0] == kLiteral) {
    if (w.count < 2) return false;
    out->has_literal = true;
    out->literal = w.p[1];
    out->bytes = 8;
    return true;
  }
  if (out->src[0] == kSdwaCode) return decode_sdwa(w, is_vopc, out);
  if (out->src[0] == kDppCode) return decode_dpp(w, out);
  return true;
}

bool decode_vop3(const Words& w, Inst* out) {
  if (w.count < 2) return false;
  const uint32_t x = w.p[0], y = w.p[1];
  out->info = find_op(w.arch, Enc::VOP3, bits(x, 25, 16));
  if (!out->info) return false;
  out->bytes = 8;
  out->vdst = bits(x, 7, 0) + kVgpr;
  if (out->info->operands[0].role == 'e') {
    out->vdst -= kVgpr;
    out->sdst = out->vdst;
  }
  for (int i = 0; i < 3; ++i) out->src[i] = bits(y, 9 * i + 8, 9 * i);
  out->omod = bits(y, 28, 27);
  out->neg = bits(y, 31, 29);
  out->clamp = bits(x, 15, 15);
  if (out->info->width('b')) {
    out->sdst = bits(x, 14, 8);
  } else {
    out->abs = bits(x, 10, 8);
    out->op_sel = bits(x, 14, 11);
  }
  return true;
}

bool decode_vop3p(const Words& w, Inst* out) {
  if (w.count < 2) return false;
  uint32_t x = w.p[0], y = w.p[1];
  out->bytes = 8;
  // gfx950's scaled MFMA is a 64-bit prefix that loads the scales, then the MFMA itself.
  if (w.arch == Arch::gfx950 && bits(x, 22, 16) == 44) {
    if (w.count < 4) return false;
    out->scaled = true;
    out->scale_src[0] = bits(y, 8, 0);
    out->scale_src[1] = bits(y, 17, 9);
    out->scale_op_sel = bits(x, 12, 11);  // bit 13 is always set and means nothing
    out->scale_op_sel_hi = bits(y, 28, 27);
    x = w.p[2];
    y = w.p[3];
    out->bytes = 16;
    if (bits(x, 31, 23) != 0b110100111 || (bits(x, 22, 16) != 45 && bits(x, 22, 16) != 46)) return false;
  }
  out->info = find_op(w.arch, Enc::VOP3P, bits(x, 22, 16));
  if (!out->info) return false;
  out->vdst = bits(x, 7, 0) + kVgpr;
  for (int i = 0; i < 3; ++i) out->src[i] = bits(y, 9 * i + 8, 9 * i);
  const std::string& name = out->info->base;
  const bool mfma = name.compare(0, 6, "v_mfma") == 0 || name.compare(0, 8, "v_smfmac") == 0;
  if (mfma || name.compare(0, 9, "v_accvgpr") == 0) {
    const bool acc_d = mfma ? bits(x, 15, 15) : name == "v_accvgpr_write_b32";
    if (acc_d) out->vdst += kAgpr - kVgpr;
    auto to_acc = [&](int i) {
      if (out->src[i] >= kVgpr) out->src[i] += kAgpr - kVgpr;
    };
    if (mfma) {
      out->cbsz = bits(x, 10, 8);
      out->abid = bits(x, 14, 11);
      out->blgp = bits(y, 31, 29);
      if (bits(y, 27, 27)) to_acc(0);
      if (bits(y, 28, 28)) to_acc(1);
      if (acc_d && name[2] == 'm') to_acc(2);
    } else if (name == "v_accvgpr_read_b32") {
      to_acc(0);
    }
    return true;
  }
  out->clamp = bits(x, 15, 15);
  out->abs = bits(x, 10, 8);
  out->op_sel = bits(x, 13, 11);
  out->op_sel_hi = bits(y, 28, 27) | bits(x, 14, 14) << 2;
  out->neg = bits(y, 31, 29);
  return true;
}

}  // namespace vgpu::isa
