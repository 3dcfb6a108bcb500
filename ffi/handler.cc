#include "handler.h"

#include <atomic>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "decode.h"
#include "driver_mock.h"
#include "text_codec.h"

namespace jax_aiter {
namespace {

namespace ffi = xla::ffi;

ffi::Error ToFfi(const Status& status) {
  switch (status.code()) {
    case Code::kOk:
      return ffi::Error::Success();
    case Code::kInvalidArgument:
      return ffi::Error(ffi::ErrorCode::kInvalidArgument, "jax_aiter: " + status.message());
    case Code::kUnimplemented:
      return ffi::Error(ffi::ErrorCode::kUnimplemented, "jax_aiter: " + status.message());
    case Code::kFailedPrecondition:
      return ffi::Error(ffi::ErrorCode::kFailedPrecondition, "jax_aiter: " + status.message());
    case Code::kInternal:
      break;
  }
  return ffi::Error(ffi::ErrorCode::kInternal, "jax_aiter: " + status.message());
}

// XLA is built without exceptions: one that escaped a handler would end the process.
template <typename F>
Status Guarded(F&& body) {
  try {
    return body();
  } catch (const std::exception& e) {
    return Status(Code::kInternal, std::string("unexpected: ") + e.what());
  }
}

std::atomic<Backend*> cpu_backend{nullptr};

Backend& BackendFor(Rocm) { return HipBackend(); }
Backend& BackendFor(Cuda) { return CudaBackend(); }
Backend& BackendFor(Cpu) {
  Backend* chosen = cpu_backend.load();
  return chosen ? *chosen : MockBackend();
}

template <typename Platform>
ffi::ErrorOr<std::unique_ptr<State<Platform>>> Instantiate(ffi::Dictionary attributes) {
  std::unique_ptr<State<Platform>> state;
  Status status = Guarded([&] {
    auto text = attributes.get<std::string_view>("plan");
    if (!text.has_value()) return Invalid("custom call without a string attribute `plan`");
    std::vector<uint8_t> bytes;
    if (!DecodeBase64(*text, &bytes)) return Invalid("attribute `plan` is not base64");
    Plan plan;
    JAX_AITER_RETURN_IF_ERROR(DecodePlan(bytes.data(), bytes.size(), GlobalCodeStore(), &plan));
    state = std::make_unique<State<Platform>>(std::move(plan), BackendFor(Platform()));
    return Status();
  });
  if (!status.ok()) return ffi::Unexpected(ToFfi(status));
  return state;
}

template <typename Platform>
ffi::Error Initialize(State<Platform>* state, int32_t ordinal, ffi::RemainingArgs, ffi::RemainingRets,
                      ffi::Dictionary) {
  return ToFfi(Guarded([&] { return state->executor.Initialize(ordinal); }));
}

uint64_t SizeInBytes(const ffi::AnyBuffer& buffer) {
  switch (buffer.element_type()) {
    case ffi::DataType::S4:
    case ffi::DataType::U4:
    case ffi::DataType::F4E2M1FN:
      return (buffer.element_count() + 1) / 2;  // XLA packs two to a byte on devices
    default:
      return buffer.size_bytes();
  }
}

Status Gather(const Executor& executor, ffi::RemainingArgs args, ffi::RemainingRets rets, Memory* operands,
              Memory* results) {
  if (args.size() != executor.operands() || rets.size() != executor.results()) {
    return Invalid("op " + executor.plan().op + ": called with " + std::to_string(args.size()) + " operands and " +
                   std::to_string(rets.size()) + " results, the plan has " + std::to_string(executor.operands()) +
                   " and " + std::to_string(executor.results()) + " (scratch included)");
  }
  for (size_t i = 0; i < args.size(); ++i) {
    auto buffer = args.get<ffi::AnyBuffer>(i);
    if (!buffer.has_value()) return Invalid("operand " + std::to_string(i) + " is not a buffer");
    operands[i] = {buffer->untyped_data(), SizeInBytes(*buffer)};
  }
  for (size_t i = 0; i < rets.size(); ++i) {
    auto buffer = rets.get<ffi::AnyBuffer>(i);
    if (!buffer.has_value()) return Invalid("result " + std::to_string(i) + " is not a buffer");
    results[i] = {(*buffer)->untyped_data(), SizeInBytes(**buffer)};
  }
  return Status();
}

Status Run(Executor& executor, int32_t ordinal, void* stream, ffi::RemainingArgs args, ffi::RemainingRets rets) {
  Memory operands[kMaxBuffers], results[kMaxBuffers];  // a plan has no more, see decode.cc
  JAX_AITER_RETURN_IF_ERROR(Gather(executor, args, rets, operands, results));
  return executor.Execute(ordinal, operands, results, stream);
}

template <typename Platform>
ffi::Error Execute(State<Platform>* state, int32_t ordinal, void* stream, ffi::RemainingArgs args,
                   ffi::RemainingRets rets, ffi::Dictionary) {
  return ToFfi(Guarded([&] { return Run(state->executor, ordinal, stream, args, rets); }));
}

// The CPU has no stream, and XLA's CPU runtime has no initialise stage.
ffi::Error ExecuteOnCpu(State<Cpu>* state, int32_t ordinal, ffi::RemainingArgs args, ffi::RemainingRets rets,
                        ffi::Dictionary) {
  return ToFfi(Guarded([&] {
    JAX_AITER_RETURN_IF_ERROR(state->executor.Initialize(ordinal));
    return Run(state->executor, ordinal, nullptr, args, rets);
  }));
}

template <typename Platform>
XLA_FFI_Error* InstantiateHandler(XLA_FFI_CallFrame* frame) {
  static auto* handler = ffi::Ffi::BindInstantiate().Attrs().To(Instantiate<Platform>).release();
  return handler->Call(frame);
}

template <typename Platform>
XLA_FFI_Error* InitializeHandler(XLA_FFI_CallFrame* frame) {
  static auto* handler = ffi::Ffi::BindInitialize()
                             .Ctx<ffi::State<State<Platform>>>()
                             .template Ctx<ffi::DeviceOrdinal>()
                             .RemainingArgs()
                             .RemainingRets()
                             .Attrs()
                             .To(Initialize<Platform>)
                             .release();
  return handler->Call(frame);
}

// Command-buffer compatible: execution only launches on the given stream and buffers, so it can be captured.
template <typename Platform>
XLA_FFI_Error* ExecuteHandler(XLA_FFI_CallFrame* frame) {
  static auto* handler = ffi::Ffi::BindExecute()
                             .Ctx<ffi::State<State<Platform>>>()
                             .template Ctx<ffi::DeviceOrdinal>()
                             .template Ctx<ffi::PlatformStream<void*>>()
                             .RemainingArgs()
                             .RemainingRets()
                             .Attrs()
                             .To(Execute<Platform>, {ffi::Traits::kCmdBufferCompatible})
                             .release();
  return handler->Call(frame);
}

XLA_FFI_Error* ExecuteOnCpuHandler(XLA_FFI_CallFrame* frame) {
  static auto* handler = ffi::Ffi::BindExecute()
                             .Ctx<ffi::State<State<Cpu>>>()
                             .Ctx<ffi::DeviceOrdinal>()
                             .RemainingArgs()
                             .RemainingRets()
                             .Attrs()
                             .To(ExecuteOnCpu)
                             .release();
  return handler->Call(frame);
}

template <typename Platform>
constexpr HandlerSet GpuHandlers(const char* platform, const char* type_name) {
  return {platform,
          type_name,
          &State<Platform>::id,
          &State<Platform>::info,
          InstantiateHandler<Platform>,
          InitializeHandler<Platform>,
          ExecuteHandler<Platform>};
}

}  // namespace

template <typename Platform>
ffi::TypeId State<Platform>::id = {};
template <typename Platform>
const ffi::TypeInfo State<Platform>::info = ffi::MakeTypeInfo<State<Platform>>();

const HandlerSet kRocmHandlers = GpuHandlers<Rocm>("ROCM", "jax_aiter.PlanState.v1.rocm");
const HandlerSet kCudaHandlers = GpuHandlers<Cuda>("CUDA", "jax_aiter.PlanState.v1.cuda");
const HandlerSet kCpuHandlers = {"cpu",           "jax_aiter.PlanState.v1.cpu", &State<Cpu>::id,
                                 &State<Cpu>::info, InstantiateHandler<Cpu>,    nullptr,
                                 ExecuteOnCpuHandler};

void UseBackendOnCpu(Backend& backend) { cpu_backend.store(&backend); }

Backend& HipBackend() {
  static auto* backend = new Backend(HipDriver());
  return *backend;
}

Backend& CudaBackend() {
  static auto* backend = new Backend(CudaDriver());
  return *backend;
}

Backend& MockBackend() {
  static auto* backend = new Backend(GlobalMockDriver());
  return *backend;
}

}  // namespace jax_aiter
