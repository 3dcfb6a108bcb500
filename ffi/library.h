// Finds a driver library at run time, so that building needs no HIP or CUDA installation.
#ifndef JAX_AITER_FFI_LIBRARY_H_
#define JAX_AITER_FFI_LIBRARY_H_

#include <initializer_list>
#include <string>

#include "status.h"

namespace jax_aiter {

class Library {
 public:
  // Opens the library whose file name starts with `stem` (say "libamdhip64") that this process already has: XLA's own.
  // A second copy of a driver would not know XLA's streams. Only if there is none, `names` are tried in order.
  Status Open(const char* stem, std::initializer_list<const char*> names);

  // Sets *function to the first of `symbols` that exists.
  template <typename F>
  Status Find(F** function, std::initializer_list<const char*> symbols) {
    *function = reinterpret_cast<F*>(Lookup(symbols));
    if (*function) return Status();
    return Status(Code::kFailedPrecondition, path_ + " has no function " + *symbols.begin());
  }
  // The same for a function that older drivers lack: nullptr is not an error.
  template <typename F>
  void FindOptional(F** function, std::initializer_list<const char*> symbols) {
    *function = reinterpret_cast<F*>(Lookup(symbols));
  }

  const std::string& path() const { return path_; }

 private:
  void* Lookup(std::initializer_list<const char*> symbols) const;

  void* handle_ = nullptr;
  std::string path_;
};

}  // namespace jax_aiter

#endif  // JAX_AITER_FFI_LIBRARY_H_
