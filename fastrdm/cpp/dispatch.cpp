// Which instruction sets this processor has, and the products of whole matrices split over threads.

#include <memory>

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

void run(const Isa& isa, const Matrix<float>& a, const Matrix<float>* b, Index begin, Index end, double* out, Index ld, double* sums) {
  isa.products_f32(a, b, begin, end, out, ld, sums);
}
void run(const Isa& isa, const Matrix<double>& a, const Matrix<double>* b, Index begin, Index end, double* out, Index ld, double* sums) {
  isa.products_f64(a, b, begin, end, out, ld, sums);
}

}  // namespace

template <typename T>
void products(const Isa& isa, const Matrix<T>& a, const Matrix<T>* b, double* out, Index out_stride, double* sums, int n_threads) {
  const Index cols = b ? b->rows : a.rows, ld = pad_rows(cols);
  const Index blocks = (a.cols + kBlock - 1) / kBlock;
  const int workers = static_cast<int>(std::max<Index>(1, std::min<Index>(n_threads, blocks)));
  // One sum for each worker, added in the workers' order: the same number of threads gives the same bits.
  std::vector<std::vector<double>> part(static_cast<std::size_t>(workers));
  std::vector<std::vector<double>> part_sums(static_cast<std::size_t>(workers));
  parallel(a.cols, kBlock, workers, [&](Index begin, Index end, int worker) {
    auto& mine = part[static_cast<std::size_t>(worker)];
    auto& my_sums = part_sums[static_cast<std::size_t>(worker)];
    mine.assign(static_cast<std::size_t>(pad_rows(a.rows) * ld), 0.0);
    my_sums.assign(static_cast<std::size_t>(a.rows), 0.0);
    run(isa, a, b, begin, end, mine.data(), ld, my_sums.data());
  });
  for (Index i = 0; i < a.rows; ++i) {
    for (Index j = b ? 0 : i; j < cols; ++j) {
      double sum = 0;
      for (const auto& p : part) sum += p[static_cast<std::size_t>(i * ld + j)];
      out[i * out_stride + j] = sum;
      if (!b) out[j * out_stride + i] = sum;
    }
    if (sums) {
      sums[i] = 0;
      for (const auto& p : part_sums) sums[i] += p[static_cast<std::size_t>(i)];
    }
  }
}

template void products<float>(const Isa&, const Matrix<float>&, const Matrix<float>*, double*, Index, double*, int);
template void products<double>(const Isa&, const Matrix<double>&, const Matrix<double>*, double*, Index, double*, int);

}  // namespace fastrdm
