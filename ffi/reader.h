// Reads the primitive parts of an encoded plan from untrusted bytes.
//
// The first thing that is wrong is remembered; every read after it returns zero, so that a decoder can be written as
// straight-line code and check once per record. Loops over a count read from the input must stop when `failed()`.
#ifndef JAX_AITER_FFI_READER_H_
#define JAX_AITER_FFI_READER_H_

#include <cstddef>
#include <cstdint>
#include <string>

namespace jax_aiter {

class Reader {
 public:
  Reader(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  bool failed() const { return !error_.empty(); }
  const std::string& error() const { return error_; }
  size_t left() const { return size_ - at_; }

  void Fail(const std::string& what) {
    if (!failed()) error_ = what + " at byte " + std::to_string(at_);
  }

  // The next `count` bytes, or nullptr.
  const uint8_t* Bytes(uint64_t count) {
    if (failed()) return nullptr;
    if (count > left()) {
      Fail(std::to_string(count) + " bytes wanted, " + std::to_string(left()) + " left,");
      return nullptr;
    }
    at_ += count;
    return data_ + at_ - count;
  }

  uint8_t Byte() {
    const uint8_t* p = Bytes(1);
    return p ? *p : 0;
  }

  uint64_t Varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 63; shift += 7) {
      uint8_t byte = Byte();
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return failed() ? 0 : value;
    }
    Fail("integer of more than 63 bits");
    return 0;
  }

  // A varint of at most `max`.
  uint64_t Bounded(uint64_t max, const char* what) {
    uint64_t value = Varint();
    if (value <= max) return value;
    Fail(std::string(what) + " " + std::to_string(value) + ", at most " + std::to_string(max) + " allowed,");
    return 0;
  }

  uint32_t U32(const char* what) { return static_cast<uint32_t>(Bounded(UINT32_MAX, what)); }

  // A number below `count`, 0 on failure (also when `count` is 0).
  uint32_t Number(size_t count, const char* what) {
    uint64_t value = Varint();
    if (value < count) return static_cast<uint32_t>(value);
    Fail(std::string(what) + " " + std::to_string(value) + ", there are " + std::to_string(count) + ",");
    return 0;
  }

  // A count of records that take at least `record_bytes` each: bounds loops and reservations by the input's size.
  size_t Count(size_t record_bytes, const char* what) {
    return static_cast<size_t>(Bounded(left() / record_bytes, what));
  }

  // Names are printable ASCII: they go to drivers as C strings and to Python in error messages.
  std::string String() {
    uint64_t size = Varint();
    const uint8_t* p = Bytes(size);
    if (!p) return std::string();
    for (uint64_t i = 0; i < size; ++i) {
      if (p[i] < 0x20 || p[i] > 0x7E) Fail("a name is not printable ASCII");
    }
    return std::string(reinterpret_cast<const char*>(p), size);
  }

 private:
  const uint8_t* data_;
  size_t size_;
  size_t at_ = 0;
  std::string error_;
};

}  // namespace jax_aiter

#endif  // JAX_AITER_FFI_READER_H_
