// librccl.so.1: communicators.
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>

#include "companions/rccl.h"
#include "companions/rccl_group.h"
#include "companions/refuse.h"
#include "core/log.h"

using namespace vgpu::hip;
using namespace vgpu::hip::rccl;

namespace {

std::mutex ids_mutex;
std::map<UniqueId, std::weak_ptr<Clique>>& cliques() {
  static auto* instance = new std::map<UniqueId, std::weak_ptr<Clique>>;
  return *instance;
}
std::condition_variable& vote_cast() {
  static auto* instance = new std::condition_variable;
  return *instance;
}

int init(Comm** out, int ranks, const UniqueId& id, int rank) {
  if (rank < 0 || rank >= ranks) return refuse_usage("ncclCommInitRank", format("rank %d of %d", rank, ranks));
  std::lock_guard<std::mutex> lock(ids_mutex);
  auto clique = cliques()[id].lock();
  if (!clique) {
    clique = std::make_shared<Clique>();
    clique->ranks = ranks;
    cliques()[id] = clique;
  }
  if (clique->ranks != ranks) return refuse_usage("ncclCommInitRank", "ranks disagree on their number");
  auto* comm = new Comm;
  comm->clique = std::move(clique);
  comm->rank = rank;
  comm->device = current_device();
  *out = comm;
  return kSuccess;
}

// Runs when all ranks of the parent have voted; in a group that is after the last call of the group.
void finish_split(Comm* parent, uint64_t sequence, int color, Comm** out, int device) {
  Clique& clique = *parent->clique;
  std::unique_lock<std::mutex> lock(clique.mutex);
  Clique::Split& split = clique.splits[sequence];
  vote_cast().wait(lock, [&] { return int(split.votes.size()) == clique.ranks; });
  if (color < 0) {
    *out = nullptr;  // NCCL_SPLIT_NOCOLOR
    return;
  }
  std::vector<std::pair<int, int>> members;  // key, old rank
  for (const auto& [rank, vote] : split.votes) {
    if (vote.first == color) members.emplace_back(vote.second, rank);
  }
  std::sort(members.begin(), members.end());
  auto& child = split.cliques[color];
  if (!child) child = std::make_shared<Clique>();
  child->ranks = members.size();
  auto* comm = new Comm;
  comm->clique = child;
  comm->device = device;
  for (size_t i = 0; i < members.size(); ++i) {
    if (members[i].second == parent->rank) comm->rank = i;
  }
  *out = comm;
}

}  // namespace

VGPU_EXPORT int ncclGetVersion(int* version) { return *version = 22700, kSuccess; }

VGPU_EXPORT int ncclGetUniqueId(UniqueId* id) {
  static std::atomic<uint64_t> next{1};
  id->fill(0);
  const uint64_t number = next++;
  std::memcpy(id->data(), "vgpu", 4);
  std::memcpy(id->data() + 8, &number, sizeof number);
  return kSuccess;
}

// Passed by value: 128 bytes on the stack, as the ABI passes any struct of that size.
VGPU_EXPORT int ncclCommInitRank(Comm** comm, int ranks, UniqueId id, int rank) { return init(comm, ranks, id, rank); }
VGPU_EXPORT int ncclCommInitRankConfig(Comm** comm, int ranks, UniqueId id, int rank, void*) {
  return init(comm, ranks, id, rank);
}
VGPU_EXPORT int ncclCommInitRankScalable(Comm** comm, int ranks, int rank, int ids, UniqueId* id, void*) {
  if (ids < 1) return refuse_usage("ncclCommInitRankScalable", "no id");
  return init(comm, ranks, id[0], rank);
}

VGPU_EXPORT int ncclCommSplit(Comm* comm, int color, int key, Comm** out, void*) {
  const uint64_t sequence = comm->splits++;
  {
    std::lock_guard<std::mutex> lock(comm->clique->mutex);
    comm->clique->splits[sequence].votes[comm->rank] = {color, key};
  }
  vote_cast().notify_all();
  const int device = comm->device;
  at_group_end([=] { finish_split(comm, sequence, color, out, device); });
  return kSuccess;
}

VGPU_EXPORT int ncclCommDestroy(Comm* comm) { return delete comm, kSuccess; }
VGPU_EXPORT int ncclCommFinalize(Comm*) { return kSuccess; }
VGPU_EXPORT int ncclCommAbort(Comm* comm) { return delete comm, kSuccess; }
VGPU_EXPORT int ncclCommCount(const Comm* comm, int* count) { return *count = comm->clique->ranks, kSuccess; }
VGPU_EXPORT int ncclCommUserRank(const Comm* comm, int* rank) { return *rank = comm->rank, kSuccess; }
VGPU_EXPORT int ncclCommCuDevice(const Comm* comm, int* device) { return *device = comm->device, kSuccess; }
// Failures surface on the stream of every rank, so there is nothing else to ask about.
VGPU_EXPORT int ncclCommGetAsyncError(Comm*, int* error) { return *error = kSuccess, kSuccess; }
// Registration only speeds real hardware up.
VGPU_EXPORT int ncclCommRegister(Comm*, void* buffer, size_t, void** handle) { return *handle = buffer, kSuccess; }
VGPU_EXPORT int ncclCommDeregister(Comm*, void*) { return kSuccess; }
VGPU_EXPORT int ncclCommWindowRegister(Comm*, void*, size_t, void**, int) {
  return refuse_usage("ncclCommWindowRegister", "symmetric memory is not offered");
}
VGPU_EXPORT int ncclCommWindowDeregister(Comm*, void*) {
  return refuse_usage("ncclCommWindowDeregister", "symmetric memory is not offered");
}

HIP_API hipError_t hipMalloc(void** ptr, size_t size);
HIP_API hipError_t hipFree(void* ptr);
VGPU_EXPORT int ncclMemAlloc(void** ptr, size_t size) { return hipMalloc(ptr, size) == hipSuccess ? kSuccess : kDeviceError; }
VGPU_EXPORT int ncclMemFree(void* ptr) { return hipFree(ptr) == hipSuccess ? kSuccess : kDeviceError; }

VGPU_EXPORT const char* ncclGetErrorString(int result) {
  constexpr const char* texts[] = {"no error",         "unhandled device error",        "unhandled system error",
                                   "internal error",   "invalid argument",              "invalid usage",
                                   "remote process exited or there was a network error", "NCCL operation in progress"};
  return result >= 0 && result < 8 ? texts[result] : "unknown result code";
}
VGPU_EXPORT const char* ncclGetLastError(Comm*) {
  static thread_local std::string text;
  text = last_error_message();
  return text.c_str();
}
