// Data-parallel primitives: which lane each lane reads.
#include "isa/valu.h"

namespace vgpu::isa {

bool dpp_sources(uint16_t control, int8_t from[64]) {
  const unsigned n = control & 15;
  for (int l = 0; l < 64; ++l) {
    const int row = l & ~15, column = l & 15;
    int f = -1;
    if (control <= 0xff) {
      f = (l & ~3) | (control >> (2 * (l & 3)) & 3);  // quad_perm
    } else if (control >= 0x101 && control <= 0x10f) {
      f = column + static_cast<int>(n) <= 15 ? l + static_cast<int>(n) : -1;  // row_shl
    } else if (control >= 0x111 && control <= 0x11f) {
      f = column >= static_cast<int>(n) ? l - static_cast<int>(n) : -1;  // row_shr
    } else if (control >= 0x121 && control <= 0x12f) {
      f = row | ((column - static_cast<int>(n)) & 15);  // row_ror
    } else if (control >= 0x150 && control <= 0x15f) {
      f = row | static_cast<int>(n);  // row_newbcast
    } else {
      switch (control) {
        case 0x130: f = l < 63 ? l + 1 : -1; break;      // wave_shl:1
        case 0x134: f = (l + 1) & 63; break;             // wave_rol:1
        case 0x138: f = l > 0 ? l - 1 : -1; break;       // wave_shr:1
        case 0x13c: f = (l - 1) & 63; break;             // wave_ror:1
        case 0x140: f = row | (15 - column); break;      // row_mirror
        case 0x141: f = l ^ 7; break;                    // row_half_mirror
        case 0x142: f = l >= 16 ? row - 1 : -1; break;   // row_bcast:15
        case 0x143: f = l >= 32 ? 31 : -1; break;        // row_bcast:31
        default: return false;
      }
    }
    from[l] = static_cast<int8_t>(f);
  }
  return true;
}

}  // namespace vgpu::isa
