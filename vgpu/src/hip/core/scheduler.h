// Queues of work and what makes them advance.
//
// Normally every queue has a thread of its own, so two streams really overlap. With --check=order one thread
// serves all queues and deliberately picks a bad order among those that the program allows: a queue nobody
// has declared a dependency on is starved for as long as possible.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "core/error.h"

namespace vgpu::hip {

class Queue;

struct Op {
  std::string what;
  // Asked under the scheduler's lock; empty means always ready.
  std::function<bool()> ready;
  // Called without the lock. Its error becomes the queue's.
  std::function<Error(Queue&)> run;
  // Also run while the queue carries an error (events, host functions); other work is then skipped.
  bool always = false;
};

class Queue : public std::enable_shared_from_this<Queue> {
 public:
  static std::shared_ptr<Queue> create(std::string name);

  // Returns the op's sequence number; the first is 1.
  uint64_t push(Op op);
  uint64_t submitted() const;
  bool reached(uint64_t sequence) const;       // takes the lock
  bool reached_locked(uint64_t sequence) const { return completed_ >= sequence; }

  void wait(uint64_t sequence);                // blocks the calling thread
  void drain() { wait(submitted()); }
  // The pending error, which is cleared: a host synchronisation has now reported it.
  Error take_error();
  Error peek_error() const;

  // Drains, then ends the thread.
  void close();

  const std::string& name() const { return name_; }

 private:
  friend class Adversary;
  explicit Queue(std::string name) : name_(std::move(name)) {}
  void serve();             // body of the queue's own thread
  bool step_ready() const;  // lock held
  void step(std::unique_lock<std::mutex>& lock);

  std::string name_;
  std::deque<Op> ops_;
  uint64_t submitted_ = 0, completed_ = 0;
  bool running_ = false, closing_ = false;
  Error error_;
  std::thread thread_;
};

// Blocks the calling host thread until `done` (asked under the lock) holds.
void wait_until(const std::function<bool()>& done);
// A host thread asked whether something is done: lets an adversarial schedule advance, so polling ends.
bool poll(const std::function<bool()>& done);
// Something that `ready` predicates look at has changed.
void wake_scheduler(const std::function<void()>& change);

}  // namespace vgpu::hip
