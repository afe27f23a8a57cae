// Products of rows in place, compiled once for each instruction set.
//
// For rows that are multiplied with few others, packing as in products.cpp costs more than it gains. float32 rows are widened in registers: products
// of ranks and their sums are integers, exact up to 2^53, so the order of summation changes no bit. Nothing here may instantiate a template of the
// standard library: the linker would keep one copy for all instruction sets.

#include "isa.hpp"
#include "pace.hpp"
#include "simd.hpp"

namespace fastrdm::FASTRDM_ISA_NAME {
namespace {

using V = Vec<double>;

// Columns beyond `cols_b` repeat the last column and are not written.
template <int kRows, int kCols, typename T>
inline void tile(const T* a, Index stride_a, const T* b, Index cols_b, Index stride_b, Index length, double* out, Index ld_out, Pace& pace) {
  V::Reg sum[kRows][kCols];
  const T* right[kCols];
  for (int c = 0; c < kCols; ++c) right[c] = b + (c < cols_b ? c : cols_b - 1) * stride_b;
  for (int r = 0; r < kRows; ++r)
    for (int c = 0; c < kCols; ++c) sum[r][c] = V::zero();
  for (Index begin = 0; begin < length; begin += kStretch) {
    const Index end = length - begin < kStretch ? length : begin + kStretch;
    for (Index k = begin; k < end; k += V::lanes) {
      V::Reg x[kRows];
      for (int r = 0; r < kRows; ++r) x[r] = V::load(a + r * stride_a + k);
      for (int c = 0; c < kCols; ++c) {
        const V::Reg y = V::load(right[c] + k);
        for (int r = 0; r < kRows; ++r) sum[r][c] = V::fma(x[r], y, sum[r][c]);
      }
    }
    pace(end - begin);
  }
  for (int r = 0; r < kRows; ++r)
    for (int c = 0; c < kCols && c < cols_b; ++c) {
      double lanes[V::lanes], total = 0;
      V::store(lanes, sum[r][c]);
      for (const double x : lanes) total += x;
      out[r * ld_out + c] = total;
    }
}

template <typename T>
void dots_of(const T* a, Index rows_a, Index stride_a, const T* b, Index rows_b, Index stride_b, Index cols, double* out, Index ld_out) {
  static_assert(kRowLength % V::lanes == 0);
  constexpr int kWide = 2 * kTileCols;  // a single row needs more sums to hide the latency
  const Index whole = rows_a / kTileRows * kTileRows;
  Pace pace;
  for (Index j = 0; j < rows_b; j += kTileCols)
    for (Index i = 0; i < whole; i += kTileRows)
      tile<kTileRows, kTileCols>(a + i * stride_a, stride_a, b + j * stride_b, rows_b - j, stride_b, cols, out + i * ld_out + j, ld_out, pace);
  for (Index j = 0; j < rows_b; j += kWide)
    for (Index i = whole; i < rows_a; ++i)
      tile<1, kWide>(a + i * stride_a, stride_a, b + j * stride_b, rows_b - j, stride_b, cols, out + i * ld_out + j, ld_out, pace);
}

}  // namespace

void dots(const float* a, Index rows_a, Index stride_a, const float* b, Index rows_b, Index stride_b, Index cols, double* out, Index ld_out) {
  dots_of(a, rows_a, stride_a, b, rows_b, stride_b, cols, out, ld_out);
}
void dots(const double* a, Index rows_a, Index stride_a, const double* b, Index rows_b, Index stride_b, Index cols, double* out, Index ld_out) {
  dots_of(a, rows_a, stride_a, b, rows_b, stride_b, cols, out, ld_out);
}

}  // namespace fastrdm::FASTRDM_ISA_NAME
