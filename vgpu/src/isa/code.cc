#include "isa/code.h"

#include <sys/mman.h>

#include <new>

#include "isa/registry.h"

namespace vgpu::isa {
namespace {

// Instructions decoded per fault: a loop's worth, so that the lock is rarely taken.
constexpr size_t kBatch = 256;

void exec_undecodable(Wave& w, const Op&) {
  (void)w;
  fail("not an instruction of this architecture");
}

}  // namespace

Code::Code(const uint32_t* w, size_t n, Arch a) : words(w), count(n), arch(a) {
  void* p = mmap(nullptr, n * sizeof(Op) + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  ops = static_cast<Op*>(p);
}

Code::~Code() { munmap(ops, count * sizeof(Op) + 1); }

Handler Code::prepare(uint64_t index) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  uint64_t at = index;
  for (size_t n = 0; n < kBatch && at < count; ++n) {
    Op& op = ops[at];
    if (op.fn) break;  // another wave came by another way: the rest is done
    Op fresh{};
    if (decode(words + at, count - at, arch, &fresh.inst)) {
      lower(fresh, arch);
    } else {
      fresh.words = 1;
      fresh.cls = Class::Other;
      fresh.fn = exec_undecodable;
    }
    const Handler fn = fresh.fn;
    fresh.fn = nullptr;
    op = fresh;
    // Readers test fn without the lock: it must appear last.
    __atomic_store_n(&op.fn, fn, __ATOMIC_RELEASE);
    at += fresh.words;
  }
  return ops[index].fn;
}

std::string text_at(const Code& code, uint64_t index) {
  Inst inst;
  if (index >= code.count) return "(outside the code)";
  if (!decode(code.words + index, code.count - index, code.arch, &inst)) return "(undecodable)";
  return print(inst);
}

}  // namespace vgpu::isa
