#include "core/work.h"

#include "core/graph.h"
#include "core/log.h"
#include "core/memory.h"
#include "core/module.h"

namespace vgpu::hip {
namespace {

template <class... Fs>
struct Overload : Fs... {
  using Fs::operator()...;
};
template <class... Fs>
Overload(Fs...) -> Overload<Fs...>;

}  // namespace

hipGraphNodeType node_type(const Work& work) {
  return std::visit(Overload{[](const EmptyWork&) { return hipGraphNodeTypeEmpty; },
                             [](const KernelWork&) { return hipGraphNodeTypeKernel; },
                             [](const CopyWork&) { return hipGraphNodeTypeMemcpy; },
                             [](const FillWork&) { return hipGraphNodeTypeMemset; },
                             [](const HostWork&) { return hipGraphNodeTypeHost; },
                             [](const ChildWork&) { return hipGraphNodeTypeGraph; },
                             // A library's work is made of kernels.
                             [](const LibraryWork&) { return hipGraphNodeTypeKernel; }},
                    work);
}

std::string describe(const Work& work) {
  return std::visit(
      Overload{[](const EmptyWork&) { return std::string("empty node"); },
               [](const KernelWork& k) { return "kernel " + k.function->name; },
               [](const CopyWork& c) { return format("copy of %zu bytes to %p from %p", c.size, c.dst, c.src); },
               [](const FillWork& f) { return format("fill of %zu x %u bytes at %p", f.width * f.height, f.element_size, f.dst); },
               [](const HostWork&) { return std::string("host function"); },
               [](const ChildWork&) { return std::string("graph"); },
               [](const LibraryWork& l) { return l.what; }},
      work);
}

Error check(const Work& work) {
  if (const auto* copy = std::get_if<CopyWork>(&work)) {
    if (Error error = memory::check_range(copy->dst, copy->size, "copy destination")) return error;
    return memory::check_range(copy->src, copy->size, "copy source");
  }
  if (const auto* fill = std::get_if<FillWork>(&work)) {
    if (fill->width == 0 || fill->height == 0) return Error();
    const size_t row = fill->width * fill->element_size;
    return memory::check_range(fill->dst, (fill->height - 1) * fill->pitch + row, "fill");
  }
  return Error();
}

Error run(const Work& work, const Place& place) {
  return std::visit(
      Overload{[](const EmptyWork&) { return Error(); },
               [&](const KernelWork& k) { return run_kernel(k, place); },
               [&](const CopyWork& c) {
                 // Again: the memory may have been freed since the copy was enqueued.
                 if (Error error = check(work)) return error;
                 if (c.size != 0) memory::copy(c.dst, c.staged ? c.staged->data() : c.src, c.size);
                 return Error();
               },
               [&](const FillWork& f) {
                 if (Error error = check(work)) return error;
                 for (size_t row = 0; row < f.height; ++row) {
                   memory::fill(static_cast<char*>(f.dst) + row * f.pitch, f.value, f.element_size, f.width);
                 }
                 return Error();
               },
               [](const HostWork& h) {
                 h.function(h.user_data);
                 return Error();
               },
               [&](const ChildWork& c) { return run(*c.program, place); },
               [](const LibraryWork& l) { return l.run(); }},
      work);
}

}  // namespace vgpu::hip
