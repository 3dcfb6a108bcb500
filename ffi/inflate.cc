#include "inflate.h"

#include <array>
#include <cstring>

namespace jax_aiter {
namespace {

constexpr int kMaxBits = 15;    // longest code DEFLATE allows
constexpr int kFastBits = 9;    // codes up to here are decoded with one table look-up
constexpr int kMaxSymbols = 288;

// Bits in stream order, least significant first. Reading past the end yields zeros and is noted in `overrun`.
class BitReader {
 public:
  BitReader(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  uint32_t Peek(int count) {
    while (held_ < count) {
      uint64_t byte = at_ < size_ ? data_[at_] : 0;
      at_++;  // beyond size_ it counts the missing bytes
      bits_ |= byte << held_;
      held_ += 8;
    }
    return static_cast<uint32_t>(bits_ & ((uint64_t{1} << count) - 1));
  }
  void Drop(int count) {
    bits_ >>= count;
    held_ -= count;
  }
  uint32_t Take(int count) {
    uint32_t value = Peek(count);
    Drop(count);
    return value;
  }
  // Whole bytes fetched but not consumed are given back, so that stored blocks can be copied from the input.
  void AlignToByte() {
    Drop(held_ % 8);
    at_ -= held_ / 8;
    bits_ = 0;
    held_ = 0;
  }
  bool Overrun() const { return at_ - held_ / 8 > size_; }
  bool Copy(uint8_t* out, size_t count) {
    if (at_ > size_ || count > size_ - at_) return false;
    if (count != 0) std::memcpy(out, data_ + at_, count);
    at_ += count;
    return true;
  }
  bool AtEnd() const { return at_ - held_ / 8 == size_; }

 private:
  const uint8_t* data_;
  size_t size_;
  size_t at_ = 0;
  uint64_t bits_ = 0;
  int held_ = 0;
};

// A canonical Huffman code: short codes through a table, long ones by counting through the lengths.
class Huffman {
 public:
  // False if the lengths over-subscribe the code space or leave some of it unused. As in zlib, a code may be empty
  // (decoding then fails), and where `may_be_single` it may have one symbol of one bit (RFC 1951, 3.2.7).
  bool Build(const uint8_t* lengths, int n, bool may_be_single) {
    count_.fill(0);
    for (int i = 0; i < n; ++i) count_[lengths[i]]++;
    int used = n - count_[0];
    count_[0] = 0;
    int left = 1;
    for (int bits = 1; bits <= kMaxBits; ++bits) {
      left = left * 2 - count_[bits];
      if (left < 0) return false;
    }
    bool single = may_be_single && used == 1 && count_[1] == 1;
    if (left > 0 && used > 0 && !single) return false;

    std::array<uint16_t, kMaxBits + 2> next_index{};
    std::array<uint32_t, kMaxBits + 2> next_code{};
    for (int bits = 1; bits <= kMaxBits; ++bits) {
      next_index[bits + 1] = next_index[bits] + count_[bits];
      next_code[bits + 1] = (next_code[bits] + count_[bits]) << 1;
    }
    fast_.fill(0);
    for (int symbol = 0; symbol < n; ++symbol) {
      int bits = lengths[symbol];
      if (bits == 0) continue;
      symbols_[next_index[bits]++] = static_cast<uint16_t>(symbol);
      uint32_t code = next_code[bits]++;
      if (bits > kFastBits) continue;
      uint32_t reversed = 0;  // the stream carries a code's most significant bit first
      for (int b = 0; b < bits; ++b) reversed |= (code >> b & 1) << (bits - 1 - b);
      for (uint32_t i = reversed; i < (1u << kFastBits); i += 1u << bits) {
        fast_[i] = static_cast<uint16_t>(symbol << 4 | bits);
      }
    }
    return true;
  }

  // The next symbol, or -1 for a bit pattern that is no code.
  int Decode(BitReader& in) const {
    uint32_t window = in.Peek(kMaxBits);
    if (uint16_t entry = fast_[window & ((1u << kFastBits) - 1)]) {
      in.Drop(entry & 15);
      return entry >> 4;
    }
    int code = 0, first = 0, index = 0;
    for (int bits = 1; bits <= kMaxBits; ++bits) {
      code |= window >> (bits - 1) & 1;
      int count = count_[bits];
      if (code - count < first) {
        in.Drop(bits);
        return symbols_[index + (code - first)];
      }
      index += count;
      first = (first + count) << 1;
      code <<= 1;
    }
    return -1;
  }

 private:
  std::array<uint16_t, kMaxBits + 1> count_{};
  std::array<uint16_t, kMaxSymbols> symbols_{};
  std::array<uint16_t, 1 << kFastBits> fast_{};  // symbol << 4 | length; 0 where the code is longer or unused
};

struct Codes {
  Huffman literal, distance;
};

void BuildFixed(Codes& codes) {
  std::array<uint8_t, kMaxSymbols> lengths;
  for (int i = 0; i < kMaxSymbols; ++i) lengths[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
  codes.literal.Build(lengths.data(), kMaxSymbols, false);
  lengths.fill(5);
  codes.distance.Build(lengths.data(), 32, false);  // 30 and 31 have codes but mean nothing: refused when met
}

bool ReadDynamic(BitReader& in, Codes& codes) {
  static constexpr uint8_t kOrder[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
  int literals = static_cast<int>(in.Take(5)) + 257;
  int distances = static_cast<int>(in.Take(5)) + 1;
  int lengths_coded = static_cast<int>(in.Take(4)) + 4;
  if (literals > 286 || distances > 30) return false;
  std::array<uint8_t, 19> code_lengths{};
  for (int i = 0; i < lengths_coded; ++i) code_lengths[kOrder[i]] = static_cast<uint8_t>(in.Take(3));
  if (!codes.literal.Build(code_lengths.data(), 19, false)) return false;

  std::array<uint8_t, 286 + 30> lengths{};
  for (int i = 0; i < literals + distances;) {
    int symbol = codes.literal.Decode(in);
    if (symbol < 0 || in.Overrun()) return false;
    if (symbol < 16) {
      lengths[i++] = static_cast<uint8_t>(symbol);
      continue;
    }
    if (symbol == 16 && i == 0) return false;
    uint8_t value = symbol == 16 ? lengths[i - 1] : 0;
    int repeat = static_cast<int>(symbol == 16   ? 3 + in.Take(2)
                                  : symbol == 17 ? 3 + in.Take(3)
                                                 : 11 + in.Take(7));
    if (i + repeat > literals + distances) return false;
    while (repeat-- > 0) lengths[i++] = value;
  }
  if (lengths[256] == 0) return false;  // without an end-of-block code the block could not end
  return codes.literal.Build(lengths.data(), literals, true) &&
         codes.distance.Build(lengths.data() + literals, distances, true);
}

bool ReadBlock(BitReader& in, const Codes& codes, uint8_t* out, size_t out_size, size_t& at) {
  static constexpr uint16_t kLength[29] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                           31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
  static constexpr uint8_t kLengthBits[29] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                              2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
  static constexpr uint16_t kDistance[30] = {1,   2,   3,   4,   5,   7,    9,    13,   17,   25,
                                             33,  49,  65,  97,  129, 193,  257,  385,  513,  769,
                                             1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
  static constexpr uint8_t kDistanceBits[30] = {0, 0, 0, 0, 1, 1, 2, 2,  3,  3,  4,  4,  5,  5,  6,
                                                6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13};
  for (;;) {
    int symbol = codes.literal.Decode(in);
    if (symbol < 0 || in.Overrun()) return false;
    if (symbol < 256) {
      if (at == out_size) return false;
      out[at++] = static_cast<uint8_t>(symbol);
      continue;
    }
    if (symbol == 256) return true;
    symbol -= 257;
    if (symbol >= 29) return false;
    size_t length = kLength[symbol] + in.Take(kLengthBits[symbol]);
    int d = codes.distance.Decode(in);
    if (d < 0 || d >= 30) return false;
    size_t distance = kDistance[d] + in.Take(kDistanceBits[d]);
    if (in.Overrun() || distance > at || length > out_size - at) return false;
    // Byte by byte: source and destination overlap whenever distance < length, and that repetition is meant.
    for (size_t end = at + length; at < end; ++at) out[at] = out[at - distance];
  }
}

bool ReadStored(BitReader& in, uint8_t* out, size_t out_size, size_t& at) {
  in.AlignToByte();
  uint32_t length = in.Take(16);
  if (in.Take(16) != (~length & 0xFFFF)) return false;
  in.AlignToByte();
  if (length > out_size - at || !in.Copy(out + at, length)) return false;
  at += length;
  return true;
}

}  // namespace

bool Inflate(const uint8_t* in_data, size_t in_size, uint8_t* out, size_t out_size) {
  BitReader in(in_data, in_size);
  Codes codes;
  size_t at = 0;
  for (bool last = false; !last;) {
    last = in.Take(1);
    switch (in.Take(2)) {
      case 0:
        if (!ReadStored(in, out, out_size, at)) return false;
        break;
      case 1:
        BuildFixed(codes);
        if (!ReadBlock(in, codes, out, out_size, at)) return false;
        break;
      case 2:
        if (!ReadDynamic(in, codes) || !ReadBlock(in, codes, out, out_size, at)) return false;
        break;
      default:
        return false;
    }
    if (in.Overrun()) return false;
  }
  return at == out_size && in.AtEnd();
}

}  // namespace jax_aiter
