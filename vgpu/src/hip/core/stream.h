// Streams and events.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <vector>

#include "abi/types.h"
#include "core/scheduler.h"
#include "core/work.h"

namespace vgpu::hip {

struct Capture;

struct Stream {
  int device = 0;
  unsigned flags = 0;
  int priority = 0;
  bool is_null = false;  // the device's legacy default stream
  std::shared_ptr<Queue> queue;
  std::shared_ptr<Capture> capture;  // set while capturing; guarded by capture_mutex()
};

// The moment an event was recorded. `done` and what follows are guarded by the scheduler's lock.
struct Marker {
  bool done = false;
  Error error;
  std::chrono::steady_clock::time_point time;
};

struct Event {
  unsigned flags = 0;
  int device = 0;
  std::mutex mutex;
  std::shared_ptr<Marker> marker;    // null until recorded
  std::shared_ptr<Capture> capture;  // set when last recorded in a capturing stream
  std::vector<GraphNode*> captured;  // what that stream had depended on
};

Stream* create_stream(int device, unsigned flags, int priority);
Error destroy_stream(Stream* stream);

// Maps null, hipStreamLegacy and hipStreamPerThread to real streams of the current device, and refuses
// handles that are not live streams.
Error resolve(hipStream_t handle, Stream** out);
std::vector<Stream*> streams_of(int device);

Event* create_event(int device, unsigned flags);
Error destroy_event(Event* event);
Error resolve(hipEvent_t handle);

// Checks the work and queues it, or adds it to the graph when the stream is capturing.
Error enqueue(Stream* stream, Work work);
// The same for a kernel launch or a graph.
Error launch(Stream* stream, Work work);
// Programs such as XLA look at asynchronous failures late or never, and would hand out wrong numbers. With
// checks on, a launch therefore waits until it has run and returns its own error, as HIP_LAUNCH_BLOCKING=1
// does. Without checks, and with --check=order, which needs work to stay queued, launches return at once and
// a copy to host memory is what waits and reports.
bool launches_block();
// Queues without regard to capture; obeys the legacy default stream's implicit ordering.
uint64_t push(Stream* stream, Op op);

Error record(Event* event, Stream* stream);
Error wait_event(Stream* stream, Event* event);

// Blocks the host, and reports (once) what went wrong on the stream.
Error synchronize(Stream* stream);
Error synchronize(Event* event);
Error synchronize_device(int device);

int current_device();
void set_current_device(int device);

}  // namespace vgpu::hip
