// Average ranks of one row by a radix sort of quantised numbers.
//
// Each number is quantised to one of about 2^20 equal steps between the row's extremes. The step is packed above the number's position and sorted by
// two digits; the few numbers that share a step are sorted by comparison. 6903 random numbers take 27 us, against 100 us for a radix sort of their
// bits, which needs three passes over keys twice as wide. Rows that crowd into a few steps (an outlier, a geometric series) are sorted by the bits of
// doubles, which with the sign handled have the order of the numbers. Rows of more than kLarge entries are sorted in little memory (large_sort.hpp).
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "large_sort.hpp"
#include "pace.hpp"

namespace fastrdm {

class Ranker {
 public:
  // Numbers that differ by no more than `within` times the larger magnitude tie: a group of ties starts at the smallest number that is in no group
  // yet, and takes all numbers near it (fastrdm/_kernels/ties.py).
  explicit Ranker(Index cols, double within = 0) : n_(static_cast<std::size_t>(cols)), within_(within) {}

  // The number of entries of the next row, at most as many as before.
  void resize(std::size_t n) { n_ = n; }

  struct Range {
    double low, high;
    bool finite;  // whether all numbers are finite
  };

  template <typename T>
  Range range(const T* x) const {
    const std::size_t n = n_;
    constexpr std::size_t kLanes = 16;  // enough to hide the latency of a comparison
    std::array<T, kLanes> least, most, zero;
    least.fill(x[0]);
    most.fill(x[0]);
    zero.fill(0);
    const auto take = [&](std::size_t lane, T value) {
      least[lane] = value < least[lane] ? value : least[lane];
      most[lane] = value > most[lane] ? value : most[lane];
      zero[lane] += value - value;  // NaN for infinities
    };
    const std::size_t whole = n / kLanes * kLanes;
    in_stretches(static_cast<Index>(whole), [&](Index begin, Index end) {
      for (Index i = begin; i < end; i += kLanes)
        for (std::size_t lane = 0; lane < kLanes; ++lane) take(lane, x[i + static_cast<Index>(lane)]);
    });
    for (std::size_t i = whole; i < n; ++i) take(0, x[i]);
    T sum = 0;
    for (const T z : zero) sum += z;
    return {static_cast<double>(*std::min_element(least.begin(), least.end())), static_cast<double>(*std::max_element(most.begin(), most.end())),
            sum == 0};
  }

  // Calls write(i, begin, end): entry i is one of the equal entries at [begin, end) in rising order. Returns four times the sum of squares of the
  // centred ranks, exact up to about 300,000 entries. No NaN.
  template <typename T, typename Write>
  double rank(const T* x, const Range& range, Write&& write) {
    if (range.low == range.high) {
      for (std::size_t i = 0; i < n_; ++i) write(i, std::size_t{0}, n_);
      return 0;
    }
    if (n_ > kLarge)
      by_buckets(x, write);
    else
      rank_short(x, range, write);
    return squares();
  }

  // Rows up to kLarge with different entries: the same calls of `write`.
  template <typename T, typename Write>
  void rank_short(const T* x, const Range& range, Write& write) {
    const double low = range.low, width = range.high - low;
    if (range.finite && width <= std::numeric_limits<double>::max() && std::isfinite(kMostSteps / width)) {
      if (n_ <= kNarrow ? by_steps(narrow_, x, low, width, write) : by_steps(wide_, x, low, width, write)) return;
    }
    by_bits(x, write);
  }

 private:
  template <typename Packed>
  struct Keys {
    std::vector<Packed> packed, spare;
    static constexpr int kPositionBits = sizeof(Packed) == 4 ? 13 : 32;
    static std::size_t position(Packed p) { return p & ((Packed{1} << kPositionBits) - 1); }
    static std::uint32_t key(Packed p) { return static_cast<std::uint32_t>(p >> kPositionBits); }
  };

  static constexpr std::size_t kNarrow = std::size_t{1} << Keys<std::uint32_t>::kPositionBits;
  static constexpr std::size_t kLarge = fuzzed<std::size_t>(1 << 20, 2000);
  static constexpr double kMostSteps = 4294967295.0;
  static constexpr std::size_t kCrowd = 32;  // different entries on one step that justify sorting by bits
  static constexpr int kDigitBits = 11;

  double squares() const {
    const double n = static_cast<double>(n_);
    return (n * n * n - n - tied_) / 3;
  }

  template <typename Packed, typename T, typename Write>
  bool by_steps(Keys<Packed>& keys, const T* x, double low, double width, Write& write) {
    // It takes about 2 log2(n) bits until few of n entries share a step.
    const int digits = n_ <= std::size_t{1} << 17 ? 2 : 3;
    const int bits = n_ <= 256 ? 12 : n_ <= 2048 ? 16 : n_ <= kNarrow ? 19 : digits == 2 ? 22 : 32;
    const double scale = static_cast<double>((std::uint64_t{1} << bits) - 1) / width;
    keys.packed.resize(n_);
    Packed* packed = keys.packed.data();
    in_stretches(static_cast<Index>(n_), [&](Index begin, Index end) {
      if (bits < 32) {  // signed conversions are faster
        for (Index i = begin; i < end; ++i)
          packed[i] = static_cast<Packed>(static_cast<std::int32_t>((static_cast<double>(x[i]) - low) * scale)) << keys.kPositionBits |
                      static_cast<Packed>(i);
      } else {
        for (Index i = begin; i < end; ++i)
          packed[i] = static_cast<Packed>(static_cast<std::int64_t>((static_cast<double>(x[i]) - low) * scale)) << keys.kPositionBits |
                      static_cast<Packed>(i);
      }
    });
    sort(keys, digits, (bits + digits - 1) / digits);
    return settle<false>(keys, x, write);
  }

  // Sorts a long row; a group is written when its end is known.
  template <typename T, typename Write>
  void by_buckets(const T* x, Write& write) {
    tied_ = 0;
    std::size_t begin = 0;
    T least = 0;
    const auto end_group = [&](std::size_t end) {
      for (std::size_t k = begin; k < end; ++k) write(large_.at(k), begin, end);
      const double size = static_cast<double>(end - begin);
      tied_ += size * size * size - size;
      begin = end;
    };
    const std::size_t size = large_.run(x, n_, [&](std::size_t k, T value) {
      if (k > 0 && near(static_cast<double>(least), static_cast<double>(value))) return;
      end_group(k);
      least = value;
    });
    end_group(size);
  }

  template <typename T, typename Write>
  void by_bits(const T* x, Write& write) {
    wide_.packed.resize(n_);
    std::uint64_t* packed = wide_.packed.data();
    in_stretches(static_cast<Index>(n_), [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) packed[i] = ordered_bits(static_cast<double>(x[i])) >> 32 << 32 | static_cast<std::uint64_t>(i);
    });
    sort(wide_, 3, kDigitBits);
    settle<true>(wide_, x, write);
  }

  // Sorts keys of `digits` digits; skips a digit that all keys share.
  template <typename Packed>
  void sort(Keys<Packed>& keys, int digits, int bits) {
    keys.spare.resize(n_);
    const std::uint32_t mask = (std::uint32_t{1} << bits) - 1;
    for (int d = 0; d < digits; ++d) std::fill_n(counts_[static_cast<std::size_t>(d)].begin(), mask + 1, 0u);
    const Packed* packed = keys.packed.data();
    in_stretches(static_cast<Index>(n_), [&](Index begin, Index end) {
      if (digits == 2) {
        for (Index i = begin; i < end; ++i) {
          const std::uint32_t key = keys.key(packed[i]);
          ++counts_[0][key & mask];
          ++counts_[1][key >> bits];
        }
      } else {
        for (Index i = begin; i < end; ++i) {
          const std::uint32_t key = keys.key(packed[i]);
          ++counts_[0][key & mask];
          ++counts_[1][key >> bits & mask];
          ++counts_[2][key >> 2 * bits];
        }
      }
    });
    for (int d = 0; d < digits; ++d) {
      auto& starts = counts_[static_cast<std::size_t>(d)];
      const int shift = d * bits;
      if (starts[keys.key(keys.packed[0]) >> shift & mask] == n_) continue;
      std::uint32_t total = 0;
      for (std::uint32_t k = 0; k <= mask; ++k) {
        const std::uint32_t size = starts[k];
        starts[k] = total;
        total += size;
      }
      const Packed* from = keys.packed.data();
      Packed* to = keys.spare.data();
      in_stretches(static_cast<Index>(n_), [&](Index begin, Index end) {
        for (Index i = begin; i < end; ++i) to[starts[keys.key(from[i]) >> shift & mask]++] = from[i];
      });
      keys.packed.swap(keys.spare);
    }
  }

  // Sorts entries with equal keys, and writes all; returns false if too many share one.
  template <bool kSort, typename Packed, typename T, typename Write>
  bool settle(Keys<Packed>& keys, const T* x, Write& write) {
    tied_ = 0;
    if (within_ > 0) return settle_near<kSort>(keys, x, write);
    Packed* packed = keys.packed.data();
    const auto value = [&](std::size_t i) { return x[keys.position(packed[i])]; };
    std::size_t next_stretch = kStretch;
    for (std::size_t begin = 0, end; begin < n_; begin = end) {
      if (begin >= next_stretch) {
        checkpoint();
        next_stretch = begin + kStretch;
      }
      const std::uint32_t key = keys.key(packed[begin]);
      end = begin + 1;
      if (end == n_ || keys.key(packed[end]) != key) {
        write(keys.position(packed[begin]), begin, end);
        continue;
      }
      const T first = value(begin);
      bool same = value(end) == first;
      for (++end; end < n_ && keys.key(packed[end]) == key; ++end) same &= value(end) == first;
      if (!same && !order<kSort>(keys, x, begin, end)) return false;
      for (std::size_t tie = begin, stop; tie < end; tie = stop) {
        stop = same ? end : tie + 1;
        if (!same)
          for (const T least = value(tie); stop < end && value(stop) == least;) ++stop;
        for (std::size_t i = tie; i < stop; ++i) write(keys.position(packed[i]), tie, stop);
        const double size = static_cast<double>(stop - tie);
        tied_ += size * size * size - size;
      }
    }
    return true;
  }

  // The same if near numbers tie; a group may have several keys.
  template <bool kSort, typename Packed, typename T, typename Write>
  bool settle_near(Keys<Packed>& keys, const T* x, Write& write) {
    Packed* packed = keys.packed.data();
    const auto value = [&](std::size_t i) { return static_cast<double>(x[keys.position(packed[i])]); };
    Pace pace;
    for (std::size_t begin = 0, end; begin < n_; pace(static_cast<Index>(end - begin)), begin = end) {
      bool same = true;
      for (end = begin + 1; end < n_ && keys.key(packed[end]) == keys.key(packed[begin]); ++end) same &= value(end) == value(begin);
      if (!same && !order<kSort>(keys, x, begin, end)) return false;
    }
    for (std::size_t tie = 0, stop; tie < n_; pace(static_cast<Index>(stop - tie)), tie = stop) {
      const double least = value(tie);
      for (stop = tie + 1; stop < n_ && near(least, value(stop)); ++stop) {
      }
      for (std::size_t i = tie; i < stop; ++i) write(keys.position(packed[i]), tie, stop);
      const double size = static_cast<double>(stop - tie);
      tied_ += size * size * size - size;
    }
    return true;
  }

  bool near(double low, double high) const { return low == high || high - low <= within_ * std::max(std::abs(low), std::abs(high)); }

  template <bool kSort, typename Packed, typename T>
  bool order(Keys<Packed>& keys, const T* x, std::size_t begin, std::size_t end) {
    Packed* packed = keys.packed.data();
    if (end - begin > kCrowd) {
      if (kSort) {
        Pace pace;
        // By bits, which are ordered even for NaN.
        std::sort(packed + begin, packed + end, [x, &pace](Packed p, Packed q) {
          pace(1);
          return ordered_bits(static_cast<double>(x[Keys<Packed>::position(p)])) < ordered_bits(static_cast<double>(x[Keys<Packed>::position(q)]));
        });
      }
      return kSort;
    }
    for (std::size_t i = begin + 1; i < end; ++i) {
      const Packed moved = packed[i];
      const T number = x[keys.position(moved)];
      std::size_t to = i;
      for (; to > begin && number < x[keys.position(packed[to - 1])]; --to) packed[to] = packed[to - 1];
      packed[to] = moved;
    }
    return true;
  }

  std::size_t n_;
  double within_;
  double tied_ = 0;  // sum of t^3 - t over groups of t ties
  Keys<std::uint32_t> narrow_;
  Keys<std::uint64_t> wide_;
  LargeSort<Ranker> large_;
  std::array<std::array<std::uint32_t, std::size_t{1} << kDigitBits>, 3> counts_;
};

}  // namespace fastrdm
