// LDS reads, writes and lane permutes.
#include <cstring>

#include "isa/memory.h"

namespace vgpu::isa {
namespace {

// ds_read_b64 is a dwordx2 load and so on; the transfer does not care where the memory is.
const char* transfer_name(const std::string& name) {
  static const std::pair<const char*, const char*> kNames[] = {
      {"ds_read_b32", "load_dword"}, {"ds_read_b64", "load_dwordx2"}, {"ds_read_b96", "load_dwordx3"},
      {"ds_read_b128", "load_dwordx4"}, {"ds_read_u8", "load_ubyte"}, {"ds_read_i8", "load_sbyte"},
      {"ds_read_u16", "load_ushort"}, {"ds_read_i16", "load_sshort"}, {"ds_read_u8_d16", "load_ubyte_d16"},
      {"ds_read_u8_d16_hi", "load_ubyte_d16_hi"}, {"ds_read_i8_d16", "load_sbyte_d16"},
      {"ds_read_i8_d16_hi", "load_sbyte_d16_hi"}, {"ds_read_u16_d16", "load_short_d16"},
      {"ds_read_u16_d16_hi", "load_short_d16_hi"}, {"ds_write_b32", "store_dword"}, {"ds_write_b64", "store_dwordx2"},
      {"ds_write_b96", "store_dwordx3"}, {"ds_write_b128", "store_dwordx4"}, {"ds_write_b8", "store_byte"},
      {"ds_write_b16", "store_short"}, {"ds_write_b8_d16_hi", "store_byte_d16_hi"},
      {"ds_write_b16_d16_hi", "store_short_d16_hi"},
  };
  for (const auto& n : kNames)
    if (name == n.first) return n.second;
  return nullptr;
}

void exec_move(Wave& w, const Op& op) {
  const Form f = form(op);
  LanePointers lanes;
  lanes.mask = w.exec();
  const uint32_t* address = w.vreg(op.inst.addr);
  const uint32_t offset = static_cast<uint32_t>(op.inst.offset);
  for (uint64_t m = lanes.mask; m; m &= m - 1) {
    const int l = __builtin_ctzll(m);
    lanes.p[l] = lds_pointer(w, op, static_cast<uint64_t>(address[l]) + offset, f.bytes, l);
  }
  count_lds(w, f, lanes.mask);
  run_transfer(op, lanes, w.vreg(f.access == Access::Load ? op.inst.vdst : op.inst.data0), nullptr);
}

bool prepare_move(Op& op, Arch, std::string* why) {
  if (op.inst.gds) {
    *why = "global data share";
    return false;
  }
  return prepare_transfer(op, transfer_name(op.inst.info->base), false, why);
}

// Two independent elements at 8-bit offsets counted in elements, or in 64 elements for the st64 forms.
// aux: dwords per element; bit 8: st64.
void two_addresses(Wave& w, const Op& op, bool write) {
  const unsigned n = op.aux & 0xff, scale = n * 4 * (op.aux >> 8 & 1 ? 64 : 1);
  const uint32_t offsets[2] = {(op.inst.offset & 0xff) * scale, (op.inst.offset >> 8 & 0xff) * scale};
  const uint32_t* address = w.vreg(op.inst.addr);
  const uint64_t exec = w.exec();
  alignas(32) uint32_t loaded[4 * 64];
  for (uint64_t m = exec; m; m &= m - 1) {
    const int l = __builtin_ctzll(m);
    for (unsigned e = 0; e < 2; ++e) {
      uint8_t* p = lds_pointer(w, op, static_cast<uint64_t>(address[l]) + offsets[e], n * 4, l);
      const uint32_t* data = write ? w.vreg(e ? op.inst.data1 : op.inst.data0) : nullptr;
      for (unsigned d = 0; d < n; ++d) {
        if (write) std::memcpy(p + 4 * d, &data[d * 64 + l], 4);
        else std::memcpy(&loaded[(e * n + d) * 64 + l], p + 4 * d, 4);
      }
    }
  }
  // All reads come before the first register is written: the address may be among the destinations.
  if (!write)
    for (unsigned r = 0; r < 2 * n; ++r) write_lanes(w.vreg(op.inst.vdst) + r * 64, loaded + r * 64, exec);
  const uint64_t bytes = static_cast<uint64_t>(__builtin_popcountll(exec)) * n * 8;
  (write ? w.worker->counts.lds_bytes_written : w.worker->counts.lds_bytes_read) += bytes;
}
void read2(Wave& w, const Op& op) { two_addresses(w, op, false); }
void write2(Wave& w, const Op& op) { two_addresses(w, op, true); }
bool prepare_two(Op& op, Arch, std::string* why) {
  const std::string& name = op.inst.info->base;
  op.aux = (name.find("b64") != std::string::npos ? 2u : 1u) | (name.find("st64") != std::string::npos ? 1u << 8 : 0);
  if (op.inst.gds) *why = "global data share";
  return !op.inst.gds;
}

// Forward permute: lane l sends to lane addr/4; of several senders the highest lane wins.
void permute(Wave& w, const Op& op) {
  alignas(32) uint32_t out[64] = {};
  const uint32_t *address = w.vreg(op.inst.addr), *data = w.vreg(op.inst.data0);
  const uint64_t exec = w.exec();
  for (uint64_t m = exec; m; m &= m - 1) {
    const int l = __builtin_ctzll(m);
    out[(address[l] + static_cast<uint32_t>(op.inst.offset)) / 4 % 64] = data[l];
  }
  write_lanes(w.vreg(op.inst.vdst), out, exec);
}
// Backward permute: a disabled source lane reads as zero.
void bpermute(Wave& w, const Op& op) {
  alignas(32) uint32_t out[64];
  const uint32_t *address = w.vreg(op.inst.addr), *data = w.vreg(op.inst.data0);
  const uint64_t exec = w.exec();
  for (int l = 0; l < 64; ++l) {
    const unsigned from = (address[l] + static_cast<uint32_t>(op.inst.offset)) / 4 % 64;
    out[l] = exec >> from & 1 ? data[from] : 0;
  }
  write_lanes(w.vreg(op.inst.vdst), out, exec);
}

int swizzle_source(unsigned offset, int l) {
  if (offset >= 0xe000) fail("ds_swizzle FFT mode is not supported");
  if (offset >= 0xc000) {  // rotate within 32 lanes; bit 10 is the direction, the mask keeps lane bits
    const int n = static_cast<int>(offset >> 5 & 31), mask = static_cast<int>(offset & 31);
    const int turned = offset >> 10 & 1 ? l - n : l + n;
    return (l & 32) | (l & mask & 31) | (turned & ~mask & 31);
  }
  if (offset & 0x8000) return (l & ~3) | static_cast<int>(offset >> (2 * (l & 3)) & 3);
  const int and_mask = offset & 31, or_mask = offset >> 5 & 31, xor_mask = offset >> 10 & 31;
  return (l & 32) | (((l & and_mask) | or_mask) ^ xor_mask);
}
void swizzle(Wave& w, const Op& op) {
  alignas(32) uint32_t out[64];
  const uint32_t* data = w.vreg(op.inst.addr);
  const uint64_t exec = w.exec();
  for (int l = 0; l < 64; ++l) {
    const int from = swizzle_source(static_cast<unsigned>(op.inst.offset), l);
    out[l] = exec >> from & 1 ? data[from] : 0;
  }
  write_lanes(w.vreg(op.inst.vdst), out, exec);
}
void nop(Wave&, const Op&) {}

constexpr Class D = Class::Lds;
const ScalarDef kDefs[] = {
    {"ds_read2_b32", read2, D, "", prepare_two}, {"ds_read2_b64", read2, D, "", prepare_two},
    {"ds_read2st64_b32", read2, D, "", prepare_two}, {"ds_read2st64_b64", read2, D, "", prepare_two},
    {"ds_write2_b32", write2, D, "", prepare_two}, {"ds_write2_b64", write2, D, "", prepare_two},
    {"ds_write2st64_b32", write2, D, "", prepare_two}, {"ds_write2st64_b64", write2, D, "", prepare_two},
    {"ds_permute_b32", permute, D, ""}, {"ds_bpermute_b32", bpermute, D, ""}, {"ds_swizzle_b32", swizzle, D, ""},
    {"ds_nop", nop, D, ""},
};

}  // namespace

void register_ds() {
  add(kDefs, sizeof kDefs / sizeof kDefs[0]);
  size_t count = 0;
  const OpInfo* rows = op_rows(&count);
  for (size_t i = 0; i < count; ++i)
    if (rows[i].enc == Enc::DS && transfer_name(rows[i].base))
      add(new ScalarDef{rows[i].mnemonic, exec_move, Class::Lds, "", prepare_move}, 1);
}

}  // namespace vgpu::isa
