// Which bytes of LDS an instruction will touch: the address arithmetic of ds*.cc, flat.cc and landing.cc without the data.
#include "isa/code.h"
#include "isa/lds_shadow.h"

namespace vgpu::isa {
namespace {

bool has(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

}  // namespace

std::vector<LdsRange> lds_ranges(const Wave& w, const Op& op, const Effects& e, Access* access) {
  std::vector<LdsRange> out;
  const Inst& inst = op.inst;
  const std::string& name = inst.info->base;
  const uint64_t limit = w.group->lds.size();
  auto add = [&](int lane, uint64_t offset, uint32_t bytes) {
    // Outside: the instruction itself will say so.
    if (offset < limit && offset + bytes <= limit) out.push_back({lane, static_cast<uint32_t>(offset), bytes});
  };
  auto for_lanes = [&](auto&& f) {
    for (uint64_t m = w.exec(); m; m &= m - 1) f(__builtin_ctzll(m));
  };
  *access = Access::Load;
  if (e.to_lds) {
    *access = Access::Store;
    const uint32_t bytes = form(op).bytes, step = bytes < 4 ? 4 : bytes;
    const uint64_t base = (w.s[kM0] & 0x3ffff) + static_cast<uint64_t>(static_cast<int64_t>(inst.offset));
    for_lanes([&](int l) { add(l, base + static_cast<uint64_t>(l) * step, step); });
    return out;
  }
  if (e.unit == Unit::Vmem) {  // FLAT
    const uint32_t *low = w.vreg(inst.addr), *high = low + 64;
    const Form f = form(op);
    *access = f.access;
    for_lanes([&](int l) {
      const uint64_t a = static_cast<uint64_t>(static_cast<int64_t>(inst.offset)) + (low[l] | static_cast<uint64_t>(high[l]) << 32);
      if (a >> 32 == Code::kSharedHigh) add(l, a & 0xffffffffu, f.bytes);
    });
    return out;
  }
  if (has(name, "permute") || has(name, "swizzle") || name == "ds_nop") return out;
  const uint32_t* address = w.vreg(inst.addr);
  const bool read = has(name, "ds_read"), write = has(name, "ds_write");
  *access = read ? Access::Load : write ? Access::Store : Access::Atomic;
  if (has(name, "read2") || has(name, "write2")) {
    const unsigned n = has(name, "b64") ? 8 : 4, scale = n * (has(name, "st64") ? 64 : 1);
    for_lanes([&](int l) {
      for (int part = 0; part < 2; ++part) add(l, uint64_t{address[l]} + (inst.offset >> (8 * part) & 0xff) * scale, n);
    });
    return out;
  }
  uint32_t bytes = 4u * (read ? inst.info->width('d') : inst.info->width('0'));
  if (has(name, "_tr_")) bytes = 4u * inst.info->width('d');
  else if (read || write) bytes = form(op).bytes;
  for_lanes([&](int l) { add(l, uint64_t{address[l]} + static_cast<uint32_t>(inst.offset), bytes); });
  return out;
}

uint64_t load_source(const Wave& w, const Effects& e) {
  uint64_t digest = 0xcbf29ce484222325u;
  auto mix = [&digest](uint64_t value) { digest = (digest ^ value) * 0x9e3779b97f4a7c15u ^ digest >> 29; };
  mix(w.exec());
  for (int i = 0; i < e.read_count; ++i) {
    for (unsigned c = e.reads[i].first; c < unsigned{e.reads[i].first} + e.reads[i].count; ++c) {
      if (c < kVgpr) mix(w.s[c]);
      else
        for (uint64_t m = w.exec(); m; m &= m - 1) mix(w.vreg(c)[__builtin_ctzll(m)]);
    }
  }
  return digest;
}

}  // namespace vgpu::isa
