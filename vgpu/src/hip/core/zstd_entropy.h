// zstd's two entropy coders and the backward bit stream they share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <vector>

namespace vgpu::hip::zstd {

struct Corrupt : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Bounds-checked forward reader.
struct Bytes {
  const uint8_t* at;
  const uint8_t* end;
  size_t left() const { return end - at; }
  const uint8_t* take(size_t count) {
    if (count > left()) throw Corrupt("data ends early");
    const uint8_t* start = at;
    at += count;
    return start;
  }
  uint64_t number(unsigned bytes) {  // little endian
    const uint8_t* p = take(bytes);
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; ++i) value |= uint64_t{p[i]} << (8 * i);
    return value;
  }
};

// Bits from the end of a buffer towards its start; the highest set bit of the last byte is a marker.
class BackwardBits {
 public:
  BackwardBits(const uint8_t* data, size_t size);
  uint64_t read(unsigned bits);        // up to 56; bits before the start read as zero
  uint64_t peek(unsigned bits) const;
  void skip(unsigned bits) { position_ -= bits; }
  // Negative once more was read than there was.
  int64_t position() const { return position_; }

 private:
  const uint8_t* data_;
  int64_t position_;  // bits not yet read
};

// Finite state entropy.
struct FseTable {
  struct Entry {
    uint8_t symbol, bits;
    uint16_t base;
  };
  unsigned log = 0;
  std::vector<Entry> entries;

  static FseTable from_counts(const std::vector<int16_t>& counts, unsigned log);
  static FseTable single(uint8_t symbol);
  static FseTable parse(Bytes& in, unsigned max_log, unsigned max_symbol);
};

struct FseState {
  const FseTable* table;
  uint32_t state;
  FseState(const FseTable& table, BackwardBits& bits) : table(&table), state(bits.read(table.log)) {}
  uint8_t symbol() const { return table->entries[state].symbol; }
  void advance(BackwardBits& bits) {
    const auto& entry = table->entries[state];
    state = entry.base + bits.read(entry.bits);
  }
};

// Canonical prefix code over bytes.
struct HuffmanTable {
  struct Entry {
    uint8_t symbol, bits;
  };
  unsigned log = 0;
  std::vector<Entry> entries;

  static HuffmanTable parse(Bytes& in);
  void decode(const uint8_t* data, size_t size, uint8_t* out, size_t count) const;
};

}  // namespace vgpu::hip::zstd
