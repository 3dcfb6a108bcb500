#include "isa/pool.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

namespace vgpu::isa {
namespace {

// Shared by the caller and the queue: a helper that starts after the caller finished finds it closed.
struct Job {
  const std::function<void()>* work;
  std::mutex mutex;
  std::condition_variable idle;
  unsigned running = 0;
  bool closed = false;

  void help() {
    {
      const std::lock_guard<std::mutex> lock(mutex);
      if (closed) return;
      ++running;
    }
    (*work)();
    const std::lock_guard<std::mutex> lock(mutex);
    --running;
    idle.notify_all();
  }
};

class Pool {
 public:
  void submit(const std::shared_ptr<Job>& job, unsigned count) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (unsigned i = 0; i < count; ++i) queue_.push_back(job);
    while (threads_ < std::min<size_t>(queue_.size(), hardware_threads())) {
      ++threads_;
      std::thread([this] { loop(); }).detach();
    }
    wake_.notify_all();
  }

 private:
  void loop() {
    for (;;) {
      std::shared_ptr<Job> job;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [this] { return !queue_.empty(); });
        job = std::move(queue_.front());
        queue_.pop_front();
      }
      job->help();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::shared_ptr<Job>> queue_;
  size_t threads_ = 0;
};

// Never destroyed: its detached threads may outlive static destruction.
Pool& pool() {
  static Pool* instance = new Pool;
  return *instance;
}

}  // namespace

unsigned hardware_threads() { return std::max(1u, std::thread::hardware_concurrency()); }

void run_with_helpers(unsigned helpers, const std::function<void()>& work) {
  if (helpers == 0) {
    work();
    return;
  }
  const auto job = std::make_shared<Job>();
  job->work = &work;
  pool().submit(job, helpers);
  work();
  std::unique_lock<std::mutex> lock(job->mutex);
  job->closed = true;
  job->idle.wait(lock, [&] { return job->running == 0; });
}

}  // namespace vgpu::isa
