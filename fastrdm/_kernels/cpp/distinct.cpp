// The different numbers among many, if they are few.

#include <algorithm>
#include <cstring>

#include "half.hpp"
#include "pace.hpp"

namespace fastrdm {
namespace {

std::uint64_t bits_of(double x) {
  std::uint64_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
std::uint64_t bits_of(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

}  // namespace

template <typename S>
Index distinct(const Matrix<S>& x, Index limit, typename ProductOf<S>::Type* out) {
  // A hash table with open addressing, at most half full. It stores a number's index in `out` plus 1.
  std::size_t size = 64;
  while (size < 2 * static_cast<std::size_t>(limit)) size *= 2;
  std::vector<std::uint16_t> table(size);
  Index count = 0;
  Pace pace;
  for (Index i = 0; i < x.rows; ++i) {
    const S* row = x.data + i * x.stride;
    auto last = widened(row[0]);
    std::uint64_t last_bits = ~bits_of(last);
    for (Index begin = 0; begin < x.cols; begin += kStretch) {
      const Index end = std::min(x.cols, begin + kStretch);
      for (Index k = begin; k < end; ++k) {
        const auto value = widened(row[k]);
        const std::uint64_t bits = bits_of(value);
        if (bits == last_bits) continue;
        last_bits = bits;
        std::size_t at = static_cast<std::size_t>(bits * 0x9e3779b97f4a7c15u >> 40) & (size - 1);
        while (table[at] && bits_of(out[table[at] - 1]) != bits) at = (at + 1) & (size - 1);
        if (table[at]) continue;
        if (count == limit) return limit;
        out[count++] = value;
        table[at] = static_cast<std::uint16_t>(count);
      }
      pace(end - begin);
    }
  }
  return count;
}

template Index distinct<float>(const Matrix<float>&, Index, float*);
template Index distinct<double>(const Matrix<double>&, Index, double*);
template Index distinct<Half>(const Matrix<Half>&, Index, float*);
template Index distinct<BFloat16>(const Matrix<BFloat16>&, Index, float*);

}  // namespace fastrdm
