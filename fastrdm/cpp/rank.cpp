// Average ranks by a radix sort of packed keys.
//
// A double's bits, with the sign handled, order as the numbers do. The upper 32 of them are packed above the 32-bit position and
// radix-sorted, digits that all keys share left out; the few runs that agree in the upper half are put right by full comparison.

#include <algorithm>
#include <array>
#include <cstring>

#include "parallel.hpp"

namespace fastrdm {
namespace {

constexpr int kDigitBits = 11;
constexpr std::size_t kBuckets = std::size_t{1} << kDigitBits;
constexpr int kDigits = 3;  // 33 bits, of which the keys use 32

std::uint32_t key_of(double x) {
  x += 0.0;  // -0 ranks with +0
  std::uint64_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  bits = bits >> 63 ? ~bits : bits | std::uint64_t{1} << 63;
  return static_cast<std::uint32_t>(bits >> 32);
}

std::size_t digit(std::uint64_t packed, int d) { return packed >> (32 + d * kDigitBits) & (kBuckets - 1); }

class Ranker {
 public:
  explicit Ranker(Index cols) : packed_(static_cast<std::size_t>(cols)), spare_(static_cast<std::size_t>(cols)) {}

  void rank(const double* x, double* ranks) {
    sort_keys(x);
    const std::size_t n = packed_.size();
    for (std::size_t begin = 0, end; begin < n; begin = end) {
      const std::uint64_t key = packed_[begin] >> 32;
      for (end = begin + 1; end < n && packed_[end] >> 32 == key; ++end) {
      }
      if (end - begin > 1)
        std::sort(packed_.begin() + static_cast<Index>(begin), packed_.begin() + static_cast<Index>(end),
                  [x](std::uint64_t p, std::uint64_t q) { return x[position(p)] < x[position(q)]; });
      for (std::size_t tie = begin, stop; tie < end; tie = stop) {
        const double value = x[position(packed_[tie])];
        for (stop = tie + 1; stop < end && x[position(packed_[stop])] == value; ++stop) {
        }
        const double average = 0.5 * static_cast<double>(tie + 1 + stop);
        for (std::size_t i = tie; i < stop; ++i) ranks[position(packed_[i])] = average;
      }
    }
  }

 private:
  static Index position(std::uint64_t packed) { return static_cast<Index>(packed & 0xffffffffu); }

  void sort_keys(const double* x) {
    for (auto& count : counts_) count.fill(0);
    for (std::size_t i = 0; i < packed_.size(); ++i) {
      packed_[i] = static_cast<std::uint64_t>(key_of(x[i])) << 32 | i;
      for (int d = 0; d < kDigits; ++d) ++counts_[static_cast<std::size_t>(d)][digit(packed_[i], d)];
    }
    for (int d = 0; d < kDigits; ++d) {
      auto& count = counts_[static_cast<std::size_t>(d)];
      if (count[digit(packed_[0], d)] == packed_.size()) continue;
      std::uint32_t start = 0;
      for (auto& c : count) {
        const std::uint32_t size = c;
        c = start;
        start += size;
      }
      for (const std::uint64_t p : packed_) spare_[count[digit(p, d)]++] = p;
      packed_.swap(spare_);
    }
  }

  std::vector<std::uint64_t> packed_, spare_;
  std::array<std::array<std::uint32_t, kBuckets>, kDigits> counts_;
};

}  // namespace

void rank_rows(const double* data, Index rows, Index cols, double* ranks, int n_threads) {
  if (cols == 0) return;
  constexpr Index kWorth = 1 << 14;  // entries that are worth starting a thread for
  n_threads = static_cast<int>(std::min<Index>(n_threads, 1 + rows * cols / kWorth));
  parallel(rows, 1, n_threads, [&](Index begin, Index end, int) {
    Ranker ranker(cols);
    for (Index i = begin; i < end; ++i) ranker.rank(data + i * cols, ranks + i * cols);
  });
}

}  // namespace fastrdm
