// Result of an operation that may fail: a code and, on failure, a message for the user.
//
// Independent of XLA's headers, so that the decoder and the drivers can be built and fuzzed alone.
#ifndef JAX_AITER_FFI_STATUS_H_
#define JAX_AITER_FFI_STATUS_H_

#include <string>
#include <utility>

namespace jax_aiter {

enum class Code {
  kOk,
  kInvalidArgument,     // the plan or the buffers are wrong
  kUnimplemented,       // a valid plan that this build cannot run
  kFailedPrecondition,  // the process is not set up (no driver, not initialised)
  kInternal,            // the driver reported an error
};

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == Code::kOk; }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }

  // The same failure, told from further out: "context: message".
  Status In(const std::string& context) const {
    return ok() ? *this : Status(code_, context + ": " + message_);
  }

 private:
  Code code_ = Code::kOk;
  std::string message_;
};

inline Status Invalid(std::string message) {
  return Status(Code::kInvalidArgument, std::move(message));
}

#define JAX_AITER_RETURN_IF_ERROR(expression)      \
  do {                                             \
    ::jax_aiter::Status status_ = (expression);    \
    if (!status_.ok()) return status_;             \
  } while (0)

}  // namespace jax_aiter

#endif  // JAX_AITER_FFI_STATUS_H_
