// Just enough MessagePack to read code object metadata.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace vgpu::isa {

struct MsgValue {
  enum Kind { Nil, Bool, Int, Float, Str, Array, Map } kind = Nil;
  int64_t number = 0;
  double real = 0;
  std::string text;
  std::vector<MsgValue> items;                                // Array
  std::vector<std::pair<std::string, MsgValue>> fields;       // Map; keys that are not strings are dropped

  const MsgValue* get(const std::string& key) const;
  int64_t number_at(const std::string& key, int64_t fallback = 0) const;
  std::string text_at(const std::string& key) const;
};

// False when the bytes are not well formed.
bool parse_msgpack(const uint8_t* data, size_t size, MsgValue* out);

}  // namespace vgpu::isa
