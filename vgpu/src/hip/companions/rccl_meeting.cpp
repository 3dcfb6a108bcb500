#include "companions/rccl.h"
#include "core/log.h"

namespace vgpu::hip::rccl {

std::shared_ptr<Meeting> meet(Clique& clique, const std::string& key, size_t participants) {
  std::lock_guard<std::mutex> lock(clique.mutex);
  auto& slot = clique.meetings[key];
  if (!slot) {
    slot = std::make_shared<Meeting>();
    slot->what = key;
    slot->shares.resize(participants);
  }
  auto meeting = slot;
  // Sequence numbers never repeat, so the entry can go once everybody holds the meeting.
  if (++meeting->invited == participants) clique.meetings.erase(key);
  return meeting;
}

void join(Stream* stream, const std::shared_ptr<Meeting>& meeting, size_t place, Share share,
          std::function<Error(const std::vector<Share>&)> action) {
  Op op;
  op.what = meeting->what;
  op.always = true;  // a rank that failed earlier must still turn up, or the others would wait for ever
  op.run = [=](Queue& queue) {
    {
      std::lock_guard<std::mutex> lock(meeting->mutex);
      meeting->shares[place] = share;
      if (Error error = queue.peek_error()) meeting->error = error;
      if (++meeting->arrived != meeting->shares.size()) return Error();
    }
    Error error = meeting->error ? meeting->error : action(meeting->shares);
    wake_scheduler([&] {
      meeting->error = std::move(error);
      meeting->done = true;
    });
    return Error();
  };
  push(stream, std::move(op));
}

void wait_for(Stream* stream, const std::shared_ptr<Meeting>& meeting) {
  Op op;
  op.what = meeting->what;
  op.always = true;
  op.ready = [meeting] { return meeting->done; };
  op.run = [meeting](Queue&) { return meeting->error; };
  push(stream, std::move(op));
}

}  // namespace vgpu::hip::rccl
