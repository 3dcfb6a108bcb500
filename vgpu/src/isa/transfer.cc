// Loads and stores of every width between lane pointers and registers.
#include <cstring>

#include "isa/memory.h"

namespace vgpu::isa {
namespace {

template <class F>
inline void for_lanes(uint64_t mask, F f) {
  if (mask == ~0ull) {
    for (int l = 0; l < 64; ++l) f(l);
  } else {
    for (; mask; mask &= mask - 1) f(__builtin_ctzll(mask));
  }
}

template <int Dwords>
void load_dwords(const LanePointers& lanes, uint32_t* reg, uint32_t*) {
  for_lanes(lanes.mask, [&](int l) {
    uint32_t x[Dwords];
    std::memcpy(x, lanes.p[l], sizeof x);
    for (int d = 0; d < Dwords; ++d) reg[d * 64 + l] = x[d];
  });
}
template <int Dwords>
void store_dwords(const LanePointers& lanes, uint32_t* reg, uint32_t*) {
  for_lanes(lanes.mask, [&](int l) {
    uint32_t x[Dwords];
    for (int d = 0; d < Dwords; ++d) x[d] = reg[d * 64 + l];
    std::memcpy(lanes.p[l], x, sizeof x);
  });
}

enum Part { Whole, Low, High };  // which half of the register a 16-bit form uses
// T is the memory type; sub-dword values extend to 32 bits, or to 16 in a d16 form that keeps the other half.
template <class T, Part P>
void load_part(const LanePointers& lanes, uint32_t* reg, uint32_t*) {
  for_lanes(lanes.mask, [&](int l) {
    T x;
    std::memcpy(&x, lanes.p[l], sizeof x);
    const uint32_t wide = static_cast<uint32_t>(static_cast<int32_t>(x));
    if (P == Whole) reg[l] = wide;
    if (P == Low) reg[l] = (reg[l] & 0xffff0000u) | (wide & 0xffff);
    if (P == High) reg[l] = (reg[l] & 0xffff) | wide << 16;
  });
}
template <class T, Part P>
void store_part(const LanePointers& lanes, uint32_t* reg, uint32_t*) {
  for_lanes(lanes.mask, [&](int l) {
    const T x = static_cast<T>(P == High ? reg[l] >> 16 : reg[l]);
    std::memcpy(lanes.p[l], &x, sizeof x);
  });
}

struct Entry {
  const char* action;
  Transfer fn;
  uint8_t bytes;
  Access access;
  uint8_t registers;
};
constexpr Access L = Access::Load, S = Access::Store;
const Entry kEntries[] = {
    {"load_ubyte", load_part<uint8_t, Whole>, 1, L, 1}, {"load_sbyte", load_part<int8_t, Whole>, 1, L, 1},
    {"load_ushort", load_part<uint16_t, Whole>, 2, L, 1}, {"load_sshort", load_part<int16_t, Whole>, 2, L, 1},
    {"load_dword", load_dwords<1>, 4, L, 1}, {"load_dwordx2", load_dwords<2>, 8, L, 2},
    {"load_dwordx3", load_dwords<3>, 12, L, 3}, {"load_dwordx4", load_dwords<4>, 16, L, 4},
    {"load_ubyte_d16", load_part<uint8_t, Low>, 1, L, 1}, {"load_ubyte_d16_hi", load_part<uint8_t, High>, 1, L, 1},
    {"load_sbyte_d16", load_part<int8_t, Low>, 1, L, 1}, {"load_sbyte_d16_hi", load_part<int8_t, High>, 1, L, 1},
    {"load_short_d16", load_part<uint16_t, Low>, 2, L, 1}, {"load_short_d16_hi", load_part<uint16_t, High>, 2, L, 1},
    {"store_byte", store_part<uint8_t, Whole>, 1, S, 1}, {"store_byte_d16_hi", store_part<uint8_t, High>, 1, S, 1},
    {"store_short", store_part<uint16_t, Whole>, 2, S, 1}, {"store_short_d16_hi", store_part<uint16_t, High>, 2, S, 1},
    {"store_dword", store_dwords<1>, 4, S, 1}, {"store_dwordx2", store_dwords<2>, 8, S, 2},
    {"store_dwordx3", store_dwords<3>, 12, S, 3}, {"store_dwordx4", store_dwords<4>, 16, S, 4},
};

}  // namespace

bool prepare_transfer(Op& op, const std::string& action, bool returns, std::string* why) {
  for (const Entry& e : kEntries) {
    if (action != e.action) continue;
    op.lane = reinterpret_cast<const void*>(e.fn);
    op.aux = pack_form(e.bytes, e.access, false, e.registers);
    return true;
  }
  if (action.compare(0, 7, "atomic_") == 0) {
    unsigned bytes = 0;
    if (const Transfer fn = find_atomic(action.substr(7), &bytes)) {
      op.lane = reinterpret_cast<const void*>(fn);
      op.aux = pack_form(bytes, Access::Atomic, returns, returns ? bytes / 4 : 0);
      return true;
    }
  }
  *why = "memory operation is not implemented";
  return false;
}

}  // namespace vgpu::isa
