// Picks the encoding and decodes the scalar ones; vector and memory encodings have files of their own.
#include "isa/decode_parts.h"

namespace vgpu::isa {
namespace {

// Attaches the literal constant that follows when a scalar source asks for one.
bool take_literal(const Words& w, Inst* out) {
  if (w.count < 2) return false;
  out->has_literal = true;
  out->literal = w.p[1];
  out->bytes = 8;
  return true;
}

bool uses_literal(const Inst& inst) { return inst.src[0] == kLiteral || inst.src[1] == kLiteral; }

bool decode_sop(const Words& w, Inst* out) {
  const uint32_t x = w.p[0];
  out->bytes = 4;
  out->src[0] = bits(x, 7, 0);
  out->src[1] = bits(x, 15, 8);
  out->vdst = bits(x, 22, 16);
  out->simm16 = bits(x, 15, 0);
  switch (bits(x, 31, 23)) {
    case 0b101111101:
      if (!(out->info = find_op(w.arch, Enc::SOP1, bits(x, 15, 8)))) return false;
      out->src[1] = 0;
      break;
    case 0b101111110:
      if (!(out->info = find_op(w.arch, Enc::SOPC, bits(x, 22, 16)))) return false;
      break;
    case 0b101111111:
      out->info = find_op(w.arch, Enc::SOPP, bits(x, 22, 16));
      return out->info != nullptr;
    default:
      if (bits(x, 31, 28) == 0b1011) {
        out->info = find_op(w.arch, Enc::SOPK, bits(x, 27, 23));
        if (!out->info) return false;
        return out->info->base == "s_setreg_imm32_b32" ? take_literal(w, out) : true;
      }
      if (!(out->info = find_op(w.arch, Enc::SOP2, bits(x, 29, 23)))) return false;
  }
  return uses_literal(*out) ? take_literal(w, out) : true;
}

bool decode_smem(const Words& w, Inst* out) {
  if (w.count < 2) return false;
  const uint32_t x = w.p[0], y = w.p[1];
  out->bytes = 8;
  if (!(out->info = find_op(w.arch, Enc::SMEM, bits(x, 25, 18)))) return false;
  out->srsrc = bits(x, 5, 0) * 2;
  out->vdst = bits(x, 12, 6);
  out->soffset_en = bits(x, 14, 14);
  out->nt = bits(x, 15, 15);
  out->sc0 = bits(x, 16, 16);
  out->imm_offset = bits(x, 17, 17);
  out->offset = static_cast<int32_t>(bits(y, 20, 0) << 11) >> 11;
  // Without the immediate the low bits of the same field name the SGPR; with both it is the top seven bits.
  out->soffset = out->soffset_en ? bits(y, 31, 25) : bits(y, 6, 0);
  return true;
}

}  // namespace

bool decode(const uint32_t* words, size_t count, Arch arch, Inst* out) {
  *out = Inst();
  if (count == 0) return false;
  const Words w{words, count, arch};
  const uint32_t x = words[0];
  if (!bits(x, 31, 31)) return decode_vop12c(w, out);
  if (bits(x, 31, 30) == 0b10) return decode_sop(w, out);
  switch (bits(x, 31, 26)) {
    case 0b110000: return decode_smem(w, out);
    case 0b110100: return bits(x, 25, 23) == 0b111 ? decode_vop3p(w, out) : decode_vop3(w, out);
    case 0b110110: return decode_ds(w, out);
    case 0b110111: return decode_flat(w, out);
    case 0b111000: return decode_mubuf(w, out);
    case 0b111010: return decode_mtbuf(w, out);
    default: return false;
  }
}

}  // namespace vgpu::isa
