// Shared between the decoder's files.
#pragma once

#include "isa/inst.h"

namespace vgpu::isa {

struct Words {
  const uint32_t* p;
  size_t count;
  Arch arch;
};

inline uint32_t bits(uint32_t x, int hi, int lo) { return x >> lo & (hi - lo == 31 ? ~0u : (1u << (hi - lo + 1)) - 1); }

bool decode_vop12c(const Words& w, Inst* out);
bool decode_vop3(const Words& w, Inst* out);
bool decode_vop3p(const Words& w, Inst* out);
bool decode_ds(const Words& w, Inst* out);
bool decode_flat(const Words& w, Inst* out);
bool decode_mubuf(const Words& w, Inst* out);
bool decode_mtbuf(const Words& w, Inst* out);

}  // namespace vgpu::isa
