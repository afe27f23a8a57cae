// Products of all pairs of conditions over a few channels, with conditions side by side; compiled once for each instruction set.
//
// Channels of overlapping neighbourhoods are gathered row by row, so that nothing is transposed, and sums of pairs are side by side in registers.
// Numbers are widened to float64 as they are packed. Nothing here may instantiate a template of the standard library: the linker would keep one copy
// for all instruction sets.

#include "isa.hpp"
#include "pace.hpp"
#include "simd.hpp"
#include "values.hpp"

namespace fastrdm::FASTRDM_ISA_NAME {
namespace {

using V = Vec<double>;
constexpr Index kWidth = kTileCols * V::lanes;
static_assert(kRowLength % kWidth == 0 && kRowPad % kTileRows == 0);

template <typename S>
void deviations_of(const S* data, Index n, const Index* rows, Index n_rows, double* sums, double* largest) {
  for (Index i = 0; i < n; ++i) sums[i] = largest[i] = 0;
  const S* first = data + rows[0] * n;
  Pace pace;
  for (Index k = 1; k < n_rows; ++k, pace(n)) {
    const S* row = data + rows[k] * n;
    for (Index i = 0; i < n; ++i) {
      const double x = static_cast<double>(row[i]) - static_cast<double>(first[i]), size = x < 0 ? -x : x;
      sums[i] += x;
      largest[i] = size > largest[i] ? size : largest[i];
    }
  }
}

template <typename S>
void pack_of(const S* data, Index n, const Index* rows, Index n_rows, const double* shift, const double* row_shift, Index ld, double* out) {
  for (Index k = 0; k < n_rows; ++k, out += ld) {
    const S* row = data + rows[k] * n;
    if (shift) {
      for (Index i = 0; i < n; ++i) out[i] = static_cast<double>(row[i]) - shift[i];
    } else {
      const double all = row_shift ? row_shift[rows[k]] : 0;
      for (Index i = 0; i < n; ++i) out[i] = static_cast<double>(row[i]) - all;
    }
    for (Index i = n; i < ld; ++i) out[i] = 0;
  }
}

inline void tile(const double* left, const double* right, Index n_rows, Index ld, double* out) {
  V::Reg sum[kTileRows][kTileCols];
  for (int r = 0; r < kTileRows; ++r)
    for (int c = 0; c < kTileCols; ++c) sum[r][c] = V::load(out + r * ld + c * V::lanes);
  for (Index k = 0; k < n_rows; ++k, left += ld, right += ld) {
    V::Reg x[kTileRows];
    for (int r = 0; r < kTileRows; ++r) x[r] = V::all(left[r]);
    for (int c = 0; c < kTileCols; ++c) {
      const V::Reg y = V::load(right + c * V::lanes);
      for (int r = 0; r < kTileRows; ++r) sum[r][c] = V::fma(x[r], y, sum[r][c]);
    }
  }
  for (int r = 0; r < kTileRows; ++r)
    for (int c = 0; c < kTileCols; ++c) V::store(out + r * ld + c * V::lanes, sum[r][c]);
}

}  // namespace

void deviations(const float* data, Index n, const Index* rows, Index n_rows, double* sums, double* largest) {
  deviations_of(data, n, rows, n_rows, sums, largest);
}
void deviations(const double* data, Index n, const Index* rows, Index n_rows, double* sums, double* largest) {
  deviations_of(data, n, rows, n_rows, sums, largest);
}
void pack(const float* data, Index n, const Index* rows, Index n_rows, const double* shift, const double* row_shift, Index ld, double* out) {
  pack_of(data, n, rows, n_rows, shift, row_shift, ld, out);
}
void pack(const double* data, Index n, const Index* rows, Index n_rows, const double* shift, const double* row_shift, Index ld, double* out) {
  pack_of(data, n, rows, n_rows, shift, row_shift, ld, out);
}

void outer(const double* packed, Index n_rows, Index n, Index ld, double* product, double* sums) {
  Pace pace;
  for (Index i = 0; i < n; i += kTileRows)
    for (Index j = i / kWidth * kWidth; j < ld; j += kWidth, pace(n_rows * kTileRows * kTileCols))
      tile(packed + i, packed + j, n_rows, ld, product + i * ld + j);
  for (Index k = 0; k < n_rows; ++k, packed += ld)
    for (Index i = 0; i < n; ++i) sums[i] += packed[i];
}

Index small_values(const double* product, Index n, Index ld, Form form, const double* scale, const double* sums, double factor, double near,
                   double* out) {
  Index few = 0;
  Pace pace;
  for (Index i = 0; i < n; ++i, product += ld, pace(n)) {
    const ProductRow row{product, sums, sums ? sums[i] : 0, scale, scale[i], factor, near};
    few += values_of_row(form, row, i + 1, n, out - (i + 1));
    out += n - i - 1;
  }
  return few;
}

}  // namespace fastrdm::FASTRDM_ISA_NAME
