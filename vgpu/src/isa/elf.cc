#include "isa/elf.h"

#include <algorithm>
#include <cstring>

namespace vgpu::isa {

bool ElfView::open(std::string* error) {
  if (size_ < sizeof(ElfHeader) || std::memcmp(data_, "\177ELF\2\1", 6) != 0) {
    *error = "not a 64-bit little-endian ELF image";
    return false;
  }
  const ElfHeader& h = header();
  if (h.machine != kMachineAmdgpu) {
    *error = "ELF machine " + std::to_string(h.machine) + " is not AMDGPU";
    return false;
  }
  if (h.phentsize != sizeof(ElfProgram) || (h.shnum && h.shentsize != sizeof(ElfSection)) ||
      !at(h.phoff, uint64_t{h.phnum} * sizeof(ElfProgram)) || !at(h.shoff, uint64_t{h.shnum} * sizeof(ElfSection))) {
    *error = "truncated or malformed ELF headers";
    return false;
  }
  return true;
}

std::vector<ElfProgram> ElfView::programs() const {
  std::vector<ElfProgram> out(header().phnum);
  if (!out.empty()) std::memcpy(out.data(), data_ + header().phoff, out.size() * sizeof(ElfProgram));
  return out;
}

std::vector<ElfSection> ElfView::sections() const {
  std::vector<ElfSection> out(header().shnum);
  if (!out.empty()) std::memcpy(out.data(), data_ + header().shoff, out.size() * sizeof(ElfSection));
  return out;
}

std::string ElfView::string(const ElfSection& table, uint64_t offset) const {
  if (offset >= table.size) return "";
  const uint8_t* p = at(table.offset + offset, table.size - offset);
  if (!p) return "";
  const void* nul = std::memchr(p, 0, table.size - offset);
  return nul ? std::string(reinterpret_cast<const char*>(p)) : std::string();
}

size_t elf_extent(const void* image) {
  const auto* h = static_cast<const ElfHeader*>(image);
  size_t end = std::max<size_t>(h->shoff + size_t{h->shnum} * h->shentsize, h->phoff + size_t{h->phnum} * h->phentsize);
  const auto* bytes = static_cast<const uint8_t*>(image);
  for (int i = 0; i < h->phnum; ++i) {
    ElfProgram p;
    std::memcpy(&p, bytes + h->phoff + size_t(i) * sizeof p, sizeof p);
    end = std::max<size_t>(end, p.offset + p.filesz);
  }
  for (int i = 0; i < h->shnum; ++i) {
    ElfSection s;
    std::memcpy(&s, bytes + h->shoff + size_t(i) * sizeof s, sizeof s);
    if (s.type != 8) end = std::max<size_t>(end, s.offset + s.size);  // not .bss
  }
  return end;
}

}  // namespace vgpu::isa
