// Dot products of all pairs of rows, compiled once for each instruction set.
//
// A block of columns of all rows is packed, shift subtracted, into a buffer whose row length is odd in cache lines (rows of
// CNN activations are multiples of 4 KiB apart and would all fall into the same cache sets), then multiplied tile by tile.
// Each row is prefetched while those before it are packed. Packing the next block between the tiles of this one was tried on
// a Zen 3 with 512 KB of L2 and gained nothing: two packed blocks and the sums do not fit.
// Nothing here may instantiate a template of the standard library: the linker would keep one copy for all instruction sets.

#include <cstdlib>
#include <cstring>
#include <new>

#include "kernels.hpp"
#include "simd.hpp"

namespace fastrdm::FASTRDM_ISA_NAME {
namespace {

constexpr Index kPanel = 8;    // right rows that stay in L1 while left rows pass
constexpr Index kStripe = 96;  // left rows that stay in L2 while panels pass
constexpr Index kAhead = 4;    // rows prefetched ahead of the one being packed
constexpr Index kLine = 64;    // bytes

// Rows up to the end of the tile that holds the last one.
constexpr Index tiled(Index rows, Index tile) { return (rows + tile - 1) / tile * tile; }

inline void prefetch(const void* address) {
#if defined(__GNUC__) || defined(__clang__)
  __builtin_prefetch(address, 0, 2);
#elif defined(FASTRDM_AVX512) || defined(FASTRDM_AVX2)
  _mm_prefetch(static_cast<const char*>(address), _MM_HINT_T1);
#else
  (void)address;
#endif
}

template <typename T>
class Packed {
 public:
  explicit Packed(Index rows)
      : rows_(pad_rows(rows)), data_(static_cast<T*>(std::calloc(static_cast<std::size_t>(rows_ * kStride + kStride), sizeof(T)))) {
    if (!data_) throw std::bad_alloc();
  }
  ~Packed() { std::free(data_); }
  Packed(const Packed&) = delete;
  Packed& operator=(const Packed&) = delete;

  const T* row(Index i) const { return data_ + i * kStride; }

  // The numbers are added to `sums`. The tail of a short block is zero, and so are the padding rows.
  void fill(const Matrix<T>& m, const Range& columns, double* sums) {
    if (m.centre_columns) set_means(m, columns);
    const Index length = columns.end - columns.begin;
    for (Index i = 0; i < m.rows; ++i) {
      if (i + kAhead < m.rows) prefetch_row(m, i + kAhead, columns);
      const T* from = m.data + i * m.stride + columns.begin;
      T* to = data_ + i * kStride;
      const double sum = m.centre_columns ? pack<true>(from, T(0), to, length)
                                          : pack<false>(from, m.shift ? static_cast<T>(m.shift[i]) : T(0), to, length);
      if (sums) sums[i] += sum;
    }
  }

 private:
  static void prefetch_row(const Matrix<T>& m, Index i, const Range& columns) {
    const char* row = reinterpret_cast<const char*>(m.data + i * m.stride + columns.begin);
    const Index bytes = (columns.end - columns.begin) * static_cast<Index>(sizeof(T));
    for (Index offset = 0; offset < bytes; offset += kLine) prefetch(row + offset);
  }

  static constexpr Index kStride = kBlock + kLine / static_cast<Index>(sizeof(T));

  T* means() { return data_ + rows_ * kStride; }

  void set_means(const Matrix<T>& m, const Range& columns) {
    T* mean = means();
    std::memset(mean, 0, kBlock * sizeof(T));
    const T share = T(1) / static_cast<T>(m.rows);
    for (Index i = 0; i < m.rows; ++i) {
      const T* from = m.data + i * m.stride + columns.begin;
      for (Index k = 0; k < columns.end - columns.begin; ++k) mean[k] += from[k] * share;
    }
  }

  template <bool kByColumn>
  double pack(const T* from, T shift, T* to, Index length) {
    constexpr int kLanes = 32;  // running sums enough to hide the latency of an addition
    const T* mean = means();
    T lanes[kLanes] = {};
    Index k = 0;
    for (; k + kLanes <= length; k += kLanes)
      for (int l = 0; l < kLanes; ++l) {
        const T x = from[k + l] - (kByColumn ? mean[k + l] : shift);
        to[k + l] = x;
        lanes[l] += x;
      }
    double sum = 0;
    for (; k < length; ++k) {
      to[k] = from[k] - (kByColumn ? mean[k] : shift);
      sum += to[k];
    }
    std::memset(to + k, 0, static_cast<std::size_t>(kBlock - k) * sizeof(T));
    for (const T x : lanes) sum += x;
    return sum;
  }

  Index rows_;
  T* data_;
};

template <typename T>
inline void tile(const Packed<T>& a, Index i, const Packed<T>& b, Index j, Index length, double* out, Index ld_out) {
  using V = Vec<T>;
  typename V::Reg sum[kTileRows][kTileCols];
  for (int r = 0; r < kTileRows; ++r)
    for (int c = 0; c < kTileCols; ++c) sum[r][c] = V::zero();
  const T *pa[kTileRows], *pb[kTileCols];
  for (int r = 0; r < kTileRows; ++r) pa[r] = a.row(i + r);
  for (int c = 0; c < kTileCols; ++c) pb[c] = b.row(j + c);
  for (Index k = 0; k < length; k += V::lanes) {
    typename V::Reg x[kTileRows];
    for (int r = 0; r < kTileRows; ++r) x[r] = V::load(pa[r] + k);
    for (int c = 0; c < kTileCols; ++c) {
      const typename V::Reg y = V::load(pb[c] + k);
      for (int r = 0; r < kTileRows; ++r) sum[r][c] = V::fma(x[r], y, sum[r][c]);
    }
  }
  for (int r = 0; r < kTileRows; ++r) V::add4_to(sum[r][0], sum[r][1], sum[r][2], sum[r][3], out + (i + r) * ld_out + j);
}

template <typename T>
void products(const Matrix<T>& a, const Matrix<T>* b, const Range& columns, const Range& right_rows, double* out, Index ld_out,
              double* sums) {
  static_assert(kRowPad % kTileRows == 0 && kRowPad % kTileCols == 0 && kStripe % kTileRows == 0);
  static_assert(kBlock % Vec<T>::lanes == 0);
  Packed<T> left(a.rows), packed_b(b ? b->rows : 0);
  const Packed<T>& right = b ? packed_b : left;
  const Index left_end = tiled(a.rows, kTileRows), last = tiled(b ? b->rows : a.rows, kTileCols);
  const Index right_end = right_rows.end < last ? right_rows.end : last;
  for (Index k = columns.begin; k < columns.end; k += kBlock) {
    const Range block{k, k + kBlock < columns.end ? k + kBlock : columns.end};
    const Index length = (block.end - k + Vec<T>::lanes - 1) / Vec<T>::lanes * Vec<T>::lanes;
    left.fill(a, block, sums);
    if (b) packed_b.fill(*b, block, nullptr);
    for (Index stripe = 0; stripe < left_end; stripe += kStripe) {
      const Index stripe_end = stripe + kStripe < left_end ? stripe + kStripe : left_end;
      for (Index panel = right_rows.begin; panel < right_end; panel += kPanel) {
        const Index panel_end = panel + kPanel < right_end ? panel + kPanel : right_end;
        for (Index i = stripe; i < stripe_end; i += kTileRows)
          for (Index j = panel; j < panel_end; j += kTileCols)
            // Symmetry gives what lies below the diagonal.
            if (b || i < j + kTileCols) tile(left, i, right, j, length, out, ld_out);
      }
    }
  }
}

}  // namespace

extern const Isa isa;
const Isa isa{FASTRDM_STRING(FASTRDM_ISA_NAME), products<float>, products<double>};

}  // namespace fastrdm::FASTRDM_ISA_NAME
