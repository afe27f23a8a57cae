// The pool of threads. They wait for work in between, since starting one takes some 0.1 ms; who calls works too and takes
// whatever pieces the others have not begun, so that a call never waits for a thread to wake up.

#include "parallel.hpp"

#include <atomic>
#include <condition_variable>
#include <list>
#include <system_error>
#include <thread>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace fastrdm {
namespace {

// Looks at what is waited for before a thread sleeps: some 0.1 ms, about what it takes to be woken.
constexpr int kSpins = 4000;

inline void relax() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#elif defined(__aarch64__) && (defined(__GNUC__) || defined(__clang__))
  __asm__ __volatile__("yield");
#endif
}

struct Job {
  void (*call)(void*, int);
  void* context;
  int pieces;
  int begun = 0;
  std::atomic<int> unfinished;

  Job(void (*f)(void*, int), void* c, int n) : call(f), context(c), pieces(n), unfinished(n) {}
};

class Pool {
 public:
  void run(Job& job) {
    {
      const std::lock_guard<std::mutex> lock(guard_);
      jobs_.push_back(&job);
      pending_.fetch_add(1, std::memory_order_relaxed);
      grow(job.pieces - 1);
    }
    wake_.notify_all();
    for (int piece; (piece = begin(job)) >= 0;) finish(job, piece);
    for (int spin = 0; spin < kSpins && job.unfinished.load(std::memory_order_acquire) > 0; ++spin) relax();
    std::unique_lock<std::mutex> lock(guard_);
    done_.wait(lock, [&] { return job.unfinished.load(std::memory_order_acquire) == 0; });
  }

 private:
  void grow(int wanted) {
    try {
      for (; threads_ < wanted; ++threads_) std::thread([this] { serve(); }).detach();
    } catch (const std::system_error&) {
      // Those there are will do: the caller takes what nobody else does.
    }
  }

  void serve() {
    for (;;) {
      for (int spin = 0; spin < kSpins && pending_.load(std::memory_order_relaxed) == 0; ++spin) relax();
      std::unique_lock<std::mutex> lock(guard_);
      wake_.wait(lock, [this] { return !jobs_.empty(); });
      Job& job = *jobs_.front();
      const int piece = take(job);
      lock.unlock();
      finish(job, piece);
    }
  }

  int begin(Job& job) {
    const std::lock_guard<std::mutex> lock(guard_);
    return job.begun < job.pieces ? take(job) : -1;
  }

  // With the lock held, of a job that has pieces left.
  int take(Job& job) {
    const int piece = job.begun++;
    if (job.begun == job.pieces) {
      jobs_.remove(&job);
      pending_.fetch_sub(1, std::memory_order_relaxed);
    }
    return piece;
  }

  void finish(Job& job, int piece) {
    job.call(job.context, piece);
    // Counted under the lock: once the last piece is, `job` may be gone.
    const std::lock_guard<std::mutex> lock(guard_);
    if (job.unfinished.fetch_sub(1, std::memory_order_acq_rel) == 1) done_.notify_all();
  }

  std::mutex guard_;
  std::condition_variable wake_, done_;
  std::list<Job*> jobs_;
  std::atomic<int> pending_{0};
  int threads_ = 0;
};

std::atomic<Pool*> pool{nullptr};

// Never destroyed: its threads wait in it until the process ends.
Pool& the_pool() {
  Pool* found = pool.load(std::memory_order_acquire);
  if (found) return *found;
  static const bool forks_seen = [] {
#if defined(__unix__) || defined(__APPLE__)
    // A forked child has the pool's memory but none of its threads.
    pthread_atfork(nullptr, nullptr, [] { pool.store(nullptr, std::memory_order_release); });
#endif
    return true;
  }();
  (void)forks_seen;
  auto* made = new Pool;
  if (pool.compare_exchange_strong(found, made, std::memory_order_acq_rel)) return *made;
  delete made;
  return *found;
}

}  // namespace

void run_pieces(void (*call)(void*, int), void* context, int pieces) {
  Job job(call, context, pieces);
  the_pool().run(job);
}

}  // namespace fastrdm
