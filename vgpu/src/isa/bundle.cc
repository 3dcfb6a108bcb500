// Clang offload bundles: finds the code object for one architecture.
#include "isa/bundle.h"

#include <cstring>

#include "isa/elf.h"

namespace vgpu::isa {
namespace {

constexpr char kMagic[] = "__CLANG_OFFLOAD_BUNDLE__";
constexpr size_t kMagicSize = sizeof kMagic - 1;

uint64_t u64(const uint8_t* p) {
  uint64_t x;
  std::memcpy(&x, p, 8);
  return x;
}

}  // namespace

bool select_code_object(const void* image, size_t size, Arch arch, const uint8_t** elf, size_t* elf_size,
                        std::string* error) {
  const auto* data = static_cast<const uint8_t*>(image);
  const bool unknown = size == 0;
  if (unknown) size = SIZE_MAX;
  if (size >= 4 && std::memcmp(data, "CCOB", 4) == 0) {
    *error = "compressed offload bundles are not supported";
    return false;
  }
  if (size < kMagicSize || std::memcmp(data, kMagic, kMagicSize) != 0) {
    if (size < sizeof(ElfHeader) || std::memcmp(data, "\177ELF", 4) != 0) {
      *error = "neither an ELF code object nor an offload bundle";
      return false;
    }
    *elf = data;
    *elf_size = unknown ? elf_extent(data) : size;
    return true;
  }
  // Entries: offset, size, length of the id, id.
  const uint64_t count = u64(data + kMagicSize);
  size_t at = kMagicSize + 8;
  std::string seen;
  for (uint64_t i = 0; i < count && at + 24 <= size; ++i) {
    const uint64_t offset = u64(data + at), bytes = u64(data + at + 8), id_size = u64(data + at + 16);
    at += 24;
    if (id_size > 4096 || at + id_size > size) break;
    const std::string id(reinterpret_cast<const char*>(data + at), id_size);
    at += id_size;
    const size_t gfx = id.rfind("gfx");
    Arch found;
    if (gfx != std::string::npos && parse_arch(id.substr(gfx), &found) && found == arch) {
      if (offset > size || bytes > size - offset) {
        *error = "truncated offload bundle";
        return false;
      }
      *elf = data + offset;
      *elf_size = bytes;
      return true;
    }
    seen += (seen.empty() ? "" : ", ") + id;
  }
  *error = std::string("the offload bundle has no entry for ") + arch_name(arch) + " (it has " + seen + ")";
  return false;
}

}  // namespace vgpu::isa
