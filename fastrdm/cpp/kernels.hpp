// The kernels as the bindings see them: plain pointers in, plain pointers out, one table for each instruction set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#define FASTRDM_STRING_(x) #x
#define FASTRDM_STRING(x) FASTRDM_STRING_(x)

namespace fastrdm {

using Index = std::ptrdiff_t;

// `rows` rows of `cols` numbers, `stride` numbers from one row to the next; `shift` (one a row, or null) is subtracted on reading.
template <typename T>
struct Matrix {
  const T* data;
  Index rows, cols, stride;
  const double* shift;
};

// products: out[i * ld_out + j] += sum_k (a_ik - shift_i) (b_jk - shift_j) over the columns [begin, end);
// with `b` null, b is a and only i <= j is sure to be filled. `out` holds pad(a.rows) x pad(b.rows) doubles.
// sums: out[i] += sum_k (a_ik - shift_i) over the same columns.
struct Isa {
  const char* name;
  void (*products_f32)(const Matrix<float>& a, const Matrix<float>* b, Index begin, Index end, double* out, Index ld_out, double* sums);
  void (*products_f64)(const Matrix<double>& a, const Matrix<double>* b, Index begin, Index end, double* out, Index ld_out, double* sums);
};

// Every tile height and width divides this, so that padded operands need no edge code.
constexpr Index kRowPad = 12;
constexpr Index pad_rows(Index rows) { return (rows + kRowPad - 1) / kRowPad * kRowPad; }

// Columns that one float32 partial sum may span before it is flushed to float64: longer blocks amortise the flush,
// shorter ones hold the error; 512 keeps 118 packed rows inside half a megabyte of L2.
constexpr Index kBlock = 512;

// Those built into this extension that this processor can run, the fastest first; never empty, `portable` is always last.
const std::vector<const Isa*>& available_isas();

// out[i * out_stride + j] = (a_i - shift_i) . (b_j - shift_j); with `b` null, the whole symmetric product of a with itself.
template <typename T>
void products(const Isa& isa, const Matrix<T>& a, const Matrix<T>* b, double* out, Index out_stride, double* sums, int n_threads);

// Average ranks from 1 of every row; no NaN.
void rank_rows(const double* data, Index rows, Index cols, double* ranks, int n_threads);

}  // namespace fastrdm
