// Atomic read-modify-write operations, really atomic with respect to other workgroups' threads.
#include <algorithm>
#include <cstring>

#include "isa/memory.h"
#include "sem/arith.h"
#include "sem/convert.h"

namespace vgpu::isa {
namespace {

// Op::apply(old, data) is the new value. data2 is the comparand of compare-and-swap forms.
template <class T, class Op>
void atomic(const LanePointers& lanes, uint32_t* reg, uint32_t* ret) {
  for (uint64_t mask = lanes.mask; mask; mask &= mask - 1) {
    const int l = __builtin_ctzll(mask);
    T* p = reinterpret_cast<T*>(lanes.p[l]);
    if (reinterpret_cast<uintptr_t>(p) % sizeof(T))
      fail("misaligned atomic of " + std::to_string(sizeof(T)) + " bytes by lane " + std::to_string(l));
    T data, compare = 0;
    if (sizeof(T) == 8) {
      data = static_cast<T>(pair(reg, l));
      if (Op::kCompares) compare = static_cast<T>(pair(reg + 128, l));
    } else {
      data = static_cast<T>(reg[l]);
      if (Op::kCompares) compare = static_cast<T>(reg[64 + l]);
    }
    T old = __atomic_load_n(p, __ATOMIC_SEQ_CST);
    while (!__atomic_compare_exchange_n(p, &old, Op::apply(old, data, compare), false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    }
    if (!ret) continue;
    if (sizeof(T) == 8) set_pair(ret, l, static_cast<uint64_t>(old));
    else ret[l] = static_cast<uint32_t>(old);
  }
}

#define OPERATION(Name, expr) \
  template <class T> \
  struct Name { \
    static constexpr bool kCompares = false; \
    static T apply(T x, T y, T) { return static_cast<T>(expr); } \
  };
template <class T>
using Signed = std::make_signed_t<T>;
OPERATION(Swap, ((void)x, y))
OPERATION(Add, x + y)
OPERATION(Sub, x - y)
OPERATION(SMin, std::min<Signed<T>>(x, y))
OPERATION(SMax, std::max<Signed<T>>(x, y))
OPERATION(UMin, std::min(x, y))
OPERATION(UMax, std::max(x, y))
OPERATION(And, x& y)
OPERATION(Or, x | y)
OPERATION(Xor, x ^ y)
OPERATION(Inc, x >= y ? 0 : x + 1)
OPERATION(Dec, x == 0 || x > y ? y : x - 1)
template <class T>
struct CmpSwap {
  static constexpr bool kCompares = true;
  static T apply(T x, T y, T compare) { return x == compare ? y : x; }
};
OPERATION(AddF32, as_u32(as_f32(x) + as_f32(y)))
OPERATION(AddF64, as_u64(as_f64(x) + as_f64(y)))
OPERATION(MinF64, sem::min_f64(x, y, false))
OPERATION(MaxF64, sem::max_f64(x, y, false))

uint32_t pk_add_f16(uint32_t x, uint32_t y) {
  const uint32_t low = sem::add_f16(static_cast<uint16_t>(x), static_cast<uint16_t>(y));
  const uint32_t high = sem::add_f16(static_cast<uint16_t>(x >> 16), static_cast<uint16_t>(y >> 16));
  return low | high << 16;
}
uint16_t add_bf16(uint16_t x, uint16_t y) { return sem::f32_to_bf16(sem::bf16_to_f32(x) + sem::bf16_to_f32(y)); }
uint32_t pk_add_bf16(uint32_t x, uint32_t y) {
  const uint32_t low = add_bf16(static_cast<uint16_t>(x), static_cast<uint16_t>(y));
  const uint32_t high = add_bf16(static_cast<uint16_t>(x >> 16), static_cast<uint16_t>(y >> 16));
  return low | high << 16;
}
OPERATION(PkAddF16, pk_add_f16(x, y))
OPERATION(PkAddBf16, pk_add_bf16(x, y))

struct Entry {
  const char* name;
  Transfer fn;
  uint8_t bytes;
};
#define BOTH(name, Name) \
  {name, atomic<uint32_t, Name<uint32_t>>, 4}, {name "_x2", atomic<uint64_t, Name<uint64_t>>, 8}
const Entry kEntries[] = {
    BOTH("swap", Swap), BOTH("cmpswap", CmpSwap), BOTH("add", Add), BOTH("sub", Sub), BOTH("smin", SMin),
    BOTH("umin", UMin), BOTH("smax", SMax), BOTH("umax", UMax), BOTH("and", And), BOTH("or", Or), BOTH("xor", Xor),
    BOTH("inc", Inc), BOTH("dec", Dec),
    {"add_f32", atomic<uint32_t, AddF32<uint32_t>>, 4}, {"add_f64", atomic<uint64_t, AddF64<uint64_t>>, 8},
    {"min_f64", atomic<uint64_t, MinF64<uint64_t>>, 8}, {"max_f64", atomic<uint64_t, MaxF64<uint64_t>>, 8},
    {"pk_add_f16", atomic<uint32_t, PkAddF16<uint32_t>>, 4}, {"pk_add_bf16", atomic<uint32_t, PkAddBf16<uint32_t>>, 4},
};

}  // namespace

Transfer find_atomic(const std::string& name, unsigned* bytes) {
  for (const Entry& e : kEntries) {
    if (name != e.name) continue;
    *bytes = e.bytes;
    return e.fn;
  }
  return nullptr;
}

}  // namespace vgpu::isa
