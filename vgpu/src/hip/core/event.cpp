#include <set>

#include "core/capture.h"
#include "core/log.h"
#include "core/stream.h"

namespace vgpu::hip {
namespace {

struct Registry {
  std::mutex mutex;
  std::set<Event*> events;
};
Registry& registry() {
  static auto* instance = new Registry;
  return *instance;
}

}  // namespace

Event* create_event(int device, unsigned flags) {
  auto* event = new Event;
  event->device = device;
  event->flags = flags;
  Registry& r = registry();
  std::lock_guard<std::mutex> lock(r.mutex);
  r.events.insert(event);
  return event;
}

Error destroy_event(Event* event) {
  Registry& r = registry();
  std::lock_guard<std::mutex> lock(r.mutex);
  if (r.events.erase(event) == 0) return Error(hipErrorInvalidHandle, format("%p is not a live event", (void*)event));
  delete event;  // queued ops hold the marker, not the event
  return Error();
}

Error resolve(hipEvent_t event) {
  Registry& r = registry();
  std::lock_guard<std::mutex> lock(r.mutex);
  if (r.events.count(event) == 0) return Error(hipErrorInvalidHandle, format("%p is not a live event", (void*)event));
  return Error();
}

Error record(Event* event, Stream* stream) {
  if (auto capture = capture_of(stream)) return record_captured(event, stream);
  auto marker = std::make_shared<Marker>();
  {
    std::lock_guard<std::mutex> lock(event->mutex);
    event->marker = marker;
    event->capture.reset();
    event->captured.clear();
  }
  Op op;
  op.what = "event record";
  op.always = true;
  op.run = [marker](Queue& queue) {
    Error error = queue.peek_error();
    wake_scheduler([&] {
      marker->done = true;
      marker->error = std::move(error);
      marker->time = std::chrono::steady_clock::now();
    });
    return Error();
  };
  push(stream, std::move(op));
  return Error();
}

Error wait_event(Stream* stream, Event* event) {
  std::shared_ptr<Marker> marker;
  bool captured = false;
  {
    std::lock_guard<std::mutex> lock(event->mutex);
    marker = event->marker;
    captured = event->capture != nullptr;
  }
  if (captured || capture_of(stream)) return wait_captured(stream, event);
  if (marker == nullptr) return Error();  // never recorded: complete by definition
  Op op;
  op.what = "wait for event";
  op.always = true;
  op.ready = [marker] { return marker->done; };
  // Work that needed what failed elsewhere has failed too.
  op.run = [marker](Queue&) { return marker->error; };
  push(stream, std::move(op));
  return Error();
}

Error synchronize(Event* event) {
  std::shared_ptr<Marker> marker;
  {
    std::lock_guard<std::mutex> lock(event->mutex);
    if (event->capture) return Error(hipErrorCapturedEvent, "");
    marker = event->marker;
  }
  if (marker == nullptr) return Error();
  wait_until([&] { return marker->done; });
  return marker->error;
}

}  // namespace vgpu::hip
