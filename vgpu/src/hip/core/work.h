// The things a stream or a graph can be asked to do, as values: the same object is queued, captured into a
// graph, updated in an executable graph, and run.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "abi/types.h"
#include "core/error.h"

namespace vgpu::hip {

struct Program;  // an instantiated graph's node list

struct KernelWork {
  hipFunction_t function = nullptr;
  dim3 grid{1, 1, 1};   // workgroups
  dim3 block{1, 1, 1};  // work-items
  uint32_t dynamic_lds = 0;
  std::vector<uint8_t> kernarg;
};

struct CopyWork {
  void* dst = nullptr;
  const void* src = nullptr;
  size_t size = 0;
  // Pageable host memory is staged when the copy is enqueued, as HIP does.
  std::shared_ptr<std::vector<uint8_t>> staged;
};

struct FillWork {
  void* dst = nullptr;
  uint64_t value = 0;
  unsigned element_size = 1;  // 1, 2 or 4 bytes
  size_t width = 0;           // elements per row
  size_t height = 1;
  size_t pitch = 0;           // bytes between rows
};

struct HostWork {
  hipHostFn_t function = nullptr;
  void* user_data = nullptr;
};

struct EmptyWork {};

// A child graph, already instantiated.
struct ChildWork {
  std::shared_ptr<Program> program;
};

// Work of the companion libraries (a GEMM, say).
struct LibraryWork {
  std::string what;
  std::function<Error()> run;
};

using Work = std::variant<EmptyWork, KernelWork, CopyWork, FillWork, HostWork, ChildWork, LibraryWork>;

struct Place {
  int device = 0;
  std::string stream;  // for the profile
};

hipGraphNodeType node_type(const Work& work);
std::string describe(const Work& work);
Error check(const Work& work);                       // arguments, before anything is queued
Error run(const Work& work, const Place& place);     // now, in this thread
Error run_kernel(const KernelWork& work, const Place& place);

}  // namespace vgpu::hip
