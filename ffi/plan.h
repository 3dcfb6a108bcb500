// A launch plan in memory, as jax_aiter/kernels/plan describes it. Only decode.cc makes one, checked.
#ifndef JAX_AITER_FFI_PLAN_H_
#define JAX_AITER_FFI_PLAN_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace jax_aiter {

// Execution keeps buffer addresses and one argument block on the stack; these bound them.
inline constexpr size_t kMaxBuffers = 256;
inline constexpr size_t kMaxArgumentBytes = 4096;

struct CodeObject {
  uint64_t id = 0;              // first 8 bytes of the SHA-256, as a number: names it in messages
  std::vector<uint8_t> image;   // followed by one zero byte, which CUDA wants after PTX text
  size_t size() const { return image.size() - 1; }
};

enum class BufferKind : uint8_t { kOperand = 0, kResult = 1, kScratch = 2 };

struct Buffer {
  BufferKind kind;
  uint32_t index;       // within its kind
  uint64_t nbytes;
  uint32_t alignment;
  std::string name;     // may be empty
};

struct PointerSlot {
  uint32_t offset;      // in the argument block
  uint32_t buffer;
  uint64_t byte_offset;
};

struct Param {
  uint32_t offset;
  uint32_t size;
};

struct Launch {
  uint32_t code;
  std::string symbol;
  std::array<uint32_t, 3> grid;   // in blocks
  std::array<uint32_t, 3> block;  // in threads
  uint32_t shared_bytes;
  std::vector<uint8_t> blob;
  std::vector<Param> params;
  std::vector<PointerSlot> pointers;
};

struct Fill {
  uint32_t buffer;
  uint64_t byte_offset;
  uint64_t nbytes;
  uint32_t width;       // 1, 2 or 4 bytes
  uint32_t value;
};

struct Copy {
  uint32_t dst;
  uint64_t dst_offset;
  uint32_t src;
  uint64_t src_offset;
  uint64_t nbytes;
};

// Stores the address of a place in one buffer, 8 bytes, in another buffer.
struct Address {
  uint32_t buffer;
  uint64_t byte_offset;
  uint32_t target;
  uint64_t target_offset;
};

using Step = std::variant<Launch, Fill, Copy, Address>;

struct Plan {
  std::string op;
  std::string arch;
  std::vector<std::shared_ptr<const CodeObject>> codes;
  std::vector<Buffer> buffers;
  std::vector<std::pair<uint32_t, uint32_t>> aliases;  // operand index, result index
  std::vector<Step> steps;

  size_t Count(BufferKind kind) const {
    size_t n = 0;
    for (const Buffer& b : buffers) n += b.kind == kind;
    return n;
  }
};

// "operand[2] key_cache (4096 bytes)", for messages.
std::string Describe(const Buffer& buffer);
// "step 3, kernel foo, grid (1, 2, 3), block (256, 1, 1)", for messages.
std::string Describe(const Plan& plan, size_t step);

}  // namespace jax_aiter

#endif  // JAX_AITER_FFI_PLAN_H_
