// Which lines of memory an instruction will touch, and how long the banks of LDS will take: the address arithmetic of flat.cc,
// buffer.cc, smem.cc and ds.cc without the data.
#include <algorithm>

#include "isa/code.h"
#include "isa/lds_shadow.h"
#include "time/trace.h"

namespace vgpu::timing {
namespace {

using isa::Enc;
using isa::Inst;
using isa::Op;
using isa::Wave;

void add_lines(uint64_t address, uint64_t bytes, unsigned line_bytes, std::vector<uint64_t>* out, size_t first) {
  for (uint64_t l = address / line_bytes; l <= (address + bytes - 1) / line_bytes; ++l)
    if (out->size() == first || out->back() != l) out->push_back(l);
}

void sort_unique(std::vector<uint64_t>* out, size_t first) {
  const auto begin = out->begin() + static_cast<std::ptrdiff_t>(first);
  if (!std::is_sorted(begin, out->end())) std::sort(begin, out->end());
  out->erase(std::unique(begin, out->end()), out->end());
}

}  // namespace

uint32_t vector_lines(const Wave& w, const Op& op, const Instruction& i, unsigned line_bytes, std::vector<uint64_t>* out) {
  const Inst& inst = op.inst;
  const size_t first = out->size();
  const Enc enc = inst.info->enc;
  const unsigned bytes = i.bytes;
  uint32_t active = 0;
  auto touch = [&](uint64_t address) {
    active += bytes;
    add_lines(address, bytes, line_bytes, out, first);
  };
  if (enc == Enc::MUBUF || enc == Enc::MTBUF) {
    const uint32_t* r = &w.s[inst.srsrc];
    const uint64_t base = r[0] | static_cast<uint64_t>(r[1] & 0xffff) << 32;
    const uint32_t stride = r[1] >> 16 & 0x3fff, records = r[2];
    const uint32_t soffset = op.kind[0] == isa::Src::Const ? static_cast<uint32_t>(op.k[0]) : src32(w, op, 0);
    const uint32_t* index = inst.idxen ? w.vreg(inst.addr) : nullptr;
    const uint32_t* offset = inst.offen ? w.vreg(inst.addr) + (inst.idxen ? 64 : 0) : nullptr;
    for (uint64_t m = w.exec(); m; m &= m - 1) {
      const int l = __builtin_ctzll(m);
      const uint32_t local = (offset ? offset[l] : 0u) + static_cast<uint32_t>(inst.offset);
      const uint64_t number = index ? index[l] : 0, linear = number * stride + local + soffset;
      if ((index && stride ? number : linear) < records) touch(base + linear);
    }
  } else if (enc == Enc::SCRATCH) {
    // Swizzled by lane: a dword of all lanes is contiguous.
    for (unsigned d = 0; d < bytes; d += 4) add_lines(reinterpret_cast<uint64_t>(w.scratch) + 256u * d / 4, 256, line_bytes, out, first);
    active = bytes * static_cast<uint32_t>(__builtin_popcountll(w.exec()));
  } else {
    const uint32_t* low = w.vreg(inst.addr);
    const bool scalar = inst.saddr != 0x7f;
    const uint64_t base = static_cast<uint64_t>(static_cast<int64_t>(inst.offset)) + (scalar ? w.s64(inst.saddr) : 0);
    for (uint64_t m = w.exec(); m; m &= m - 1) {
      const int l = __builtin_ctzll(m);
      const uint64_t address = base + (low[l] | (scalar ? 0 : static_cast<uint64_t>(low[64 + l]) << 32));
      const uint64_t high = address >> 32;
      if (enc == Enc::FLAT && (high == isa::Code::kSharedHigh || high == isa::Code::kPrivateHigh)) continue;
      touch(address);
    }
  }
  sort_unique(out, first);
  return active;
}

uint32_t scalar_lines(const Wave& w, const Op& op, unsigned line_bytes, std::vector<uint64_t>* out) {
  const Inst& inst = op.inst;
  const unsigned base_width = inst.info->width('b');
  if (!base_width) return 0;  // a clock
  const uint64_t offset = inst.imm_offset ? static_cast<uint64_t>(static_cast<int64_t>(inst.offset)) + (inst.soffset_en ? w.s[inst.soffset & 127] : 0)
                                          : w.s[inst.soffset & 127];
  uint64_t base = w.s64(inst.srsrc);
  const uint32_t bytes = 4u * inst.info->width('d');
  if (base_width == 4) {
    base &= 0xffffffffffffull;
    if (offset + bytes > w.s[inst.srsrc + 2]) return 0;
  }
  add_lines(base + offset, bytes, line_bytes, out, out->size());
  return bytes;
}

uint32_t lds_cycles(const Wave& w, const Op& op, unsigned banks) {
  const std::string& name = op.inst.info->base;
  if (name.find("permute") != std::string::npos || name.find("swizzle") != std::string::npos) return 2;
  isa::Access access;
  const isa::Effects e = isa::effects_of(op);
  const std::vector<isa::LdsRange> ranges = isa::lds_ranges(w, op, e, &access);
  // Lanes are served in groups; within a group each bank gives one dword a cycle. A group of 16-byte accesses is 16 lanes in an
  // order of its own, of 8-byte ones a half of the wave in two cycles, else a half in one.
  static constexpr uint8_t kWide[32] = {0, 1, 2, 3, 12, 13, 14, 15, 20, 21, 22, 23, 24, 25, 26, 27,
                                        4, 5, 6, 7, 8, 9, 10, 11, 16, 17, 18, 19, 28, 29, 30, 31};
  const isa::LdsRange* by_lane[2][64] = {};
  bool second = false;
  uint32_t widest = 4;
  for (const isa::LdsRange& r : ranges) {
    second |= by_lane[0][r.lane] != nullptr;
    by_lane[by_lane[0][r.lane] != nullptr][r.lane] = &r;
    widest = std::max(widest, r.bytes);
  }
  const unsigned group = widest >= 16 ? 16 : 32;
  uint32_t cycles = 0;
  for (int part = 0; part <= static_cast<int>(second); ++part) {
    for (unsigned first = 0; first < 64; first += group) {
      uint32_t deepest = 0, depth[64] = {}, seen[32 * 4];
      unsigned dwords = 0;
      for (unsigned k = first; k < first + group; ++k) {
        const isa::LdsRange* r = by_lane[part][widest >= 16 ? k / 32 * 32 + kWide[k % 32] : k];
        if (!r) continue;
        for (unsigned d = 0; d < std::max(1u, (r->bytes + 3) / 4); ++d) {
          const uint32_t dword = r->offset / 4 + d;
          if (std::find(seen, seen + dwords, dword) != seen + dwords) continue;
          seen[dwords++] = dword;
          deepest = std::max(deepest, ++depth[dword % banks]);
        }
      }
      cycles += deepest;
    }
  }
  return std::max(cycles, 1u);
}

}  // namespace vgpu::timing
