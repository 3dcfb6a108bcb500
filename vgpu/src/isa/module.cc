// Loads code objects: segments, relocations, kernel descriptors, globals, metadata.
#include "isa/module.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "isa/bundle.h"
#include "isa/elf.h"
#include "isa/msgpack.h"

namespace vgpu {
namespace {

using namespace isa;

constexpr uint32_t kMachMask = 0xff, kMachGfx942 = 0x4c, kMachGfx950 = 0x4f;
constexpr uint32_t kRelocNone = 0, kRelocAbs64 = 3, kRelocRelative64 = 13;
constexpr size_t kDescriptorSize = 64;

template <class T>
T read(const uint8_t* p) {
  T x;
  std::memcpy(&x, p, sizeof x);
  return x;
}

struct Loader {
  ElfView elf;
  Module::Impl& m;
  std::vector<ElfProgram> programs;
  std::vector<ElfSection> sections;

  bool inside(uint64_t address, uint64_t size) const {
    return address <= m.image_size && size <= m.image_size - address;
  }

  bool check_arch(std::string* error) const {
    const uint32_t mach = elf.header().flags & kMachMask;
    const uint32_t wanted = m.arch == Arch::gfx942 ? kMachGfx942 : kMachGfx950;
    if (mach == wanted) return true;
    char text[96];
    snprintf(text, sizeof text, "code object is for machine 0x%02x, the device is %s (0x%02x)", mach, arch_name(m.arch),
             wanted);
    *error = text;
    return false;
  }

  bool map_segments(std::string* error) {
    uint64_t end = 0;
    for (const ElfProgram& p : programs)
      if (p.type == kPtLoad) end = std::max(end, p.vaddr + p.memsz);
    if (end == 0 || end > (1ull << 32)) {
      *error = "code object has no loadable segment, or an absurd one";
      return false;
    }
    m.image_size = end;
    void* memory = mmap(nullptr, end, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
      *error = "out of memory for the code object";
      return false;
    }
    m.image = static_cast<uint8_t*>(memory);
    for (const ElfProgram& p : programs) {
      if (p.type != kPtLoad || p.memsz == 0) continue;
      const uint8_t* from = elf.at(p.offset, p.filesz);
      if (!from || p.filesz > p.memsz || !inside(p.vaddr, p.memsz)) {
        *error = "truncated segment";
        return false;
      }
      std::memcpy(m.image + p.vaddr, from, p.filesz);
      const bool writable = p.flags & kPfW;
      m.memory->add(m.image + p.vaddr, p.memsz, writable ? "module globals" : "module code and constants", !writable);
      m.memory->mark_initialised(reinterpret_cast<uintptr_t>(m.image + p.vaddr), p.memsz);
      m.registered.push_back(m.image + p.vaddr);
      if (p.flags & kPfX) {
        m.code = std::make_unique<Code>(reinterpret_cast<const uint32_t*>(m.image + p.vaddr), p.memsz / 4, m.arch);
      }
    }
    return true;  // XLA's constants come in modules without code
  }

  bool read_symbols(std::string* error) {
    for (const ElfSection& s : sections) {
      if (s.type != kShtDynsym || s.link >= sections.size()) continue;
      const ElfSection& names = sections[s.link];
      for (uint64_t at = 0; at + sizeof(ElfSymbol) <= s.size; at += sizeof(ElfSymbol)) {
        const uint8_t* p = elf.at(s.offset + at, sizeof(ElfSymbol));
        if (!p) break;
        const auto symbol = read<ElfSymbol>(p);
        if (symbol.shndx == 0 || (symbol.info & 15) != 1) continue;  // defined objects only
        const std::string name = elf.string(names, symbol.name);
        if (!inside(symbol.value, symbol.size)) continue;
        if (name.size() > 3 && name.compare(name.size() - 3, 3, ".kd") == 0) {
          if (!add_kernel(name.substr(0, name.size() - 3), symbol.value, error)) return false;
        } else {
          m.globals[name] = {name, m.image + symbol.value, symbol.size};
        }
      }
    }
    return true;
  }

  bool add_kernel(const std::string& name, uint64_t descriptor, std::string* error) {
    if (!inside(descriptor, kDescriptorSize)) {
      *error = "kernel descriptor of " + name + " is outside the image";
      return false;
    }
    const uint8_t* d = m.image + descriptor;
    Kernel k;
    k.name = name;
    k.lds_bytes = read<uint32_t>(d);
    k.scratch_bytes = read<uint32_t>(d + 4);
    k.kernarg_size = read<uint32_t>(d + 8);
    k.entry = reinterpret_cast<uintptr_t>(d) + static_cast<uintptr_t>(read<int64_t>(d + 16));
    k.rsrc3 = read<uint32_t>(d + 44);
    k.rsrc1 = read<uint32_t>(d + 48);
    k.rsrc2 = read<uint32_t>(d + 52);
    k.properties = read<uint16_t>(d + 56);
    k.preload = read<uint16_t>(d + 58);
    k.uses_dynamic_stack = k.properties >> 11 & 1;
    k.vgprs = ((k.rsrc1 & 63) + 1) * 8;
    k.accum_offset = ((k.rsrc3 & 63) + 1) * 4;
    const uintptr_t base = m.code ? m.code->base() : 0;
    if (!m.code || k.entry < base || k.entry >= base + m.code->count * 4 || k.entry % 4) {
      *error = "entry point of kernel " + name + " is outside the code";
      return false;
    }
    m.kernels[name] = std::move(k);
    return true;
  }

  bool relocate(std::string* error) {
    for (const ElfSection& s : sections) {
      if (s.type != kShtRela || s.link >= sections.size()) continue;
      if (!(s.flags & 2)) continue;  // not part of the loaded image: a static relocation table
      const ElfSection& symbols = sections[s.link];
      for (uint64_t at = 0; at + sizeof(ElfRela) <= s.size; at += sizeof(ElfRela)) {
        const uint8_t* p = elf.at(s.offset + at, sizeof(ElfRela));
        if (!p) break;
        const auto r = read<ElfRela>(p);
        const uint32_t type = static_cast<uint32_t>(r.info);
        if (type == kRelocNone) continue;
        uint64_t value = static_cast<uint64_t>(r.addend) + reinterpret_cast<uint64_t>(m.image);
        if (type == kRelocAbs64) {
          const uint8_t* q = elf.at(symbols.offset + (r.info >> 32) * sizeof(ElfSymbol), sizeof(ElfSymbol));
          if (!q) {
            *error = "relocation against a missing symbol";
            return false;
          }
          const auto symbol = read<ElfSymbol>(q);
          if (symbol.shndx == 0) {
            const std::string name = symbols.link < sections.size() ? elf.string(sections[symbols.link], symbol.name) : "";
            *error = "undefined symbol " + name;
            return false;
          }
          value += symbol.value;
        } else if (type != kRelocRelative64) {
          *error = "relocation type " + std::to_string(type) + " is not supported";
          return false;
        }
        if (!inside(r.offset, 8)) {
          *error = "relocation outside the image";
          return false;
        }
        std::memcpy(m.image + r.offset, &value, 8);
      }
    }
    return true;
  }

  void read_metadata() {
    for (const ElfProgram& p : programs) {
      if (p.type != kPtNote) continue;
      const uint8_t* note = elf.at(p.offset, p.filesz);
      if (!note) continue;
      for (uint64_t at = 0; at + 12 <= p.filesz;) {
        const uint32_t name = read<uint32_t>(note + at), size = read<uint32_t>(note + at + 4);
        const uint32_t type = read<uint32_t>(note + at + 8);
        const uint64_t body = at + 12 + ((name + 3u) & ~3u);
        if (body + size > p.filesz) break;
        MsgValue root;
        if (type == 32 && parse_msgpack(note + body, size, &root)) apply(root);
        at = body + ((size + 3u) & ~3u);
      }
    }
  }

  void apply(const MsgValue& root) {
    const MsgValue* list = root.get("amdhsa.kernels");
    if (!list) return;
    for (const MsgValue& entry : list->items) {
      std::string symbol = entry.text_at(".symbol");
      if (symbol.size() > 3) symbol.resize(symbol.size() - 3);
      const auto it = m.kernels.find(symbol);
      if (it == m.kernels.end()) continue;
      Kernel& k = it->second;
      k.kernarg_size = static_cast<uint32_t>(entry.number_at(".kernarg_segment_size", k.kernarg_size));
      k.kernarg_align = static_cast<uint32_t>(entry.number_at(".kernarg_segment_align", 16));
      k.sgprs = static_cast<uint32_t>(entry.number_at(".sgpr_count"));
      k.max_flat_workgroup_size = static_cast<uint32_t>(entry.number_at(".max_flat_workgroup_size", 1024));
      if (const MsgValue* args = entry.get(".args")) {
        for (const MsgValue& a : args->items) {
          k.args.push_back({a.text_at(".name"), a.text_at(".value_kind"), static_cast<uint32_t>(a.number_at(".offset")),
                            static_cast<uint32_t>(a.number_at(".size"))});
        }
      }
      // HIP looks kernels up by their name, which need not be the symbol.
      const std::string name = entry.text_at(".name");
      if (!name.empty() && name != symbol) m.kernels.emplace(name, k);
    }
  }
};

}  // namespace

Module::Impl::~Impl() {
  for (void* p : registered) memory->remove(p);
  code.reset();
  if (image) munmap(image, image_size);
}

Module::Module(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Module::~Module() = default;
Arch Module::arch() const { return impl_->arch; }

const Kernel* Module::kernel(const std::string& name) const {
  const auto it = impl_->kernels.find(name);
  return it == impl_->kernels.end() ? nullptr : &it->second;
}
std::optional<GlobalVar> Module::global(const std::string& name) const {
  const auto it = impl_->globals.find(name);
  if (it == impl_->globals.end()) return std::nullopt;
  return it->second;
}
std::vector<std::string> Module::kernel_names() const {
  std::vector<std::string> out;
  for (const auto& k : impl_->kernels) out.push_back(k.first);
  return out;
}
std::vector<std::string> Module::global_names() const {
  std::vector<std::string> out;
  for (const auto& g : impl_->globals) out.push_back(g.first);
  return out;
}

bool parse_arch(const std::string& name, Arch* out) {
  const std::string base = name.substr(0, name.find(':'));
  if (base == "gfx942") *out = Arch::gfx942;
  else if (base == "gfx950") *out = Arch::gfx950;
  else return false;
  return true;
}
const char* arch_name(Arch arch) { return arch == Arch::gfx942 ? "gfx942" : "gfx950"; }

std::shared_ptr<Module> load_code_object(const void* image, size_t size, Arch arch, MemoryMap& memory,
                                         std::string* error) {
  std::string ignored;
  if (!error) error = &ignored;
  const uint8_t* data = nullptr;
  size_t bytes = 0;
  if (!image) {
    *error = "null image";
    return nullptr;
  }
  if (!select_code_object(image, size, arch, &data, &bytes, error)) return nullptr;
  auto impl = std::make_unique<Module::Impl>();
  impl->arch = arch;
  impl->memory = &memory;
  Loader loader{ElfView(data, bytes), *impl, {}, {}};
  if (!loader.elf.open(error)) return nullptr;
  loader.programs = loader.elf.programs();
  loader.sections = loader.elf.sections();
  if (!loader.check_arch(error) || !loader.map_segments(error) || !loader.read_symbols(error) || !loader.relocate(error))
    return nullptr;
  loader.read_metadata();
  auto module = std::make_shared<Module>(std::move(impl));
  for (auto& k : module->impl()->kernels) k.second.module = module.get();
  return module;
}

}  // namespace vgpu
