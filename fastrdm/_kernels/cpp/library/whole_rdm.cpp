// Activations → a whole RDM, by the steps of fastrdm/rdm: products of all pairs, dissimilarities from them, differences of the pairs whose products
// have lost the digits, and ties. A dissimilarity depends on its two conditions alone.

#include <algorithm>
#include <cmath>
#include <string>

#include "rows.hpp"

namespace fastrdm {
namespace {

// As in fastrdm/rdm: near pairs, pairs so near that differences in float lack digits too, and squares that may have lost digits to underflow.
constexpr double kNearAngle = 0x1p-7, kNearDistance = 0x1p-5, kNearer = 0x1p-30, kSmallestSquare = 1e-280;
// RDMs of up to this many pairs are searched for ties.
constexpr Index kMaxSearched = Index{1} << 18;
// Ranks of rows up to this long have exact products.
constexpr Index kExactRanks = 1 << 12;

std::range_error out_of_range() {
  return std::range_error("activations are so large, so small or so close together that their squares leave the range of float64");
}

// One RDM, from rows in the type in which they are multiplied.
template <typename S>
class Whole {
 public:
  Whole(const Run& run, const Matrix<S>& x, RdmKind kind, const NumberKind& numbers)
      : run_(run), x_(x), numbers_(numbers), n_(x.rows), centred_(kind == RdmKind::correlation), angles_(centred_ || kind == RdmKind::cosine),
        shift_(size_of(n_)), sums_(size_of(n_)), norms_(size_of(n_)), odd_(size_of(n_)), product_(size_of(n_ * n_)) {}

  void fill(double* out) {
    choose_shift();
    x_.shift = shift_.data();
    products<S>(run_.isa, x_, nullptr, share_width(run_.isa, x_.cols, sizeof(typename ProductOf<S>::Type)), false, product_.data(), n_, sums_.data(),
                run_.n_threads);
    find_odd();
    if (std::find(odd_.begin(), odd_.end(), char{1}) != odd_.end()) angles_ ? again() : throw out_of_range();
    measure(out);
  }

 private:
  void choose_shift() {
    if (numbers_.exact) {
      // A shift changes cosines; without it, products are exact only if numbers are.
      std::fill(shift_.begin(), shift_.end(), angles_ && !centred_ ? 0.0 : numbers_.shift);
      exact_ = !(angles_ && !centred_ && numbers_.shift != 0);
      return;
    }
    if (angles_ && !centred_) return;
    guess_means<S>(x_, shift_.data());
    // One shift of all conditions changes no distance.
    if (!centred_) {
      double least = shift_[0];
      for (const double mean : shift_) least = std::abs(mean) < std::abs(least) ? mean : least;
      std::fill(shift_.begin(), shift_.end(), least);
    }
    for (double& shift : shift_) shift = static_cast<typename ProductOf<S>::Type>(shift);
  }

  double square(Index i) const { return product_[size_of(i * n_ + i)]; }

  // Conditions whose products have too few digits: a poor guess of the mean, squares out of range.
  void find_odd() {
    const double n = static_cast<double>(x_.cols), tiny = sizeof(typename ProductOf<S>::Type) == 8 ? 0x1p-1022 / 0x1p-52 : 0x1p-126 / 0x1p-23;
    for (Index i = 0; i < n_; ++i) {
      const double sum = sums_[size_of(i)];
      double& norm = norms_[size_of(i)];
      norm = centred_ ? n * square(i) - sum * sum : square(i);
      bool fine = std::isfinite(norm);
      if (!exact_ && centred_) fine = fine && n * square(i) < 8 * norm && norm > n * n * tiny;
      if (!exact_ && !centred_) fine = fine && (norm > n * tiny || (norm == 0 && !any_apart(i)));
      odd_[size_of(i)] = exact_ ? 0 : !fine;
    }
  }

  // Whether a condition whose norm is zero differs from the shift: its squares underflowed.
  bool any_apart(Index i) const {
    const S* row = x_.data + i * x_.stride;
    for (Index k = 0; k < x_.cols; ++k)
      if (static_cast<double>(widened(row[k])) != shift_[size_of(i)]) return true;
    return false;
  }

  // Multiplies odd conditions again in double, each at its scale and less its mean.
  void again() {
    wide_ = widen(x_);
    Index varying = 0;
    Doubles rows;
    std::vector<Index> places;
    for (Index i = 0; i < n_; ++i) {
      if (!odd_[size_of(i)]) continue;
      double* row = wide_.values.data() + i * x_.cols;
      if (rescale(row, i)) {
        rows.insert(rows.end(), row, row + x_.cols);
        places.push_back(i);
        ++varying;
      } else {
        norms_[size_of(i)] = 0;
      }
    }
    const Index cols = x_.cols;
    Doubles crossed(size_of(varying * n_));
    const Matrix<double> some{rows.data(), varying, cols, cols, nullptr}, all = wide_.matrix();
    if (varying > 0) products<double>(run_.isa, some, &all, share_width(run_.isa, cols, 8), false, crossed.data(), n_, nullptr, run_.n_threads);
    for (std::size_t v = 0; v < places.size(); ++v) {
      const Index i = places[v];
      double sum = 0;
      for (Index k = 0; k < cols; ++k) sum += rows[size_of(static_cast<Index>(v) * cols + k)];
      sums_[size_of(i)] = sum;
      for (Index j = 0; j < n_; ++j) product_[size_of(i * n_ + j)] = product_[size_of(j * n_ + i)] = crossed[v * size_of(n_) + size_of(j)];
      norms_[size_of(i)] = centred_ ? static_cast<double>(cols) * square(i) - sum * sum : square(i);
    }
  }

  // Brings a row near 1, less its mean if centred; returns whether it has an angle.
  bool rescale(double* row, Index i) {
    const double shift = shift_[size_of(i)];
    double low = row[0], high = row[0];
    const S* from = x_.data + i * x_.stride;
    double low_read = static_cast<double>(widened(from[0])), high_read = low_read;
    for (Index k = 0; k < x_.cols; ++k) {
      const double read = static_cast<double>(widened(from[k]));
      low_read = std::min(low_read, read);
      high_read = std::max(high_read, read);
      row[k] = centred_ ? read : row[k];
    }
    low = low_read - (centred_ ? 0 : shift);
    high = high_read - (centred_ ? 0 : shift);
    const double size = std::max(std::abs(low), std::abs(high));
    if (size == 0 || (centred_ && low_read == high_read)) return false;
    int exponent;
    std::frexp(size, &exponent);
    double mean = 0, most = 0;
    for (Index k = 0; k < x_.cols; ++k) mean += row[k] = std::ldexp(row[k], -exponent);
    mean = centred_ ? mean / static_cast<double>(x_.cols) : 0;
    for (Index k = 0; k < x_.cols; ++k) most = std::max(most, std::abs(row[k] -= mean));
    std::frexp(most, &exponent);
    for (Index k = 0; k < x_.cols; ++k) row[k] = std::ldexp(row[k], -exponent);
    return true;
  }

  void measure(double* out) {
    if (angles_)
      for (double& norm : norms_)
        if (!(norm > 0)) norm = std::nan("");
    const Tile tile{product_.data(), n_, n_, n_, true, norms_.data(), norms_.data()};
    const double near = exact_ ? 0 : angles_ ? kNearAngle : kNearDistance;
    const double* sums = centred_ ? sums_.data() : nullptr;
    const Index count = angles_ ? angles(tile, sums, sums, static_cast<double>(x_.cols), near, out) : distances(tile, near, out);
    if (count > 0) refine(out);
  }

  // Replaces the dissimilarities of near pairs, which are marked by their sign.
  void refine(double* out) {
    std::vector<Pair> pairs;
    std::vector<Index> places;
    Index place = 0;
    Pace pace;
    for (Index i = 0; i < n_; ++i, pace(n_))
      for (Index j = i + 1; j < n_; ++j, ++place)
        if (std::signbit(out[place])) {
          pairs.push_back({static_cast<std::int32_t>(i), static_cast<std::int32_t>(j)});
          places.push_back(place);
        }
    const Doubles factors = unit_factors();
    std::vector<Pair> wide_pairs;
    std::vector<Index> wide_places;
    Doubles squares(pairs.size(), 0.0);
    Matrix<S> read = x_;
    if (!angles_) read.shift = nullptr;  // differences need none, and each subtraction rounds
    differences<S>(run_.isa, read, factors.data(), read, factors.data(), pairs.data(), static_cast<Index>(pairs.size()), squares.data(),
                   run_.n_threads);
    for (std::size_t p = 0; p < pairs.size(); ++p) {
      const auto i = size_of(pairs[p].first), j = size_of(pairs[p].second);
      const double size = angles_ ? 1 : norms_[i] + norms_[j];
      double& value = out[places[p]];
      value = refined(pairs[p], squares[p], factors);
      if (odd_[i] || odd_[j] || (sizeof(S) < 8 && !(value > kNearer * size))) {
        wide_pairs.push_back(pairs[p]);
        wide_places.push_back(places[p]);
      }
    }
    if (wide_pairs.empty()) return;
    if (wide_.values.empty()) wide_ = widen(read);
    const Matrix<double> wide = wide_.matrix();
    Doubles again(wide_pairs.size(), 0.0);
    differences<double>(run_.isa, wide, factors.data(), wide, factors.data(), wide_pairs.data(), static_cast<Index>(wide_pairs.size()), again.data(),
                        run_.n_threads);
    for (std::size_t p = 0; p < wide_pairs.size(); ++p) out[wide_places[p]] = refined(wide_pairs[p], again[p], factors);
  }

  // What scales conditions to length 1; ones for distances.
  Doubles unit_factors() const {
    Doubles factors(size_of(n_), 1.0);
    for (std::size_t i = 0; angles_ && i < factors.size(); ++i) factors[i] = std::sqrt((centred_ ? static_cast<double>(x_.cols) : 1.0) / norms_[i]);
    return factors;
  }

  // 1 - cosine is half the squared difference of vectors of length 1.
  double refined(const Pair& pair, double square, const Doubles& factors) const {
    if (!angles_) return square;
    const auto i = size_of(pair.first), j = size_of(pair.second);
    if (centred_) {
      const double apart = factors[i] * sums_[i] - factors[j] * sums_[j];
      square -= apart * apart / static_cast<double>(x_.cols);
    }
    return std::max(square / 2, 0.0);
  }

  const Run& run_;
  Matrix<S> x_;
  NumberKind numbers_;
  Index n_;
  bool centred_, angles_, exact_ = false;
  Doubles shift_, sums_, norms_;
  std::vector<char> odd_;
  Doubles product_;
  Wide wide_;
};

template <typename S>
void fill_whole(const Run& run, const Matrix<S>& x, RdmKind kind, const NumberKind& numbers, bool stored_double, double* out) {
  Whole<S>(run, x, kind, numbers).fill(out);
  const Index pairs = x.rows * (x.rows - 1) / 2;
  const bool angles = kind == RdmKind::correlation || kind == RdmKind::cosine;
  if (kind == RdmKind::euclidean)
    for (Index p = 0; p < pairs; ++p) out[p] = std::sqrt(out[p]);
  double within = 0;
  if (numbers.discrete)
    within = stored_double || numbers.exact ? kTiesDouble : kTiesFloat;
  else if (numbers.wide && pairs <= kMaxSearched)
    within = kTiesDouble;
  settle(out, pairs, kind == RdmKind::sqeuclidean ? 2 * within : within, angles);
}

// Distances of rows whose squares leave the range of double: all are scaled by one power of two.
template <typename S>
void scaled_distances(const Run& run, const Matrix<S>& x, RdmKind kind, const NumberKind& numbers, double* out) {
  Wide wide = widen(x);
  double most = 0;
  for (const double value : wide.values) most = std::max(most, std::abs(value));
  int exponent;
  std::frexp(most, &exponent);
  for (double& value : wide.values) value = std::ldexp(value, -exponent);
  NumberKind kind_of_scaled = numbers;
  kind_of_scaled.wide = true;
  kind_of_scaled.exact = false;
  fill_whole<double>(run, wide.matrix(), kind, kind_of_scaled, true, out);
  const int back = kind == RdmKind::euclidean ? exponent : 2 * exponent;
  for (Index p = 0; p < x.rows * (x.rows - 1) / 2; ++p) {
    const double value = std::ldexp(out[p], back);
    if (!std::isfinite(value) || (out[p] > 0 && value < 0x1p-1022)) throw out_of_range();
    out[p] = value;
  }
}

}  // namespace

void squared_distances(const Run& run, const Matrix<double>& x, double* out) {
  Whole<double>(run, x, RdmKind::sqeuclidean, number_kind(x)).fill(out);
}

template <typename S>
void whole_rdm(const Run& run, const Matrix<S>& x, RdmKind kind, double* out) {
  check_finite(x, "activations");
  const NumberKind numbers = number_kind<S>(x);
  if (kind == RdmKind::spearman) {
    Wide ranks;
    ranks.rows = x.rows;
    ranks.cols = x.cols;
    ranks.values.resize(size_of(x.rows * x.cols));
    rank(widen(x).values.data(), x.rows, x.cols, ranks.values.data(), run.n_threads);
    const bool exact = x.cols <= kExactRanks;
    fill_whole<double>(run, ranks.matrix(), RdmKind::correlation, {true, exact, exact || numbers.discrete, 0}, true, out);
    return;
  }
  const bool distances = kind == RdmKind::euclidean || kind == RdmKind::sqeuclidean;
  try {
    if (numbers.wide && sizeof(S) < 8)
      fill_whole<double>(run, widen(x).matrix(), kind, numbers, false, out);
    else
      fill_whole<S>(run, x, kind, numbers, sizeof(S) == 8, out);
  } catch (const std::range_error&) {
    if (!distances) throw;
    scaled_distances(run, x, kind, numbers, out);
  }
}

template void whole_rdm<float>(const Run&, const Matrix<float>&, RdmKind, double*);
template void whole_rdm<double>(const Run&, const Matrix<double>&, RdmKind, double*);
template void whole_rdm<Half>(const Run&, const Matrix<Half>&, RdmKind, double*);
template void whole_rdm<BFloat16>(const Run&, const Matrix<BFloat16>&, RdmKind, double*);

}  // namespace fastrdm
