// The order of a long row in little memory: four bytes for each entry, and buffers that stay in the cache.
//
// A radix sort of numbers packed with their positions takes 16 bytes for each entry, 800 MB for the 50 million pairs of 10,000 conditions. Here,
// positions are distributed to buckets by the leading bits in which the row's numbers differ, and each bucket is sorted where the cache holds it. A
// bucket that is too large is distributed again by its own leading bits, so no set of numbers is slow.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "pace.hpp"

namespace fastrdm {

// Doubles as integers of the same order, -0 as +0; NaN have a place in it too.
inline std::uint64_t ordered_bits(double x) {
  x += 0.0;
  std::uint64_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits >> 63 ? ~bits : bits | std::uint64_t{1} << 63;
}

// `Small` ranks up to kSorted entries, as Ranker.
template <typename Small>
class LargeSort {
 public:
  // Calls visit(k, value) for the entries in rising order, where `at(k)` is the k-th entry's position from then on; returns the number of entries.
  // NaN are left out.
  template <typename T, typename Visit>
  std::size_t run(const T* x, std::size_t n, Visit&& visit) {
    order_.resize(n);
    std::size_t size = 0;
    std::uint64_t low = ~std::uint64_t{0}, high = 0;
    in_stretches(static_cast<Index>(n), [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        if (x[i] != x[i]) continue;
        const std::uint64_t bits = ordered_bits(static_cast<double>(x[i]));
        low = std::min(low, bits);
        high = std::max(high, bits);
        ++size;
      }
    });
    if (size == 0) return 0;
    const auto position = [](std::size_t i) { return static_cast<std::uint32_t>(i); };
    distribute(x, n, position, low, high, order_.data());
    visit_buckets(x, 0, size, low, high, visit);
    return size;
  }

  std::size_t at(std::size_t k) const { return order_[k]; }

 private:
  static constexpr int kBucketBits = fuzzed(12, 4);
  static constexpr std::size_t kBuckets = std::size_t{1} << kBucketBits;
  static constexpr std::size_t kSorted = fuzzed<std::size_t>(1 << 13, 64);  // entries that are sorted at once

  // Shift that leaves the leading bits of differences from the lowest number.
  static int shift_of(std::uint64_t low, std::uint64_t high) {
    int shift = 0;
    while ((high - low) >> shift >= kBuckets) ++shift;
    return shift;
  }

  // Writes positions bucket by bucket; ends_[b] is then where bucket b ends.
  template <typename T, typename Position>
  void distribute(const T* x, std::size_t n, Position&& position, std::uint64_t low, std::uint64_t high, std::uint32_t* out) {
    const int shift = shift_of(low, high);
    const auto bucket = [&](std::uint32_t p) { return static_cast<std::size_t>((ordered_bits(static_cast<double>(x[p])) - low) >> shift); };
    ends_.assign(kBuckets, 0);
    in_stretches(static_cast<Index>(n), [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const std::uint32_t p = position(static_cast<std::size_t>(i));
        if (x[p] == x[p]) ++ends_[bucket(p)];
      }
    });
    std::uint32_t total = 0;
    for (std::uint32_t& end : ends_) {
      const std::uint32_t size = end;
      end = total;
      total += size;
    }
    in_stretches(static_cast<Index>(n), [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const std::uint32_t p = position(static_cast<std::size_t>(i));
        if (x[p] == x[p]) out[ends_[bucket(p)]++] = p;
      }
    });
  }

  template <typename T, typename Visit>
  void visit_buckets(const T* x, std::size_t begin, std::size_t end, std::uint64_t low, std::uint64_t high, Visit& visit) {
    if (low == high || end - begin <= kSorted) return visit_sorted(x, begin, end, visit);
    const std::vector<std::uint32_t> ends = ends_;  // of this level
    std::size_t from = begin;
    Pace pace;
    for (const std::uint32_t last : ends) {
      const std::size_t to = begin + last;
      if (to == from) continue;
      pace(static_cast<Index>(to - from));
      if (to - from <= kSorted)
        visit_sorted(x, from, to, visit);
      else
        divide(x, from, to, visit);
      from = to;
    }
  }

  // Distributes a bucket that is too large to smaller ones.
  template <typename T, typename Visit>
  void divide(const T* x, std::size_t begin, std::size_t end, Visit& visit) {
    std::uint64_t low = ~std::uint64_t{0}, high = 0;
    for (std::size_t k = begin; k < end; ++k) {
      const std::uint64_t bits = ordered_bits(static_cast<double>(x[order_[k]]));
      low = std::min(low, bits);
      high = std::max(high, bits);
    }
    if (low < high) {
      const std::vector<std::uint32_t> positions(order_.begin() + static_cast<Index>(begin), order_.begin() + static_cast<Index>(end));
      distribute(x, positions.size(), [&](std::size_t i) { return positions[i]; }, low, high, order_.data() + begin);
    }
    visit_buckets(x, begin, end, low, high, visit);
  }

  template <typename T, typename Visit>
  void visit_sorted(const T* x, std::size_t begin, std::size_t end, Visit& visit) {
    // Equal numbers need no buffer, however many they are.
    const T number = x[order_[begin]];
    std::size_t same = begin + 1;
    while (same < end && x[order_[same]] == number) ++same;
    if (same == end) {
      for (std::size_t k = begin; k < end; ++k) visit(k, number);
      return;
    }
    const std::size_t n = end - begin;
    values_.resize(n);
    sorted_.resize(n);
    entries_.assign(order_.begin() + static_cast<Index>(begin), order_.begin() + static_cast<Index>(end));
    for (std::size_t i = 0; i < n; ++i) values_[i] = static_cast<double>(x[entries_[i]]);
    if (small_.empty()) small_.emplace_back(static_cast<Index>(kSorted));
    Small& small = small_.front();
    small.resize(n);
    std::size_t next = 0;
    const auto write = [&](std::size_t i, std::size_t first, std::size_t last) {
      if (first == 0 && next >= last) next = 0;  // the ranker started again
      sorted_[next++] = static_cast<std::uint32_t>(i);
    };
    small.rank_short(values_.data(), small.range(values_.data()), write);
    for (std::size_t i = 0; i < n; ++i) order_[begin + i] = entries_[sorted_[i]];
    for (std::size_t i = 0; i < n; ++i) visit(begin + i, static_cast<T>(values_[sorted_[i]]));
  }

  std::vector<std::uint32_t> order_, ends_, entries_, sorted_;
  std::vector<double> values_;
  std::vector<Small> small_;
};

}  // namespace fastrdm
