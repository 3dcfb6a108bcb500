// One copy per process of every distinct code object, however many executables embed it.
#ifndef JAX_AITER_FFI_CODE_STORE_H_
#define JAX_AITER_FFI_CODE_STORE_H_

#include <cstddef>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "plan.h"

namespace jax_aiter {

class CodeStore {
 public:
  // The store's object with the same image: `code` itself if it is the first.
  //
  // Identity is the image, compared in full: `id` is too short to tell apart two images that someone made to share it.
  std::shared_ptr<const CodeObject> Intern(CodeObject code);

  size_t size() const;

 private:
  mutable std::mutex mutex_;
  std::unordered_multimap<size_t, std::shared_ptr<const CodeObject>> by_hash_;
};

// The process's store. Objects in it stay: drivers may keep referring to an image for as long as its module is
// loaded, and modules stay loaded (module_table.h).
CodeStore& GlobalCodeStore();

}  // namespace jax_aiter

#endif  // JAX_AITER_FFI_CODE_STORE_H_
