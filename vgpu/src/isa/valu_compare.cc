// Vector compares: lane masks to VCC or an SGPR pair; v_cmpx also to EXEC.
#include <string>
#include <vector>

#include "isa/registry.h"
#include "sem/convert.h"
#include "sem/fpmisc.h"

namespace vgpu::isa {
namespace {

struct F32 {
  using T = float;
  static T get(const uint32_t* p, int l) { return as_f32(p[l]); }
};
struct F16 {
  using T = float;
  static T get(const uint32_t* p, int l) { return sem::f16_to_f32(static_cast<uint16_t>(p[l])); }
};
struct F64 {
  using T = double;
  static T get(const uint32_t* p, int l) { return as_f64(pair(p, l)); }
};
struct I32 {
  using T = int32_t;
  static T get(const uint32_t* p, int l) { return static_cast<T>(p[l]); }
};
struct U32 {
  using T = uint32_t;
  static T get(const uint32_t* p, int l) { return p[l]; }
};
struct I16 {
  using T = int32_t;
  static T get(const uint32_t* p, int l) { return static_cast<int16_t>(p[l]); }
};
struct U16 {
  using T = uint32_t;
  static T get(const uint32_t* p, int l) { return p[l] & 0xffff; }
};
struct I64 {
  using T = int64_t;
  static T get(const uint32_t* p, int l) { return static_cast<T>(pair(p, l)); }
};
struct U64 {
  using T = uint64_t;
  static T get(const uint32_t* p, int l) { return pair(p, l); }
};

struct False { template <class T> static bool is(T, T) { return false; } };
struct Lt { template <class T> static bool is(T x, T y) { return x < y; } };
struct Eq { template <class T> static bool is(T x, T y) { return x == y; } };
struct Le { template <class T> static bool is(T x, T y) { return x <= y; } };
struct Gt { template <class T> static bool is(T x, T y) { return x > y; } };
struct Lg { template <class T> static bool is(T x, T y) { return x < y || x > y; } };
struct Ge { template <class T> static bool is(T x, T y) { return x >= y; } };
struct Ordered { template <class T> static bool is(T x, T y) { return x == x && y == y; } };
struct True { template <class T> static bool is(T, T) { return true; } };
template <class R>
struct Not { template <class T> static bool is(T x, T y) { return !R::is(x, y); } };

// Gathers 64 results into a mask through bytes, which vectorises where setting single bits does not.
template <class Type, class Relation>
void compare(Lanes& v) {
  const uint32_t *a = v.a, *b = v.b;
  alignas(32) uint8_t hit[64];
  for (int l = 0; l < 64; ++l) hit[l] = Relation::is(Type::get(a, l), Type::get(b, l)) ? 0xff : 0;
  uint64_t mask = 0;
  for (int i = 0; i < 8; ++i) {
    uint64_t x;
    std::memcpy(&x, hit + 8 * i, 8);
    mask |= ((x & 0x0101010101010101ull) * 0x0102040810204080ull >> 56) << (8 * i);
  }
  v.cout = mask;
}

template <class Bits, bool (*Test)(Bits, uint32_t)>
void classify(Lanes& v) {
  for (int l = 0; l < 64; ++l) {
    Bits x;
    if constexpr (sizeof(Bits) == 8) x = pair(v.a, l);
    else x = static_cast<Bits>(v.a[l]);
    v.cout |= static_cast<uint64_t>(Test(x, v.b[l])) << l;
  }
}
bool class16(uint16_t x, uint32_t mask) { return sem::class_f16(x, mask); }
bool class32(uint32_t x, uint32_t mask) { return sem::class_f32(x, mask); }
bool class64(uint64_t x, uint32_t mask) { return sem::class_f64(x, mask); }

// Definitions need stable names: they are built once and live forever.
std::vector<LaneDef>& definitions() {
  static std::vector<LaneDef> defs;
  return defs;
}
void define(const std::string& relation, const char* type, Lane fn, const char* shape) {
  static std::vector<std::string*> names;
  for (const char* prefix : {"v_cmp_", "v_cmpx_"}) {
    names.push_back(new std::string(prefix + relation + "_" + type));
    definitions().push_back({names.back()->c_str(), fn, shape, 0});
  }
}
template <class Type>
void define_float(const char* type, const char* shape) {
  define("f", type, compare<Type, False>, shape);
  define("lt", type, compare<Type, Lt>, shape);
  define("eq", type, compare<Type, Eq>, shape);
  define("le", type, compare<Type, Le>, shape);
  define("gt", type, compare<Type, Gt>, shape);
  define("lg", type, compare<Type, Lg>, shape);
  define("ge", type, compare<Type, Ge>, shape);
  define("o", type, compare<Type, Ordered>, shape);
  define("u", type, compare<Type, Not<Ordered>>, shape);
  define("nge", type, compare<Type, Not<Ge>>, shape);
  define("nlg", type, compare<Type, Not<Lg>>, shape);
  define("ngt", type, compare<Type, Not<Gt>>, shape);
  define("nle", type, compare<Type, Not<Le>>, shape);
  define("neq", type, compare<Type, Not<Eq>>, shape);
  define("nlt", type, compare<Type, Not<Lt>>, shape);
  define("tru", type, compare<Type, True>, shape);
}
template <class Type>
void define_integer(const char* type, const char* shape) {
  define("f", type, compare<Type, False>, shape);
  define("lt", type, compare<Type, Lt>, shape);
  define("eq", type, compare<Type, Eq>, shape);
  define("le", type, compare<Type, Le>, shape);
  define("gt", type, compare<Type, Gt>, shape);
  define("ne", type, compare<Type, Not<Eq>>, shape);
  define("ge", type, compare<Type, Ge>, shape);
  define("t", type, compare<Type, True>, shape);
}

}  // namespace

void register_valu_compare() {
  define_float<F16>("f16", "m:hh");
  define_float<F32>("f32", "m:ff");
  define_float<F64>("f64", "m:dd");
  define_integer<I16>("i16", "m:ww");
  define_integer<U16>("u16", "m:ww");
  define_integer<I32>("i32", "m:uu");
  define_integer<U32>("u32", "m:uu");
  define_integer<I64>("i64", "m:qq");
  define_integer<U64>("u64", "m:QQ");
  define("class", "f16", classify<uint16_t, class16>, "m:hu");
  define("class", "f32", classify<uint32_t, class32>, "m:fu");
  define("class", "f64", classify<uint64_t, class64>, "m:du");
  add(definitions().data(), definitions().size());
}

}  // namespace vgpu::isa
