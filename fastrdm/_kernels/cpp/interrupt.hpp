// Stopping a call of a kernel before its end.
#pragma once

#include <atomic>
#include <chrono>
#include <exception>

namespace fastrdm {

// A checkpoint throws this after the call was told to stop.
struct Interrupted final : std::exception {
  const char* what() const noexcept override { return "interrupted"; }
};

// A call of a kernel that can be interrupted, on this thread from construction to destruction. Calls may be nested. The threads of a call meet
// checkpoints; the one on the calling thread asks stop_asked() once per interval, and once it returns true, the next checkpoint of each thread throws
// Interrupted.
class Call {
 public:
  static constexpr std::chrono::milliseconds kInterval{100};

  explicit Call(std::chrono::milliseconds interval = kInterval);
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // The call whose kernel this thread computes, or null.
  static Call* present();

  // Throws Interrupted if the call has to stop; on the calling thread, asks first if it is time.
  void check(bool calling);

 protected:
  ~Call();
  virtual bool stop_asked() = 0;

 private:
  std::atomic<bool> stopped_{false};
  std::chrono::milliseconds interval_;
  std::chrono::steady_clock::time_point next_;
  Call* outer_;
  bool outer_calling_;
};

// The present thread of the pool works for a call, which may be null, from construction to destruction. Does nothing on the calling thread.
class Joined {
 public:
  explicit Joined(Call* call);
  ~Joined();
  Joined(const Joined&) = delete;
  Joined& operator=(const Joined&) = delete;

 private:
  bool other_thread_;
};

}  // namespace fastrdm
