// Which instruction sets this processor has, and the products of whole matrices split over threads.

#include <cmath>

#include "parallel.hpp"

#if defined(_MSC_VER) && defined(_M_X64)
#include <intrin.h>
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
  return os_saves_ymm && (leaf1[2] >> 12 & 1) && (leaf7[1] >> 5 & 1);
}
bool has_avx512() {
  int leaf7[4];
  __cpuidex(leaf7, 7, 0);
  constexpr int f_dq_bw_vl = 1 << 16 | 1 << 17 | 1 << 30 | static_cast<int>(1u << 31);
  return has_avx2() && (_xgetbv(0) & 0xe6) == 0xe6 && (leaf7[1] & f_dq_bw_vl) == f_dq_bw_vl;
}
#else
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
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

Products<float>* products_of(const Isa& isa, float) { return isa.products_f32; }
Products<double>* products_of(const Isa& isa, double) { return isa.products_f64; }

// Up to this many doubles a worker keeps sums of its own over a share of the columns; above, workers share one set of sums, each
// filling some of the right rows.
constexpr Index kOwnSums = 1 << 20;

// Multiplications that are worth starting a thread for: one takes some 0.1 ms to start.
constexpr double kWorkPerThread = 4e6;

using Doubles = std::vector<double>;

}  // namespace

template <typename T>
void products(const Isa& isa, const Matrix<T>& a, const Matrix<T>* b, double* out, Index out_stride, double* sums, int n_threads) {
  const auto multiply = products_of(isa, T());
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
                 w == 0 ? part_sums[0].data() : nullptr);
    });
  }
  // Added in the workers' order: the same number of threads gives the same bits.
  for (Index i = 0; i < a.rows; ++i) {
    for (Index j = b ? 0 : i; j < cols; ++j) {
      double sum = 0;
      for (const auto& p : part) sum += p[static_cast<std::size_t>(i * ld + j)];
      out[i * out_stride + j] = sum;
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

template void products<float>(const Isa&, const Matrix<float>&, const Matrix<float>*, double*, Index, double*, int);
template void products<double>(const Isa&, const Matrix<double>&, const Matrix<double>*, double*, Index, double*, int);

}  // namespace fastrdm
