// ncclGroupStart/End: calls between them take effect together.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "companions/rccl.h"

namespace vgpu::hip::rccl {

// ncclResult_t
constexpr int kSuccess = 0, kDeviceError = 1, kInvalidArgument = 4, kInvalidUsage = 5;

int refuse_usage(const char* function, const std::string& why);

// Runs now, or at the outermost ncclGroupEnd of this thread.
void at_group_end(std::function<void()> action);
// Makes `stream` wait for the meeting, after every other call of the group has been queued: a send and the
// receive that completes it may be on one stream.
void wait_at_group_end(Stream* stream, std::shared_ptr<Meeting> meeting);

}  // namespace vgpu::hip::rccl
