// RDMs of many neighbourhoods of channels and windows of samples.
//
// A neighbourhood of 100 channels and 92 conditions takes 430,000 products: adding stored products of single channels would read as many numbers
// from memory, so they are multiplied again. Windows that slide over time share products: each sample of a neighbourhood is multiplied once for the
// windows that start before a boundary and end after it, and once for those that are on its other side (the sums of van Herk and of Gil & Werman),
// without a difference of sums, in which digits would be lost. Boundaries are multiples of the width after `origin`, so that a result does not depend
// on the other windows of a call.

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "isa.hpp"
#include "pace.hpp"
#include "parallel.hpp"

namespace fastrdm {
namespace {

// Channels packed together: they and a tile's sums fit into the first-level cache.
constexpr Index kChunk = 32;
// Values, as a share of 1 or of both squared lengths, below which products of float64 have lost digits that the difference of conditions has.
constexpr double kNear = 1.0 / (1 << 16);
// Squares of deviations from a shift, as a multiple of those from the mean, above which a window is multiplied again with its own shift.
constexpr double kPoor = 1 << 20;

template <typename S>
class Places {
 public:
  Places(const Isa& isa, const Light<S>& light)
      : isa_(isa), light_(light), n_(light.n), ld_((pad_rows(n_) + kRowLength - 1) / kRowLength * kRowLength), product_(size(pad_rows(n_) * ld_)),
        sums_(size(ld_)), shift_(size(n_)), largest_(size(n_)), norms_(size(n_)), packed_(size(kChunk * ld_)) {}

  // The RDM of some rows.
  void whole(std::vector<Index>& rows, double* out) {
    if (light_.method == Light<S>::spearman) {
      rank(rows);
      std::iota(order_.begin(), order_.end(), Index{0});
      direct(ranks_.data(), order_, Light<S>::correlation, true, out);
    } else {
      direct(light_.data, rows, light_.method, light_.whole, out);
    }
  }

  // The RDMs of windows that start in the same stretch of `width` samples.
  void sliding(Index centre, const Index* starts, Index n_starts, Index width, Index origin, double* out) {
    const Index pairs = n_ * (n_ - 1) / 2, slot = pairs + 2 * n_;
    const Index from = origin + (starts[0] - origin) / width * width, middle = from + width;
    if (light_.method == Light<S>::correlation) {
      samples(centre, from, std::min(light_.n_samples, middle + width - 1));
      find_shift(light_.data, rows_, light_.whole);
    }
    slots_.resize(size(n_starts * slot));
    clear();
    for (Index t = middle - 1, s = n_starts - 1; s >= 0; --t) {
      add(centre, t);
      if (t == starts[s]) keep(&slots_[size(s-- * slot)]);
    }
    clear();
    const std::vector<double> shift = shift_;
    std::vector<double> later(product_.size()), later_sums(sums_.size());
    for (Index s = 0, t = middle; s < n_starts; ++s) {
      if (s > 0) product_.swap(later), sums_.swap(later_sums);
      for (; t < starts[s] + width; ++t) add(centre, t);
      product_.swap(later), sums_.swap(later_sums);
      total(&slots_[size(s * slot)], later.data(), later_sums.data());
      samples(centre, starts[s], starts[s] + width);
      if (!finish(light_.data, rows_, light_.method, light_.whole, true, out + s * pairs)) {
        direct(light_.data, rows_, light_.method, light_.whole, out + s * pairs);
        shift_ = shift;
      }
    }
  }

  // Rows of samples [begin, end) of a centre.
  std::vector<Index>& samples(Index centre, Index begin, Index end) {
    rows_.clear();
    for (Index c = light_.channel_starts[centre]; c < light_.channel_starts[centre + 1]; ++c)
      for (Index t = begin; t < end; ++t) rows_.push_back(light_.channels[c] * light_.n_samples + t);
    return rows_;
  }

  std::vector<Index>& samples(Index centre, const Index* begin, const Index* end) {
    rows_.clear();
    for (Index c = light_.channel_starts[centre]; c < light_.channel_starts[centre + 1]; ++c)
      for (const Index* t = begin; t != end; ++t) rows_.push_back(light_.channels[c] * light_.n_samples + *t);
    return rows_;
  }

 private:
  using Method = typename Light<S>::Method;

  static std::size_t size(Index n) { return static_cast<std::size_t>(n); }

  void clear() {
    std::fill(product_.begin(), product_.end(), 0.0);
    std::fill(sums_.begin(), sums_.end(), 0.0);
  }

  // The mean of each condition, rounded to an integer if all numbers are integers, so that products stay exact.
  template <typename T>
  void find_shift(const T* data, const std::vector<Index>& rows, bool exact) {
    std::get<Deviations<T>*>(isa_.deviations)(data, n_, rows.data(), static_cast<Index>(rows.size()), shift_.data(), largest_.data());
    for (std::size_t i = 0; i < shift_.size(); ++i) {
      shift_[i] = static_cast<double>(data[rows[0] * n_ + static_cast<Index>(i)]) + shift_[i] / static_cast<double>(rows.size());
      if (exact) shift_[i] = std::rint(shift_[i]);
    }
  }

  template <typename T>
  void multiply(const T* data, const Index* rows, Index n_rows, Method method) {
    const bool centred = method == Light<S>::correlation;
    const double* row_shift = method == Light<S>::cosine ? nullptr : light_.row_shift;
    for (Index k = 0; k < n_rows; k += kChunk) {
      const Index some = std::min(kChunk, n_rows - k);
      std::get<Pack<T>*>(isa_.pack)(data, n_, rows + k, some, centred ? shift_.data() : nullptr, row_shift, ld_, packed_.data());
      isa_.outer(packed_.data(), some, n_, ld_, product_.data(), sums_.data());
    }
  }

  void add(Index centre, Index t) {
    samples(centre, t, t + 1);
    multiply(light_.data, rows_.data(), static_cast<Index>(rows_.size()), light_.method);
  }

  // The upper triangle of the products with its diagonal, and the sums.
  void keep(double* to) const {
    for (Index i = 0; i < n_; ++i) to = std::copy(product_.begin() + i * ld_ + i, product_.begin() + i * ld_ + n_, to);
    std::copy_n(sums_.begin(), n_, to);
  }

  void total(const double* kept, const double* product, const double* sums) {
    for (Index i = 0; i < n_; ++i)
      for (Index j = i; j < n_; ++j) product_[size(i * ld_ + j)] = *kept++ + product[i * ld_ + j];
    for (Index i = 0; i < n_; ++i) sums_[size(i)] = *kept++ + sums[i];
  }

  template <typename T>
  void direct(const T* data, const std::vector<Index>& rows, Method method, bool exact, double* out) {
    if (method == Light<S>::correlation) find_shift(data, rows, exact);
    clear();
    multiply(data, rows.data(), static_cast<Index>(rows.size()), method);
    finish(data, rows, method, exact, false, out);
  }

  // Products and sums → dissimilarities; false if shifts are too far from means.
  template <typename T>
  bool finish(const T* data, const std::vector<Index>& rows, Method method, bool exact, bool shared, double* out) {
    const double channels = static_cast<double>(rows.size());
    const bool centred = method == Light<S>::correlation;
    for (Index i = 0; i < n_; ++i) {
      const double square = product_[size(i * ld_ + i)], sum = sums_[size(i)];
      double& norm = norms_[size(i)];
      norm = centred ? channels * square - sum * sum : square;
      if (centred && shared && !exact && !(channels * square <= kPoor * norm)) return false;
      const bool constant = norm == 0 || (centred && !shared && largest_[size(i)] == 0);
      if (method != Light<S>::euclidean && method != Light<S>::sqeuclidean && constant) norm = std::numeric_limits<double>::quiet_NaN();
    }
    if (centred || method == Light<S>::cosine) {
      const double near = exact ? 0 : kNear;
      if (isa_.small_angles(product_.data(), n_, ld_, norms_.data(), centred ? sums_.data() : nullptr, channels, near, out))
        refine_angles(data, rows, centred, out);
    } else {
      distances(data, rows, exact, out);
      if (method == Light<S>::euclidean)
        for (Index p = 0; p < n_ * (n_ - 1) / 2; ++p) out[p] = std::sqrt(out[p]);
    }
    return true;
  }

  // 1 - cosine is half the squared difference of conditions of length 1.
  template <typename T>
  void refine_angles(const T* data, const std::vector<Index>& rows, bool centred, double* out) {
    const double channels = static_cast<double>(rows.size());
    Pace pace;
    for (Index i = 0; i < n_; ++i)
      for (Index j = i + 1; j < n_; ++j, ++out) {
        if (!(*out < kNear)) continue;
        const auto mean = [&](Index c) { return centred ? shift_[size(c)] + sums_[size(c)] / channels : 0; };
        const auto length = [&](Index c) { return std::sqrt(centred ? norms_[size(c)] / channels : norms_[size(c)]); };
        const double mean_i = mean(i), mean_j = mean(j), length_i = length(i), length_j = length(j);
        double sum = 0;
        for (const Index row : rows) {
          const T* x = data + row * n_;
          const double w = (static_cast<double>(x[i]) - mean_i) / length_i - (static_cast<double>(x[j]) - mean_j) / length_j;
          sum += w * w;
        }
        *out = sum / 2;
        pace(static_cast<Index>(rows.size()));
      }
  }

  template <typename T>
  void distances(const T* data, const std::vector<Index>& rows, bool exact, double* out) {
    Pace pace;
    for (Index i = 0; i < n_; ++i, pace(n_))
      for (Index j = i + 1; j < n_; ++j, ++out) {
        const double lengths = norms_[size(i)] + norms_[size(j)], square = lengths - 2 * product_[size(i * ld_ + j)];
        *out = square < 0 ? 0 : square;
        if (exact || !(square < kNear * lengths)) continue;
        double sum = 0;
        for (const Index row : rows) {
          const double w = static_cast<double>(data[row * n_ + i]) - static_cast<double>(data[row * n_ + j]);
          sum += w * w;
        }
        *out = sum;
        pace(static_cast<Index>(rows.size()));
      }
  }

  // Twice the average ranks of each condition over the rows, which are integers.
  void rank(const std::vector<Index>& rows) {
    const std::size_t n_rows = rows.size();
    ranks_.resize(n_rows * size(n_));
    order_.resize(n_rows);
    column_.resize(n_rows);
    Pace pace;
    for (Index i = 0; i < n_; ++i) {
      for (std::size_t k = 0; k < n_rows; ++k) column_[k] = light_.data[rows[k] * n_ + i];
      std::iota(order_.begin(), order_.end(), Index{0});
      std::sort(order_.begin(), order_.end(), [&](Index a, Index b) { return column_[size(a)] < column_[size(b)]; });
      for (std::size_t begin = 0, end; begin < n_rows; begin = end) {
        for (end = begin + 1; end < n_rows && column_[size(order_[end])] == column_[size(order_[begin])];) ++end;
        for (std::size_t k = begin; k < end; ++k) ranks_[size(order_[k] * n_ + i)] = static_cast<double>(begin + end + 1);
      }
      pace(16 * static_cast<Index>(n_rows));
    }
  }

  const Isa& isa_;
  const Light<S>& light_;
  const Index n_, ld_;
  std::vector<double> product_, sums_, shift_, largest_, norms_, packed_, slots_, ranks_;
  std::vector<S> column_;
  std::vector<Index> rows_, order_;
};

}  // namespace

template <typename S>
void searchlight(const Isa& isa, const Light<S>& light, const Index* samples, const Index* sample_starts, Index n_windows, double* out,
                 int n_threads) {
  const Index pairs = light.n * (light.n - 1) / 2;
  parallel(light.n_centres * n_windows, 1, n_threads, [&](Index begin, Index end, int) {
    Places<S> places(isa, light);
    for (Index k = begin; k < end; ++k) {
      const Index window = k % n_windows;
      places.whole(places.samples(k / n_windows, samples + sample_starts[window], samples + sample_starts[window + 1]), out + k * pairs);
    }
  });
}

template <typename S>
void sliding_searchlight(const Isa& isa, const Light<S>& light, const Index* starts, Index n_windows, Index width, Index origin, double* out,
                         int n_threads) {
  const Index pairs = light.n * (light.n - 1) / 2;
  std::vector<Index> groups{0};
  for (Index k = 1; k < n_windows; ++k)
    if ((starts[k] - origin) / width != (starts[k - 1] - origin) / width) groups.push_back(k);
  const Index n_groups = static_cast<Index>(groups.size());
  groups.push_back(n_windows);
  parallel(light.n_centres * n_groups, 1, n_threads, [&](Index begin, Index end, int) {
    Places<S> places(isa, light);
    for (Index k = begin; k < end; ++k) {
      const auto group = static_cast<std::size_t>(k % n_groups);
      const Index first = groups[group], centre = k / n_groups;
      places.sliding(centre, starts + first, groups[group + 1] - first, width, origin, out + (centre * n_windows + first) * pairs);
    }
  });
}

#define FASTRDM_INSTANTIATE(S)                                                                                \
  template void searchlight<S>(const Isa&, const Light<S>&, const Index*, const Index*, Index, double*, int); \
  template void sliding_searchlight<S>(const Isa&, const Light<S>&, const Index*, Index, Index, Index, double*, int);
FASTRDM_INSTANTIATE(float)
FASTRDM_INSTANTIATE(double)

}  // namespace fastrdm
