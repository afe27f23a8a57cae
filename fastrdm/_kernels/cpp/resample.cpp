// Rank correlations of resampled RDMs: of conditions drawn with replacement, of subjects, and of permuted conditions.
//
// A draw gives each condition a count, and each pair the product of two counts as its weight; pairs of a condition with itself are omitted. The ranks
// of the drawn pairs, repeated by weight, follow from one pass over all pairs in rising order, which is the same for every draw: an entry of weight w
// after others of total weight W has the mean rank W + (w + 1) / 2. Only pooled ranks, whose order depends on the draw, are sorted, and only the
// pairs with a weight, four in ten.

#include <cmath>

#include "isa.hpp"
#include "pace.hpp"
#include "parallel.hpp"
#include "ranker.hpp"

namespace fastrdm {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr Index padded(Index n) { return (n + kRowLength - 1) / kRowLength * kRowLength; }
using Doubles = std::vector<double>;

double scaled(double product, double square1, double square2) {
  if (!(square1 > 0 && square2 > 0)) return kNaN;
  const double x = product / std::sqrt(square1 * square2);
  return x > 1 ? 1 : x < -1 ? -1 : x;
}

// Rows with their entries in rising order, and whether each entry ends a group of ties.
class Orders {
 public:
  Orders(const double* data, Index rows, Index cols, int n_threads)
      : cols_(static_cast<std::size_t>(cols)), entries_(static_cast<std::size_t>(rows) * cols_), ends_(entries_.size()),
        tied_(static_cast<std::size_t>(rows)) {
    parallel(rows, 1, n_threads, [&](Index begin, Index end, int) {
      Ranker ranker(cols);
      Pace pace;
      for (Index row = begin; row < end; ++row, pace(cols)) fill(ranker, data + row * cols, static_cast<std::size_t>(row));
    });
  }
  const std::uint32_t* entries(Index row) const { return entries_.data() + static_cast<std::size_t>(row) * cols_; }
  const std::uint8_t* ends(Index row) const { return ends_.data() + static_cast<std::size_t>(row) * cols_; }
  bool tied(Index row) const { return tied_[static_cast<std::size_t>(row)] != 0; }

 private:
  void fill(Ranker& ranker, const double* x, std::size_t row) {
    std::uint32_t* entries = entries_.data() + row * cols_;
    std::uint8_t* ends = ends_.data() + row * cols_;
    std::size_t next = 0;
    ranker.rank(x, ranker.range(x), [&](std::size_t i, std::size_t begin, std::size_t end) {
      if (begin == 0 && next >= end) next = 0;  // the ranker started again
      entries[next] = static_cast<std::uint32_t>(i);
      ends[next] = next + 1 == end;
      ++next;
    });
    tied_[row] = std::find(ends, ends + cols_, std::uint8_t{0}) != ends + cols_;
  }

  std::size_t cols_;
  std::vector<std::uint32_t> entries_;
  std::vector<std::uint8_t> ends_, tied_;
};

// Radix sort of integers, such as sums of ranks, with known bounds: 2,740 of them take a third of the time that the ranker needs for arbitrary
// numbers.
class WholeSorter {
 public:
  // Calls visit(i, last) for entries i in rising order; `last` marks the last of equal entries. Numbers lie in [0, most].
  template <typename Visit>
  void rising(const std::int32_t* x, std::size_t n, std::int32_t most, Visit&& visit) {
    if (bits(static_cast<std::uint64_t>(most)) + kNarrowPosition <= 32 && n <= std::size_t{1} << kNarrowPosition)
      run<std::uint32_t, kNarrowPosition>(narrow_, x, n, most, visit);
    else
      run<std::uint64_t, 32>(wide_, x, n, most, visit);
  }

 private:
  template <typename Packed>
  struct Pair {
    std::vector<Packed> packed, spare;
  };
  static constexpr int kNarrowPosition = 13, kMostDigit = 11;
  static int bits(std::uint64_t x) {
    int n = 1;
    while (x >>= 1) ++n;
    return n;
  }

  template <typename Packed, int kPosition, typename Visit>
  void run(Pair<Packed>& keys, const std::int32_t* x, std::size_t n, std::int32_t most, Visit& visit) {
    const int width = bits(static_cast<std::uint64_t>(most)), digits = (width + kMostDigit - 1) / kMostDigit, digit = (width + digits - 1) / digits;
    const Packed mask = (Packed{1} << digit) - 1;
    if (keys.packed.size() < n) {
      keys.packed.resize(n);
      keys.spare.resize(n);
    }
    for (int d = 0; d < digits; ++d) std::fill_n(counts_[d], mask + 1, 0u);
    Packed *from = keys.packed.data(), *to = keys.spare.data();
    for (std::size_t i = 0; i < n; ++i) {
      const auto key = static_cast<Packed>(x[i]);
      from[i] = key << kPosition | static_cast<Packed>(i);
      ++counts_[0][key & mask];
      if (digits > 1) ++counts_[1][key >> digit & mask];
      if (digits > 2) ++counts_[2][key >> 2 * digit & mask];
    }
    for (int d = 0; d < digits; ++d) {
      std::uint32_t total = 0;
      for (Packed k = 0; k <= mask; ++k) {
        const std::uint32_t size = counts_[d][k];
        counts_[d][k] = total;
        total += size;
      }
      const int shift = kPosition + d * digit;
      for (std::size_t i = 0; i < n; ++i) {
        const Packed p = from[i];
        to[counts_[d][p >> shift & mask]++] = p;
      }
      std::swap(from, to);
    }
    constexpr Packed kPositions = (Packed{1} << kPosition) - 1;
    for (std::size_t i = 0; i + 1 < n; ++i) visit(static_cast<std::size_t>(from[i] & kPositions), from[i] >> kPosition != from[i + 1] >> kPosition);
    visit(static_cast<std::size_t>(from[n - 1] & kPositions), true);
  }

  Pair<std::uint32_t> narrow_;
  Pair<std::uint64_t> wide_;
  std::uint32_t counts_[3][1 << kMostDigit];
};

// The pairs of a draw, packed side by side, and their weights.
class Sample {
 public:
  explicit Sample(Index conditions)
      : n_(conditions), cols_(conditions * (conditions - 1) / 2), stride_(padded(cols_ + 1)), of_(static_cast<std::size_t>(cols_)),
        present_(of_.size()), weights_(static_cast<std::size_t>(stride_)) {}

  // Null counts: every condition once.
  void draw(const std::int32_t* counts) {
    size_ = 0;
    total_ = 0;
    Place* to = of_.data();
    Pace pace;
    for (Index i = 0; i < n_; ++i) {
      pace(n_ - i);
      const std::uint32_t first = counts ? static_cast<std::uint32_t>(counts[i]) : 1;
      for (Index j = i + 1; j < n_; ++j, ++to) {
        const std::uint32_t weight = first * (counts ? static_cast<std::uint32_t>(counts[j]) : 1);
        *to = {weight, static_cast<std::uint32_t>(weight > 0 ? size_ : cols_)};
        if (weight == 0) continue;
        present_[static_cast<std::size_t>(size_)] = static_cast<std::uint32_t>(to - of_.data());
        weights_[static_cast<std::size_t>(size_++)] = weight;
        total_ += weight;
      }
    }
    std::fill(weights_.begin() + size_, weights_.end(), 0.0);
  }

  Index size() const { return size_; }
  Index length() const { return padded(size_); }
  Index stride() const { return stride_; }
  double total() const { return total_; }
  const double* weights() const { return weights_.data(); }
  // Four times the sum of squares of centred ranks without ties.
  double untied() const { return (total_ * total_ * total_ - total_) / 3; }

  // Twice the centred ranks of a row.
  void rank(const Orders& orders, Index row, double* out) const {
    const std::uint32_t* entries = orders.entries(row);
    auto before = -static_cast<std::int64_t>(total_);
    if (!orders.tied(row)) {
      in_stretches(cols_, [&](Index begin, Index end) {
        for (Index k = begin; k < end; ++k) {
          const Place place = of_[entries[k]];
          before += place.weight;
          out[place.at] = static_cast<double>(before);
          before += place.weight;
        }
      });
    } else {
      const std::uint8_t* ends = orders.ends(row);
      Pace pace;
      for (Index k = 0, stop; k < cols_; pace(stop - k), k = stop) {
        std::int64_t weight = 0;
        for (stop = k;;) {
          weight += of_[entries[stop]].weight;
          if (ends[stop++]) break;
        }
        for (Index i = k; i < stop; ++i) out[of_[entries[i]].at] = static_cast<double>(before + weight);
        before += 2 * weight;
      }
    }
    clear(out);
  }

  // The same of numbers that lie side by side already, of which those within a relative difference are equal.
  void rank(const double* x, double within, double* out) {
    Ranker ranker(size_, within);
    double before = -total_, weight = 0;
    tied_.clear();
    ranker.rank(x, ranker.range(x), [&](std::size_t i, std::size_t begin, std::size_t end) {
      if (begin == 0 && tied_.empty()) before = -total_;  // the ranker started again, perhaps
      if (end - begin == 1) {
        out[i] = before + weights_[i];
        before += 2 * weights_[i];
        return;
      }
      tied_.push_back(i);
      weight += weights_[i];
      if (tied_.size() < end - begin) return;
      for (const std::size_t tied : tied_) out[tied] = before + weight;
      before += 2 * weight;
      weight = 0;
      tied_.clear();
    });
    clear(out);
  }

  // Of whole numbers up to `most`: ranked(i, r, w), with r twice the centred rank of entry i, and w its weight, which weight_of(i) gives.
  template <typename WeightOf, typename Ranked>
  void rank_whole(const std::int32_t* x, std::int32_t most, WeightOf&& weight_of, Ranked&& ranked) {
    auto before = -static_cast<std::int64_t>(total_);
    std::int64_t weight = 0;
    tied_.clear();
    sorter_.rising(x, static_cast<std::size_t>(size_), most, [&](std::size_t i, bool last) {
      const std::int64_t weight_i = weight_of(i);
      if (last && tied_.empty()) {
        ranked(i, before + weight_i, weight_i);
        before += 2 * weight_i;
        return;
      }
      tied_.push_back(i);
      weight += weight_i;
      if (!last) return;
      for (const std::size_t tied : tied_) ranked(tied, before + weight, std::int64_t{weight_of(tied)});
      before += 2 * weight;
      weight = 0;
      tied_.clear();
    });
  }

  // The numbers of a row for the pairs of the draw.
  void take(const double* row, double* out) const {
    for (Index k = 0; k < size_; ++k) out[k] = row[present_[static_cast<std::size_t>(k)]];
    clear(out);
  }

  // Zeros after the pairs, up to whole registers.
  void clear(double* out) const { std::fill(out + size_, out + length(), 0.0); }

  void weigh(const double* x, double* out) const {
    for (Index k = 0; k < length(); ++k) out[k] = weights_[static_cast<std::size_t>(k)] * x[k];
  }

 private:
  struct Place {
    std::uint32_t weight, at;  // 8 bytes, so that those of 118 conditions stay in the cache
  };

  Index n_, cols_, stride_, size_ = 0;
  double total_ = 0;
  std::vector<Place> of_;
  std::vector<std::uint32_t> present_;
  Doubles weights_;
  std::vector<std::size_t> tied_;
  WholeSorter sorter_;
};

double dot(const Isa& isa, const double* a, const double* b, Index length) {
  double product;
  std::get<Dots<double>*>(isa.dots)(a, 1, length, b, 1, length, length, &product, 1);
  return product;
}

// The pools of one draw of subjects: those with a count.
class Pools {
 public:
  Pools(const Isa& isa, Sample& sample, Index rows, bool untied)
      : isa_(isa), sample_(sample), rows_(rows), untied_(untied), ranks_(size(rows)), squares_(static_cast<std::size_t>(rows)), values_(size(rows)),
        others_(size(1)), pooled_(size(1)), weighted_(size(1)), sums_(static_cast<std::size_t>(rows) + 2), whole_(size(rows)), whole_total_(size(1)),
        whole_others_(size(1)) {}

  void subject(const Orders& orders, const double* row, Index s, bool ranked) {
    double* own = ranks_.data() + s * sample_.stride();
    sample_.rank(orders, s, own);
    sample_.weigh(own, weighted_.data());
    squares_[static_cast<std::size_t>(s)] = square(own);
    if (!ranked) {
      sample_.take(row, values_.data() + s * sample_.stride());
      return;
    }
    // Used only if sums of ranks are below 2^31.
    Whole* whole = whole_.data() + s * sample_.stride();
    const double* weights = sample_.weights();
    for (Index k = 0; k < sample_.size(); ++k) whole[k] = {static_cast<std::int32_t>(own[k]), static_cast<std::int32_t>(weights[k])};
  }

  template <typename Count>
  void bounds(const Count& count, bool ranked, double within, double* lower, double* upper) {
    Index drawn = 0, times = 0;
    for (Index s = 0; s < rows_; ++s) {
      drawn += count(s) > 0;
      times += count(s);
    }
    const double most = 2 * sample_.total() * static_cast<double>(times);
    // Four times a sum of squared ranks is below N^3 / 3, within 63 bits for 2 million pairs.
    if (ranked && most < std::numeric_limits<std::int32_t>::max() && sample_.total() < 2e6)
      whole(count, drawn, times, static_cast<std::int32_t>(most), lower, upper);
    else
      any(count, drawn, ranked ? ranks_.data() : values_.data(), ranked ? 0 : within, lower, upper);
  }

 private:
  std::size_t size(Index rows) const { return static_cast<std::size_t>(rows * sample_.stride()); }
  double square(const double* ranks) const { return untied_ ? sample_.untied() : dot(isa_, ranks, weighted_.data(), sample_.length()); }
  // Similarities of all drawn subjects with the pool whose ranks are in pooled_.
  template <typename Count>
  void with_pooled(const Count& count, double* out) {
    sample_.weigh(pooled_.data(), weighted_.data());
    const double own = square(pooled_.data());
    for (Index s = 0; s < rows_; ++s)
      if (count(s) > 0)
        out[s] =
            scaled(dot(isa_, weighted_.data(), ranks_.data() + s * sample_.stride(), sample_.length()), own, squares_[static_cast<std::size_t>(s)]);
  }

  template <typename Count>
  void whole(const Count& count, Index drawn, Index times, std::int32_t most, double* lower, double* upper) {
    const Index n = sample_.size(), stride = sample_.stride();
    const double* weights = sample_.weights();
    std::int32_t* total = whole_total_.data();
    const auto lift = static_cast<std::int32_t>(sample_.total());
    std::fill_n(total, n, static_cast<std::int32_t>(times) * lift);  // so that no sum is negative
    for (Index s = 0; s < rows_; ++s) {
      const Whole* own = whole_.data() + s * stride;
      if (const std::int32_t own_times = count(s); own_times > 0)
        for (Index k = 0; k < n; ++k) total[k] += own_times * own[k].rank;
    }
    sample_.rank_whole(
        total, most, [&](std::size_t i) { return static_cast<std::int64_t>(weights[i]); },
        [&](std::size_t i, std::int64_t rank, std::int64_t) { pooled_[i] = static_cast<double>(rank); });
    sample_.clear(pooled_.data());
    with_pooled(count, upper);
    Pace pace;
    for (Index s = 0; s < rows_; ++s) {
      const std::int32_t own_times = count(s);
      pace(1 + n);
      if (own_times == 0) continue;
      if (drawn == 1) {  // no one is left; as in rsatoolbox, the subject itself is the pool
        lower[s] = upper[s];
        continue;
      }
      const Whole* own = whole_.data() + s * stride;
      std::int32_t* others = whole_others_.data();
      for (Index k = 0; k < n; ++k) others[k] = total[k] - own_times * (own[k].rank + lift);
      std::int64_t product = 0, sum = 0;
      sample_.rank_whole(
          others, most, [own](std::size_t i) { return own[i].weight; },
          [&product, &sum, own](std::size_t i, std::int64_t rank, std::int64_t weight) {
            const std::int64_t weighted = weight * rank;
            product += weighted * own[i].rank;
            sum += weighted * rank;
          });
      lower[s] = scaled(static_cast<double>(product), untied_ ? sample_.untied() : static_cast<double>(sum), squares_[static_cast<std::size_t>(s)]);
    }
  }

  // Sums of several subjects' numbers: `low` is the rounding error of `high`, `size` the sum of magnitudes.
  struct Sum {
    Doubles high, low, size;
    void clear(Index n) {
      for (Doubles* x : {&high, &low, &size}) x->assign(static_cast<std::size_t>(n), 0.0);
    }
    void add(const Sum& before, const double* x, double times) {
      in_stretches(static_cast<Index>(high.size()), [&](Index begin, Index end) {
        for (auto k = static_cast<std::size_t>(begin); k < static_cast<std::size_t>(end); ++k) {
          const double term = times * x[k], sum = before.high[k] + term;
          low[k] = before.low[k] + lost(before.high[k], term, sum);
          size[k] = before.size[k] + std::abs(term);
          high[k] = sum;
        }
      });
    }
    // The rounding error of a + b (Knuth, The Art of Computer Programming 2, 4.2.2).
    static double lost(double a, double b, double sum) {
      const double part = sum - a;
      return (a - (sum - part)) + (b - part);
    }
  };
  // The sum of both; 0 if its terms cancel to within their rounding errors.
  void join(const Sum& a, const Sum& b, double* out) const {
    constexpr double kCancelled = 0x1p-50;  // as in fastrdm/_kernels/ties.py
    in_stretches(static_cast<Index>(a.high.size()), [&](Index begin, Index end) {
      for (auto k = static_cast<std::size_t>(begin); k < static_cast<std::size_t>(end); ++k) {
        const double high = a.high[k] + b.high[k];
        const double sum = std::isfinite(high) ? high + (Sum::lost(a.high[k], b.high[k], high) + a.low[k] + b.low[k]) : high;
        out[k] = std::abs(sum) <= kCancelled * (a.size[k] + b.size[k]) ? 0 : sum;
      }
    });
  }

  // Pools without a subject are summed, not subtracted from the sum of all: one distant subject would cost the others their digits.
  template <typename Count>
  void any(const Count& count, Index drawn, const double* values, double within, double* lower, double* upper) {
    const Index stride = sample_.stride();
    const auto last = static_cast<std::size_t>(rows_);
    for (Sum& sum : sums_) sum.clear(sample_.size());
    // sums_[s]: subject s and all after it; the last one: all before.
    Pace pace;
    for (std::size_t s = last; s-- > 0; pace(sample_.size()))
      sums_[s].add(sums_[s + 1], values + static_cast<Index>(s) * stride, count(static_cast<Index>(s)));
    Sum& before = sums_[last + 1];
    join(before, sums_[0], others_.data());
    sample_.rank(others_.data(), within, pooled_.data());
    with_pooled(count, upper);
    for (Index s = 0; s < rows_; ++s) {
      const double times = count(s);
      pace(1 + sample_.size());
      if (times == 0) continue;
      if (drawn == 1) {
        lower[s] = upper[s];
        continue;
      }
      join(before, sums_[static_cast<std::size_t>(s) + 1], others_.data());
      before.add(before, values + s * stride, times);
      sample_.rank(others_.data(), within, pooled_.data());
      with_pooled([s](Index i) { return static_cast<std::int32_t>(i == s); }, lower);
    }
  }

  // Interleaved, since they are read together and in random order.
  struct Whole {
    std::int32_t rank, weight;
  };

  const Isa& isa_;
  Sample& sample_;
  Index rows_;
  bool untied_;
  Doubles ranks_, squares_, values_, others_, pooled_, weighted_;
  std::vector<Sum> sums_;
  std::vector<Whole> whole_;
  std::vector<std::int32_t> whole_total_, whole_others_;
};

}  // namespace

void resampled_similarities(const Isa& isa, const double* a, Index rows_a, const double* b, Index rows_b, Index conditions,
                            const std::int32_t* counts, Index draws, bool paired, bool untied, double* out, int n_threads) {
  const Index cols = conditions * (conditions - 1) / 2, across = paired ? 1 : rows_b;
  const Orders orders_a(a, rows_a, cols, n_threads), orders_b(b, rows_b, cols, n_threads);
  parallel(draws, 1, n_threads, [&](Index begin, Index end, int) {
    Sample sample(conditions);
    const Index stride = sample.stride(), at_once = paired ? 1 : std::min(kRowPad, rows_a);
    Doubles ranks(static_cast<std::size_t>(stride)), weighted(static_cast<std::size_t>(stride * at_once)), squares(static_cast<std::size_t>(at_once));
    Doubles others(static_cast<std::size_t>(stride * across)), squares_b(static_cast<std::size_t>(across));
    const auto rank = [&](const Orders& orders, Index row, double* to, double* weighted_to) {
      sample.rank(orders, row, to);
      sample.weigh(to, weighted_to);
      return untied ? sample.untied() : dot(isa, to, weighted_to, sample.length());
    };
    Pace pace;
    for (Index d = begin; d < end; ++d) {
      pace(cols);
      sample.draw(counts + d * conditions);
      double* to = out + d * rows_a * across;
      if (sample.size() == 0) {
        std::fill_n(to, rows_a * across, kNaN);
        continue;
      }
      if (!paired)
        for (Index j = 0; j < rows_b; ++j, pace(cols))
          squares_b[static_cast<std::size_t>(j)] = rank(orders_b, j, others.data() + j * stride, weighted.data());
      for (Index i = 0; i < rows_a; i += at_once) {
        const Index here = std::min(at_once, rows_a - i);
        pace(here * cols);
        if (paired) squares_b[0] = rank(orders_b, i, others.data(), weighted.data());
        for (Index k = 0; k < here; ++k) squares[static_cast<std::size_t>(k)] = rank(orders_a, i + k, ranks.data(), weighted.data() + k * stride);
        double* products = to + i * across;
        std::get<Dots<double>*>(isa.dots)(weighted.data(), here, stride, others.data(), across, stride, sample.length(), products, across);
        for (Index k = 0; k < here; ++k)
          for (Index j = 0; j < across; ++j) {
            double& x = products[k * across + j];
            x = scaled(x, squares[static_cast<std::size_t>(k)], squares_b[static_cast<std::size_t>(j)]);
          }
      }
    }
  });
}

void resampled_ceilings(const Isa& isa, const double* subjects, Index rows, Index conditions, const std::int32_t* condition_counts,
                        const std::int32_t* subject_counts, Index draws, bool ranked, bool untied, double within, double* out, int n_threads) {
  const Index cols = conditions * (conditions - 1) / 2;
  const Orders orders(subjects, rows, cols, n_threads);
  parallel(draws, 1, n_threads, [&](Index begin, Index end, int) {
    Sample sample(conditions);
    Pools pools(isa, sample, rows, untied);
    Pace pace;
    for (Index d = begin; d < end; ++d) {
      pace(rows);
      const auto count = [&](Index s) { return subject_counts ? subject_counts[d * rows + s] : 1; };
      if (d == begin || condition_counts) {
        sample.draw(condition_counts ? condition_counts + d * conditions : nullptr);
        for (Index s = 0; s < rows && sample.size() > 0; ++s, pace(cols))
          if (!condition_counts || count(s) > 0) pools.subject(orders, subjects + s * cols, s, ranked);
      }
      double* lower = out + d * 2 * rows;
      std::fill_n(lower, 2 * rows, kNaN);
      if (sample.size() > 0) pools.bounds(count, ranked, within, lower, lower + rows);
    }
  });
}

template <typename T>
void permuted_similarities(const Isa& isa, const T* a, const double* squares_a, Index rows_a, Index conditions, const std::int32_t* permutations,
                           Index n_permutations, const Rows<T>& b, double* out, int n_threads) {
  const auto dots = std::get<Dots<T>*>(isa.dots);
  const Index ld = rows_a * b.rows;
  parallel(n_permutations, kRowPad, n_threads, [&](Index begin, Index end, int) {
    std::vector<T> rows(static_cast<std::size_t>(kRowPad * b.stride));
    Pace pace;
    for (Index p = begin; p < end; p += kRowPad) {
      const Index here = std::min(kRowPad, end - p);
      for (Index i = 0; i < rows_a; ++i) {
        const T* square = a + i * conditions * conditions;
        for (Index k = 0; k < here; ++k) {
          const std::int32_t* permutation = permutations + (p + k) * conditions;
          T* to = rows.data() + k * b.stride;
          for (Index r = 0; r < conditions; ++r) {
            pace(conditions - r);
            const T* row = square + permutation[r] * conditions;
            for (Index c = r + 1; c < conditions; ++c) *to++ = row[permutation[c]];
          }
        }
        double* products = out + p * ld + i * b.rows;
        dots(rows.data(), here, b.stride, b.data, b.rows, b.stride, b.stride, products, ld);
        for (Index k = 0; k < here; ++k)
          for (Index j = 0; j < b.rows; ++j) products[k * ld + j] = scaled(products[k * ld + j], squares_a[i], b.squares[j]);
      }
    }
  });
}

#define FASTRDM_INSTANTIATE(T) \
  template void permuted_similarities<T>(const Isa&, const T*, const double*, Index, Index, const std::int32_t*, Index, const Rows<T>&, double*, int);
FASTRDM_INSTANTIATE(float)
FASTRDM_INSTANTIATE(double)

}  // namespace fastrdm
