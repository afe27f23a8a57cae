// A loop in contiguous pieces, one per thread.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>

#include "interrupt.hpp"
#include "kernels.hpp"

namespace fastrdm {

// Calls call(context, piece) for every piece in [0, pieces), on this thread and the threads of the process's pool.
void run_pieces(void (*call)(void*, int), void* context, int pieces);

// Waits on the calling thread of a kernel, and meets a checkpoint every 100 ms. The lock is free during checkpoints.
template <typename Condition>
void wait(std::condition_variable& changed, std::unique_lock<std::mutex>& lock, Condition&& condition) {
  while (!changed.wait_for(lock, Call::kInterval, condition)) {
    lock.unlock();
    checkpoint();
    lock.lock();
  }
}

// Calls work(begin, end, worker) over [0, count), in pieces that start at multiples of `grain`. Rethrows an exception of any piece after all have
// ended.
template <typename Work>
void parallel(Index count, Index grain, int n_threads, Work&& work) {
  const Index grains = (count + grain - 1) / grain;
  const int workers = static_cast<int>(std::max<Index>(1, std::min<Index>(n_threads, grains)));
  if (workers == 1) {
    work(Index{0}, count, 0);
    return;
  }
  Call* const call = Call::present();
  std::exception_ptr failure;
  std::mutex guard;
  auto piece = [&](int worker) {
    const Joined joined(call);
    try {
      checkpoint();
      work(grains * worker / workers * grain, std::min(count, grains * (worker + 1) / workers * grain), worker);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(guard);
      if (!failure) failure = std::current_exception();
    }
  };
  using Piece = decltype(piece);
  run_pieces([](void* context, int worker) { (*static_cast<Piece*>(context))(worker); }, &piece, workers);
  if (failure) std::rethrow_exception(failure);
}

}  // namespace fastrdm
