#include "core/stream.h"

#include <set>

#include "core/capture.h"
#include "core/log.h"
#include "core/options.h"

namespace vgpu::hip {
namespace {

thread_local int current = 0;

struct Registry {
  std::mutex mutex;
  std::set<Stream*> streams;
  std::vector<Stream*> null_streams;  // one per device
  int next = 1;

  Registry() {
    for (int device = 0; device < Options::get().devices; ++device) {
      auto* stream = new Stream;
      stream->device = device;
      stream->is_null = true;
      stream->queue = Queue::create(format("device %d null stream", device));
      null_streams.push_back(stream);
      streams.insert(stream);
    }
  }
};

Registry& registry() {
  static auto* instance = new Registry;
  return *instance;
}

using Fence = std::vector<std::pair<std::shared_ptr<Queue>, uint64_t>>;

// What the legacy default stream's rules make an op of `stream` wait for.
Fence implicit_fence(Stream* stream) {
  Fence fence;
  Registry& r = registry();
  std::lock_guard<std::mutex> lock(r.mutex);
  if (stream->is_null) {
    for (Stream* other : r.streams) {
      if (other == stream || other->device != stream->device || (other->flags & hipStreamNonBlocking)) continue;
      fence.emplace_back(other->queue, other->queue->submitted());
    }
  } else if (!(stream->flags & hipStreamNonBlocking)) {
    const auto& queue = r.null_streams[stream->device]->queue;
    if (const uint64_t sequence = queue->submitted()) fence.emplace_back(queue, sequence);
  }
  return fence;
}

}  // namespace

int current_device() { return current; }
void set_current_device(int device) { current = device; }

Stream* create_stream(int device, unsigned flags, int priority) {
  Registry& r = registry();
  std::lock_guard<std::mutex> lock(r.mutex);
  auto* stream = new Stream;
  stream->device = device;
  stream->flags = flags;
  stream->priority = priority;
  stream->queue = Queue::create(format("device %d stream %d", device, r.next++));
  r.streams.insert(stream);
  return stream;
}

Error destroy_stream(Stream* stream) {
  Registry& r = registry();
  {
    std::lock_guard<std::mutex> lock(r.mutex);
    if (stream == nullptr || stream->is_null || r.streams.erase(stream) == 0) {
      return Error(hipErrorInvalidHandle, "not a stream that can be destroyed");
    }
  }
  stream->queue->close();
  delete stream;
  return Error();
}

Error resolve(hipStream_t handle, Stream** out) {
  Registry& r = registry();
  const auto value = reinterpret_cast<uintptr_t>(handle);
  if (value <= 1) {
    *out = r.null_streams[current];
    return Error();
  }
  if (value == 2) {  // hipStreamPerThread
    thread_local std::vector<Stream*> own(Options::get().devices, nullptr);
    if (own[current] == nullptr) own[current] = create_stream(current, 0, 0);
    *out = own[current];
    return Error();
  }
  std::lock_guard<std::mutex> lock(r.mutex);
  if (r.streams.count(handle) == 0) return Error(hipErrorInvalidHandle, format("%p is not a live stream", (void*)handle));
  *out = handle;
  return Error();
}

std::vector<Stream*> streams_of(int device) {
  Registry& r = registry();
  std::lock_guard<std::mutex> lock(r.mutex);
  std::vector<Stream*> result;
  for (Stream* stream : r.streams) {
    if (stream->device == device) result.push_back(stream);
  }
  return result;
}

uint64_t push(Stream* stream, Op op) {
  Fence fence = implicit_fence(stream);
  if (!fence.empty()) {
    op.ready = [fence = std::move(fence), ready = std::move(op.ready)] {
      for (const auto& [queue, sequence] : fence) {
        if (!queue->reached_locked(sequence)) return false;
      }
      return !ready || ready();
    };
  }
  return stream->queue->push(std::move(op));
}

Error enqueue(Stream* stream, Work work) {
  if (Error error = check(work)) return error;
  if (auto capture = capture_of(stream)) return add_captured(stream, std::move(work));
  Op op;
  op.what = describe(work);
  // Host functions run even after a failure: programs free their buffers in them.
  op.always = std::holds_alternative<HostWork>(work);
  op.run = [work = std::move(work), device = stream->device](Queue& queue) { return run(work, {device, queue.name()}); };
  push(stream, std::move(op));
  return Error();
}

Error launch(Stream* stream, Work work) {
  if (Error error = enqueue(stream, std::move(work))) return error;
  return launches_block() && !capture_of(stream) ? synchronize(stream) : Error();
}

bool launches_block() { return Options::get().check_memory && !Options::get().order_seed; }

Error synchronize(Stream* stream) {
  stream->queue->drain();
  return stream->queue->take_error();
}

Error synchronize_device(int device) {
  Error first;
  for (Stream* stream : streams_of(device)) {
    Error error = synchronize(stream);
    if (error && !first) first = std::move(error);
  }
  return first;
}

}  // namespace vgpu::hip
