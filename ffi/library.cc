#include "library.h"

#include <dlfcn.h>
#include <link.h>

#include <cstring>

namespace jax_aiter {
namespace {

struct Search {
  const char* stem;
  std::string found;
};

int VisitLoaded(dl_phdr_info* info, size_t, void* data) {
  auto* search = static_cast<Search*>(data);
  const char* slash = std::strrchr(info->dlpi_name, '/');
  const char* file = slash ? slash + 1 : info->dlpi_name;
  if (std::strncmp(file, search->stem, std::strlen(search->stem)) != 0) return 0;
  search->found = info->dlpi_name;
  return 1;
}

}  // namespace

Status Library::Open(const char* stem, std::initializer_list<const char*> names) {
  Search search{stem, ""};
  dl_iterate_phdr(VisitLoaded, &search);
  if (!search.found.empty()) {
    // By path: a bundled copy may carry a soname that dlopen would not find.
    handle_ = dlopen(search.found.c_str(), RTLD_NOW | RTLD_NOLOAD);
    path_ = search.found;
  }
  std::string tried;
  for (auto name = names.begin(); handle_ == nullptr && name != names.end(); ++name) {
    handle_ = dlopen(*name, RTLD_NOW | RTLD_LOCAL);
    path_ = *name;
    tried += std::string(tried.empty() ? "" : ", ") + *name;
  }
  if (handle_) return Status();
  return Status(Code::kFailedPrecondition,
                std::string("no GPU driver library: ") + stem + " is not loaded and none of these can be: " + tried);
}

void* Library::Lookup(std::initializer_list<const char*> symbols) const {
  for (const char* symbol : symbols) {
    if (void* found = dlsym(handle_, symbol)) return found;
  }
  return nullptr;
}

}  // namespace jax_aiter
