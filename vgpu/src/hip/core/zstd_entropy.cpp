#include "core/zstd_entropy.h"

namespace vgpu::hip::zstd {
namespace {

unsigned log2_floor(uint32_t value) { return 31 - __builtin_clz(value); }

}  // namespace

BackwardBits::BackwardBits(const uint8_t* data, size_t size) : data_(data) {
  if (size == 0 || data[size - 1] == 0) throw Corrupt("bit stream without end marker");
  position_ = static_cast<int64_t>(size) * 8 - (8 - log2_floor(data[size - 1]));
}

uint64_t BackwardBits::peek(unsigned bits) const {
  uint64_t value = 0;
  const int64_t low = position_ - bits;
  for (int64_t byte = (position_ - 1) >> 3; byte >= 0 && byte * 8 + 8 > low; --byte) {
    const int64_t shift = byte * 8 - low;
    value |= shift >= 0 ? uint64_t{data_[byte]} << shift : uint64_t{data_[byte]} >> -shift;
  }
  return bits == 0 ? 0 : value & (~uint64_t{0} >> (64 - bits));
}

uint64_t BackwardBits::read(unsigned bits) {
  const uint64_t value = peek(bits);
  position_ -= bits;
  return value;
}

FseTable FseTable::from_counts(const std::vector<int16_t>& counts, unsigned log) {
  FseTable table;
  table.log = log;
  const uint32_t size = 1u << log;
  table.entries.resize(size);
  std::vector<uint32_t> next(counts.size());
  uint32_t high = size;
  // "Less than one" probabilities take one cell each, from the end.
  for (size_t symbol = 0; symbol < counts.size(); ++symbol) {
    next[symbol] = counts[symbol];
    if (counts[symbol] == -1) {
      table.entries[--high].symbol = symbol;
      next[symbol] = 1;
    }
  }
  const uint32_t step = (size >> 1) + (size >> 3) + 3;
  uint32_t position = 0;
  for (size_t symbol = 0; symbol < counts.size(); ++symbol) {
    for (int i = 0; i < counts[symbol]; ++i) {
      table.entries[position].symbol = symbol;
      do position = (position + step) & (size - 1);
      while (position >= high);
    }
  }
  if (position != 0) throw Corrupt("FSE table does not fill up");
  for (Entry& entry : table.entries) {
    const uint32_t state = next[entry.symbol]++;
    entry.bits = log - log2_floor(state);
    entry.base = (state << entry.bits) - size;
  }
  return table;
}

FseTable FseTable::single(uint8_t symbol) {
  FseTable table;
  table.entries.push_back({symbol, 0, 0});
  return table;
}

FseTable FseTable::parse(Bytes& in, unsigned max_log, unsigned max_symbol) {
  uint64_t position = 0;  // in bits, forward
  const auto bits = [&](unsigned count) {
    uint32_t value = 0;
    for (unsigned i = 0; i < count; ++i) {
      const uint64_t at = position + i;
      if (at / 8 >= in.left()) throw Corrupt("FSE description ends early");
      value |= uint32_t{(in.at[at / 8] >> (at % 8)) & 1u} << i;
    }
    return value;
  };
  const unsigned log = bits(4) + 5;
  position += 4;
  if (log > max_log) throw Corrupt("FSE accuracy too large");
  int32_t remaining = 1 << log;
  std::vector<int16_t> counts;
  while (remaining > 0) {
    if (counts.size() > max_symbol) throw Corrupt("too many FSE symbols");
    // Values below `small` take one bit less.
    const unsigned width = log2_floor(remaining + 1) + 1;
    const uint32_t small = (1u << width) - 1 - (remaining + 1);
    const uint32_t half = (1u << (width - 1)) - 1;
    const uint32_t low = bits(width - 1);
    uint32_t value;
    if (low < small) {
      value = low;
      position += width - 1;
    } else {
      value = bits(width);
      if (value > half) value -= small;
      position += width;
    }
    const int16_t count = static_cast<int16_t>(value) - 1;
    remaining -= count < 0 ? 1 : count;
    counts.push_back(count);
    if (count != 0) continue;
    uint32_t repeat;
    do {
      repeat = bits(2);
      position += 2;
      counts.insert(counts.end(), repeat, 0);
    } while (repeat == 3);
  }
  if (remaining != 0 || counts.size() > max_symbol + 1) throw Corrupt("bad FSE probabilities");
  in.take((position + 7) / 8);
  return from_counts(counts, log);
}

HuffmanTable HuffmanTable::parse(Bytes& in) {
  std::vector<uint8_t> weights;
  const uint8_t head = in.number(1);
  if (head >= 128) {
    const unsigned count = head - 127;
    const uint8_t* packed = in.take((count + 1) / 2);
    for (unsigned i = 0; i < count; ++i) weights.push_back(i % 2 ? packed[i / 2] & 15 : packed[i / 2] >> 4);
  } else {
    const uint8_t* start = in.take(head);
    Bytes body{start, start + head};
    const FseTable table = FseTable::parse(body, 6, 255);
    BackwardBits bits(body.at, body.left());
    FseState states[2] = {FseState(table, bits), FseState(table, bits)};
    // The two states take turns until one needs bits that are not there; the other's symbol is the last.
    for (unsigned turn = 0;; turn ^= 1) {
      weights.push_back(states[turn].symbol());
      if (weights.size() > 254) throw Corrupt("too many Huffman weights");
      states[turn].advance(bits);
      if (bits.position() < 0) {
        weights.push_back(states[turn ^ 1].symbol());
        break;
      }
    }
  }
  uint32_t sum = 0;
  for (const uint8_t weight : weights) sum += weight ? 1u << (weight - 1) : 0;
  if (sum == 0) throw Corrupt("empty Huffman code");
  HuffmanTable table;
  table.log = log2_floor(sum) + 1;
  if (table.log > 11) throw Corrupt("Huffman code too long");
  const uint32_t rest = (1u << table.log) - sum;  // what the implied last symbol fills up
  if (rest & (rest - 1)) throw Corrupt("incomplete Huffman code");
  weights.push_back(log2_floor(rest) + 1);
  for (unsigned weight = 1; weight <= table.log; ++weight) {
    for (size_t symbol = 0; symbol < weights.size(); ++symbol) {
      if (weights[symbol] != weight) continue;
      table.entries.insert(table.entries.end(), 1u << (weight - 1),
                           {static_cast<uint8_t>(symbol), static_cast<uint8_t>(table.log + 1 - weight)});
    }
  }
  if (table.entries.size() != size_t{1} << table.log) throw Corrupt("incomplete Huffman code");
  return table;
}

void HuffmanTable::decode(const uint8_t* data, size_t size, uint8_t* out, size_t count) const {
  BackwardBits bits(data, size);
  for (size_t i = 0; i < count; ++i) {
    const Entry& entry = entries[bits.peek(log)];
    out[i] = entry.symbol;
    bits.skip(entry.bits);
  }
  if (bits.position() != 0) throw Corrupt("Huffman stream has the wrong length");
}

}  // namespace vgpu::hip::zstd
