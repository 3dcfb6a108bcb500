#include "code_store.h"

#include <utility>

namespace jax_aiter {

std::shared_ptr<const CodeObject> CodeStore::Intern(CodeObject code) {
  std::lock_guard<std::mutex> lock(mutex_);
  auto [begin, end] = by_id_.equal_range(code.id);
  for (auto it = begin; it != end; ++it) {
    if (it->second->image == code.image) return it->second;
  }
  auto shared = std::make_shared<const CodeObject>(std::move(code));
  by_id_.emplace(shared->id, shared);
  return shared;
}

size_t CodeStore::size() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return by_id_.size();
}

CodeStore& GlobalCodeStore() {
  static CodeStore* store = new CodeStore;  // never destroyed: XLA threads may outlive static destructors
  return *store;
}

}  // namespace jax_aiter
