// RDMs of neighbourhoods of channels, and their similarities to models: as fastrdm/searchlight.

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "rows.hpp"

namespace fastrdm {
namespace {

// Magnitudes within which products, and sums of these, stay in the range of double.
constexpr double kLargest = 1e60;
constexpr double kWhole = 0x1p53;
// Bytes of RDMs that are kept for their scores.
constexpr Index kKept = 4 << 20;

// The data in the kernels' order (channels, conditions), and the channels of each centre.
template <typename T>
class Prepared {
 public:
  template <typename S>
  Prepared(const Matrix<S>& x, const Centres& centres, int method)
      : n_(x.rows), method_(static_cast<typename Light<T>::Method>(method)), rows_(size_of(x.rows * x.cols)),
        channels_(centres.channels, centres.channels + centres.starts[centres.n]), starts_(centres.starts, centres.starts + centres.n + 1) {
    turn(x);
    find_whole(centres);
    if (method_ == Light<T>::sqeuclidean || method_ == Light<T>::euclidean) find_shifts(x.cols);
  }

  Index pairs() const { return n_ * (n_ - 1) / 2; }

  void fill(const Run& run, Index first, Index count, double* out) const {
    const Index sample = 0, samples[] = {0, 1};
    const Light<T> light{
        rows_.data(), n_, channels_.data(), starts_.data() + first, count, 1, method_, whole_, shifts_.empty() ? nullptr : shifts_.data()};
    searchlight(run.isa, light, &sample, samples, 1, out, run.n_threads);
  }

 private:
  template <typename S>
  void turn(const Matrix<S>& x) {
    constexpr Index kSquare = 32;
    Pace pace;
    double least = 0, most = 0;
    for (Index k0 = 0; k0 < x.cols; k0 += kSquare, pace(n_ * kSquare))
      for (Index i0 = 0; i0 < n_; i0 += kSquare)
        for (Index i = i0; i < std::min(i0 + kSquare, n_); ++i)
          for (Index k = k0; k < std::min(k0 + kSquare, x.cols); ++k) {
            const T value = widened(x.data[i * x.stride + k]);
            rows_[size_of(k * n_ + i)] = value;
            least = std::min(least, static_cast<double>(value));
            most = std::max(most, static_cast<double>(value));
          }
    size_ = std::max(most, -least);
    range_ = most - least;
    if (size_ > 0 && !(1 / kLargest < size_ && size_ < kLargest))
      throw std::range_error("data are so large or so small that their products leave the range of float64");
  }

  // Whether all numbers are integers with exact products and sums.
  void find_whole(const Centres& centres) {
    Index longest = 0;
    for (Index k = 0; k < centres.n; ++k) longest = std::max<Index>(longest, starts_[size_of(k + 1)] - starts_[size_of(k)]);
    if (static_cast<double>(longest) * std::max(size_, range_) > std::sqrt(kWhole)) return;
    whole_ = std::all_of(rows_.begin(), rows_.end(), [](T value) { return value == std::rint(value); });
  }

  // One shift of all conditions changes no distance.
  void find_shifts(Index n_channels) {
    shifts_.resize(size_of(n_channels));
    for (Index k = 0; k < n_channels; ++k) {
      double sum = 0;
      for (Index i = 0; i < n_; ++i) sum += static_cast<double>(rows_[size_of(k * n_ + i)]);
      const double mean = sum / static_cast<double>(n_);
      shifts_[size_of(k)] = whole_ ? std::rint(mean) : mean;
    }
  }

  Index n_;
  typename Light<T>::Method method_;
  std::vector<T> rows_;
  std::vector<Index> channels_, starts_;
  Doubles shifts_;
  double size_ = 0, range_ = 0;
  bool whole_ = false;
};

template <typename S>
using Read = std::conditional_t<sizeof(S) == 8, double, float>;

}  // namespace

template <typename S>
void searchlight_rdms(const Run& run, const Matrix<S>& x, const Centres& centres, int method, double* out) {
  check_finite(x, "data");
  Prepared<Read<S>>(x, centres, method).fill(run, 0, centres.n, out);
}

template <typename S>
void searchlight_scores(const Run& run, const Matrix<S>& x, const Centres& centres, int method, const double* models, Index n_models,
                        SimilarityKind kind, double* out) {
  check_finite(x, "data");
  const Prepared<Read<S>> prepared(x, centres, method);
  const Index pairs = prepared.pairs(), at_once = std::min(centres.n, std::max<Index>(run.n_threads, kKept / (8 * pairs)));
  Doubles rdms(size_of(at_once * pairs));
  for (Index first = 0; first < centres.n; first += at_once) {
    const Index count = std::min(at_once, centres.n - first);
    prepared.fill(run, first, count, rdms.data());
    std::vector<Index> lacking;
    for (Index k = 0; k < count; ++k) {
      double* rdm = rdms.data() + k * pairs;
      if (std::none_of(rdm, rdm + pairs, [](double value) { return std::isnan(value); })) continue;
      std::fill_n(rdm, pairs, 0.0);
      lacking.push_back(k);
    }
    compare_rdms(run, rdms.data(), count, models, n_models, pairs, kind, out + first * n_models);
    for (const Index k : lacking) std::fill_n(out + (first + k) * n_models, n_models, std::nan(""));
  }
}

#define FASTRDM_INSTANTIATE(S)                                                                   \
  template void searchlight_rdms<S>(const Run&, const Matrix<S>&, const Centres&, int, double*); \
  template void searchlight_scores<S>(const Run&, const Matrix<S>&, const Centres&, int, const double*, Index, SimilarityKind, double*);
FASTRDM_INSTANTIATE(float)
FASTRDM_INSTANTIATE(double)
FASTRDM_INSTANTIATE(Half)
FASTRDM_INSTANTIATE(BFloat16)

}  // namespace fastrdm
