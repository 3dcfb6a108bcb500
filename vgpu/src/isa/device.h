// The public face of the gfx942/gfx950 interpreter: what a HIP runtime needs and nothing more.
//
// Host memory is device memory: a flat address inside a kernel is a host pointer. Nothing here throws or
// aborts; every failure is a Status with a message that can be shown to a user.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace vgpu {

enum class Arch : uint8_t { gfx942, gfx950 };

// Accepts "gfx942" and "gfx942:sramecc+:xnack-"; false for any other architecture.
bool parse_arch(const std::string& name, Arch* out);
const char* arch_name(Arch arch);

struct Dim3 {
  uint32_t x = 1, y = 1, z = 1;
};

struct Status {
  bool ok = true;
  std::string message;  // empty when ok

  explicit operator bool() const { return ok; }
  static Status error(std::string text) { return Status{false, std::move(text)}; }
};

// Bytes an allocator must leave unregistered on both sides of every allocation, so that an access that runs
// over the end of one cannot land in the next. Allocate with at least this gap (64-byte aligned, or better).
constexpr size_t kRedZoneBytes = 4096;

// ---------------------------------------------------------------------------------------------------------
// Memory registry. All functions are thread safe.

struct Allocation {
  uintptr_t base = 0;
  size_t size = 0;
  std::string tag;        // shown in reports, e.g. "hipMalloc #12" or "module global foo"
  bool freed = false;     // in quarantine: still mapped by the owner, every access is a use after free
  bool read_only = false; // code and constants: a store is an error
};

class MemoryMap {
 public:
  MemoryMap();
  ~MemoryMap();
  MemoryMap(const MemoryMap&) = delete;
  MemoryMap& operator=(const MemoryMap&) = delete;

  void add(void* ptr, size_t size, std::string tag, bool read_only = false);
  // The owner freed it but keeps the bytes mapped: accesses report "use after free". Idempotent.
  void quarantine(void* ptr);
  // Forgets it entirely (quarantine over, or memory unmapped).
  void remove(void* ptr);

  // The allocation that contains addr (freed ones included).
  std::optional<Allocation> find(uintptr_t addr) const;
  // The allocation whose edge is closest to addr; for reports.
  std::optional<Allocation> nearest(uintptr_t addr) const;
  // Changes whenever the set changes: lets callers cache find().
  uint64_t version() const;

  // Shadow state for --check=uninit. Host writes (memcpy, memset) must be announced; a new or poisoned
  // allocation starts uninitialised once tracking is on.
  void track_initialised(bool on);
  bool tracks_initialised() const;
  void mark_initialised(uintptr_t addr, size_t size);
  void mark_uninitialised(uintptr_t addr, size_t size);
  void copy_initialised(uintptr_t dst, uintptr_t src, size_t size);
  // First uninitialised byte of the range, or 0 when all of it is initialised (or is not tracked).
  uintptr_t first_uninitialised(uintptr_t addr, size_t size) const;

  struct Impl;
  Impl* impl() const { return impl_.get(); }

 private:
  std::unique_ptr<Impl> impl_;
};

// ---------------------------------------------------------------------------------------------------------
// Code objects.

struct KernelArg {
  std::string name;
  std::string kind;  // "global_buffer", "by_value", "hidden_global_offset_x", ...
  uint32_t offset = 0;
  uint32_t size = 0;
};

class Module;

// A kernel of a module. Valid as long as its module is alive.
struct Kernel {
  Module* module = nullptr;
  std::string name;
  uint32_t kernarg_size = 0;       // bytes, from the descriptor
  uint32_t kernarg_align = 16;     // bytes
  uint32_t lds_bytes = 0;          // static LDS
  uint32_t scratch_bytes = 0;      // per work-item
  uint32_t vgprs = 0;              // allocated VGPRs incl. AGPRs (unified)
  uint32_t accum_offset = 0;       // first AGPR in the unified file
  uint32_t sgprs = 0;              // user-visible, from metadata (0 when absent)
  uint32_t max_flat_workgroup_size = 1024;
  bool uses_dynamic_stack = false;
  std::vector<KernelArg> args;     // from the metadata; empty when it has none

  // Raw descriptor fields; the launcher interprets them.
  uint32_t rsrc1 = 0, rsrc2 = 0, rsrc3 = 0;
  uint16_t properties = 0, preload = 0;
  uintptr_t entry = 0;             // host address of the first instruction
};

struct GlobalVar {
  std::string name;
  void* ptr = nullptr;
  size_t size = 0;
};

class Module {
 public:
  ~Module();
  const Kernel* kernel(const std::string& name) const;      // nullptr when absent
  std::optional<GlobalVar> global(const std::string& name) const;
  std::vector<std::string> kernel_names() const;
  std::vector<std::string> global_names() const;
  Arch arch() const;

  struct Impl;
  Impl* impl() const { return impl_.get(); }
  explicit Module(std::unique_ptr<Impl> impl);

 private:
  std::unique_ptr<Impl> impl_;
};

// Loads an AMDGPU ELF code object, or the fitting entry of a clang offload bundle (plain or compressed with
// none; "CCOB" compressed bundles are refused). `size` may be 0 when unknown: the headers then give it.
// Globals live in allocations registered with `memory` until the module dies. On failure returns nullptr and
// sets `error`. `memory` must outlive the module.
std::shared_ptr<Module> load_code_object(const void* image, size_t size, Arch arch, MemoryMap& memory,
                                         std::string* error);

// ---------------------------------------------------------------------------------------------------------
// Launches.

// What a launch did; deterministic for a kernel that is.
struct Counts {
  uint64_t workgroups = 0, waves = 0;
  uint64_t instructions = 0;                       // wave-instructions executed
  uint64_t salu = 0, smem = 0, valu = 0, mfma = 0; // by class; the classes sum to `instructions`
  uint64_t lds = 0, flat = 0, global = 0, scratch = 0, buffer = 0, branch = 0, other = 0;
  uint64_t mfma_flops = 0;                         // 2*M*N*K per block of every MFMA
  uint64_t bytes_loaded = 0, bytes_stored = 0, bytes_atomic = 0;  // global memory, active lanes
  uint64_t scalar_bytes_loaded = 0;
  uint64_t lds_bytes_read = 0, lds_bytes_written = 0;
  uint64_t branches_taken = 0;
  uint64_t barriers = 0;
  void add(const Counts& other);
};

namespace timing {
class Recorder;
}

struct LaunchOptions {
  MemoryMap* memory = nullptr;   // needed for any check; without it accesses are raw
  bool check_memory = true;      // every access inside a live allocation
  bool check_uninit = false;     // loads of bytes nobody wrote (needs memory->track_initialised(true))
  bool check_races = false;      // conflicting accesses of two workgroups to one global byte
  bool check_hazards = false;    // within a workgroup: missing waits, barriers and wait states
  std::vector<std::string>* hazards = nullptr;   // when given: receives the hazards, and the kernel runs on
  std::vector<uint64_t>* executed = nullptr;     // with check_hazards: the instructions that ran, as dword indices into the code
  timing::Recorder* recorder = nullptr;          // when given: traces workgroups for the estimate of time
  unsigned threads = 0;          // worker threads for this launch incl. the caller; 0 = all cores
  Counts* counts = nullptr;      // filled (not added to) when given
  uint64_t max_instructions = 0; // per launch; 0 = no limit. Exceeding it is an error ("watchdog")
  uint32_t slice = 0;            // instructions a wave runs before the next one's turn; 0 = the default, a few
  bool fma_arithmetic = false;   // gfx942's matrix instructions as fused multiply-adds, not as the silicon is known to do it
  const std::atomic<bool>* cancel = nullptr;  // set to true: the launch ends with an error soon
  uint32_t global_offset[3] = {0, 0, 0};
  unsigned compute_units = 304;  // what kernels see through implicit arguments; bounds residency
};

// Runs the kernel to completion in the calling thread plus helpers. `grid` counts workgroups, `block`
// work-items. The kernarg block is copied first; when the kernel's descriptor asks for more bytes than given
// and the metadata names hidden arguments (block counts, group sizes, remainders, grid dims) they are
// filled here. Several launches may run at once from several threads.
Status launch(const Kernel& kernel, Dim3 grid, Dim3 block, uint32_t dynamic_lds, const void* kernarg,
              size_t kernarg_size, const LaunchOptions& options);

// Own-form text of one instruction, for tools and reports; advances *size to its length in bytes (0 when it
// cannot be decoded).
std::string disassemble(const void* code, size_t available, Arch arch, unsigned* size);

}  // namespace vgpu
