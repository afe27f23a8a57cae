// Dot products of all pairs of rows, compiled once for each instruction set.
//
// A block of columns of all rows is packed, shift subtracted, into a buffer whose row length is odd in cache lines (rows of
// CNN activations are multiples of 4 KiB apart and would all fall into the same cache sets), then multiplied tile by tile.
// The next block is packed between the tiles, a row at a time and each row prefetched two rows ahead: memory is waited for
// while the multipliers are busy. Prefetching the whole next block instead gains nothing, again because its rows collide.
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
constexpr Index kLine = 64;    // bytes

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

  Index rows() const { return rows_; }
  const T* row(Index i) const { return data_ + i * kStride; }

  // The whole block; the numbers are added to `sums`. The tail of a short block is zero, and so are the padding rows.
  void fill(const Matrix<T>& m, const Range& columns, double* sums) {
    if (m.centre_columns) set_means(m, columns);
    for (Index i = 0; i < m.rows; ++i) fill_row(m, i, columns, sums);
  }

  // One row of it, where columns are not centred or their means are set.
  void fill_row(const Matrix<T>& m, Index i, const Range& columns, double* sums) {
    if (i + 2 < m.rows) prefetch_row(m, i + 2, columns);
    const T* from = m.data + i * m.stride + columns.begin;
    T* to = data_ + i * kStride;
    const Index length = columns.end - columns.begin;
    const double sum = m.centre_columns ? pack<true>(from, T(0), to, length)
                                        : pack<false>(from, m.shift ? static_cast<T>(m.shift[i]) : T(0), to, length);
    if (sums) sums[i] += sum;
  }

  static void prefetch_row(const Matrix<T>& m, Index i, const Range& columns) {
    const char* row = reinterpret_cast<const char*>(m.data + i * m.stride + columns.begin);
    const Index bytes = (columns.end - columns.begin) * static_cast<Index>(sizeof(T));
    for (Index offset = 0; offset < bytes; offset += kLine) prefetch(row + offset);
  }

 private:
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

// Packs the next block in as many steps as there are tiles of this one.
template <typename T>
class Ahead {
 public:
  Ahead(Packed<T>& to, const Matrix<T>& m, const Range& columns, double* sums, Index n_tiles)
      : to_(to), m_(m), columns_(columns), sums_(sums), rows_(columns.end > columns.begin ? m.rows : 0) {
    if (rows_ == 0 || m.centre_columns) return;
    wait_ = n_tiles / rows_ > 1 ? n_tiles / rows_ : 1;
    at_once_ = rows_ * wait_ / (n_tiles > 0 ? n_tiles : 1) + 1;
    for (Index i = 0; i < 2 && i < rows_; ++i) Packed<T>::prefetch_row(m_, i, columns_);
  }

  void step() {
    if (--left_ > 0) return;
    left_ = wait_;
    for (Index i = 0; i < at_once_ && row_ < rows_; ++i) to_.fill_row(m_, row_++, columns_, sums_);
  }

  void finish() {
    if (rows_ > 0 && m_.centre_columns) return to_.fill(m_, columns_, sums_);
    while (row_ < rows_) to_.fill_row(m_, row_++, columns_, sums_);
  }

 private:
  Packed<T>& to_;
  const Matrix<T>& m_;
  const Range columns_;
  double* const sums_;
  const Index rows_;
  Index row_ = 0, wait_ = 0, at_once_ = 0, left_ = 1;
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
  Packed<T> left(a.rows), left_ahead(a.rows), right(b ? b->rows : 0);
  Packed<T>*current = &left, *next = &left_ahead;
  const Index left_end = left.rows(), n_right = b ? right.rows() : left.rows();
  const Index right_end = right_rows.end < n_right ? right_rows.end : n_right;
  const Index n_tiles = left_end / kTileRows * ((right_end - right_rows.begin) / kTileCols) / (b ? 1 : 2);
  const auto block_at = [&columns](Index k) {
    return Range{k, k + kBlock < columns.end ? k + kBlock : columns.end};
  };
  current->fill(a, block_at(columns.begin), sums);
  for (Index k = columns.begin; k < columns.end; k += kBlock) {
    const Range block = block_at(k);
    const Index length = (block.end - k + Vec<T>::lanes - 1) / Vec<T>::lanes * Vec<T>::lanes;
    if (b) right.fill(*b, block, nullptr);
    const Packed<T>& columns_of = b ? right : *current;
    Ahead<T> ahead(*next, a, block_at(block.end), sums, n_tiles);
    for (Index stripe = 0; stripe < left_end; stripe += kStripe) {
      const Index stripe_end = stripe + kStripe < left_end ? stripe + kStripe : left_end;
      for (Index panel = right_rows.begin; panel < right_end; panel += kPanel) {
        const Index panel_end = panel + kPanel < right_end ? panel + kPanel : right_end;
        for (Index i = stripe; i < stripe_end; i += kTileRows)
          for (Index j = panel; j < panel_end; j += kTileCols) {
            if (!b && i >= j + kTileCols) continue;  // symmetry gives what lies below the diagonal
            tile(*current, i, columns_of, j, length, out, ld_out);
            ahead.step();
          }
      }
    }
    ahead.finish();
    Packed<T>* const packed = current;
    current = next;
    next = packed;
  }
}

}  // namespace

extern const Isa isa;
const Isa isa{FASTRDM_STRING(FASTRDM_ISA_NAME), products<float>, products<double>};

}  // namespace fastrdm::FASTRDM_ISA_NAME
