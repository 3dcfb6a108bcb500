#include "code_store.h"

#include <functional>
#include <string_view>
#include <utility>

namespace jax_aiter {

std::shared_ptr<const CodeObject> CodeStore::Intern(CodeObject code) {
  std::string_view image(reinterpret_cast<const char*>(code.image.data()), code.image.size());
  const size_t hash = std::hash<std::string_view>()(image);
  std::lock_guard<std::mutex> lock(mutex_);
  auto [begin, end] = by_hash_.equal_range(hash);
  for (auto it = begin; it != end; ++it) {
    if (it->second->image == code.image) return it->second;
  }
  auto shared = std::make_shared<const CodeObject>(std::move(code));
  by_hash_.emplace(hash, shared);
  return shared;
}

size_t CodeStore::size() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return by_hash_.size();
}

CodeStore& GlobalCodeStore() {
  static CodeStore* store = new CodeStore;  // never destroyed: XLA threads may outlive static destructors
  return *store;
}

}  // namespace jax_aiter
