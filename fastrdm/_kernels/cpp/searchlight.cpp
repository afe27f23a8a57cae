// RDMs of many neighbourhoods of channels and windows of samples.
//
// A neighbourhood of 100 channels and 92 conditions takes 430,000 products: adding stored products of single channels would read as many numbers
// from memory, so they are multiplied again. Windows that slide over time share products on both sides of a boundary (slide.cpp). Boundaries are
// multiples of the width after `origin`, so that a result does not depend on the other windows of a call.

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
        sums_(size(ld_)), shift_(size(n_)), largest_(size(n_)), norms_(size(n_)), scale_(size(n_)), packed_(size(kChunk * ld_)) {}

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
    const Index from = origin + (starts[0] - origin) / width * width, middle = from + width, pairs = n_ * (n_ - 1) / 2;
    const bool centred = light_.method == Light<S>::correlation;
    if (centred) {
      samples(centre, from, std::min(light_.n_samples, middle + width - 1));
      find_shift(light_.data, rows_, light_.whole);
    }
    const Index channels = light_.channel_starts[centre + 1] - light_.channel_starts[centre];
    Slide slide{};
    slide.n = n_, slide.ld = ld_, slide.channels = channels, slide.first = starts[0], slide.middle = middle, slide.width = width;
    slide.starts = starts, slide.n_starts = n_starts;
    pack(centre, slide);
    window_norms(slide);
    const double near = light_.whole ? 0 : kNear;
    slide.factor = static_cast<double>(channels * width);
    slide.scale = scales_.data(), slide.sums = centred ? window_sums_.data() : nullptr, slide.near = near;
    few_.resize(size(n_starts));
    scratch_.resize(size(window_scratch(slide, isa_.panel)));
    isa_.window_values(slide, form(), scratch_.data(), out, few_.data());
    const std::vector<double> shift = shift_;
    for (Index w = 0; w < n_starts; ++w, out += pairs) {
      if (poor_[size(w)]) {
        direct(light_.data, samples(centre, starts[w], starts[w] + width), light_.method, light_.whole, out);
        shift_ = shift;
        continue;
      }
      if (few_[size(w)] > 0) {
        std::copy_n(&window_sums_[size(w * ld_)], n_, sums_.begin());
        std::copy_n(&window_norms_[size(w * ld_)], n_, norms_.begin());
        refine(light_.data, samples(centre, starts[w], starts[w] + width), light_.method, out);
      }
      if (light_.method == Light<S>::euclidean) root(out);
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

  // Rows of all samples of windows, sample by sample, in panels.
  void pack(Index centre, Slide& slide) {
    rows_.clear();
    for (Index t = slide.first; t < slide.starts[slide.n_starts - 1] + slide.width; ++t)
      for (Index c = light_.channel_starts[centre]; c < light_.channel_starts[centre + 1]; ++c)
        rows_.push_back(light_.channels[c] * light_.n_samples + t);
    slide.n_rows = static_cast<Index>(rows_.size());
    panels_.resize(size(slide.n_rows * ld_));
    const double* row_shift = light_.method == Light<S>::cosine ? nullptr : light_.row_shift;
    std::get<PackPanels<S>*>(isa_.pack_panels)(light_.data, n_, rows_.data(), slide.n_rows,
                                               light_.method == Light<S>::correlation ? shift_.data() : nullptr, row_shift, panels_.data());
    slide.packed = panels_.data();
  }

  // Squared lengths and scales of the conditions in each window, and whether its shifts are too far from the means.
  void window_norms(const Slide& slide) {
    const Index numbers = slide.n_starts * ld_;
    const double channels = static_cast<double>(slide.channels * slide.width);
    const bool centred = light_.method == Light<S>::correlation;
    window_norms_.resize(size(numbers)), window_sums_.resize(size(numbers)), scales_.resize(size(numbers));
    poor_.assign(size(slide.n_starts), false);
    isa_.window_sums(slide, window_norms_.data(), window_sums_.data());
    for (Index w = 0; w < slide.n_starts; ++w)
      for (Index i = w * ld_; i < w * ld_ + n_; ++i) {
        double& norm = window_norms_[size(i)];
        const double square = norm, sum = window_sums_[size(i)];
        if (centred) norm = channels * square - sum * sum;
        if (centred && !light_.whole && !(channels * square <= kPoor * norm)) poor_[size(w)] = true;
        if (form() != Form::distance && norm == 0) norm = std::numeric_limits<double>::quiet_NaN();
        scales_[size(i)] = form() == Form::inverse ? 1 / std::sqrt(norm) : norm;
      }
  }

  // Integers have equal angles if they have equal fractions.
  Form form() const { return form_of(light_.method, light_.whole); }

  static Form form_of(Method method, bool exact) {
    return method == Light<S>::euclidean || method == Light<S>::sqeuclidean ? Form::distance : exact ? Form::fraction : Form::inverse;
  }

  template <typename T>
  void direct(const T* data, const std::vector<Index>& rows, Method method, bool exact, double* out) {
    if (method == Light<S>::correlation) find_shift(data, rows, exact);
    clear();
    multiply(data, rows.data(), static_cast<Index>(rows.size()), method);
    finish(data, rows, method, exact, out);
  }

  // Products and sums → dissimilarities.
  template <typename T>
  void finish(const T* data, const std::vector<Index>& rows, Method method, bool exact, double* out) {
    const double channels = static_cast<double>(rows.size());
    const bool centred = method == Light<S>::correlation;
    const Form form = form_of(method, exact);
    for (Index i = 0; i < n_; ++i) {
      const double square = product_[size(i * ld_ + i)], sum = sums_[size(i)];
      double& norm = norms_[size(i)];
      norm = centred ? channels * square - sum * sum : square;
      if (form != Form::distance && (norm == 0 || (centred && largest_[size(i)] == 0))) norm = std::numeric_limits<double>::quiet_NaN();
      scale_[size(i)] = form == Form::inverse ? 1 / std::sqrt(norm) : norm;
    }
    const Index few =
        isa_.small_values(product_.data(), n_, ld_, form, scale_.data(), centred ? sums_.data() : nullptr, channels, exact ? 0 : kNear, out);
    if (few > 0) refine(data, rows, method, out);
    if (method == Light<S>::euclidean) root(out);
  }

  void root(double* out) const {
    for (Index p = 0; p < n_ * (n_ - 1) / 2; ++p) out[p] = std::sqrt(out[p]);
  }

  template <typename T>
  void refine(const T* data, const std::vector<Index>& rows, Method method, double* out) {
    if (method == Light<S>::correlation || method == Light<S>::cosine)
      refine_angles(data, rows, method == Light<S>::correlation, out);
    else
      refine_distances(data, rows, out);
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
  void refine_distances(const T* data, const std::vector<Index>& rows, double* out) {
    Pace pace;
    for (Index i = 0; i < n_; ++i, pace(n_))
      for (Index j = i + 1; j < n_; ++j, ++out) {
        if (!(*out < kNear * (norms_[size(i)] + norms_[size(j)]))) continue;
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
  std::vector<double> product_, sums_, shift_, largest_, norms_, scale_, packed_, ranks_;
  // Of all windows in a stretch.
  std::vector<double> panels_, window_norms_, window_sums_, scales_, scratch_;
  std::vector<bool> poor_;
  std::vector<Index> few_;
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
