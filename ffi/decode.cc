#include "decode.h"

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "inflate.h"
#include "reader.h"
#include "sha256.h"
#include "text_codec.h"

namespace jax_aiter {
namespace {

constexpr size_t kHeaderBytes = 12;
constexpr size_t kCodeIdBytes = 8;
constexpr uint64_t kMaxImageBytes = uint64_t{1} << 30;
constexpr uint64_t kMaxBufferBytes = (uint64_t{1} << 62) - 1;

uint32_t Load(const uint8_t* p, int bytes) {
  uint32_t value = 0;
  for (int i = 0; i < bytes; ++i) value |= static_cast<uint32_t>(p[i]) << (8 * i);
  return value;
}

Status CheckHeader(const uint8_t* data, size_t size, uint32_t* version) {
  if (size < kHeaderBytes) return Invalid(std::to_string(size) + " bytes, shorter than the header");
  if (std::memcmp(data, "JAPL", 4) != 0) return Invalid("it does not start with JAPL");
  *version = Load(data + 4, 2);
  if (*version < 1 || *version > kPlanVersion) {
    // Told apart from corruption: the remedy is another jax_aiter, not another file.
    return Status(Code::kUnimplemented, "its version is " + std::to_string(*version) + ", this jax_aiter reads versions up to " +
                                            std::to_string(kPlanVersion) + "; install a jax_aiter that matches it");
  }
  if (Load(data + 6, 2) != 0) return Invalid("reserved header bytes are not zero");
  if (Crc32(data + kHeaderBytes, size - kHeaderBytes) != Load(data + 8, 4)) {
    return Invalid("checksum mismatch, the data is corrupt");
  }
  return Status();
}

CodeObject ReadCode(Reader& in) {
  CodeObject code;
  const uint8_t* id = in.Bytes(kCodeIdBytes);
  uint64_t raw_size = in.Bounded(kMaxImageBytes, "code object size");
  uint8_t codec = in.Byte();
  uint64_t packed_size = in.Varint();
  const uint8_t* packed = in.Bytes(packed_size);
  if (in.failed()) return code;
  if (raw_size == 0) in.Fail("empty code object");
  if (codec > 1) in.Fail("code object codec " + std::to_string(codec) + " is unknown");
  if (codec == 0 && raw_size != packed_size) in.Fail("stored code object of another size than declared");
  if (codec == 1 && raw_size / kMaxInflateRatio > packed_size) in.Fail("impossible compression ratio");
  if (in.failed()) return code;
  code.image.resize(raw_size + 1);  // + 1: the zero byte promised in plan.h
  if (codec == 0) {
    std::memcpy(code.image.data(), packed, raw_size);
  } else if (!Inflate(packed, packed_size, code.image.data(), raw_size)) {
    in.Fail("code object does not decompress");
  }
  if (in.failed()) return code;
  if (std::memcmp(Sha256(code.image.data(), raw_size).data(), id, kCodeIdBytes) != 0) {
    in.Fail("code object does not match its hash");
  }
  for (size_t i = 0; i < kCodeIdBytes; ++i) code.id = code.id << 8 | id[i];  // so that %016x prints the hash's hex digits
  return code;
}

Launch ReadLaunch(Reader& in, size_t codes, const std::vector<std::string>& strings) {
  Launch launch;
  launch.code = in.Number(codes, "code object");
  uint32_t symbol = in.Number(strings.size(), "string");
  if (!in.failed()) launch.symbol = strings[symbol];
  for (uint32_t& g : launch.grid) g = in.U32("grid size");
  for (uint32_t& b : launch.block) b = in.U32("block size");
  launch.shared_bytes = in.U32("shared memory size");
  uint64_t blob_size = in.Bounded(kMaxArgumentBytes, "argument block size");
  if (const uint8_t* blob = in.Bytes(blob_size)) launch.blob.assign(blob, blob + blob_size);
  size_t params = in.Count(2, "parameter count");
  uint64_t end = 0;
  for (size_t i = 0; i < params && !in.failed(); ++i) {
    uint64_t offset = end + in.Bounded(kMaxArgumentBytes, "parameter gap");
    uint64_t size = in.Bounded(kMaxArgumentBytes, "parameter size");
    end = offset + size;
    if (size == 0 || end > blob_size) in.Fail("parameter empty or outside the argument block");
    launch.params.push_back({static_cast<uint32_t>(offset), static_cast<uint32_t>(size)});
  }
  size_t pointers = in.Count(3, "pointer count");
  for (size_t i = 0; i < pointers && !in.failed(); ++i) {
    PointerSlot slot;
    slot.offset = in.U32("pointer offset");
    slot.buffer = in.U32("buffer");
    slot.byte_offset = in.Varint();
    launch.pointers.push_back(slot);
  }
  return launch;
}

Fill ReadFill(Reader& in) {
  Fill fill;
  fill.buffer = in.U32("buffer");
  fill.byte_offset = in.Varint();
  fill.nbytes = in.Varint();
  fill.width = in.Byte();
  fill.value = in.U32("fill value");
  return fill;
}

Copy ReadCopy(Reader& in) {
  Copy copy;
  copy.dst = in.U32("buffer");
  copy.dst_offset = in.Varint();
  copy.src = in.U32("buffer");
  copy.src_offset = in.Varint();
  copy.nbytes = in.Varint();
  return copy;
}

Address ReadAddress(Reader& in) {
  Address address;
  address.buffer = in.U32("buffer");
  address.byte_offset = in.Varint();
  address.target = in.U32("buffer");
  address.target_offset = in.Varint();
  return address;
}

Buffer ReadBuffer(Reader& in, const std::vector<std::string>& strings) {
  Buffer buffer;
  uint8_t kind = in.Byte();
  if (kind > 2) in.Fail("buffer kind " + std::to_string(kind) + " is unknown");
  buffer.kind = static_cast<BufferKind>(kind);
  buffer.index = in.U32("buffer index");
  buffer.nbytes = in.Bounded(kMaxBufferBytes, "buffer size");
  uint8_t log2_alignment = in.Byte();
  if (log2_alignment > 12) in.Fail("alignment of more than 4096 bytes");
  buffer.alignment = in.failed() ? 1 : 1u << log2_alignment;
  uint32_t name = in.Number(strings.size(), "string");
  if (!in.failed()) buffer.name = strings[name];
  return buffer;
}

void ReadBody(Reader& in, uint32_t version, Plan* plan, std::vector<CodeObject>* codes) {
  std::vector<std::string> strings;
  for (size_t n = in.Count(1, "string count"); n > 0 && !in.failed(); --n) strings.push_back(in.String());
  uint32_t op = in.Number(strings.size(), "string");
  uint32_t arch = in.Number(strings.size(), "string");
  if (in.failed()) return;
  plan->op = strings[op];
  plan->arch = strings[arch];
  for (size_t n = in.Count(11, "code object count"); n > 0 && !in.failed(); --n) codes->push_back(ReadCode(in));
  size_t buffers = in.Count(5, "buffer count");
  if (buffers > kMaxBuffers) in.Fail(std::to_string(buffers) + " buffers, more than the limit,");
  for (; buffers > 0 && !in.failed(); --buffers) plan->buffers.push_back(ReadBuffer(in, strings));
  for (size_t n = in.Count(2, "alias count"); n > 0 && !in.failed(); --n) {
    uint32_t operand = in.U32("alias operand");
    uint32_t result = in.U32("alias result");
    plan->aliases.emplace_back(operand, result);
  }
  for (size_t n = in.Count(5, "step count"); n > 0 && !in.failed(); --n) {
    switch (uint8_t tag = in.Byte()) {
      case 0:
        plan->steps.emplace_back(ReadLaunch(in, codes->size(), strings));
        break;
      case 1:
        plan->steps.emplace_back(ReadFill(in));
        break;
      case 2:
        plan->steps.emplace_back(ReadCopy(in));
        break;
      case 3:
        if (version < 2) in.Fail("a step that stores an address in version 1");
        plan->steps.emplace_back(ReadAddress(in));
        break;
      default:
        in.Fail("step tag " + std::to_string(tag) + " is unknown");
    }
  }
  if (!in.failed() && in.left() != 0) in.Fail(std::to_string(in.left()) + " bytes follow the end");
}

}  // namespace

Status DecodePlan(const uint8_t* data, size_t size, CodeStore& store, Plan* plan) {
  uint32_t version = 0;
  JAX_AITER_RETURN_IF_ERROR(CheckHeader(data, size, &version).In("launch plan cannot be read"));
  *plan = Plan();
  std::vector<CodeObject> codes;
  Reader in(data + kHeaderBytes, size - kHeaderBytes);
  ReadBody(in, version, plan, &codes);
  if (in.failed()) return Invalid("launch plan cannot be read: " + in.error());
  JAX_AITER_RETURN_IF_ERROR(CheckPlan(*plan).In("launch plan is not valid"));
  for (CodeObject& code : codes) plan->codes.push_back(store.Intern(std::move(code)));
  return Status();
}

}  // namespace jax_aiter
