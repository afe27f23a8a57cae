// Concordant minus discordant pairs of every two rows, for Kendall's tau (Knight 1966, with a counting tree instead of the merge sort).
//
// The entries of the first row are visited in rising order, and visited entries are marked at their positions in the order of the second row: an
// entry that lies above `less` marks and below `greater` adds less - greater. Entries tied in the first row are marked together, after all of them
// have been counted; entries tied in the second occupy a range of positions, none of which counts.
//
// For long rows, whose marks no cache holds, Knight's merge sort is faster and needs eight bytes for each entry, in place of 64.

#include <algorithm>
#include <array>
#include <cstdint>
#include <stdexcept>

#include "isa.hpp"
#include "pace.hpp"
#include "parallel.hpp"

namespace fastrdm {
namespace {

constexpr Index kTile = 16;

// A row of average ranks, sorted by counting.
class Row {
 public:
  std::int64_t untied = 0;  // pairs of entries that differ

  SortedRow sorted() const { return {order_.data(), ends_.data(), order_.size(), ends_.size(), tied()}; }
  bool tied() const { return ends_.size() < order_.size(); }

  // Calls place(i, position, begin, end): the position of entry i in the order, and the range that it shares with its ties.
  template <typename Put>
  void read(const double* ranks, std::size_t n, Put&& place) {
    // Average ranks of two groups of ties differ by at least 1, so their integer parts identify groups.
    starts_.assign(n + 1, 0);
    in_stretches(static_cast<Index>(n), [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        if (!(ranks[i] >= 1 && ranks[i] <= static_cast<double>(n))) throw std::invalid_argument("concordance: rows must hold average ranks");
        ++starts_[static_cast<std::size_t>(ranks[i])];
      }
    });
    ends_.clear();
    std::int64_t tied = 0;
    std::uint32_t total = 0;
    for (std::size_t key = 1; key <= n; ++key) {
      const std::uint32_t size = starts_[key];
      starts_[key] = total;
      if (size == 0) continue;
      tied += std::int64_t{size} * (size - 1) / 2;
      ends_.push_back(total += size);
    }
    untied = static_cast<std::int64_t>(n) * (static_cast<std::int64_t>(n) - 1) / 2 - tied;
    next_ = starts_;
    order_.resize(n);
    in_stretches(static_cast<Index>(n), [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) order_[next_[static_cast<std::size_t>(ranks[i])]++] = static_cast<std::uint32_t>(i);
    });
    Pace pace;
    std::uint32_t position = 0;
    for (const std::uint32_t end : ends_) {
      pace(end - position);
      for (const std::uint32_t begin = position; position < end; ++position) place(order_[position], position, begin, end);
    }
  }

 private:
  std::vector<std::uint32_t> order_, ends_, starts_, next_;
};

// kWays interleaved rows.
template <typename Position>
class Block {
 public:
  std::array<std::int64_t, kWays> untied;

  RowBlock<Position> interleaved() const { return {positions_.data(), ranges_.data(), tied_}; }

  // If there are fewer rows, the last is repeated.
  void read(const double* ranks, Index rows, std::size_t n) {
    positions_.resize(n * kWays);
    ranges_.resize(2 * n * kWays);
    tied_ = false;
    for (std::size_t way = 0; way < kWays; ++way) {
      const Index row = std::min(static_cast<Index>(way), rows - 1);
      row_.read(ranks + row * static_cast<Index>(n), n, [&](std::size_t i, std::uint32_t position, std::uint32_t begin, std::uint32_t end) {
        positions_[i * kWays + way] = static_cast<Position>(position);
        ranges_[2 * i * kWays + way] = static_cast<Position>(begin);
        ranges_[(2 * i + 1) * kWays + way] = static_cast<Position>(end);
      });
      untied[way] = row_.untied;
      tied_ |= row_.tied();
    }
  }

 private:
  Row row_;
  std::vector<Position> positions_, ranges_;
  bool tied_ = false;
};

std::size_t marks_size(std::size_t n) {
  // Words of scratch that are enough for every instruction set: the words of marks, levels of 32-bit counts that shrink 16-fold, and a spare node for
  // each level.
  return kWays * (2 * (n / 64 + 1) + 128);
}

template <typename Position>
void concordance_by(TwiceLess<Position>* twice_less_of, const double* a, Index rows_a, const double* b, Index rows_b, Index cols, std::int64_t* out,
                    std::int64_t* untied_a, std::int64_t* untied_b, int n_threads) {
  constexpr auto kAcross = static_cast<Index>(kWays);
  const auto count = [](Index rows, Index tile) { return (rows + tile - 1) / tile; };
  Index tile = kTile;
  while (tile > 1 && count(rows_a, tile) * count(rows_b, kTile) < 4 * n_threads) tile /= 2;
  const Index across = count(rows_b, kTile);
  parallel(count(rows_a, tile) * across, 1, n_threads, [&](Index begin, Index end, int) {
    const auto n = static_cast<std::size_t>(cols);
    std::vector<std::uint64_t> scratch(marks_size(n));
    Row row;
    std::array<Block<Position>, kTile / kWays> blocks;
    Pace pace;
    for (Index t = begin; t < end; ++t) {
      const Index i0 = t / across * tile, i1 = std::min(rows_a, i0 + tile), j0 = t % across * kTile, j1 = std::min(rows_b, j0 + kTile);
      for (Index j = j0; j < j1; j += kAcross) {
        Block<Position>& block = blocks[static_cast<std::size_t>((j - j0) / kAcross)];
        block.read(b + j * cols, std::min(kAcross, j1 - j), n);
        if (i0 == 0) std::copy_n(block.untied.begin(), std::min(kAcross, j1 - j), untied_b + j);
      }
      for (Index i = i0; i < i1; ++i) {
        row.read(a + i * cols, n, [](std::size_t, std::uint32_t, std::uint32_t, std::uint32_t) {});
        if (j0 == 0) untied_a[i] = row.untied;
        for (Index j = j0; j < j1; j += kAcross) {
          pace(cols);
          std::array<std::uint64_t, kWays> twice_less;  // less + (marked - greater), summed
          twice_less_of(row.sorted(), blocks[static_cast<std::size_t>((j - j0) / kAcross)].interleaved(), scratch.data(), twice_less.data());
          for (Index w = 0; w < std::min(kAcross, j1 - j); ++w)
            out[i * rows_b + j + w] = static_cast<std::int64_t>(twice_less[static_cast<std::size_t>(w)]) - row.untied;
        }
      }
    }
  });
}

constexpr Index kLong = fuzzed<Index>(1 << 20, 70'000);

std::int64_t pairs_of(std::size_t n) { return static_cast<std::int64_t>(n) * (static_cast<std::int64_t>(n) - 1) / 2; }

// Pairs of equal numbers, in rising order.
std::int64_t equal_pairs(const std::uint32_t* x, std::size_t n) {
  std::int64_t pairs = 0;
  for (std::size_t begin = 0, end; begin < n; begin = end) {
    for (end = begin + 1; end < n && x[end] == x[begin];) ++end;
    pairs += pairs_of(end - begin);
  }
  return pairs;
}

// Sorts x, and returns the number of pairs that were in the opposite order. Both arrays hold n numbers.
std::int64_t sort_counting(std::uint32_t* x, std::uint32_t* spare, std::size_t n) {
  constexpr std::size_t kRun = 16;
  std::int64_t swaps = 0;
  for (std::size_t begin = 0; begin < n; begin += kRun)
    for (std::size_t i = begin + 1; i < std::min(n, begin + kRun); ++i) {
      const std::uint32_t moved = x[i];
      std::size_t to = i;
      for (; to > begin && moved < x[to - 1]; --to) x[to] = x[to - 1];
      x[to] = moved;
      swaps += static_cast<std::int64_t>(i - to);
    }
  std::uint32_t *from = x, *to = spare;
  Pace pace;
  for (std::size_t run = kRun; run < n; run *= 2) {
    for (std::size_t begin = 0; begin < n; begin += 2 * run) {
      pace(static_cast<Index>(2 * run));
      const std::size_t middle = std::min(n, begin + run), end = std::min(n, begin + 2 * run);
      std::size_t i = begin, j = middle, k = begin;
      while (i < middle && j < end) {
        if (k % kStretch == 0) checkpoint();
        const bool second = from[j] < from[i];
        to[k++] = second ? from[j] : from[i];
        swaps += second ? static_cast<std::int64_t>(middle - i) : 0;
        i += !second;
        j += second;
      }
      k = static_cast<std::size_t>(std::copy(from + i, from + middle, to + k) - to);
      std::copy(from + j, from + end, to + k);
    }
    std::swap(from, to);
  }
  if (from != x) std::copy_n(from, n, x);
  return swaps;
}

struct Counts {
  std::int64_t difference, untied_a, untied_b;
};

Counts count_long(const double* a, const double* b, std::size_t n) {
  std::vector<std::uint32_t> order(n), other(n + 1);
  for (const double* ranks : {a, b})
    for (std::size_t i = 0; i < n; ++i)
      if (!(ranks[i] >= 1 && ranks[i] <= static_cast<double>(n))) throw std::invalid_argument("concordance: rows must hold average ranks");
  // Entries in rising order of a, by counting: the integer parts of average ranks identify groups of ties.
  for (std::size_t i = 0; i < n; ++i) ++other[static_cast<std::size_t>(a[i])];
  std::uint32_t total = 0;
  for (std::size_t key = 0; key <= n; ++key) {
    const std::uint32_t size = other[key];
    other[key] = total;
    total += size;
  }
  for (std::size_t i = 0; i < n; ++i) order[other[static_cast<std::size_t>(a[i])]++] = static_cast<std::uint32_t>(i);
  // The ranks in b, rising where a is tied.
  std::int64_t tied_a = 0, tied_both = 0;
  Pace pace;
  for (std::size_t begin = 0, end; begin < n; begin = end) {
    const double rank = a[order[begin]];
    for (end = begin; end < n && a[order[end]] == rank; ++end) other[end] = static_cast<std::uint32_t>(b[order[end]]);
    if (end - begin == 1) continue;
    std::sort(other.begin() + static_cast<Index>(begin), other.begin() + static_cast<Index>(end), [&pace](std::uint32_t p, std::uint32_t q) {
      pace(1);
      return p < q;
    });
    tied_a += pairs_of(end - begin);
    tied_both += equal_pairs(other.data() + begin, end - begin);
  }
  const std::int64_t opposite = sort_counting(other.data(), order.data(), n), tied_b = equal_pairs(other.data(), n);
  return {pairs_of(n) - tied_a - tied_b + tied_both - 2 * opposite, pairs_of(n) - tied_a, pairs_of(n) - tied_b};
}

void concordance_of_long(const double* a, Index rows_a, const double* b, Index rows_b, Index cols, std::int64_t* out, std::int64_t* untied_a,
                         std::int64_t* untied_b, int n_threads) {
  parallel(rows_a * rows_b, 1, n_threads, [&](Index begin, Index end, int) {
    for (Index pair = begin; pair < end; ++pair) {
      const Index i = pair / rows_b, j = pair % rows_b;
      const Counts counts = count_long(a + i * cols, b + j * cols, static_cast<std::size_t>(cols));
      out[pair] = counts.difference;
      if (j == 0) untied_a[i] = counts.untied_a;
      if (i == 0) untied_b[j] = counts.untied_b;
    }
  });
}

}  // namespace

void concordance(const Isa& isa, const double* a, Index rows_a, const double* b, Index rows_b, Index cols, std::int64_t* out, std::int64_t* untied_a,
                 std::int64_t* untied_b, int n_threads) {
  if (cols >= kLong)
    concordance_of_long(a, rows_a, b, rows_b, cols, out, untied_a, untied_b, n_threads);
  else if (cols < Index{1} << 16)
    concordance_by(std::get<TwiceLess<std::uint16_t>*>(isa.twice_less), a, rows_a, b, rows_b, cols, out, untied_a, untied_b, n_threads);
  else
    concordance_by(std::get<TwiceLess<std::uint32_t>*>(isa.twice_less), a, rows_a, b, rows_b, cols, out, untied_a, untied_b, n_threads);
}

}  // namespace fastrdm
