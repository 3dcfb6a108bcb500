#include "core/offload_bundle.h"

#include <cstring>
#include <string>

#include "core/log.h"
#include "core/zstd.h"

namespace vgpu::hip {
namespace {

constexpr char kElfMagic[] = "\x7f" "ELF";
constexpr char kBundleMagic[] = "__CLANG_OFFLOAD_BUNDLE__";
constexpr char kCompressedMagic[] = "CCOB";

template <class T>
T read(const uint8_t* data) {
  T value;
  std::memcpy(&value, data, sizeof value);
  return value;
}

// Section headers come last in the ELF files that lld writes; the program headers bound the rest.
size_t elf_size(const uint8_t* elf) {
  const auto section_table = read<uint64_t>(elf + 40);
  const auto section_entry = read<uint16_t>(elf + 58), sections = read<uint16_t>(elf + 60);
  size_t end = section_table + size_t{section_entry} * sections;
  const auto program_table = read<uint64_t>(elf + 32);
  const auto program_entry = read<uint16_t>(elf + 54), programs = read<uint16_t>(elf + 56);
  for (unsigned i = 0; i < programs; ++i) {
    const uint8_t* header = elf + program_table + size_t{program_entry} * i;
    end = std::max<size_t>(end, read<uint64_t>(header + 8) + read<uint64_t>(header + 32));
  }
  return end;
}

// Header: magic, u16 version, u16 method, [total size], uncompressed size, u64 hash. Version 2 has 32-bit
// sizes, version 3 64-bit ones.
Error decompress(const uint8_t* image, CodeObject* out) {
  const auto version = read<uint16_t>(image + 4), method = read<uint16_t>(image + 6);
  if (method != 1) return Error(hipErrorInvalidImage, format("compressed bundle with method %u; only zstd (1) is read", method));
  uint64_t total = 0, plain = 0;
  size_t header = 0;
  if (version == 2) {
    total = read<uint32_t>(image + 8);
    plain = read<uint32_t>(image + 12);
    header = 24;
  } else if (version == 3) {
    total = read<uint64_t>(image + 8);
    plain = read<uint64_t>(image + 16);
    header = 32;
  } else {
    return Error(hipErrorInvalidImage, format("compressed bundle of version %u; 2 and 3 are read", version));
  }
  out->storage = std::make_shared<std::vector<uint8_t>>();
  std::string message;
  if (!zstd_decompress(image + header, total - header, plain, out->storage.get(), &message)) {
    return Error(hipErrorInvalidImage, "compressed bundle: " + message);
  }
  out->data = out->storage->data();
  out->size = out->storage->size();
  return Error();
}

// Entries are called "hip-amdgcn-amd-amdhsa--gfx942" or "hipv4-...--gfx942:sramecc+:xnack-". Only features
// that this device has match: sramecc on, xnack off.
bool fits(const std::string& triple, const std::string& arch) {
  const size_t at = triple.rfind("--gfx");
  if (at == std::string::npos) return false;
  const std::string target = triple.substr(at + 2);
  if (target.substr(0, target.find(':')) != arch) return false;
  return target.find("sramecc-") == std::string::npos && target.find("xnack+") == std::string::npos;
}

Error pick(const uint8_t* bundle, Arch arch, CodeObject* out) {
  const auto count = read<uint64_t>(bundle + 24);
  const uint8_t* entry = bundle + 32;
  std::string present;
  for (uint64_t i = 0; i < count; ++i) {
    const auto offset = read<uint64_t>(entry), size = read<uint64_t>(entry + 8), length = read<uint64_t>(entry + 16);
    const std::string triple(reinterpret_cast<const char*>(entry + 24), length);
    entry += 24 + length;
    present += (present.empty() ? "" : ", ") + triple;
    if (size == 0 || !fits(triple, arch_name(arch))) continue;
    out->data = bundle + offset;
    out->size = size;
    return Error();
  }
  return Error(hipErrorNoBinaryForGpu, format("the bundle has nothing for %s, only: %s", arch_name(arch), present.c_str()));
}

}  // namespace

Error extract_code_object(const void* image, size_t size, Arch arch, CodeObject* out) {
  const auto* bytes = static_cast<const uint8_t*>(image);
  if (std::memcmp(bytes, kElfMagic, 4) == 0) {
    out->data = image;
    out->size = size != 0 ? size : elf_size(bytes);
    return Error();
  }
  CodeObject unpacked;
  if (std::memcmp(bytes, kCompressedMagic, 4) == 0) {
    if (Error error = decompress(bytes, &unpacked)) return error;
    bytes = static_cast<const uint8_t*>(unpacked.data);
  }
  if (std::memcmp(bytes, kBundleMagic, sizeof kBundleMagic - 1) != 0) {
    return Error(hipErrorInvalidImage, "neither an ELF code object nor an offload bundle");
  }
  out->storage = std::move(unpacked.storage);
  return pick(bytes, arch, out);
}

}  // namespace vgpu::hip
