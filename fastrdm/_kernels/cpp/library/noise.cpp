// Distances that take noise off: Mahalanobis, of whitened conditions, and crossnobis, of folds.

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "rows.hpp"

namespace fastrdm {
namespace {

// As in fastrdm/rdm/whitening.py: by how much entries may differ that are equal in a symmetric matrix, relative to the largest.
constexpr double kAsymmetry = 1e-5;

double largest_of(const double* values, Index n) {
  double most = 0;
  in_stretches(n, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      if (!std::isfinite(values[i])) throw std::invalid_argument("precision has NaN or infinity at entry " + std::to_string(i));
      most = std::max(most, std::abs(values[i]));
    }
  });
  return most;
}

double dot(const double* a, const double* b, Index n) {
  constexpr Index kLanes = 8;
  double lanes[kLanes] = {}, total = 0;
  Index k = 0;
  for (; k + kLanes <= n; k += kLanes)
    for (Index l = 0; l < kLanes; ++l) lanes[l] += a[k + l] * b[k + l];
  for (; k < n; ++k) lanes[0] += a[k] * b[k];
  for (const double lane : lanes) total += lane;
  return total;
}

// The rows of L^T, for the precision L L^T.
Doubles filters_of(const double* precision, Index n) {
  const double most = largest_of(precision, n * n);
  const auto at = [n](Index i, Index j) { return size_of(i * n + j); };
  Doubles lower(size_of(n * n));
  Pace pace;
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j <= i; ++j) {
      const double above = precision[at(j, i)], below = precision[at(i, j)];
      if (std::abs(above - below) > kAsymmetry * most)
        throw std::invalid_argument("precision is not symmetric: entries (" + std::to_string(i) + ", " + std::to_string(j) + ") and (" +
                                    std::to_string(j) + ", " + std::to_string(i) + ") differ");
      const double rest = (above + below) / 2 - dot(&lower[at(i, 0)], &lower[at(j, 0)], j);
      pace(j + 1);
      if (i == j && !(rest > 0)) throw std::invalid_argument("precision is not positive definite: row " + std::to_string(i));
      lower[at(i, j)] = i == j ? std::sqrt(rest) : rest / lower[at(j, j)];
    }
  for (Index i = 0; i < n; ++i, pace(n))
    for (Index j = 0; j < i; ++j) std::swap(lower[at(i, j)], lower[at(j, i)]);
  return lower;
}

std::range_error too_large() { return std::range_error("whitened activations leave the range of float64"); }

void whiten(const Run& run, Wide& x, const Doubles& filters) {
  const Matrix<double> from = x.matrix(), by{filters.data(), x.cols, x.cols, x.cols, nullptr};
  Doubles to(x.values.size());
  products<double>(run.isa, from, &by, share_width(run.isa, x.cols, 8), false, to.data(), x.cols, nullptr, run.n_threads);
  if (!std::all_of(to.begin(), to.end(), [](double value) { return std::isfinite(value); })) throw too_large();
  x.values.swap(to);
}

}  // namespace

template <typename S>
void mahalanobis(const Run& run, const Matrix<S>& x, const double* precision, double* out) {
  check_finite(x, "activations");
  const Doubles filters = filters_of(precision, x.cols);
  Wide wide = widen(x);
  whiten(run, wide, filters);
  whole_rdm(run, wide.matrix(), RdmKind::euclidean, out);
}

template <typename S>
void crossnobis(const Run& run, const Matrix<S>& x, Index n_folds, const double* precision, double* out) {
  check_finite(x, "measurements");
  const Doubles filters = precision ? filters_of(precision, x.cols) : Doubles();
  const Index n = x.rows / n_folds, pairs = n * (n - 1) / 2;
  // The products of all pairs of folds are those of their sum with itself less those of each fold with itself.
  Wide sum;
  Doubles total(size_of(pairs)), found(size_of(pairs));
  for (Index fold = 0; fold < n_folds; ++fold) {
    Wide one = widen(Matrix<S>{x.data + fold * n * x.stride, n, x.cols, x.stride, nullptr});
    if (precision) whiten(run, one, filters);
    squared_distances(run, one.matrix(), found.data());
    for (std::size_t p = 0; p < total.size(); ++p) total[p] -= found[p];
    if (fold == 0)
      sum = std::move(one);
    else
      for (std::size_t k = 0; k < sum.values.size(); ++k) sum.values[k] += one.values[k];
  }
  if (!std::all_of(sum.values.begin(), sum.values.end(), [](double value) { return std::isfinite(value); })) throw too_large();
  squared_distances(run, sum.matrix(), found.data());
  const double n_pairs_of_folds = static_cast<double>(n_folds) * static_cast<double>(n_folds - 1);
  for (std::size_t p = 0; p < total.size(); ++p) out[p] = (total[p] + found[p]) / n_pairs_of_folds;
}

#define FASTRDM_INSTANTIATE(S)                                                        \
  template void mahalanobis<S>(const Run&, const Matrix<S>&, const double*, double*); \
  template void crossnobis<S>(const Run&, const Matrix<S>&, Index, const double*, double*);
FASTRDM_INSTANTIATE(float)
FASTRDM_INSTANTIATE(double)
FASTRDM_INSTANTIATE(Half)
FASTRDM_INSTANTIATE(BFloat16)

}  // namespace fastrdm
