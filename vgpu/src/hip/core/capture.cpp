#include "core/capture.h"

#include <algorithm>
#include <set>

#include "core/log.h"

namespace vgpu::hip {
namespace {

std::mutex& mutex() {
  static auto* instance = new std::mutex;
  return *instance;
}
std::set<Capture*>& active() {  // guarded by mutex()
  static auto* instance = new std::set<Capture*>;
  return *instance;
}
thread_local hipStreamCaptureMode thread_mode = hipStreamCaptureModeGlobal;

Error invalid(const char* what) {
  return Error(hipErrorStreamCaptureInvalidated, format("%s: an earlier error ended this capture", what));
}

}  // namespace

std::vector<GraphNode*>& Capture::tail(Stream* stream) {
  for (auto& [member, nodes] : tails) {
    if (member == stream) return nodes;
  }
  tails.emplace_back(stream, std::vector<GraphNode*>());
  return tails.back().second;
}

std::shared_ptr<Capture> capture_of(Stream* stream) {
  std::lock_guard<std::mutex> lock(mutex());
  return stream->capture;
}

Error begin_capture(Stream* stream, hipStreamCaptureMode mode) {
  static uint64_t next_id = 1;
  if (stream->is_null) return Error(hipErrorStreamCaptureUnsupported, "the legacy default stream cannot be captured");
  std::lock_guard<std::mutex> lock(mutex());
  if (stream->capture) return Error(hipErrorIllegalState, "the stream is capturing already");
  auto capture = std::make_shared<Capture>();
  capture->mode = mode;
  capture->thread = std::this_thread::get_id();
  capture->origin = stream;
  capture->graph = std::make_unique<Graph>();
  capture->id = next_id++;
  capture->tail(stream);
  active().insert(capture.get());
  stream->capture = std::move(capture);
  return Error();
}

Error end_capture(Stream* stream, Graph** out) {
  *out = nullptr;
  std::lock_guard<std::mutex> lock(mutex());
  auto capture = stream->capture;
  if (!capture) return Error(hipErrorIllegalState, "the stream is not capturing");
  if (capture->origin != stream) return Error(hipErrorStreamCaptureUnmatched, "");
  const bool relaxed = capture->mode == hipStreamCaptureModeRelaxed;
  if (!relaxed && capture->thread != std::this_thread::get_id()) return Error(hipErrorStreamCaptureWrongThread, "");
  active().erase(capture.get());
  for (auto& [member, nodes] : capture->tails) member->capture.reset();
  if (capture->invalidated) return invalid("hipStreamEndCapture");
  // Every forked stream's last node must be reachable from what the origin depends on.
  std::set<const GraphNode*> joined;
  std::vector<const GraphNode*> open(capture->tail(stream).begin(), capture->tail(stream).end());
  while (!open.empty()) {
    const GraphNode* node = open.back();
    open.pop_back();
    if (!joined.insert(node).second) continue;
    open.insert(open.end(), node->dependencies.begin(), node->dependencies.end());
  }
  for (auto& [member, nodes] : capture->tails) {
    for (const GraphNode* node : nodes) {
      if (joined.count(node) == 0) return Error(hipErrorStreamCaptureUnjoined, "");
    }
  }
  *out = capture->graph.release();
  return Error();
}

hipStreamCaptureStatus capture_status(Stream* stream, uint64_t* id) {
  std::lock_guard<std::mutex> lock(mutex());
  if (!stream->capture) return hipStreamCaptureStatusNone;
  if (id != nullptr) *id = stream->capture->id;
  return stream->capture->invalidated ? hipStreamCaptureStatusInvalidated : hipStreamCaptureStatusActive;
}

Error add_captured(Stream* stream, Work work) {
  std::lock_guard<std::mutex> lock(mutex());
  Capture& capture = *stream->capture;
  if (capture.invalidated) return invalid(describe(work).c_str());
  std::vector<GraphNode*>& tail = capture.tail(stream);
  GraphNode* node = nullptr;
  if (Error error = capture.graph->add(std::move(work), tail.data(), tail.size(), &node)) return error;
  tail = {node};
  return Error();
}

Error record_captured(Event* event, Stream* stream) {
  std::lock_guard<std::mutex> lock(mutex());
  if (stream->capture->invalidated) return invalid("hipEventRecord");
  std::lock_guard<std::mutex> event_lock(event->mutex);
  event->capture = stream->capture;
  event->captured = stream->capture->tail(stream);
  return Error();
}

Error wait_captured(Stream* stream, Event* event) {
  std::lock_guard<std::mutex> lock(mutex());
  std::lock_guard<std::mutex> event_lock(event->mutex);
  if (!event->capture) {
    stream->capture->invalidated = true;
    return Error(hipErrorStreamCaptureIsolation, "a capturing stream waits for an event recorded outside the capture");
  }
  if (event->capture->invalidated) return invalid("hipStreamWaitEvent");
  if (active().count(event->capture.get()) == 0) return Error(hipErrorCapturedEvent, "the event's capture has ended");
  if (stream->is_null) return Error(hipErrorStreamCaptureImplicit, "");
  if (stream->capture && stream->capture != event->capture) {
    stream->capture->invalidated = event->capture->invalidated = true;
    return Error(hipErrorStreamCaptureMerge, "");
  }
  stream->capture = event->capture;
  std::vector<GraphNode*>& tail = stream->capture->tail(stream);
  for (GraphNode* node : event->captured) {
    if (std::find(tail.begin(), tail.end(), node) == tail.end()) tail.push_back(node);
  }
  return Error();
}

Error forbid_during_capture(const char* function) {
  std::lock_guard<std::mutex> lock(mutex());
  if (active().empty() || thread_mode == hipStreamCaptureModeRelaxed) return Error();
  bool offended = false;
  for (Capture* capture : active()) {
    const bool own = capture->thread == std::this_thread::get_id();
    const bool global = capture->mode == hipStreamCaptureModeGlobal && thread_mode == hipStreamCaptureModeGlobal;
    if (global || (own && capture->mode != hipStreamCaptureModeRelaxed)) {
      capture->invalidated = true;
      offended = true;
    }
  }
  if (!offended) return Error();
  return Error(hipErrorStreamCaptureUnsupported, format("%s while a stream is capturing", function));
}

Error forbid_on_capturing(const char* function, Stream* stream) {
  std::lock_guard<std::mutex> lock(mutex());
  if (!stream->capture) return Error();
  stream->capture->invalidated = true;
  return Error(hipErrorStreamCaptureUnsupported, format("%s of a capturing stream", function));
}

hipStreamCaptureMode exchange_thread_mode(hipStreamCaptureMode mode) { return std::exchange(thread_mode, mode); }

}  // namespace vgpu::hip
