// A C interface for tests and tools: load a code object and launch a kernel over host arrays, without HIP.
#include "isa/capi.h"

#include <cstring>

#include "isa/inst.h"
#include "isa/registry.h"

VGPU_API vgpu_isa* vgpu_isa_open(const char* arch) {
  vgpu::Arch a;
  if (!vgpu::parse_arch(arch, &a)) return nullptr;
  auto* m = new vgpu_isa;
  m->arch = a;
  return m;
}
VGPU_API void vgpu_isa_close(vgpu_isa* m) { delete m; }
VGPU_API const char* vgpu_isa_error(vgpu_isa* m) { return m->error.c_str(); }

// Memory with red zones on both sides, ending as close to the far one as 16-byte alignment allows.
VGPU_API void* vgpu_isa_alloc(vgpu_isa* m, size_t bytes) {
  const size_t zone = vgpu::kRedZoneBytes, total = zone * 2 + ((bytes + 4095) & ~size_t{4095});
  void* p = mmap(nullptr, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) {
    m->fail("out of memory");
    return nullptr;
  }
  void* user = static_cast<char*>(p) + zone;
  m->blocks[user] = {p, total};
  m->memory.add(user, bytes, "allocation #" + std::to_string(m->blocks.size()));
  return user;
}
VGPU_API int vgpu_isa_free(vgpu_isa* m, void* p) {
  if (!m->blocks.count(p)) return m->fail("not an allocation");
  m->memory.quarantine(p);
  return 0;
}
VGPU_API int vgpu_isa_register(vgpu_isa* m, void* p, size_t bytes, const char* tag) {
  m->memory.add(p, bytes, tag);
  return 0;
}
VGPU_API int vgpu_isa_unregister(vgpu_isa* m, void* p) {
  m->memory.remove(p);
  return 0;
}
VGPU_API int vgpu_isa_track_initialised(vgpu_isa* m, int on) {
  m->memory.track_initialised(on != 0);
  return 0;
}
VGPU_API int vgpu_isa_mark(vgpu_isa* m, void* p, size_t bytes, int initialised) {
  const auto at = reinterpret_cast<uintptr_t>(p);
  if (initialised) m->memory.mark_initialised(at, bytes);
  else m->memory.mark_uninitialised(at, bytes);
  return 0;
}

VGPU_API int vgpu_isa_load(vgpu_isa* m, const void* image, size_t bytes) {
  std::string error;
  auto module = vgpu::load_code_object(image, bytes, m->arch, m->memory, &error);
  if (!module) return m->fail(error);
  m->modules.push_back(std::move(module));
  return static_cast<int>(m->modules.size()) - 1;
}
VGPU_API int vgpu_isa_unload(vgpu_isa* m, int id) {
  if (!m->module(id)) return -1;
  m->modules[static_cast<size_t>(id)].reset();
  return 0;
}
VGPU_API const char* vgpu_isa_kernels(vgpu_isa* m, int id) {
  m->text.clear();
  if (vgpu::Module* module = m->module(id))
    for (const auto& name : module->kernel_names()) m->text += name + "\n";
  return m->text.c_str();
}
VGPU_API int vgpu_isa_global(vgpu_isa* m, int id, const char* name, void** ptr, size_t* bytes) {
  vgpu::Module* module = m->module(id);
  if (!module) return -1;
  const auto g = module->global(name);
  if (!g) return m->fail(std::string("no global ") + name);
  *ptr = g->ptr;
  *bytes = g->size;
  return 0;
}
VGPU_API int vgpu_isa_kernel_info(vgpu_isa* m, int id, const char* name, uint32_t out[8]) {
  const vgpu::Kernel* k = m->kernel(id, name);
  if (!k) return -1;
  const uint32_t values[8] = {k->kernarg_size, k->lds_bytes, k->scratch_bytes, k->vgprs, k->accum_offset, k->sgprs,
                              k->max_flat_workgroup_size, static_cast<uint32_t>(k->args.size())};
  std::memcpy(out, values, sizeof values);
  return 0;
}

VGPU_API int vgpu_isa_launch(vgpu_isa* m, int id, const char* name, const uint32_t grid[3], const uint32_t block[3],
                             uint32_t dynamic_lds, const void* kernarg, size_t kernarg_bytes, uint32_t checks,
                             uint32_t threads, uint64_t max_instructions, uint64_t* counts) {
  m->error.clear();
  const vgpu::Kernel* k = m->kernel(id, name);
  if (!k) return -1;
  vgpu::LaunchOptions options;
  options.memory = &m->memory;
  options.check_memory = checks & 1;
  options.check_uninit = checks & 2;
  options.check_races = checks & 4;
  options.check_hazards = checks & (8 | 16);
  if (checks & 16) options.hazards = &m->hazards, options.executed = &m->executed;
  m->hazards.clear();
  m->executed.clear();
  options.threads = threads;
  options.max_instructions = max_instructions;
  vgpu::Counts c;
  options.counts = &c;
  const vgpu::Status s = vgpu::launch(*k, {grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, dynamic_lds,
                                      kernarg, kernarg_bytes, options);
  if (counts) {
    std::memset(counts, 0, 24 * sizeof(uint64_t));
    static_assert(sizeof c <= 24 * sizeof(uint64_t), "callers pass room for 24 counters");
    std::memcpy(counts, &c, sizeof c);
  }
  return s ? 0 : m->fail(s.message);
}

VGPU_API int vgpu_isa_disassemble(const char* arch, const void* code, size_t bytes, char* out, size_t out_size) {
  vgpu::Arch a;
  if (!vgpu::parse_arch(arch, &a)) return 0;
  unsigned size = 0;
  const std::string text = vgpu::disassemble(code, bytes, a, &size);
  if (out_size) {
    const size_t n = std::min(text.size(), out_size - 1);
    std::memcpy(out, text.data(), n);
    out[n] = 0;
  }
  return static_cast<int>(size);
}

VGPU_API int vgpu_isa_executable(const char* arch, const char* base) {
  vgpu::Arch a;
  if (!vgpu::parse_arch(arch, &a)) return 0;
  size_t count = 0;
  const vgpu::isa::OpInfo* rows = vgpu::isa::op_rows(&count);
  for (size_t i = 0; i < count; ++i)
    if ((rows[i].archs >> static_cast<int>(a) & 1) && rows[i].base == base) return vgpu::isa::executable(rows[i], a);
  return 0;
}

// Lines of "encoding opcode mnemonic executable".
VGPU_API const char* vgpu_isa_opcodes(const char* arch) {
  static thread_local std::string text;
  static const char* const kNames[] = {"SOP2", "SOPK", "SOP1", "SOPC", "SOPP", "SMEM", "VOP2", "VOP1", "VOPC",
                                       "VOP3", "VOP3P", "DS", "FLAT", "SCRATCH", "GLOBAL", "MUBUF", "MTBUF"};
  text.clear();
  vgpu::Arch a;
  if (!vgpu::parse_arch(arch, &a)) return text.c_str();
  size_t count = 0;
  const vgpu::isa::OpInfo* rows = vgpu::isa::op_rows(&count);
  for (size_t i = 0; i < count; ++i) {
    if (!(rows[i].archs >> static_cast<int>(a) & 1)) continue;
    text += std::string(kNames[static_cast<int>(rows[i].enc)]) + " " + std::to_string(rows[i].op) + " " + rows[i].base +
            (vgpu::isa::executable(rows[i], a) ? " 1\n" : " 0\n");
  }
  return text.c_str();
}
