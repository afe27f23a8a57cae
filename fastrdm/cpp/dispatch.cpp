// Which instruction sets this processor has, and the products of whole matrices split over threads.

#include <cmath>
#include <new>

#include "half.hpp"
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
// __builtin_cpu_supports knows f16c only in newer compilers.
bool has_f16c() {
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c(); }
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}
#endif

}  // namespace
#endif

const std::vector<const Isa*>& available_isas() {
  static const std::vector<const Isa*> found = [] {
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
  return found;
}

namespace {

// Up to this many doubles a worker keeps sums of its own over a share of the columns; above, workers share one set of sums, each
// filling some of the right rows.
constexpr Index kOwnSums = 1 << 20;

// Multiplications that are worth waking a thread for, which takes some 0.1 ms, and shares of the columns that it may take.
constexpr double kWorkPerThread = 1.5e7;
constexpr Index kGrain = 256;

constexpr std::size_t kLine = 64, kKept = 4 << 20;

struct Scratch {
  void* memory = nullptr;
  std::size_t size = 0;
  bool lent = false;
  ~Scratch() { ::operator delete(memory, std::align_val_t{kLine}); }
};
thread_local Scratch scratch;

using Doubles = std::vector<double>;

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

template <typename S>
void products(const Isa& isa, const Matrix<S>& a, const Matrix<S>* b, double* out, Index out_stride, double* sums, int n_threads) {
  const auto multiply = std::get<Products<S>*>(isa.products);
  const Index cols = b ? b->rows : a.rows, ld = pad_rows(cols), size = pad_rows(a.rows) * ld;
  const bool split_columns = size <= kOwnSums;
  const double work = static_cast<double>(a.rows) * static_cast<double>(cols) * static_cast<double>(a.cols);
  n_threads = static_cast<int>(std::min<double>(n_threads, 1 + work / kWorkPerThread));
  const Index grains = (a.cols + kGrain - 1) / kGrain;
  const int workers =
      split_columns ? static_cast<int>(std::max<Index>(1, std::min<Index>(n_threads, grains))) : std::max(1, n_threads);
  std::vector<Doubles> part(static_cast<std::size_t>(split_columns ? workers : 1), Doubles(static_cast<std::size_t>(size)));
  std::vector<Doubles> part_sums(part.size(), Doubles(static_cast<std::size_t>(a.rows)));
  if (split_columns) {
    parallel(a.cols, kGrain, workers, [&](Index begin, Index end, int worker) {
      const auto w = static_cast<std::size_t>(worker);
      multiply(a, b, {begin, end}, {0, ld}, part[w].data(), ld, part_sums[w].data());
    });
  } else {
    // Of a symmetric product only i <= j is made, so work grows with j: equal shares end at square roots.
    const auto bound = [&](int worker) {
      const double share = static_cast<double>(worker) / workers;
      return static_cast<Index>((b ? share : std::sqrt(share)) * static_cast<double>(ld) / kRowPad + 0.5) * kRowPad;
    };
    parallel(workers, 1, workers, [&](Index begin, Index end, int) {
      for (Index w = begin; w < end; ++w)
        multiply(a, b, {0, a.cols}, {bound(static_cast<int>(w)), bound(static_cast<int>(w) + 1)}, part[0].data(), ld,
                 w == workers - 1 ? part_sums[0].data() : nullptr);  // who reads all rows
    });
  }
  // Added in the workers' order: the same number of threads gives the same bits.
  for (Index i = 0; i < a.rows; ++i) {
    const Index from = b ? 0 : i;
    double* to = out + i * out_stride;
    for (std::size_t w = 0; w < part.size(); ++w) {
      const double* more = part[w].data() + i * ld;
      if (w == 0)
        std::copy(more + from, more + cols, to + from);
      else
        for (Index j = from; j < cols; ++j) to[j] += more[j];
    }
    if (sums) {
      sums[i] = 0;
      for (const auto& p : part_sums) sums[i] += p[static_cast<std::size_t>(i)];
    }
  }
  if (b) return;
  constexpr Index kSquare = 64;  // mirrored square by square, so that columns are not walked one number a line
  for (Index i0 = 0; i0 < a.rows; i0 += kSquare)
    for (Index j0 = 0; j0 <= i0; j0 += kSquare)
      for (Index i = i0; i < std::min(i0 + kSquare, a.rows); ++i)
        for (Index j = j0; j < std::min(j0 + kSquare, i); ++j) out[i * out_stride + j] = out[j * out_stride + i];
}

template <typename S>
void guess_means(const Matrix<S>& x, double* mean) {
  constexpr Index kStretches = 16, kWidth = 8;
  const bool all = x.cols <= kStretches * kWidth;
  const Index stretches = all ? 1 : kStretches, width = all ? x.cols : kWidth;
  Index starts[kStretches] = {};
  for (Index s = 1; s < stretches; ++s) starts[s] = s * (x.cols - width) / (kStretches - 1);
  for (Index i = 0; i < x.rows; ++i) {
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

#define FASTRDM_INSTANTIATE(S)                                                                              \
  template void products<S>(const Isa&, const Matrix<S>&, const Matrix<S>*, double*, Index, double*, int); \
  template void guess_means<S>(const Matrix<S>&, double*);
FASTRDM_INSTANTIATE(float)
FASTRDM_INSTANTIATE(double)
FASTRDM_INSTANTIATE(Half)
FASTRDM_INSTANTIATE(BFloat16)

}  // namespace fastrdm
