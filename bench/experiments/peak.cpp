// What this machine can do at most: float32 fused multiply-adds, and reads of memory. Prints, for each number of threads
// given, `threads GFLOP/s GB/s`. Vector types of GCC and Clang, as wide as the processor has them.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#if defined(__AVX512F__)
constexpr int width = 64, chains = 24;
#elif defined(__AVX__)
constexpr int width = 32, chains = 12;
#elif defined(__ARM_NEON)
constexpr int width = 16, chains = 24;
#else
constexpr int width = 16, chains = 12;
#endif
typedef float Vector __attribute__((vector_size(width)));
constexpr int lanes = width / sizeof(float);

volatile float sink;

float total(const Vector* v, int n) {
  float sum = 0;
  for (int i = 0; i < n; ++i)
    for (int lane = 0; lane < lanes; ++lane) sum += v[i][lane];
  return sum;
}

// More independent chains than pipes × latency, so that throughput and not latency is what is timed.
void multiply_add(long n) {
  Vector a = {}, b = {}, sum[chains];
  a += 0.999f + 0 * sink;
  b += 0.001f + 0 * sink;
  for (auto& s : sum) s = b;
  for (long k = 0; k < n; ++k) {
#pragma GCC unroll 32
    for (int i = 0; i < chains; ++i) sum[i] = sum[i] * a + b;
  }
  sink = total(sum, chains);
}

void read(const Vector* data, long n) {
  Vector sum[8] = {};
  for (long k = 0; k + 8 <= n; k += 8) {
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) sum[i] += data[k + i];
  }
  sink = total(sum, 8);
}

// Seconds from the start of all threads to the end of the last, the best of several times.
template <class Work>
double seconds(int n_threads, int repeats, Work work) {
  using Clock = std::chrono::steady_clock;
  double best = 1e9;
  for (int repeat = 0; repeat < repeats; ++repeat) {
    std::atomic<int> waiting{n_threads};
    std::vector<std::thread> threads;
    std::vector<Clock::time_point> begin(n_threads), end(n_threads);
    for (int t = 0; t < n_threads; ++t)
      threads.emplace_back([&, t] {
        for (--waiting; waiting > 0;) std::this_thread::yield();
        begin[t] = Clock::now();
        work(t);
        end[t] = Clock::now();
      });
    for (auto& thread : threads) thread.join();
    auto first = begin[0], last = end[0];
    for (int t = 1; t < n_threads; ++t) {
      if (begin[t] < first) first = begin[t];
      if (end[t] > last) last = end[t];
    }
    const double took = std::chrono::duration<double>(last - first).count();
    if (took < best) best = took;
  }
  return best;
}

int main(int argc, char** argv) {
  sink = 0;
  for (int i = 1; i < argc; ++i) {
    const int n_threads = std::atoi(argv[i]);
    if (n_threads < 1) return 1;
    const long n = 2000000;
    const double flops = 2.0 * n * chains * lanes * n_threads;
    const double fma = seconds(n_threads, 15, [&](int) { multiply_add(n); });

    // In all well beyond any cache; touched first by the thread that reads it.
    const long vectors = (512L << 20) / n_threads / width;
    std::vector<Vector*> data(n_threads);
    seconds(n_threads, 1, [&](int t) {
      data[t] = static_cast<Vector*>(std::aligned_alloc(width, vectors * width));
      if (!data[t]) std::abort();
      for (long k = 0; k < vectors; ++k) data[t][k] = Vector{} + 1.0f;
    });
    const double reading = seconds(n_threads, 7, [&](int t) { read(data[t], vectors); });
    for (auto* d : data) std::free(d);
    std::printf("%d %.6g %.6g\n", n_threads, flops / fma / 1e9, double(vectors) * width * n_threads / reading / 1e9);
  }
}
