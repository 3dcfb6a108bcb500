// Stream capture: turning what is enqueued on streams into a graph, with HIP's rules.
#pragma once

#include <memory>
#include <thread>

#include "core/graph.h"
#include "core/stream.h"

namespace vgpu::hip {

struct Capture {
  hipStreamCaptureMode mode = hipStreamCaptureModeGlobal;
  std::thread::id thread;
  Stream* origin = nullptr;
  std::unique_ptr<Graph> graph;
  uint64_t id = 0;
  bool invalidated = false;
  // Per participating stream, what its next node depends on.
  std::vector<std::pair<Stream*, std::vector<GraphNode*>>> tails;

  std::vector<GraphNode*>& tail(Stream* stream);
};

std::shared_ptr<Capture> capture_of(Stream* stream);

Error begin_capture(Stream* stream, hipStreamCaptureMode mode);
Error end_capture(Stream* stream, Graph** out);
hipStreamCaptureStatus capture_status(Stream* stream, uint64_t* id);

Error add_captured(Stream* stream, Work work);
Error record_captured(Event* event, Stream* stream);
Error wait_captured(Stream* stream, Event* event);

// Calls that may not happen during capture (allocation, synchronisation of anything): invalidates the
// captures it offends and returns hipErrorStreamCaptureUnsupported. A capture is offended when it is in
// global mode, or in thread-local mode by a call of its own thread - unless the calling thread has
// exchanged its mode to relaxed.
Error forbid_during_capture(const char* function);
// Synchronising or querying a capturing stream is wrong in every mode.
Error forbid_on_capturing(const char* function, Stream* stream);

hipStreamCaptureMode exchange_thread_mode(hipStreamCaptureMode mode);

}  // namespace vgpu::hip
