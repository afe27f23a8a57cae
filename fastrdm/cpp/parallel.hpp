// A loop split into contiguous pieces, one a thread.
#pragma once

#include <algorithm>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "kernels.hpp"

namespace fastrdm {

// work(begin, end, worker) over [0, count); pieces start at multiples of `grain`. An exception of any piece is thrown here once all have ended.
template <typename Work>
void parallel(Index count, Index grain, int n_threads, Work&& work) {
  const Index grains = (count + grain - 1) / grain;
  const int workers = static_cast<int>(std::max<Index>(1, std::min<Index>(n_threads, grains)));
  std::exception_ptr failure;
  std::mutex guard;
  auto piece = [&](int worker) {
    try {
      work(grains * worker / workers * grain, std::min(count, grains * (worker + 1) / workers * grain), worker);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(guard);
      if (!failure) failure = std::current_exception();
    }
  };
  std::vector<std::thread> threads;
  threads.reserve(static_cast<std::size_t>(workers - 1));
  int started = 1;
  try {
    for (; started < workers; ++started) threads.emplace_back(piece, started);
  } catch (const std::system_error&) {
    for (int worker = started; worker < workers; ++worker) piece(worker);
  }
  piece(0);
  for (auto& thread : threads) thread.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace fastrdm
