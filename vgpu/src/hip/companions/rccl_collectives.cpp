// librccl.so.1: groups and the operations themselves.
#include <algorithm>

#include "companions/rccl.h"
#include "companions/rccl_group.h"
#include "companions/refuse.h"
#include "core/capture.h"
#include "core/log.h"
#include "core/memory.h"

using namespace vgpu::hip;
using namespace vgpu::hip::rccl;

namespace vgpu::hip::rccl {
namespace {
thread_local int depth = 0;
thread_local std::vector<std::function<void()>> deferred;
}  // namespace

int refuse_usage(const char* function, const std::string& why) {
  finish(function, Error(hipErrorInvalidValue, why));
  return kInvalidUsage;
}

void at_group_end(std::function<void()> action) {
  if (depth == 0) action();
  else deferred.push_back(std::move(action));
}

void wait_at_group_end(Stream* stream, std::shared_ptr<Meeting> meeting) {
  at_group_end([stream, meeting = std::move(meeting)] { wait_for(stream, meeting); });
}

}  // namespace vgpu::hip::rccl

namespace {

using Action = std::function<Error(const std::vector<Share>&)>;

int usable(const char* name, hipStream_t handle, int type, Stream** stream) {
  if (Error error = resolve(handle, stream)) return finish(name, error), kInvalidArgument;
  if (element_size(type) == 0) return refuse_usage(name, format("data type %d", type));
  if (capture_of(*stream)) return refuse_usage(name, "collectives cannot be captured into a graph here");
  return kSuccess;
}

Error valid(const void* send, size_t send_bytes, const void* receive, size_t receive_bytes, const char* name) {
  if (Error error = memory::check_range(send, send_bytes, name)) return error;
  return memory::check_range(receive, receive_bytes, name);
}

// A collective of all ranks of `comm`: the n-th call of every rank meets the n-th of the others.
int collective(const char* name, Comm* comm, hipStream_t handle, int type, Share share, size_t send_count, size_t receive_count,
               Action action) {
  Stream* stream = nullptr;
  if (const int status = usable(name, handle, type, &stream)) return status;
  const size_t size = element_size(type);
  if (Error error = valid(share.send, send_count * size, share.receive, receive_count * size, name)) {
    return finish(name, error), kInvalidArgument;
  }
  // The name is part of the key, so ranks that call different collectives never meet.
  const std::string key = format("%s (%zu elements of type %d) #%lu", name, std::max(send_count, receive_count), type, (unsigned long)comm->collectives++);
  auto meeting = meet(*comm->clique, key, comm->clique->ranks);
  join(stream, meeting, comm->rank, share, std::move(action));
  wait_at_group_end(stream, meeting);
  return kSuccess;
}

std::vector<const void*> inputs_at(const std::vector<Share>& shares, size_t offset) {
  std::vector<const void*> inputs;
  for (const Share& share : shares) inputs.push_back(static_cast<const char*>(share.send) + offset);
  return inputs;
}

char* at(void* base, size_t offset) { return static_cast<char*>(base) + offset; }
const char* at(const void* base, size_t offset) { return static_cast<const char*>(base) + offset; }

// Point to point: a meeting of two, place 0 sends and place 1 receives.
int exchange(const char* name, Comm* comm, int peer, hipStream_t handle, int type, Share share, size_t count, bool sending) {
  Stream* stream = nullptr;
  if (const int status = usable(name, handle, type, &stream)) return status;
  if (peer < 0 || peer >= comm->clique->ranks) return refuse_usage(name, format("peer %d of %d", peer, comm->clique->ranks));
  const size_t bytes = count * element_size(type);
  if (Error error = memory::check_range(sending ? share.send : share.receive, bytes, name)) return finish(name, error), kInvalidArgument;
  const uint64_t sequence = sending ? comm->sent[peer]++ : comm->received[peer]++;
  const int from = sending ? comm->rank : peer, to = sending ? peer : comm->rank;
  const std::string key = format("send %d to %d (%zu bytes) #%lu", from, to, bytes, (unsigned long)sequence);
  auto meeting = meet(*comm->clique, key, 2);
  join(stream, meeting, sending ? 0 : 1, share, [bytes](const std::vector<Share>& shares) {
    if (bytes != 0) memory::copy(shares[1].receive, shares[0].send, bytes);
    return Error();
  });
  wait_at_group_end(stream, meeting);
  return kSuccess;
}

}  // namespace

VGPU_EXPORT int ncclGroupStart() { return ++depth, kSuccess; }
VGPU_EXPORT int ncclGroupEnd() {
  if (depth == 0) return refuse_usage("ncclGroupEnd", "no group is open");
  if (--depth != 0) return kSuccess;
  auto actions = std::move(deferred);
  deferred.clear();
  for (const auto& action : actions) action();
  return kSuccess;
}

VGPU_EXPORT int ncclAllReduce(const void* send, void* receive, size_t count, int type, int operation, Comm* comm, hipStream_t stream) {
  return collective(__func__, comm, stream, type, {send, receive}, count, count, [=](const std::vector<Share>& shares) {
    // In place is allowed, so the result is finished before anybody's buffer is written.
    std::vector<char> result(count * element_size(type));
    if (Error error = reduce(result.data(), inputs_at(shares, 0), count, type, operation)) return error;
    for (const Share& share : shares) memory::copy(share.receive, result.data(), result.size());
    return Error();
  });
}

VGPU_EXPORT int ncclReduce(const void* send, void* receive, size_t count, int type, int operation, int root, Comm* comm,
                           hipStream_t stream) {
  return collective(__func__, comm, stream, type, {send, comm->rank == root ? receive : nullptr}, count,
                    comm->rank == root ? count : 0, [=](const std::vector<Share>& shares) {
                      return reduce(shares[root].receive, inputs_at(shares, 0), count, type, operation);
                    });
}

VGPU_EXPORT int ncclReduceScatter(const void* send, void* receive, size_t count, int type, int operation, Comm* comm,
                                  hipStream_t stream) {
  const size_t ranks = comm->clique->ranks, bytes = count * element_size(type);
  return collective(__func__, comm, stream, type, {send, receive}, count * ranks, count, [=](const std::vector<Share>& shares) {
    std::vector<char> result(bytes * ranks);
    if (Error error = reduce(result.data(), inputs_at(shares, 0), count * ranks, type, operation)) return error;
    for (size_t rank = 0; rank < ranks; ++rank) memory::copy(shares[rank].receive, &result[rank * bytes], bytes);
    return Error();
  });
}

VGPU_EXPORT int ncclAllGather(const void* send, void* receive, size_t count, int type, Comm* comm, hipStream_t stream) {
  const size_t ranks = comm->clique->ranks, bytes = count * element_size(type);
  return collective(__func__, comm, stream, type, {send, receive}, count, count * ranks, [=](const std::vector<Share>& shares) {
    for (const Share& to : shares) {
      for (size_t rank = 0; rank < ranks; ++rank) memory::copy(at(to.receive, rank * bytes), shares[rank].send, bytes);
    }
    return Error();
  });
}

VGPU_EXPORT int ncclBroadcast(const void* send, void* receive, size_t count, int type, int root, Comm* comm, hipStream_t stream) {
  const size_t bytes = count * element_size(type);
  const size_t sent = comm->rank == root ? count : 0;
  return collective(__func__, comm, stream, type, {send, receive}, sent, count, [=](const std::vector<Share>& shares) {
    for (const Share& to : shares) memory::copy(to.receive, shares[root].send, bytes);
    return Error();
  });
}

VGPU_EXPORT int ncclAllToAll(const void* send, void* receive, size_t count, int type, Comm* comm, hipStream_t stream) {
  const size_t ranks = comm->clique->ranks, bytes = count * element_size(type);
  return collective(__func__, comm, stream, type, {send, receive}, count * ranks, count * ranks, [=](const std::vector<Share>& shares) {
    for (size_t to = 0; to < ranks; ++to) {
      for (size_t from = 0; from < ranks; ++from) {
        memory::copy(at(shares[to].receive, from * bytes), at(shares[from].send, to * bytes), bytes);
      }
    }
    return Error();
  });
}

VGPU_EXPORT int ncclSend(const void* send, size_t count, int type, int peer, Comm* comm, hipStream_t stream) {
  return exchange(__func__, comm, peer, stream, type, {send, nullptr}, count, true);
}
VGPU_EXPORT int ncclRecv(void* receive, size_t count, int type, int peer, Comm* comm, hipStream_t stream) {
  return exchange(__func__, comm, peer, stream, type, {nullptr, receive}, count, false);
}
