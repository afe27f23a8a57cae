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

// Similarities (rows_a, rows_b) of condensed RDMs, which are finite.
void compare_rdms(const Run& run, const double* a, Index rows_a, const double* b, Index rows_b, Index pairs, SimilarityKind kind, double* out);

void ceiling_of(const Run& run, const double* subjects, Index rows, Index conditions, SimilarityKind kind, bool ranked, double* lower, double* upper);

}  // namespace fastrdm
