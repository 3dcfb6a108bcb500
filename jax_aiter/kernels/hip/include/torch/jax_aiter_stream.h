// Streams and device guards: there is one stream, and one device.
#pragma once

#include <hip/hip_runtime.h>

#define C10_WARP_SIZE 64

namespace at::hip {

struct Stream {
    hipStream_t stream() const { return nullptr; }
    operator hipStream_t() const { return nullptr; }
};
inline Stream getCurrentHIPStream(int = -1) { return {}; }
inline Stream getCurrentHIPStreamMasqueradingAsCUDA(int = -1) { return {}; }

struct Guard {
    template <class... Device> explicit Guard(const Device&...) {}
    ~Guard() {} // not trivial: a guard that is not named again is no unused variable
};
using OptionalHIPGuardMasqueradingAsCUDA = Guard;
using HIPGuardMasqueradingAsCUDA = Guard;

} // namespace at::hip

namespace c10::hip {
using at::hip::getCurrentHIPStream;
using at::hip::getCurrentHIPStreamMasqueradingAsCUDA;
using OptionalHIPGuardMasqueradingAsCUDA = at::hip::Guard;
using HIPGuardMasqueradingAsCUDA = at::hip::Guard;
} // namespace c10::hip
