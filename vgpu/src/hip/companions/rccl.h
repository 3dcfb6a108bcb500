// Collectives among virtual devices of one process: the shared state behind RCCL's communicators.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "abi/types.h"
#include "core/stream.h"

namespace vgpu::hip::rccl {

using UniqueId = std::array<char, 128>;

// One rank's share of one collective.
struct Share {
  const void* send = nullptr;
  void* receive = nullptr;
};

// A collective in flight. It happens when the last rank's stream reaches it: the earlier ones wait, as the
// kernels of the real library do.
struct Meeting {
  std::string what;
  std::vector<Share> shares;
  size_t invited = 0;  // ranks that have enqueued their part; guarded by the clique's mutex
  size_t arrived = 0;  // ranks whose stream has got there
  bool done = false;  // guarded by the scheduler's lock, like `error`
  Error error;
  std::mutex mutex;   // for `arrived`, `shares` and `error` while ranks arrive
};

struct Clique {
  int ranks = 0;
  std::mutex mutex;
  std::map<std::string, std::shared_ptr<Meeting>> meetings;  // by kind and sequence number
  struct Split {
    std::map<int, std::pair<int, int>> votes;  // rank -> colour, key
    std::map<int, std::shared_ptr<Clique>> cliques;
  };
  std::map<uint64_t, Split> splits;
};

struct Comm {
  std::shared_ptr<Clique> clique;
  int rank = 0;
  int device = 0;
  uint64_t collectives = 0;            // issued so far
  std::map<int, uint64_t> sent, received;  // per peer
  uint64_t splits = 0;
  std::string last_error;
};

// Queues this rank's part: `action` runs once, in the last rank to arrive, with everybody's buffers.
// `place` is the slot in `shares`.
void join(Stream* stream, const std::shared_ptr<Meeting>& meeting, size_t place, Share share,
          std::function<Error(const std::vector<Share>&)> action);
void wait_for(Stream* stream, const std::shared_ptr<Meeting>& meeting);

// The meeting called `key`, created by whoever comes first and forgotten when all have joined.
std::shared_ptr<Meeting> meet(Clique& clique, const std::string& key, size_t participants);

// Reduction of `count` elements. Types and operations by RCCL's numbers.
unsigned element_size(int type);  // 0: unknown
Error reduce(void* out, const std::vector<const void*>& inputs, size_t count, int type, int operation);

}  // namespace vgpu::hip::rccl
