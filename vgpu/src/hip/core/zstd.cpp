#include "core/zstd.h"

#include <cstring>

#include "core/zstd_entropy.h"

namespace vgpu::hip {
namespace zstd {
namespace {

constexpr uint32_t kMagic = 0xFD2FB528;

// Literal length and match length codes: base value and extra bits (RFC 8878, 3.1.1.3.2.1.1).
struct Code {
  uint32_t base;
  uint8_t bits;
};
std::vector<Code> codes(uint32_t first, unsigned plain, std::initializer_list<uint8_t> extra) {
  std::vector<Code> table;
  for (unsigned i = 0; i < plain; ++i) table.push_back({first++, 0});
  for (const uint8_t bits : extra) {
    table.push_back({first, bits});
    first += 1u << bits;
  }
  return table;
}
const std::vector<Code>& literal_codes() {
  static const auto table = codes(0, 16, {1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16});
  return table;
}
const std::vector<Code>& match_codes() {
  static const auto table = codes(3, 32, {1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16});
  return table;
}

const std::vector<int16_t> kLiteralCounts = {4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2,
                                             2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1};
const std::vector<int16_t> kMatchCounts = {1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                                           1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1};
const std::vector<int16_t> kOffsetCounts = {1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1,
                                            1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1};

class Frame {
 public:
  Frame(Bytes in, std::vector<uint8_t>& out) : in_(in), out_(out) {}

  void decode() {
    if (in_.number(4) != kMagic) throw Corrupt("not a zstd frame");
    const uint8_t descriptor = in_.number(1);
    const bool single = descriptor & 0x20;
    if (!single) in_.take(1);  // window size: the whole output is kept anyway
    if (descriptor & 3) throw Corrupt("needs a dictionary");
    const unsigned size_flag = descriptor >> 6;
    in_.take(size_flag == 0 ? (single ? 1 : 0) : 1u << size_flag);
    for (bool last = false; !last;) {
      const uint32_t header = in_.number(3);
      last = header & 1;
      const uint32_t size = header >> 3;
      switch ((header >> 1) & 3) {
        case 0: {
          const uint8_t* raw = in_.take(size);
          out_.insert(out_.end(), raw, raw + size);
          break;
        }
        case 1: out_.insert(out_.end(), size, in_.number(1)); break;
        case 2: {
          const uint8_t* start = in_.take(size);
          block({start, start + size});
          break;
        }
        default: throw Corrupt("reserved block type");
      }
    }
  }

 private:
  void literals(Bytes& in) {
    const uint8_t first = in.left() ? *in.at : throw Corrupt("empty block");
    const unsigned type = first & 3, format = (first >> 2) & 3;
    if (type < 2) {
      const unsigned bytes = format == 1 ? 2 : format == 3 ? 3 : 1;
      const size_t count = in.number(bytes) >> (bytes == 1 ? 3 : 4);
      if (type == 1) {
        literals_.assign(count, in.number(1));
      } else {
        const uint8_t* raw = in.take(count);
        literals_.assign(raw, raw + count);
      }
      return;
    }
    const unsigned bits = format < 2 ? 10 : format == 2 ? 14 : 18;
    const uint64_t header = in.number(format < 2 ? 3 : format == 2 ? 4 : 5) >> 4;
    const size_t count = header & ((1u << bits) - 1), packed = header >> bits & ((1u << bits) - 1);
    const uint8_t* start = in.take(packed);
    Bytes body{start, start + packed};
    if (type == 2) huffman_ = HuffmanTable::parse(body);
    if (huffman_.entries.empty()) throw Corrupt("no Huffman table to repeat");
    literals_.resize(count);
    if (format == 0) {
      huffman_.decode(body.at, body.left(), literals_.data(), count);
      return;
    }
    size_t sizes[4] = {};
    for (int i = 0; i < 3; ++i) sizes[i] = body.number(2);
    const size_t share = (count + 3) / 4;
    if (sizes[0] + sizes[1] + sizes[2] > body.left() || 3 * share > count) throw Corrupt("bad Huffman stream sizes");
    sizes[3] = body.left() - sizes[0] - sizes[1] - sizes[2];
    for (int i = 0; i < 4; ++i) {
      huffman_.decode(body.take(sizes[i]), sizes[i], literals_.data() + i * share, i < 3 ? share : count - 3 * share);
    }
  }

  static void table(Bytes& in, unsigned mode, FseTable& slot, const std::vector<int16_t>& standard, unsigned log,
                    unsigned max_log, unsigned max_symbol) {
    switch (mode) {
      case 0: slot = FseTable::from_counts(standard, log); break;
      case 1: slot = FseTable::single(in.number(1)); break;
      case 2: slot = FseTable::parse(in, max_log, max_symbol); break;
      default:
        if (slot.entries.empty()) throw Corrupt("no FSE table to repeat");
    }
  }

  void block(Bytes in) {
    literals(in);
    size_t count = in.number(1);
    if (count >= 128) count = count == 255 ? in.number(2) + 0x7F00 : ((count - 128) << 8) + in.number(1);
    size_t used = 0;
    if (count != 0) {
      const uint8_t modes = in.number(1);
      table(in, modes >> 6, literal_table_, kLiteralCounts, 6, 9, 35);
      table(in, modes >> 4 & 3, offset_table_, kOffsetCounts, 5, 8, 31);
      table(in, modes >> 2 & 3, match_table_, kMatchCounts, 6, 9, 52);
      BackwardBits bits(in.at, in.left());
      FseState literal(literal_table_, bits), offset(offset_table_, bits), match(match_table_, bits);
      for (size_t i = 0; i < count; ++i) {
        const uint64_t offset_value = (uint64_t{1} << offset.symbol()) + bits.read(offset.symbol());
        const Code& m = match_codes().at(match.symbol());
        const size_t match_length = m.base + bits.read(m.bits);
        const Code& l = literal_codes().at(literal.symbol());
        const size_t literal_length = l.base + bits.read(l.bits);
        if (i + 1 < count) {
          literal.advance(bits);
          match.advance(bits);
          offset.advance(bits);
        }
        if (literal_length > literals_.size() - used) throw Corrupt("literals run out");
        out_.insert(out_.end(), literals_.begin() + used, literals_.begin() + used + literal_length);
        used += literal_length;
        repeat(distance(offset_value, literal_length), match_length);
      }
      if (bits.position() != 0) throw Corrupt("sequence stream has the wrong length");
    }
    out_.insert(out_.end(), literals_.begin() + used, literals_.end());
  }

  // Values 1..3 name recent distances, shifted by one when there is no literal in between.
  size_t distance(uint64_t value, size_t literal_length) {
    uint64_t* recent = recent_;
    if (value > 3) {
      recent[2] = recent[1];
      recent[1] = recent[0];
      return recent[0] = value - 3;
    }
    const unsigned index = value - 1 + (literal_length == 0);
    const uint64_t chosen = index == 3 ? recent[0] - 1 : recent[index];
    if (index > 1) recent[2] = recent[1];
    if (index > 0) recent[1] = recent[0];
    return recent[0] = chosen;
  }

  void repeat(size_t distance, size_t length) {
    if (distance == 0 || distance > out_.size()) throw Corrupt("match before the start");
    size_t from = out_.size() - distance;
    // Byte by byte: a match may overlap what it produces.
    for (size_t i = 0; i < length; ++i) out_.push_back(out_[from + i]);
  }

  Bytes in_;
  std::vector<uint8_t>& out_;
  std::vector<uint8_t> literals_;
  HuffmanTable huffman_;
  FseTable literal_table_, offset_table_, match_table_;
  uint64_t recent_[3] = {1, 4, 8};
};

}  // namespace
}  // namespace zstd

bool zstd_decompress(const uint8_t* data, size_t size, size_t expected, std::vector<uint8_t>* out, std::string* error) {
  out->clear();
  out->reserve(expected);
  try {
    zstd::Frame({data, data + size}, *out).decode();
  } catch (const std::exception& failure) {
    *error = failure.what();
    return false;
  }
  if (out->size() == expected) return true;
  *error = "decoded size differs from the header's";
  return false;
}

}  // namespace vgpu::hip
