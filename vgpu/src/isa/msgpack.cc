#include "isa/msgpack.h"

#include <cstring>

namespace vgpu::isa {
namespace {

constexpr int kMaxDepth = 32;

struct Reader {
  const uint8_t* p;
  const uint8_t* end;

  bool bytes(size_t n, const uint8_t** out) {
    if (static_cast<size_t>(end - p) < n) return false;
    *out = p;
    p += n;
    return true;
  }
  bool big_endian(int n, uint64_t* out) {
    const uint8_t* q;
    if (!bytes(static_cast<size_t>(n), &q)) return false;
    *out = 0;
    for (int i = 0; i < n; ++i) *out = *out << 8 | q[i];
    return true;
  }
  bool string(uint64_t n, MsgValue* out) {
    const uint8_t* q;
    if (!bytes(n, &q)) return false;
    out->kind = MsgValue::Str;
    out->text.assign(reinterpret_cast<const char*>(q), n);
    return true;
  }
  bool array(uint64_t n, MsgValue* out, int depth) {
    out->kind = MsgValue::Array;
    for (uint64_t i = 0; i < n; ++i) {
      out->items.emplace_back();
      if (!value(&out->items.back(), depth + 1)) return false;
    }
    return true;
  }
  bool map(uint64_t n, MsgValue* out, int depth) {
    out->kind = MsgValue::Map;
    for (uint64_t i = 0; i < n; ++i) {
      MsgValue key, item;
      if (!value(&key, depth + 1) || !value(&item, depth + 1)) return false;
      if (key.kind == MsgValue::Str) out->fields.emplace_back(key.text, std::move(item));
    }
    return true;
  }
  bool integer(uint64_t x, MsgValue* out) {
    out->kind = MsgValue::Int;
    out->number = static_cast<int64_t>(x);
    return true;
  }

  bool value(MsgValue* out, int depth) {
    uint64_t tag, x;
    if (depth > kMaxDepth || !big_endian(1, &tag)) return false;
    if (tag < 0x80) return integer(tag, out);
    if (tag < 0x90) return map(tag & 15, out, depth);
    if (tag < 0xa0) return array(tag & 15, out, depth);
    if (tag < 0xc0) return string(tag & 31, out);
    if (tag >= 0xe0) return integer(static_cast<uint64_t>(static_cast<int64_t>(static_cast<int8_t>(tag))), out);
    switch (tag) {
      case 0xc0: return true;
      case 0xc2: case 0xc3: out->kind = MsgValue::Bool; out->number = tag & 1; return true;
      case 0xc4: case 0xc5: case 0xc6: return big_endian(1 << (tag - 0xc4), &x) && string(x, out);
      case 0xca: case 0xcb: {
        const int n = tag == 0xca ? 4 : 8;
        if (!big_endian(n, &x)) return false;
        out->kind = MsgValue::Float;
        if (n == 4) {
          const uint32_t y = static_cast<uint32_t>(x);
          float f;
          std::memcpy(&f, &y, 4);
          out->real = f;
        } else {
          std::memcpy(&out->real, &x, 8);
        }
        return true;
      }
      case 0xcc: case 0xcd: case 0xce: case 0xcf: return big_endian(1 << (tag - 0xcc), &x) && integer(x, out);
      case 0xd0: return big_endian(1, &x) && integer(static_cast<uint64_t>(static_cast<int64_t>(static_cast<int8_t>(x))), out);
      case 0xd1: return big_endian(2, &x) && integer(static_cast<uint64_t>(static_cast<int64_t>(static_cast<int16_t>(x))), out);
      case 0xd2: return big_endian(4, &x) && integer(static_cast<uint64_t>(static_cast<int64_t>(static_cast<int32_t>(x))), out);
      case 0xd3: return big_endian(8, &x) && integer(x, out);
      case 0xd9: case 0xda: case 0xdb: return big_endian(1 << (tag - 0xd9), &x) && string(x, out);
      case 0xdc: case 0xdd: return big_endian(tag == 0xdc ? 2 : 4, &x) && array(x, out, depth);
      case 0xde: case 0xdf: return big_endian(tag == 0xde ? 2 : 4, &x) && map(x, out, depth);
      default: return false;  // extension types do not occur in the metadata
    }
  }
};

}  // namespace

const MsgValue* MsgValue::get(const std::string& key) const {
  for (const auto& field : fields)
    if (field.first == key) return &field.second;
  return nullptr;
}
int64_t MsgValue::number_at(const std::string& key, int64_t fallback) const {
  const MsgValue* v = get(key);
  return v && (v->kind == Int || v->kind == Bool) ? v->number : fallback;
}
std::string MsgValue::text_at(const std::string& key) const {
  const MsgValue* v = get(key);
  return v ? v->text : std::string();
}

bool parse_msgpack(const uint8_t* data, size_t size, MsgValue* out) {
  Reader reader{data, data + size};
  return reader.value(out, 0);
}

}  // namespace vgpu::isa
