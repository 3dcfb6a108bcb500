#include "core/scheduler.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <random>
#include <vector>

#include "core/log.h"
#include "core/options.h"

namespace vgpu::hip {
namespace {

// One lock for all queues: there are few streams, and every op takes microseconds or more. Never destroyed,
// because queue threads outlive static destructors.
std::mutex& mutex() {
  static auto* value = new std::mutex;
  return *value;
}
std::condition_variable& changed() {
  static auto* value = new std::condition_variable;
  return *value;
}

}  // namespace

// The single server of --check=order.
class Adversary {
 public:
  static Adversary* get() {
    static Adversary* instance = Options::get().order_seed ? new Adversary(*Options::get().order_seed) : nullptr;
    return instance;
  }

  void add(const std::shared_ptr<Queue>& queue) {  // lock held
    queues_.push_back({queue, random_()});
  }
  void remove(Queue* queue) {  // lock held
    queues_.erase(std::remove_if(queues_.begin(), queues_.end(), [&](auto& e) { return e.queue.get() == queue; }),
                  queues_.end());
  }
  // Lock held. A host thread waits for `done`: work runs only while some such wish is unfulfilled, so that
  // the schedule depends on the seed and not on how fast the host thread wakes up.
  void press(const std::function<bool()>* done) { wishes_.push_back(done); }
  void release(const std::function<bool()>* done) {
    wishes_.erase(std::find(wishes_.begin(), wishes_.end(), done));
  }
  void nudge() { nudged_ = true; }  // a host thread polls: one step

 private:
  struct Entry {
    std::shared_ptr<Queue> queue;
    uint64_t rank;  // fixed by the seed: low ranks are starved
  };

  explicit Adversary(uint64_t seed) : random_(seed) {
    std::thread([this] { serve(); }).detach();
  }

  bool wished() const {
    return std::any_of(wishes_.begin(), wishes_.end(), [](auto* done) { return !(*done)(); });
  }

  Queue* pick() {
    std::vector<const Entry*> ready;
    for (const Entry& entry : queues_) {
      if (entry.queue->step_ready()) ready.push_back(&entry);
    }
    if (ready.empty()) return nullptr;
    // Mostly by rank (longest possible starvation), sometimes at random (interleavings).
    if (random_() % 4 == 0) return ready[random_() % ready.size()]->queue.get();
    return (*std::max_element(ready.begin(), ready.end(), [](auto* a, auto* b) { return a->rank < b->rank; }))
        ->queue.get();
  }

  void serve() {
    std::unique_lock<std::mutex> lock(mutex());
    for (;;) {
      // Let the host get ahead as far as it can: only a waiting or polling host thread, or 5 ms in which
      // nothing happened, makes work run.
      const bool idle = !wished() && !nudged_;
      if (idle && changed().wait_for(lock, std::chrono::milliseconds(5)) == std::cv_status::no_timeout) continue;
      nudged_ = false;
      Queue* queue = pick();
      if (queue == nullptr) {
        changed().wait_for(lock, std::chrono::milliseconds(5));
        continue;
      }
      auto alive = queue->shared_from_this();
      queue->step(lock);
    }
  }

  std::vector<Entry> queues_;
  std::mt19937_64 random_;
  std::vector<const std::function<bool()>*> wishes_;
  bool nudged_ = false;
};

std::shared_ptr<Queue> Queue::create(std::string name) {
  std::shared_ptr<Queue> queue(new Queue(std::move(name)));
  std::lock_guard<std::mutex> lock(mutex());
  if (Adversary* adversary = Adversary::get()) adversary->add(queue);
  return queue;
}

bool Queue::step_ready() const {
  return !running_ && !ops_.empty() && (!ops_.front().ready || ops_.front().ready());
}

void Queue::step(std::unique_lock<std::mutex>& lock) {
  Op op = std::move(ops_.front());
  ops_.pop_front();
  const bool skip = error_ && !op.always;
  running_ = true;
  Error error;
  if (!skip && op.run) {
    lock.unlock();
    error = op.run(*this);
    op.run = nullptr;  // releases what it holds before anybody is told
    lock.lock();
  }
  if (error && !error_) {
    error_ = error;
    log("%s: %s failed: %s", name_.c_str(), op.what.c_str(), error.message.c_str());
  }
  running_ = false;
  ++completed_;
  changed().notify_all();
}

void Queue::serve() {
  std::unique_lock<std::mutex> lock(mutex());
  for (;;) {
    changed().wait(lock, [&] { return step_ready() || (closing_ && ops_.empty()); });
    if (closing_ && ops_.empty()) return;
    step(lock);
  }
}

uint64_t Queue::push(Op op) {
  std::lock_guard<std::mutex> lock(mutex());
  ops_.push_back(std::move(op));
  const uint64_t sequence = ++submitted_;
  if (Adversary::get() == nullptr && !thread_.joinable()) {
    thread_ = std::thread([self = shared_from_this()] { self->serve(); });
  }
  changed().notify_all();
  return sequence;
}

uint64_t Queue::submitted() const {
  std::lock_guard<std::mutex> lock(mutex());
  return submitted_;
}

bool Queue::reached(uint64_t sequence) const {
  return poll([&] { return reached_locked(sequence); });
}

void Queue::wait(uint64_t sequence) {
  wait_until([&] { return reached_locked(sequence); });
}

Error Queue::take_error() {
  std::lock_guard<std::mutex> lock(mutex());
  return std::exchange(error_, Error());
}

Error Queue::peek_error() const {
  std::lock_guard<std::mutex> lock(mutex());
  return error_;
}

void Queue::close() {
  drain();
  {
    std::lock_guard<std::mutex> lock(mutex());
    closing_ = true;
    if (Adversary* adversary = Adversary::get()) adversary->remove(this);
    changed().notify_all();
  }
  if (thread_.joinable()) {
    // A host function of this very queue may destroy its stream.
    if (thread_.get_id() == std::this_thread::get_id()) thread_.detach();
    else thread_.join();
  }
}

void wait_until(const std::function<bool()>& done) {
  std::unique_lock<std::mutex> lock(mutex());
  Adversary* adversary = Adversary::get();
  if (adversary) adversary->press(&done);
  changed().notify_all();
  changed().wait(lock, done);
  if (adversary) adversary->release(&done);
}

bool poll(const std::function<bool()>& done) {
  std::lock_guard<std::mutex> lock(mutex());
  if (done()) return true;
  if (Adversary* adversary = Adversary::get()) {
    adversary->nudge();
    changed().notify_all();
  }
  return false;
}

void wake_scheduler(const std::function<void()>& change) {
  std::lock_guard<std::mutex> lock(mutex());
  change();
  changed().notify_all();
}

}  // namespace vgpu::hip
