// The instruction sets of this processor, and products and differences of whole matrices on several threads.

#include <cmath>
#include <condition_variable>
#include <new>
#include <stdexcept>

#include "half.hpp"
#include "isa.hpp"
#include "pace.hpp"
#include "parallel.hpp"

#ifdef FASTRDM_BUILT_X86
#ifdef _MSC_VER
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#endif

namespace fastrdm {

#define FASTRDM_DECLARE(name) \
  namespace name {            \
  extern const Isa isa;       \
  }
#ifdef FASTRDM_BUILT_X86
FASTRDM_DECLARE(avx512)
FASTRDM_DECLARE(avx2)
#endif
#ifdef FASTRDM_BUILT_NEON
FASTRDM_DECLARE(neon)
#endif
FASTRDM_DECLARE(portable)

#ifdef FASTRDM_BUILT_X86
namespace {

#ifdef _MSC_VER
bool has_avx2() {
  int leaf1[4], leaf7[4];
  __cpuid(leaf1, 1);
  __cpuidex(leaf7, 7, 0);
  const bool os_saves_ymm = (leaf1[2] >> 27 & 1) && (_xgetbv(0) & 0x6) == 0x6;
  constexpr int fma_f16c = 1 << 12 | 1 << 29;
  return os_saves_ymm && (leaf1[2] & fma_f16c) == fma_f16c && (leaf7[1] >> 5 & 1);
}
bool has_avx512() {
  int leaf7[4];
  __cpuidex(leaf7, 7, 0);
  constexpr int f_dq_bw_vl = 1 << 16 | 1 << 17 | 1 << 30 | static_cast<int>(1u << 31);
  return has_avx2() && (_xgetbv(0) & 0xe6) == 0xe6 && (leaf7[1] & f_dq_bw_vl) == f_dq_bw_vl;
}
#else
// __builtin_cpu_supports has f16c only in newer compilers.
bool has_f16c() {
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c(); }
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl");
}
#endif

}  // namespace
#endif

const std::vector<const Isa*>& available_isas() {
  static const std::vector<const Isa*> available = [] {
    std::vector<const Isa*> isas;
#ifdef FASTRDM_BUILT_X86
    if (has_avx512()) isas.push_back(&avx512::isa);
    if (has_avx2()) isas.push_back(&avx2::isa);
#endif
#ifdef FASTRDM_BUILT_NEON
    isas.push_back(&neon::isa);
#endif
    isas.push_back(&portable::isa);
    return isas;
  }();
  return available;
}

const Isa& isa_named(const std::string& name) {
  for (const Isa* isa : available_isas())
    if (name == isa->name) return *isa;
  throw std::invalid_argument("no such instruction set on this processor: " + name);
}

namespace {

// Up to this many doubles, workers take shares of the columns, each with private sums; above, or with fewer shares than workers, each worker fills
// some of the right rows.
constexpr Index kPrivateSums = 1 << 18;
// Blocks of a share, a compromise: long shares need fewer sums, short ones give all workers a share and make smaller copies of rows that cannot be
// read in place. At least kShares shares, if there are that many blocks.
constexpr Index kBlocks = 16, kShares = 4;

// Multiplications that justify waking a thread, which takes about 0.1 ms.
constexpr double kWorkPerThread = fuzzed(1.5e7, 8.0);

constexpr std::size_t kLine = 64, kKept = 4 << 20;

struct Scratch {
  void* memory = nullptr;
  std::size_t size = 0;
  bool lent = false;
  ~Scratch() { ::operator delete(memory, std::align_val_t{kLine}); }
};
thread_local Scratch scratch;

using Doubles = std::vector<double>;

Doubles zeros(Index size) {
  Doubles made;
  made.reserve(static_cast<std::size_t>(size));
  in_stretches(size, [&](Index, Index end) { made.resize(static_cast<std::size_t>(end)); });
  return made;
}

}  // namespace

void* take_scratch(std::size_t bytes) {
  if (scratch.lent || bytes > kKept) return ::operator new(bytes, std::align_val_t{kLine});
  if (bytes > scratch.size) {
    ::operator delete(scratch.memory, std::align_val_t{kLine});
    scratch.memory = nullptr;
    scratch.memory = ::operator new(scratch.size = bytes, std::align_val_t{kLine});
  }
  scratch.lent = true;
  return scratch.memory;
}

void give_scratch(void* memory) {
  if (memory == scratch.memory)
    scratch.lent = false;
  else
    ::operator delete(memory, std::align_val_t{kLine});
}

namespace {

// Adds up shares in their order. Of a symmetric product only i <= j is kept.
class Total {
 public:
  Total(double* out, Index stride, double* sums, bool add, bool symmetric, Index rows, Index cols)
      : out_(out), stride_(stride), sums_(sums), add_(add), symmetric_(symmetric), rows_(rows), cols_(cols), ld_(pad_rows(cols)) {}

  // Adds the right rows in `right` of a share, and leaves zeros; also its rows' sums, if `with_sums`.
  void take(Index share, double* part, const Range& right, bool with_sums) {
    const bool add = add_ || share > 0;
    const Index end = std::min(right.end, cols_);
    Pace pace;
    for (Index i = 0; i < (symmetric_ ? std::min(rows_, end) : rows_); ++i) {
      const Index begin = symmetric_ ? std::max(i, right.begin) : right.begin;
      double *to = out_ + i * stride_, *from = part + i * ld_;
      if (add)
        for (Index j = begin; j < end; ++j) to[j] += from[j];
      else
        for (Index j = begin; j < end; ++j) to[j] = from[j];
      std::fill(from + begin, from + std::max(begin, right.end), 0.0);
      pace(right.end - begin);
    }
    if (!with_sums || !sums_) return;
    for (Index i = 0; i < rows_; ++i) {
      const double sum = part[pad_rows(rows_) * ld_ + i];
      sums_[i] = add ? sums_[i] + sum : sum;
    }
  }

 private:
  double* out_;
  Index stride_;
  double* sums_;
  bool add_, symmetric_;
  Index rows_, cols_, ld_;
};

// All shares in turn, for some right rows.
class InTurn final : public Shares {
 public:
  InTurn(Index share_width, Index count, Total& total, const Range& right, bool with_sums)
      : Shares(share_width), count_(count), total_(total), right_(right), with_sums_(with_sums) {}
  Index next() override { return next_ < count_ ? next_++ : -1; }
  double* done(Index share, double* part) override {
    total_.take(share, part, right_, with_sums_);
    return part;
  }

 private:
  Index count_, next_ = 0;
  Total& total_;
  Range right_;
  bool with_sums_;
};

// Shares for several workers; each takes the next free one. A share that is finished before its turn waits in a buffer.
class Together {
 public:
  Together(Index count, Total& total, const Range& right, Index size, int workers)
      : total_(total), right_(right), size_(static_cast<std::size_t>(size)), waiting_(static_cast<std::size_t>(count)),
        buffers_(static_cast<std::size_t>(workers)) {}

  double* part(std::size_t worker) {
    std::unique_lock<std::mutex> lock(guard_);
    return take(worker);
  }

  Index next() {
    const std::lock_guard<std::mutex> lock(guard_);
    return next_ < static_cast<Index>(waiting_.size()) ? next_++ : -1;
  }

  double* done(Index share, double* part, std::size_t worker) {
    std::unique_lock<std::mutex> lock(guard_);
    waiting_[static_cast<std::size_t>(share)] = {part, worker};
    for (; turn_ < waiting_.size() && waiting_[turn_].part; ++turn_) {
      const Waiting& ready = waiting_[turn_];
      total_.take(static_cast<Index>(turn_), ready.part, right_, true);
      buffers_[ready.worker].free.push_back(ready.part);
    }
    freed_.notify_all();
    // No deadlock: the worker whose share is next has no share waiting, so it has a free buffer, because each worker has its buffers.
    wait(freed_, lock, [&] { return failed_ || !buffers_[worker].free.empty() || buffers_[worker].made.size() < kMaxBuffers; });
    if (failed_) {
      checkpoint();
      throw std::bad_alloc();
    }
    return take(worker);
  }

  // A worker that runs out of memory or is interrupted leaves a share unfinished; no one must wait for it.
  void fail() {
    const std::lock_guard<std::mutex> lock(guard_);
    failed_ = true;
    freed_.notify_all();
  }

 private:
  static constexpr std::size_t kMaxBuffers = 2;
  struct Waiting {
    double* part = nullptr;
    std::size_t worker = 0;
  };
  struct Buffers {
    std::vector<Doubles> made;
    std::vector<double*> free;
  };

  double* take(std::size_t worker) {
    Buffers& buffers = buffers_[worker];
    if (buffers.free.empty()) {
      buffers.made.emplace_back(size_);
      return buffers.made.back().data();
    }
    double* part = buffers.free.back();
    buffers.free.pop_back();
    return part;
  }

  Total& total_;
  Range right_;
  std::size_t size_;
  std::vector<Waiting> waiting_;
  std::vector<Buffers> buffers_;
  std::mutex guard_;
  std::condition_variable freed_;
  Index next_ = 0;
  std::size_t turn_ = 0;
  bool failed_ = false;
};

class OneOfSeveral final : public Shares {
 public:
  OneOfSeveral(Index share_width, Together& together, std::size_t worker) : Shares(share_width), together_(together), worker_(worker) {}
  Index next() override { return together_.next(); }
  double* done(Index share, double* part) override { return together_.done(share, part, worker_); }

 private:
  Together& together_;
  std::size_t worker_;
};

}  // namespace

Index share_width(const Isa& isa, Index cols, Index size) {
  const Index block = isa.block_bytes / size, blocks = (cols + block - 1) / block;
  return block * std::max<Index>(1, std::min(kBlocks, (blocks + kShares - 1) / kShares));
}

template <typename S>
void products(const Isa& isa, const Matrix<S>& a, const Matrix<S>* b, Index width, bool add, double* out, Index out_stride, double* sums,
              int n_threads) {
  const auto multiply = std::get<Products<S>*>(isa.products);
  const Index cols = b ? b->rows : a.rows, ld = pad_rows(cols), size = pad_rows(a.rows) * ld;
  const double work = static_cast<double>(a.rows) * static_cast<double>(cols) * static_cast<double>(a.cols);
  n_threads = static_cast<int>(std::max(1.0, std::min<double>(n_threads, 1 + work / kWorkPerThread)));
  const Index shares = (a.cols + width - 1) / width;
  if (shares == 0) {
    for (Index i = 0; i < a.rows && !add; ++i) std::fill_n(out + i * out_stride, cols, 0.0);
    if (sums && !add) std::fill_n(sums, a.rows, 0.0);
    return;
  }
  Total total(out, out_stride, sums, add, !b, a.rows, cols);
  if (n_threads > 1 && size <= kPrivateSums && shares >= n_threads) {
    Together together(shares, total, {0, ld}, size + a.rows, n_threads);
    parallel(n_threads, 1, n_threads, [&](Index begin, Index end, int) {
      for (Index w = begin; w < end; ++w) {
        const auto worker = static_cast<std::size_t>(w);
        OneOfSeveral worker_shares(width, together, worker);
        try {
          multiply(a, b, {0, ld}, worker_shares, together.part(worker), ld, sums != nullptr);
        } catch (...) {
          together.fail();
          throw;
        }
      }
    });
  } else {
    Doubles part = zeros(size + a.rows);
    // Of a symmetric product only i <= j is computed, so work grows with j: equal parts end at square roots.
    const auto bound = [&](int worker) {
      const double share = static_cast<double>(worker) / n_threads;
      return static_cast<Index>((b ? share : std::sqrt(share)) * static_cast<double>(ld) / kRowPad + 0.5) * kRowPad;
    };
    parallel(n_threads, 1, n_threads, [&](Index begin, Index end, int) {
      for (Index w = begin; w < end; ++w) {
        const Range right{bound(static_cast<int>(w)), bound(static_cast<int>(w) + 1)};
        if (right.begin == right.end) continue;          // there are more workers than tiles
        const bool with_sums = sums && right.end == ld;  // this worker reads all rows
        InTurn in_turn(width, shares, total, right, with_sums);
        multiply(a, b, right, in_turn, part.data(), ld, with_sums);
      }
    });
  }
  if (b) return;
  constexpr Index kSquare = 64;  // mirrored in squares, so that columns are not read one number per cache line
  Pace pace;
  for (Index i0 = 0; i0 < a.rows; i0 += kSquare, pace(i0 * kSquare))
    for (Index j0 = 0; j0 <= i0; j0 += kSquare)
      for (Index i = i0; i < std::min(i0 + kSquare, a.rows); ++i)
        for (Index j = j0; j < std::min(j0 + kSquare, i); ++j) out[i * out_stride + j] = out[j * out_stride + i];
}

template <typename S>
void differences(const Isa& isa, const Matrix<S>& a, const double* factor_a, const Matrix<S>& b, const double* factor_b, const Pair* pairs,
                 Index n_pairs, double* out, int n_threads) {
  const auto subtract = std::get<Differences<S>*>(isa.differences);
  constexpr Index kGrain = 8;
  const double work = 8 * static_cast<double>(n_pairs) * static_cast<double>(a.cols);
  n_threads = static_cast<int>(std::max(1.0, std::min<double>(n_threads, 1 + work / kWorkPerThread)));
  parallel(n_pairs, kGrain, n_threads,
           [&](Index begin, Index end, int) { subtract(a, factor_a, b, factor_b, pairs + begin, end - begin, out + begin); });
}

template <typename S>
void guess_means(const Matrix<S>& x, double* mean) {
  constexpr Index kStretches = 16, kWidth = 8;
  const bool all = x.cols <= kStretches * kWidth;
  const Index stretches = all ? 1 : kStretches, width = all ? x.cols : kWidth;
  Index starts[kStretches] = {};
  for (Index s = 1; s < stretches; ++s) starts[s] = s * (x.cols - width) / (kStretches - 1);
  Pace pace;
  for (Index i = 0; i < x.rows; ++i) {
    pace(stretches * width);
    double lanes[kWidth] = {};
    for (Index s = 0; s < stretches; ++s) {
      const S* from = x.data + i * x.stride + starts[s];
      Index k = 0;
      for (; k + kWidth <= width; k += kWidth)
        for (Index l = 0; l < kWidth; ++l) lanes[l] += widened(from[k + l]);
      for (Index l = 0; k + l < width; ++l) lanes[l] += widened(from[k + l]);
    }
    double sum = 0;
    for (const double lane : lanes) sum += lane;
    mean[i] = sum / static_cast<double>(stretches * width);
  }
}

#define FASTRDM_INSTANTIATE(S)                                                                                          \
  template void products<S>(const Isa&, const Matrix<S>&, const Matrix<S>*, Index, bool, double*, Index, double*, int); \
  template void guess_means<S>(const Matrix<S>&, double*);                                                              \
  template void differences<S>(const Isa&, const Matrix<S>&, const double*, const Matrix<S>&, const double*, const Pair*, Index, double*, int);
FASTRDM_INSTANTIATE(float)
FASTRDM_INSTANTIATE(double)
FASTRDM_INSTANTIATE(Half)
FASTRDM_INSTANTIATE(BFloat16)

}  // namespace fastrdm
