// Dot products of all pairs of rows, compiled once for each instruction set.
//
// A block of columns of all rows is packed, shift subtracted, into a buffer whose row length is odd in cache lines (rows of
// CNN activations are multiples of 4 KiB apart and would all fall into the same cache sets), then multiplied tile by tile.
// Nothing here may instantiate a template of the standard library: the linker would keep one copy for all instruction sets.

#include <cstdlib>
#include <cstring>
#include <new>

#include "kernels.hpp"
#include "simd.hpp"

namespace fastrdm::FASTRDM_ISA_NAME {
namespace {

constexpr Index kPanel = 8;  // columns of a tile row kept in L1 while all tiles above the diagonal pass

template <typename T>
class Packed {
 public:
  explicit Packed(Index rows)
      : rows_(pad_rows(rows)), data_(static_cast<T*>(std::calloc(static_cast<std::size_t>(rows_ * kStride), sizeof(T)))) {
    if (!data_) throw std::bad_alloc();
  }
  ~Packed() { std::free(data_); }
  Packed(const Packed&) = delete;
  Packed& operator=(const Packed&) = delete;

  Index rows() const { return rows_; }
  const T* row(Index i) const { return data_ + i * kStride; }

  // Adds the packed numbers to `sums` as it goes; the tail of a short block is zero, and so are the padding rows.
  void fill(const Matrix<T>& m, Index begin, Index end, double* sums) {
    for (Index i = 0; i < m.rows; ++i) {
      const T* from = m.data + i * m.stride + begin;
      T* to = data_ + i * kStride;
      const T shift = m.shift ? static_cast<T>(m.shift[i]) : T(0);
      T lanes[16] = {};
      Index k = 0;
      for (; k + 16 <= end - begin; k += 16)
        for (int l = 0; l < 16; ++l) {
          const T x = from[k + l] - shift;
          to[k + l] = x;
          lanes[l] += x;
        }
      double sum = 0;
      for (; k < end - begin; ++k) {
        to[k] = from[k] - shift;
        sum += to[k];
      }
      std::memset(to + k, 0, static_cast<std::size_t>(kBlock - k) * sizeof(T));
      for (const T x : lanes) sum += x;
      if (sums) sums[i] += sum;
    }
  }

 private:
  static constexpr Index kStride = kBlock + 64 / sizeof(T);
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
void products(const Matrix<T>& a, const Matrix<T>* b, Index begin, Index end, double* out, Index ld_out, double* sums) {
  static_assert(kRowPad % kTileRows == 0 && kRowPad % kTileCols == 0 && kBlock % Vec<T>::lanes == 0);
  Packed<T> packed_a(a.rows);
  Packed<T> packed_b(b ? b->rows : 0);
  const Packed<T>& right = b ? packed_b : packed_a;
  for (Index k = begin; k < end; k += kBlock) {
    const Index stop = k + kBlock < end ? k + kBlock : end;
    const Index length = (stop - k + Vec<T>::lanes - 1) / Vec<T>::lanes * Vec<T>::lanes;
    packed_a.fill(a, k, stop, sums);
    if (b) packed_b.fill(*b, k, stop, nullptr);
    for (Index panel = 0; panel < right.rows(); panel += kPanel) {
      const Index panel_end = panel + kPanel < right.rows() ? panel + kPanel : right.rows();
      const Index rows = b || panel_end > packed_a.rows() ? packed_a.rows() : panel_end;
      for (Index i = 0; i < rows; i += kTileRows)
        for (Index j = panel; j < panel_end; j += kTileCols) tile(packed_a, i, right, j, length, out, ld_out);
    }
  }
}

}  // namespace

extern const Isa isa;
const Isa isa{FASTRDM_STRING(FASTRDM_ISA_NAME), products<float>, products<double>};

}  // namespace fastrdm::FASTRDM_ISA_NAME
