// DS, FLAT/GLOBAL/SCRATCH, MUBUF and MTBUF.
#include "isa/decode_parts.h"

namespace vgpu::isa {
namespace {

uint16_t data_register(uint32_t field, bool acc) { return field + (acc ? kAgpr : kVgpr); }

void decode_buffer_common(const Words& w, Inst* out) {
  const uint32_t x = w.p[0], y = w.p[1];
  out->bytes = 8;
  out->offset = bits(x, 11, 0);
  out->offen = bits(x, 12, 12);
  out->idxen = bits(x, 13, 13);
  out->sc0 = bits(x, 14, 14);
  out->addr = bits(y, 7, 0) + kVgpr;
  out->data0 = data_register(bits(y, 15, 8), bits(y, 23, 23));
  out->vdst = out->data0;
  out->srsrc = bits(y, 20, 16) * 4;
  out->soffset = bits(y, 31, 24);
}

}  // namespace

bool decode_ds(const Words& w, Inst* out) {
  if (w.count < 2) return false;
  const uint32_t x = w.p[0], y = w.p[1];
  if (!(out->info = find_op(w.arch, Enc::DS, bits(x, 24, 17)))) return false;
  out->bytes = 8;
  out->offset = bits(x, 15, 0);
  out->gds = bits(x, 16, 16);
  const bool acc = bits(x, 25, 25);
  out->addr = bits(y, 7, 0) + kVgpr;
  out->data0 = data_register(bits(y, 15, 8), acc);
  out->data1 = data_register(bits(y, 23, 16), acc);
  out->vdst = data_register(bits(y, 31, 24), acc);
  return true;
}

bool decode_flat(const Words& w, Inst* out) {
  if (w.count < 2) return false;
  const uint32_t x = w.p[0], y = w.p[1];
  const uint32_t segment = bits(x, 15, 14);
  if (segment == 3) return false;
  const Enc enc = segment == 0 ? Enc::FLAT : segment == 1 ? Enc::SCRATCH : Enc::GLOBAL;
  if (!(out->info = find_op(w.arch, enc, bits(x, 24, 18)))) return false;
  out->bytes = 8;
  // FLAT has an unsigned 12-bit offset, the segment forms a signed 13-bit one.
  out->offset = enc == Enc::FLAT ? static_cast<int32_t>(bits(x, 11, 0))
                                 : static_cast<int32_t>(bits(x, 12, 0) << 19) >> 19;
  out->sve = out->lds = bits(x, 13, 13);  // the LDS bit; in SCRATCH it says whether vaddr is used
  out->sc0 = bits(x, 16, 16);
  out->nt = bits(x, 17, 17);
  out->sc1 = bits(x, 25, 25);
  const bool acc = bits(y, 23, 23);
  out->addr = bits(y, 7, 0) + kVgpr;
  out->data0 = data_register(bits(y, 15, 8), acc);
  out->saddr = enc == Enc::FLAT ? 0x7f : bits(y, 22, 16);
  out->vdst = data_register(bits(y, 31, 24), acc);
  return true;
}

bool decode_mubuf(const Words& w, Inst* out) {
  if (w.count < 2) return false;
  const uint32_t x = w.p[0];
  if (!(out->info = find_op(w.arch, Enc::MUBUF, bits(x, 24, 18)))) return false;
  decode_buffer_common(w, out);
  out->sc1 = bits(x, 15, 15);
  out->lds = bits(x, 16, 16);
  out->nt = bits(x, 17, 17);
  return true;
}

bool decode_mtbuf(const Words& w, Inst* out) {
  if (w.count < 2) return false;
  const uint32_t x = w.p[0], y = w.p[1];
  if (!(out->info = find_op(w.arch, Enc::MTBUF, bits(x, 18, 15)))) return false;
  decode_buffer_common(w, out);
  out->dfmt = bits(x, 22, 19);
  out->nfmt = bits(x, 25, 23);
  out->sc1 = bits(y, 21, 21);
  out->nt = bits(y, 22, 22);
  return true;
}

}  // namespace vgpu::isa
