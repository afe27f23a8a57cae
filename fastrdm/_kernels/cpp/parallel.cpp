// The thread pool. Threads wait between calls, since starting one takes about 0.1 ms. The caller works too, and takes all pieces that no thread has
// begun, so a call never waits for a thread to wake up.

#include "parallel.hpp"

#include <atomic>
#include <condition_variable>
#include <list>
#include <stdexcept>
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

// Spins before a thread sleeps: about 0.1 ms, the time that waking it takes.
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
    // The job is on the caller's stack, so an interrupted call ends only after the pieces that other threads have begun.
    bool interrupted = false;
    std::unique_lock<std::mutex> lock(guard_);
    while (!done_.wait_for(lock, Call::kInterval, [&] { return job.unfinished.load(std::memory_order_acquire) == 0; })) {
      lock.unlock();
      try {
        checkpoint();
      } catch (const Interrupted&) {
        interrupted = true;
      }
      if (forked()) throw std::runtime_error("this process was forked while a kernel ran in several threads, which the child does not have");
      lock.lock();
    }
    if (interrupted) throw Interrupted();
  }

  // A forked child has the pool's memory but none of its threads. Around a fork, the forking thread holds the lock, so that it is free in the child.
  void before_fork() { guard_.lock(); }
  void after_fork() { guard_.unlock(); }

 private:
  bool forked() const;

  void grow(int wanted) {
    try {
      for (; threads_ < wanted; ++threads_) std::thread([this] { run_jobs(); }).detach();
    } catch (const std::system_error&) {
      // The existing threads suffice: the caller takes the remaining pieces.
    }
  }

  void run_jobs() {
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

  // Needs the lock, and a job with pieces left.
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
    // Counted under the lock: after the last piece, `job` may be destroyed.
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

bool Pool::forked() const { return pool.load(std::memory_order_acquire) != this; }

// Never destroyed, because its threads wait in it until the process ends.
Pool& the_pool() {
  Pool* existing = pool.load(std::memory_order_acquire);
  if (existing) return *existing;
  static const bool registered = [] {
#if defined(__unix__) || defined(__APPLE__)
    static Pool* held = nullptr;
    pthread_atfork(
        [] {
          if ((held = pool.load(std::memory_order_acquire))) held->before_fork();
        },
        [] {
          if (held) held->after_fork();
        },
        [] {
          if (held) held->after_fork();
          pool.store(nullptr, std::memory_order_release);
        });
#endif
    return true;
  }();
  (void)registered;
  auto* made = new Pool;
  if (pool.compare_exchange_strong(existing, made, std::memory_order_acq_rel)) return *made;
  delete made;
  return *existing;
}

}  // namespace

void run_pieces(void (*call)(void*, int), void* context, int pieces) {
  Job job(call, context, pieces);
  the_pool().run(job);
}

}  // namespace fastrdm
