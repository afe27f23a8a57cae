// Similarities of whole RDMs, and noise ceilings: as fastrdm/similarity.

#include <algorithm>
#include <cmath>

#include "../pace.hpp"
#include "library.hpp"

namespace fastrdm {
namespace {

using Doubles = std::vector<double>;

std::size_t size_of(Index n) { return static_cast<std::size_t>(n); }

Index padded(Index cols) {
  const Index length = (cols + kRowLength - 1) / kRowLength * kRowLength;
  return length + (length % 1024 == 0 ? kRowLength : 0);  // rows at multiples of 4 KiB would collide in the cache sets
}

// RDMs divided by their largest magnitude, less their mean if centred, with zeros at the end.
struct PreparedRdms {
  Doubles values, squares;
  Index rows, stride;

  PreparedRdms(const double* rdms, Index n, Index pairs, bool centred) : squares(size_of(n)), rows(n), stride(padded(pairs)) {
    values.resize(size_of(n * stride));
    for (Index i = 0; i < n; ++i) fill(rdms + i * pairs, pairs, centred, values.data() + i * stride, squares[size_of(i)]);
  }
  Rows<double> get() const { return {values.data(), rows, stride, squares.data()}; }

 private:
  static double largest(const double* row, Index pairs) {
    double most = 0;
    for (Index k = 0; k < pairs; ++k) most = std::max(most, std::abs(row[k]));
    return most;
  }
  static void fill(const double* rdm, Index pairs, bool centred, double* to, double& square) {
    const auto [low, high] = std::minmax_element(rdm, rdm + pairs);
    square = std::nan("");
    double most = std::max(std::abs(*low), std::abs(*high));
    if (most == 0 || (centred && *low == *high)) return;
    Pace pace;
    double mean = 0;
    for (Index k = 0; k < pairs; ++k) mean += to[k] = rdm[k] / most;
    mean = centred ? mean / static_cast<double>(pairs) : 0;
    for (Index k = 0; k < pairs; ++k) to[k] -= mean;
    pace(pairs);
    most = largest(to, pairs);
    square = 0;
    for (Index k = 0; k < pairs; ++k) {
      to[k] /= most;
      square += to[k] * to[k];
    }
  }
};

double untied_square(Index n) { return (std::pow(static_cast<double>(n), 3) - static_cast<double>(n)) / 3; }

void compare_ranks(const Run& run, const double* a, Index rows_a, const double* b, Index rows_b, Index pairs, bool untied, double* out) {
  const Index stride = padded(pairs);
  std::vector<float> ranks(size_of(rows_b * stride));
  Doubles squares(size_of(rows_b));
  centred_ranks<double>(b, rows_b, pairs, pairs, ranks.data(), stride, squares.data(), run.n_threads);
  const double whole = untied_square(pairs);
  if (untied) std::fill(squares.begin(), squares.end(), whole);
  rank_similarities<double>(run.isa, a, rows_a, pairs, pairs, untied ? whole : 0.0, {ranks.data(), rows_b, stride, squares.data()}, false, out,
                            run.n_threads);
}

void compare_order(const Run& run, const double* a, Index rows_a, const double* b, Index rows_b, Index pairs, bool untied, double* out) {
  Doubles left(size_of(rows_a * pairs)), right(size_of(rows_b * pairs));
  rank(a, rows_a, pairs, left.data(), run.n_threads);
  rank(b, rows_b, pairs, right.data(), run.n_threads);
  std::vector<std::int64_t> counts(size_of(rows_a * rows_b)), untied_a(size_of(rows_a)), untied_b(size_of(rows_b));
  concordance(run.isa, left.data(), rows_a, right.data(), rows_b, pairs, counts.data(), untied_a.data(), untied_b.data(), run.n_threads);
  for (Index i = 0; i < rows_a; ++i)
    for (Index j = 0; j < rows_b; ++j) {
      const auto first = static_cast<double>(untied_a[size_of(i)]), second = static_cast<double>(untied_b[size_of(j)]);
      const double all = static_cast<double>(pairs) * static_cast<double>(pairs - 1) / 2;
      const double tau = static_cast<double>(counts[size_of(i * rows_b + j)]) / (untied ? all : std::sqrt(first) * std::sqrt(second));
      out[i * rows_b + j] = std::isnan(tau) ? tau : std::clamp(tau, -1.0, 1.0);
    }
}

// Sums with the rounding errors of every addition, so that the mean is that of exact numbers to the last digit but one.
class Sums {
 public:
  explicit Sums(Index n) : sum_(size_of(n)), error_(size_of(n)) {}
  void add(const double* row) {
    in_stretches(static_cast<Index>(sum_.size()), [&](Index begin, Index end) {
      for (Index k = begin; k < end; ++k) {
        double& sum = sum_[size_of(k)];
        const double x = row[k], total = sum + x, part = total - sum;
        error_[size_of(k)] += (sum - (total - part)) + (x - part);
        sum = total;
      }
    });
  }
  Doubles mean(Index count) const {
    Doubles out(sum_.size());
    for (std::size_t k = 0; k < out.size(); ++k) out[k] = (sum_[k] + error_[k]) / static_cast<double>(count);
    return out;
  }

 private:
  Doubles sum_, error_;
};

}  // namespace

void compare_rdms(const Run& run, const double* a, Index rows_a, const double* b, Index rows_b, Index pairs, SimilarityKind kind, double* out) {
  switch (kind) {
    case SimilarityKind::spearman:
    case SimilarityKind::rho_a:
      return compare_ranks(run, a, rows_a, b, rows_b, pairs, kind == SimilarityKind::rho_a, out);
    case SimilarityKind::tau_a:
    case SimilarityKind::tau_b:
      return compare_order(run, a, rows_a, b, rows_b, pairs, kind == SimilarityKind::tau_a, out);
    case SimilarityKind::pearson:
    case SimilarityKind::cosine: {
      const bool centred = kind == SimilarityKind::pearson;
      const PreparedRdms left(a, rows_a, pairs, centred), right(b, rows_b, pairs, centred);
      return similarities(run.isa, left.get(), right.get(), false, out, run.n_threads);
    }
  }
}

void ceiling_of(const Run& run, const double* subjects, Index rows, Index conditions, SimilarityKind kind, bool ranked, double* lower,
                double* upper) {
  const Index pairs = conditions * (conditions - 1) / 2;
  if (kind == SimilarityKind::spearman || kind == SimilarityKind::rho_a) {
    Doubles bounds(size_of(2 * rows));
    resampled_ceilings(run.isa, subjects, rows, conditions, nullptr, nullptr, 1, ranked, kind == SimilarityKind::rho_a, kTiesDouble, bounds.data(),
                       run.n_threads);
    std::copy_n(bounds.data(), rows, lower);
    std::copy_n(bounds.data() + rows, rows, upper);
    return;
  }
  const bool ordinal = kind == SimilarityKind::tau_a || kind == SimilarityKind::tau_b;
  const auto pooled = [&](Index without) {
    Sums sums(pairs);
    for (Index s = 0; s < rows; ++s)
      if (s != without) sums.add(subjects + s * pairs);
    Doubles mean = sums.mean(without < 0 ? rows : rows - 1);
    if (ordinal) settle(mean.data(), pairs, kTiesDouble, false);
    return mean;
  };
  const Doubles all = pooled(-1);
  compare_rdms(run, all.data(), 1, subjects, rows, pairs, kind, upper);
  for (Index s = 0; s < rows; ++s) {
    const Doubles others = pooled(s);
    compare_rdms(run, others.data(), 1, subjects + s * pairs, 1, pairs, kind, lower + s);
  }
}

}  // namespace fastrdm
