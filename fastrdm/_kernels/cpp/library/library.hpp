// What the library offers beyond the kernels: whole RDMs, comparisons and noise ceilings. c_api.cpp checks arguments and calls these.
#pragma once

#include <stdexcept>
#include <vector>

#include "../isa.hpp"

namespace fastrdm {

// Relative differences within which values tie: fastrdm/_kernels/ties.py.
constexpr double kTiesDouble = 0x1p-40, kTiesFloat = 0x1p-21;

enum class RdmKind { correlation, cosine, sqeuclidean, euclidean, spearman };
enum class SimilarityKind { spearman, pearson, cosine, tau_a, tau_b, rho_a };

// How a call runs.
struct Run {
  const Isa& isa;
  int n_threads;
};

// How to read numbers so that as little as possible is rounded, as fastrdm/rdm/numbers.py.
struct NumberKind {
  bool wide = false;      // products in double
  bool exact = false;     // products, and what is computed from them, are exact after `shift` is subtracted
  bool discrete = false;  // there are few different numbers
  double shift = 0;
};
template <typename S>
NumberKind number_kind(const Matrix<S>& x);

// Makes values of an RDM equal that differ by rounding; `angles`: values are 1 - cosine. As fastrdm/_kernels/ties.py.
void settle(double* values, Index n, double within, bool angles);

// Throws std::invalid_argument for NaN or infinity, and std::range_error for squares that leave the range of double.
template <typename S>
void whole_rdm(const Run& run, const Matrix<S>& x, RdmKind kind, double* out);

// The squared distances alone, without making values equal.
void squared_distances(const Run& run, const Matrix<double>& x, double* out);

// `precision` (cols, cols) is symmetric and positive definite; std::invalid_argument if it is not.
template <typename S>
void mahalanobis(const Run& run, const Matrix<S>& x, const double* precision, double* out);

// Folds of `x.rows / n_folds` conditions, one after the other; precision may be null.
template <typename S>
void crossnobis(const Run& run, const Matrix<S>& x, Index n_folds, const double* precision, double* out);

// Neighbourhoods of channels: those of centre k are channels[starts[k]] to channels[starts[k + 1] - 1].
struct Centres {
  const std::int64_t *channels, *starts;
  Index n;
};

// RDMs (centres, pairs); `method` as in kernels.hpp. NaN for conditions that are constant (cosine: zero) in a neighbourhood.
template <typename S>
void searchlight_rdms(const Run& run, const Matrix<S>& x, const Centres& centres, int method, double* out);

// Similarities (centres, models) of these RDMs, some of which are kept at a time; NaN for RDMs with NaN.
template <typename S>
void searchlight_scores(const Run& run, const Matrix<S>& x, const Centres& centres, int method, const double* models, Index n_models,
                        SimilarityKind kind, double* out);

// Similarities (rows_a, rows_b) of condensed RDMs, which are finite.
void compare_rdms(const Run& run, const double* a, Index rows_a, const double* b, Index rows_b, Index pairs, SimilarityKind kind, double* out);

void ceiling_of(const Run& run, const double* subjects, Index rows, Index conditions, SimilarityKind kind, bool ranked, double* lower, double* upper);

}  // namespace fastrdm
