// Streams, events, host functions and stream capture.
#include "abi/types.h"
#include "core/capture.h"
#include "core/log.h"
#include "core/stream.h"

using namespace vgpu::hip;

namespace {

Error create(hipStream_t* out, unsigned flags, int priority) {
  if (flags > hipStreamNonBlocking) return Error(hipErrorInvalidValue, format("stream flags %x", flags));
  *out = create_stream(current_device(), flags, priority);
  return Error();
}

template <class F>
Error with(hipStream_t handle, F&& body) {
  Stream* stream = nullptr;
  if (Error error = resolve(handle, &stream)) return error;
  return body(stream);
}

Error synchronize_api(const char* function, hipStream_t handle) {
  return with(handle, [&](Stream* stream) {
    if (Error error = forbid_on_capturing(function, stream)) return error;
    if (Error error = forbid_during_capture(function)) return error;
    return synchronize(stream);
  });
}

Error query(hipStream_t handle) {
  return with(handle, [&](Stream* stream) {
    if (Error error = forbid_on_capturing("hipStreamQuery", stream)) return error;
    if (!stream->queue->reached(stream->queue->submitted())) return Error(hipErrorNotReady, "");
    return stream->queue->take_error();
  });
}

Error destroy(hipStream_t handle) {
  return with(handle, [&](Stream* stream) {
    if (Error error = forbid_on_capturing("hipStreamDestroy", stream)) return error;
    return destroy_stream(stream);
  });
}

Error host_function(hipStream_t handle, hipHostFn_t function, void* data) {
  if (function == nullptr) return Error(hipErrorInvalidValue, "no function");
  return with(handle, [&](Stream* stream) { return enqueue(stream, HostWork{function, data}); });
}

Error event_query(hipEvent_t event) {
  if (Error error = resolve(event)) return error;
  std::shared_ptr<Marker> marker;
  {
    std::lock_guard<std::mutex> lock(event->mutex);
    if (event->capture) return Error(hipErrorCapturedEvent, "");
    marker = event->marker;
  }
  if (marker == nullptr) return Error();
  if (!poll([&] { return marker->done; })) return Error(hipErrorNotReady, "");
  return marker->error;
}

Error elapsed(float* ms, hipEvent_t start, hipEvent_t stop) {
  for (hipEvent_t event : {start, stop}) {
    if (Error error = resolve(event)) return error;
    if (event->flags & hipEventDisableTiming) return Error(hipErrorInvalidHandle, "the event was created without timing");
    if (event->marker == nullptr) return Error(hipErrorInvalidHandle, "the event was not recorded");
    if (Error error = event_query(event)) return error;
  }
  *ms = std::chrono::duration<float, std::milli>(stop->marker->time - start->marker->time).count();
  return Error();
}

}  // namespace

HIP_API hipError_t hipStreamCreate(hipStream_t* out) { return finish(__func__, create(out, 0, 0)); }
HIP_API hipError_t hipStreamCreateWithFlags(hipStream_t* out, unsigned flags) {
  return finish(__func__, create(out, flags, 0));
}
HIP_API hipError_t hipStreamCreateWithPriority(hipStream_t* out, unsigned flags, int priority) {
  return finish(__func__, create(out, flags, priority));
}
HIP_API hipError_t hipStreamDestroy(hipStream_t stream) { return finish(__func__, destroy(stream)); }
HIP_API hipError_t hipStreamSynchronize(hipStream_t stream) { return finish(__func__, synchronize_api(__func__, stream)); }
HIP_API hipError_t hipStreamQuery(hipStream_t stream) { return finish(__func__, query(stream)); }
HIP_API hipError_t hipStreamGetFlags(hipStream_t stream, unsigned* flags) {
  return finish(__func__, with(stream, [&](Stream* s) { return *flags = s->flags, Error(); }));
}
HIP_API hipError_t hipStreamGetPriority(hipStream_t stream, int* priority) {
  return finish(__func__, with(stream, [&](Stream* s) { return *priority = s->priority, Error(); }));
}
HIP_API hipError_t hipStreamGetDevice(hipStream_t stream, hipDevice_t* device) {
  return finish(__func__, with(stream, [&](Stream* s) { return *device = s->device, Error(); }));
}
HIP_API int hipGetStreamDeviceId(hipStream_t stream) {
  Stream* resolved = nullptr;
  return resolve(stream, &resolved) ? -1 : resolved->device;
}
HIP_API hipError_t hipLaunchHostFunc(hipStream_t stream, hipHostFn_t function, void* data) {
  return finish(__func__, host_function(stream, function, data));
}
HIP_API hipError_t hipStreamAddCallback(hipStream_t stream, void (*callback)(hipStream_t, hipError_t, void*), void* data,
                                        unsigned) {
  return finish(__func__, with(stream, [&](Stream* s) {
    if (Error error = forbid_on_capturing("hipStreamAddCallback", s)) return error;
    Op op;
    op.what = "stream callback";
    op.always = true;
    op.run = [=](Queue& queue) { return callback(stream, queue.peek_error().code, data), Error(); };
    push(s, std::move(op));
    return Error();
  }));
}

HIP_API hipError_t hipEventCreateWithFlags(hipEvent_t* out, unsigned flags) {
  return *out = create_event(current_device(), flags), hipSuccess;
}
HIP_API hipError_t hipEventCreate(hipEvent_t* out) { return hipEventCreateWithFlags(out, 0); }
HIP_API hipError_t hipEventDestroy(hipEvent_t event) { return finish(__func__, destroy_event(event)); }
HIP_API hipError_t hipEventRecord(hipEvent_t event, hipStream_t stream) {
  if (Error error = resolve(event)) return finish(__func__, error);
  return finish(__func__, with(stream, [&](Stream* s) { return record(event, s); }));
}
HIP_API hipError_t hipStreamWaitEvent(hipStream_t stream, hipEvent_t event, unsigned) {
  if (Error error = resolve(event)) return finish(__func__, error);
  return finish(__func__, with(stream, [&](Stream* s) { return wait_event(s, event); }));
}
HIP_API hipError_t hipEventSynchronize(hipEvent_t event) {
  if (Error error = resolve(event)) return finish(__func__, error);
  if (Error error = forbid_during_capture(__func__)) return finish(__func__, error);
  return finish(__func__, synchronize(event));
}
HIP_API hipError_t hipEventQuery(hipEvent_t event) { return finish(__func__, event_query(event)); }
HIP_API hipError_t hipEventElapsedTime(float* ms, hipEvent_t start, hipEvent_t stop) {
  return finish(__func__, elapsed(ms, start, stop));
}

HIP_API hipError_t hipStreamBeginCapture(hipStream_t stream, hipStreamCaptureMode mode) {
  return finish(__func__, with(stream, [&](Stream* s) { return begin_capture(s, mode); }));
}
HIP_API hipError_t hipStreamEndCapture(hipStream_t stream, hipGraph_t* graph) {
  return finish(__func__, with(stream, [&](Stream* s) { return end_capture(s, graph); }));
}
HIP_API hipError_t hipStreamIsCapturing(hipStream_t stream, hipStreamCaptureStatus* status) {
  return finish(__func__, with(stream, [&](Stream* s) { return *status = capture_status(s, nullptr), Error(); }));
}
HIP_API hipError_t hipStreamGetCaptureInfo(hipStream_t stream, hipStreamCaptureStatus* status, unsigned long long* id) {
  return finish(__func__, with(stream, [&](Stream* s) {
    uint64_t number = 0;
    *status = capture_status(s, &number);
    if (id != nullptr) *id = number;
    return Error();
  }));
}
HIP_API hipError_t hipThreadExchangeStreamCaptureMode(hipStreamCaptureMode* mode) {
  return *mode = exchange_thread_mode(*mode), hipSuccess;
}
