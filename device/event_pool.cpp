// SPDX-License-Identifier: Apache-2.0
#include "device/event_pool.hpp"

#include "core/check.hpp"

#include <iterator>
#include <utility>

namespace spillway {

RecordedEvent::RecordedEvent(RecordedEvent&& other) noexcept
    : pool_(std::exchange(other.pool_, nullptr)),
      event_(std::move(other.event_)),
      capture_id_(std::exchange(other.capture_id_, 0)) {}

RecordedEvent& RecordedEvent::operator=(RecordedEvent&& other) noexcept {
  if (this != &other) {
    RecordedEvent old(std::move(*this));  // goes back to its pool at the end of this scope
    pool_ = std::exchange(other.pool_, nullptr);
    event_ = std::move(other.event_);
    capture_id_ = std::exchange(other.capture_id_, 0);
  }
  return *this;
}

RecordedEvent::~RecordedEvent() {
  if (pool_ != nullptr) pool_->take_back(std::move(event_), capture_id_);
}

Result<bool> RecordedEvent::is_done() const {
  if (capture_id_ != 0)
    return Status(Code::kInvalidArgument, "an event recorded in a capture cannot be queried");
  return event_->is_done();
}

Status RecordedEvent::synchronize() const {
  if (capture_id_ != 0)
    return {Code::kInvalidArgument, "the host cannot wait for an event recorded in a capture"};
  return event_->synchronize();
}

EventPool::~EventPool() { SPW_CHECK_EQ(leased_count(), std::size_t{0}); }

Result<RecordedEvent> EventPool::record(StreamRef stream) {
  auto status = cu::StreamCaptureStatus::kNone;
  unsigned long long capture_id = 0;
  SPW_CU_TRY(driver_->cuStreamGetCaptureInfo(
      stream.handle(), &status, &capture_id, nullptr, nullptr, nullptr));
  if (status == cu::StreamCaptureStatus::kNone) capture_id = 0;

  std::unique_ptr<Event> event = take(capture_id);
  if (event == nullptr) {
    SPW_ASSIGN_OR_RETURN(Event created, Event::create(*driver_));
    event = std::make_unique<Event>(std::move(created));
    const LockGuard lock(mutex_);
    ++created_count_;
    ++leased_count_;
  }
  RecordedEvent recorded(*this, std::move(event), capture_id);
  SPW_RETURN_IF_ERROR(recorded.event_->record(stream));
  return recorded;
}

void EventPool::forget_capture(std::uint64_t capture_id) {
  const LockGuard lock(mutex_);
  const auto found = captures_.find(capture_id);
  if (found == captures_.end()) return;
  std::move(found->second.begin(), found->second.end(), std::back_inserter(free_));
  captures_.erase(found);
}

std::size_t EventPool::created_count() const {
  const LockGuard lock(mutex_);
  return created_count_;
}

std::size_t EventPool::leased_count() const {
  const LockGuard lock(mutex_);
  return leased_count_;
}

std::size_t EventPool::free_count() const {
  const LockGuard lock(mutex_);
  return free_.size();
}

std::size_t EventPool::free_count(std::uint64_t capture_id) const {
  const LockGuard lock(mutex_);
  const auto found = captures_.find(capture_id);
  return found == captures_.end() ? 0 : found->second.size();
}

std::unique_ptr<Event> EventPool::take(std::uint64_t capture_id) {
  const LockGuard lock(mutex_);
  FreeList& list = capture_id == 0 ? free_ : captures_[capture_id];
  if (list.empty()) return nullptr;
  std::unique_ptr<Event> event = std::move(list.back());
  list.pop_back();
  ++leased_count_;
  return event;
}

void EventPool::take_back(std::unique_ptr<Event> event, std::uint64_t capture_id) {
  const LockGuard lock(mutex_);
  --leased_count_;
  const auto found = captures_.find(capture_id);
  (found == captures_.end() ? free_ : found->second).push_back(std::move(event));
}

}  // namespace spillway
