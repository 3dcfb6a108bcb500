// The part of ELF64 that AMDGPU code objects use.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace vgpu::isa {

struct ElfHeader {
  uint8_t ident[16];
  uint16_t type, machine;
  uint32_t version;
  uint64_t entry, phoff, shoff;
  uint32_t flags;
  uint16_t ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};
struct ElfProgram {
  uint32_t type, flags;
  uint64_t offset, vaddr, paddr, filesz, memsz, align;
};
struct ElfSection {
  uint32_t name, type;
  uint64_t flags, addr, offset, size;
  uint32_t link, info;
  uint64_t addralign, entsize;
};
struct ElfSymbol {
  uint32_t name;
  uint8_t info, other;
  uint16_t shndx;
  uint64_t value, size;
};
struct ElfRela {
  uint64_t offset, info;
  int64_t addend;
};

constexpr uint16_t kMachineAmdgpu = 224;
constexpr uint32_t kPtLoad = 1, kPtNote = 4, kPfX = 1, kPfW = 2;
constexpr uint32_t kShtRela = 4, kShtDynsym = 11, kShtNote = 7;

// A bounds-checked view of an image.
class ElfView {
 public:
  ElfView(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  bool open(std::string* error);  // validates the headers
  const ElfHeader& header() const { return *reinterpret_cast<const ElfHeader*>(data_); }
  std::vector<ElfProgram> programs() const;
  std::vector<ElfSection> sections() const;
  // nullptr when the range is not in the file.
  const uint8_t* at(uint64_t offset, uint64_t size) const {
    return offset <= size_ && size <= size_ - offset ? data_ + offset : nullptr;
  }
  // A NUL-terminated string in a string table section.
  std::string string(const ElfSection& table, uint64_t offset) const;

 private:
  const uint8_t* data_;
  size_t size_;
};

// Bytes the image spans according to its headers, for callers that were given only a pointer.
size_t elf_extent(const void* image);

}  // namespace vgpu::isa
