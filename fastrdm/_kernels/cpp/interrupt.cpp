// Calls that can be interrupted, and their checkpoints.

#include "interrupt.hpp"

#include "kernels.hpp"

namespace fastrdm {
namespace {

thread_local Call* present = nullptr;
thread_local bool calling = false;

}  // namespace

Call::Call(std::chrono::milliseconds interval)
    : interval_(interval), next_(std::chrono::steady_clock::now() + interval), outer_(fastrdm::present), outer_calling_(calling) {
  fastrdm::present = this;
  calling = true;
}

Call::~Call() {
  fastrdm::present = outer_;
  calling = outer_calling_;
}

Call* Call::present() { return fastrdm::present; }

void Call::check(bool on_calling_thread) {
  if (on_calling_thread && !stopped_.load(std::memory_order_relaxed)) {
    const auto now = std::chrono::steady_clock::now();
    if (now < next_) return;
    if (stop_asked()) stopped_.store(true, std::memory_order_relaxed);
    next_ = std::chrono::steady_clock::now() + interval_;
  }
  if (stopped_.load(std::memory_order_relaxed)) throw Interrupted();
}

void checkpoint() {
  if (present) present->check(calling);
}

Joined::Joined(Call* call) : other_thread_(call && !present) {
  if (other_thread_) present = call;
}

Joined::~Joined() {
  if (other_thread_) present = nullptr;
}

}  // namespace fastrdm
