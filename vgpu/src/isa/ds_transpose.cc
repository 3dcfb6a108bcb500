// gfx950's transposing LDS reads. In each group of 16 lanes the loads form a matrix of E rows by 16 columns, E elements
// per lane and 16/E lanes per row; lane i of the group receives column i.
#include <cstring>

#include "isa/memory.h"

namespace vgpu::isa {
namespace {

uint32_t element(const uint32_t* data, unsigned index, unsigned bits) {
  const unsigned at = index * bits, word = at / 32, shift = at % 32;
  uint64_t x = data[word];
  if (shift + bits > 32) x |= static_cast<uint64_t>(data[word + 1]) << 32;
  return static_cast<uint32_t>(x >> shift) & ((1u << bits) - 1);
}

// aux: dwords per lane | bits per element << 8.
void read_transposed(Wave& w, const Op& op) {
  const unsigned dwords = op.aux & 0xff, bits = op.aux >> 8;
  const unsigned elements = dwords * 32 / bits, lanes_per_row = 16 / elements;
  const uint32_t* address = w.vreg(op.inst.addr);
  const uint64_t exec = w.exec();
  uint32_t loaded[64][4] = {};
  for (uint64_t m = exec; m; m &= m - 1) {
    const int l = __builtin_ctzll(m);
    const uint64_t at = static_cast<uint64_t>(address[l]) + static_cast<uint32_t>(op.inst.offset);
    std::memcpy(loaded[l], lds_pointer(w, op, at, dwords * 4, l), dwords * 4);
  }
  alignas(32) uint32_t out[3 * 64] = {};
  for (unsigned l = 0; l < 64; ++l) {
    const unsigned group = l & ~15u, column = l & 15;
    for (unsigned row = 0; row < elements; ++row) {
      const uint32_t x = element(loaded[group + row * lanes_per_row + column / elements], column % elements, bits);
      const unsigned to = row * bits;
      out[to / 32 * 64 + l] |= x << (to % 32);
      if (to % 32 + bits > 32) out[(to / 32 + 1) * 64 + l] |= x >> (32 - to % 32);
    }
  }
  for (unsigned d = 0; d < dwords; ++d) write_lanes(w.vreg(op.inst.vdst) + d * 64, out + d * 64, exec);
  w.worker->counts.lds_bytes_read += static_cast<uint64_t>(__builtin_popcountll(exec)) * dwords * 4;
}

bool prepare(Op& op, Arch, std::string*) {
  const std::string& name = op.inst.info->base;
  const unsigned bits = static_cast<unsigned>(std::stoul(name.substr(name.rfind('b') + 1)));
  op.aux = op.inst.info->width('d') | bits << 8;
  return true;
}

const ScalarDef kDefs[] = {
    {"ds_read_b64_tr_b16", read_transposed, Class::Lds, "", prepare},
    {"ds_read_b64_tr_b8", read_transposed, Class::Lds, "", prepare},
    {"ds_read_b64_tr_b4", read_transposed, Class::Lds, "", prepare},
    {"ds_read_b96_tr_b6", read_transposed, Class::Lds, "", prepare},
};

}  // namespace

void register_ds_transpose() { add(kDefs, sizeof kDefs / sizeof kDefs[0]); }

}  // namespace vgpu::isa
