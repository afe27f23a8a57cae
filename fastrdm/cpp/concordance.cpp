// Concordant less discordant pairs of every two rows, for Kendall's tau (Knight 1966, with a counting tree for the merge sort).
//
// Walking through a row's entries in rising order, the entries met before are marked at their positions in the other row's order: an
// entry that lies above `less` of them and below `greater` adds less - greater. Entries tied in the first row are marked together, after
// all of them have been counted; entries tied in the second occupy a range of positions, none of which counts.
//
// Marks are bits; above the 64-bit words stand levels of running counts, 8 to a node, so that a mark costs a few additions a level and a count
// reads one number a level. All of it is 1.2 KB for 6903 entries.

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <stdexcept>

#include "parallel.hpp"

namespace fastrdm {
namespace {

constexpr std::size_t kFan = 8;  // 16 takes half as long again at 6903 entries
constexpr Index kTile = 16;

// Written out: without -mpopcnt, which the oldest x86-64 lacks, the builtin is a call.
std::uint64_t popcount(std::uint64_t x) {
  x -= x >> 1 & 0x5555555555555555u;
  x = (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
  return ((x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu) * 0x0101010101010101u >> 56;
}

// A set of positions in [0, n) that knows how many of its members lie below a position.
template <typename Count, int kLevels>
class Marks {
 public:
  explicit Marks(std::size_t n) : words_(n / 64 + 1) {
    std::size_t nodes = words_.size();
    for (auto& level : levels_) {
      nodes = (nodes + kFan - 1) / kFan;
      level.resize(nodes * kFan);
    }
  }

  void clear() {
    std::fill(words_.begin(), words_.end(), 0);
    for (auto& level : levels_) std::fill(level.begin(), level.end(), Count{0});
  }

  void add(std::size_t position) {
    std::size_t child = position / 64;
    words_[child] |= std::uint64_t{1} << position % 64;
    for (auto& level : levels_) {
      // Several counts to an addition, none of which overflows into its neighbour: compilers leave the plain loop to single numbers.
      auto* node = reinterpret_cast<unsigned char*>(level.data() + child / kFan * kFan);
      const auto* step = reinterpret_cast<const unsigned char*>(kSteps.data() + (kFan - 1 - child % kFan));
      for (std::size_t k = 0; k < kFan * sizeof(Count); k += sizeof(std::uint64_t)) {
        std::uint64_t counts, more;
        std::memcpy(&counts, node + k, sizeof counts);
        std::memcpy(&more, step + k, sizeof more);
        counts += more;
        std::memcpy(node + k, &counts, sizeof counts);
      }
      child /= kFan;
    }
  }

  std::uint64_t below(std::size_t position) const {
    std::size_t child = position / 64;
    std::uint64_t count = popcount(words_[child] & ((std::uint64_t{1} << position % 64) - 1));
    for (const auto& level : levels_) {
      count += level[child];
      child /= kFan;
    }
    return count;
  }

 private:
  static constexpr std::array<Count, 2 * kFan> kSteps = [] {
    std::array<Count, 2 * kFan> steps{};
    for (std::size_t k = kFan; k < 2 * kFan; ++k) steps[k] = 1;
    return steps;
  }();

  std::vector<std::uint64_t> words_;
  std::array<std::vector<Count>, kLevels> levels_;
};

struct Place {
  std::uint32_t position, below, upto;  // in the row's order; the range of the entry's ties
};

// A row of average ranks, taken apart in one counting sort.
struct Row {
  std::vector<std::uint32_t> order, ends;  // entries in rising order; where each group of ties ends in it
  std::vector<Place> places;
  std::vector<std::uint32_t> positions;  // of `places`, alone: without ties it is all that is read, from a third of the memory
  std::int64_t untied = 0;               // pairs of entries that differ

  bool has_ties() const { return ends.size() < order.size(); }

  void read(const double* ranks, std::size_t n) {
    // Averages of two groups of ties differ by at least 1, so that their whole parts tell groups apart.
    starts_.assign(n + 1, 0);
    for (std::size_t i = 0; i < n; ++i) {
      if (!(ranks[i] >= 1 && ranks[i] <= static_cast<double>(n))) throw std::invalid_argument("concordance: rows must hold average ranks");
      ++starts_[static_cast<std::size_t>(ranks[i])];
    }
    ends.clear();
    std::int64_t tied = 0;
    std::uint32_t total = 0;
    for (std::size_t key = 1; key <= n; ++key) {
      const std::uint32_t size = starts_[key];
      starts_[key] = total;
      if (size == 0) continue;
      tied += std::int64_t{size} * (size - 1) / 2;
      ends.push_back(total += size);
    }
    untied = static_cast<std::int64_t>(n) * (static_cast<std::int64_t>(n) - 1) / 2 - tied;
    next_ = starts_;
    order.resize(n);
    positions.resize(n);
    for (std::size_t i = 0; i < n; ++i) order[positions[i] = next_[static_cast<std::size_t>(ranks[i])]++] = static_cast<std::uint32_t>(i);
    places.clear();
    if (!has_ties()) return;
    for (std::size_t i = 0; i < n; ++i) {
      const auto key = static_cast<std::size_t>(ranks[i]);
      places.push_back({positions[i], starts_[key], next_[key]});
    }
  }

 private:
  std::vector<std::uint32_t> starts_, next_;
};

template <typename Set>
std::int64_t concordance_of(const Row& a, const Row& b, Set& marks) {
  marks.clear();
  std::uint64_t twice_less = 0;  // less + (marked - greater), summed
  if (!a.has_ties() && !b.has_ties()) {
    for (const std::uint32_t i : a.order) {
      twice_less += 2 * marks.below(b.positions[i]);
      marks.add(b.positions[i]);
    }
  } else {
    std::size_t begin = 0;
    for (const std::size_t end : a.ends) {
      for (std::size_t k = begin; k < end; ++k) {
        const std::uint32_t i = a.order[k];
        const Place place = b.has_ties() ? b.places[i] : Place{b.positions[i], b.positions[i], b.positions[i]};
        twice_less += marks.below(place.below) + marks.below(place.upto);
      }
      for (; begin < end; ++begin) marks.add(b.positions[a.order[begin]]);
    }
  }
  return static_cast<std::int64_t>(twice_less) - a.untied;
}

template <typename Set>
void concordance_with(const double* a, Index rows_a, const double* b, Index rows_b, Index cols, std::int64_t* out, std::int64_t* untied_a,
                      std::int64_t* untied_b, int n_threads) {
  const auto count = [](Index rows, Index tile) { return (rows + tile - 1) / tile; };
  Index tile = kTile;
  while (tile > 1 && count(rows_a, tile) * count(rows_b, tile) < 4 * n_threads) tile /= 2;
  const Index across = count(rows_b, tile);
  parallel(count(rows_a, tile) * across, 1, n_threads, [&](Index begin, Index end, int) {
    const auto n = static_cast<std::size_t>(cols);
    Set marks(n);
    Row row;
    std::vector<Row> others(static_cast<std::size_t>(tile));
    for (Index t = begin; t < end; ++t) {
      const Index i0 = t / across * tile, i1 = std::min(rows_a, i0 + tile), j0 = t % across * tile, j1 = std::min(rows_b, j0 + tile);
      for (Index j = j0; j < j1; ++j) {
        auto& other = others[static_cast<std::size_t>(j - j0)];
        other.read(b + j * cols, n);
        if (i0 == 0) untied_b[j] = other.untied;
      }
      for (Index i = i0; i < i1; ++i) {
        row.read(a + i * cols, n);
        if (j0 == 0) untied_a[i] = row.untied;
        for (Index j = j0; j < j1; ++j) out[i * rows_b + j] = concordance_of(row, others[static_cast<std::size_t>(j - j0)], marks);
      }
    }
  });
}

}  // namespace

void concordance(const double* a, Index rows_a, const double* b, Index rows_b, Index cols, std::int64_t* out, std::int64_t* untied_a,
                 std::int64_t* untied_b, int n_threads) {
  // Levels enough that the highest is one node: 64 * 8^levels entries.
  const auto run = cols < Index{1} << 9    ? concordance_with<Marks<std::uint16_t, 1>>
                   : cols < Index{1} << 12 ? concordance_with<Marks<std::uint16_t, 2>>
                   : cols < Index{1} << 15 ? concordance_with<Marks<std::uint16_t, 3>>
                   : cols < Index{1} << 16 ? concordance_with<Marks<std::uint16_t, 4>>
                   : cols < Index{1} << 21 ? concordance_with<Marks<std::uint32_t, 5>>
                                           : concordance_with<Marks<std::uint32_t, 9>>;
  run(a, rows_a, b, rows_b, cols, out, untied_a, untied_b, n_threads);
}

}  // namespace fastrdm
