// The kind of numbers, and values that tie: as fastrdm/rdm/numbers.py and fastrdm/_kernels/ties.py.

#include <algorithm>
#include <cmath>

#include "../pace.hpp"
#include "library.hpp"

namespace fastrdm {
namespace {

// The same constants as in numbers.py.
constexpr Index kMaxDiscrete = 1024;
constexpr double kNarrow = 128, kWhole = 0x1p53;

// The largest power of two that divides all numbers; 1 if all are zero.
double unit_of(const std::vector<double>& values) {
  bool any = false;
  int least = 0;
  for (const double value : values) {
    if (value == 0) continue;
    int exponent;
    auto digits = static_cast<std::uint64_t>(std::frexp(std::abs(value), &exponent) * kWhole);
    while (digits % 2 == 0) {
      digits /= 2;
      ++exponent;
    }
    least = any ? std::min(least, exponent) : exponent;
    any = true;
  }
  return any ? std::ldexp(1.0, least - 53) : 1.0;
}

bool near(double low, double high, double within, bool angles) {
  double size = std::max(std::abs(low), std::abs(high));
  if (angles) size = std::sqrt(2 * size);
  return std::isfinite(size) && high - low <= within * size;
}

}  // namespace

template <typename S>
NumberKind number_kind(const Matrix<S>& x) {
  std::vector<typename ProductOf<S>::Type> found(static_cast<std::size_t>(kMaxDiscrete));
  const Index n = distinct<S>(x, kMaxDiscrete, found.data());
  NumberKind kind;
  kind.wide = sizeof(S) == 8;
  const Index size = x.rows * x.cols;
  if (n == kMaxDiscrete || !(2 * n <= size || size <= kMaxDiscrete)) return kind;
  const std::vector<double> values(found.begin(), found.begin() + n);
  for (const double value : values)
    if (!std::isfinite(value)) return kind;
  const double unit = unit_of(values), least = *std::min_element(values.begin(), values.end());
  for (const double shift : {0.0, least}) {
    double largest = 0;
    for (const double value : values) largest = std::max(largest, std::abs(value - shift) / unit);
    if (static_cast<double>(x.cols) * largest > std::sqrt(kWhole)) continue;
    return {kind.wide || largest > kNarrow, true, true, shift};
  }
  return {true, false, true, 0};
}

void settle(double* values, Index n, double within, bool angles) {
  if (within == 0) return;
  if (angles)
    in_stretches(n, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i)
        if (std::abs(values[i]) <= within * within / 2) values[i] = 0;
    });
  std::vector<double> sorted;
  sorted.reserve(static_cast<std::size_t>(n));
  for (Index i = 0; i < n; ++i)
    if (!std::isnan(values[i])) sorted.push_back(values[i]);
  std::sort(sorted.begin(), sorted.end());
  checkpoint();
  // Groups in rising order: what each different number becomes.
  std::vector<double> distinct_values, becomes;
  bool merged = false;
  for (const double value : sorted) {
    if (!distinct_values.empty() && value == distinct_values.back()) continue;
    const bool joins = !becomes.empty() && near(becomes.back(), value, within, angles);
    merged |= joins;
    becomes.push_back(joins ? becomes.back() : value);
    distinct_values.push_back(value);
  }
  if (!merged) return;
  in_stretches(n, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      if (std::isnan(values[i])) continue;
      const auto place = std::lower_bound(distinct_values.begin(), distinct_values.end(), values[i]) - distinct_values.begin();
      values[i] = becomes[static_cast<std::size_t>(place)];
    }
  });
}

template NumberKind number_kind<float>(const Matrix<float>&);
template NumberKind number_kind<double>(const Matrix<double>&);
template NumberKind number_kind<Half>(const Matrix<Half>&);
template NumberKind number_kind<BFloat16>(const Matrix<BFloat16>&);

}  // namespace fastrdm
