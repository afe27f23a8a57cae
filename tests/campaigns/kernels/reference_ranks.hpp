// Ranks as they are defined.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "input.hpp"

// Twice the average ranks, from 2, of numbers without NaN.
template <typename T>
std::vector<std::int64_t> twice_ranks(const T* x, Index n) {
  std::vector<std::size_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [x](std::size_t i, std::size_t j) { return x[i] < x[j]; });
  std::vector<std::int64_t> ranks(order.size());
  for (std::size_t begin = 0, end; begin < order.size(); begin = end) {
    for (end = begin + 1; end < order.size() && x[order[end]] == x[order[begin]];) ++end;
    for (std::size_t k = begin; k < end; ++k) ranks[order[k]] = static_cast<std::int64_t>(begin + 1 + end);
  }
  return ranks;
}

template <typename T>
std::vector<double> average_ranks(const T* x, Index n) {
  std::vector<double> ranks;
  for (const std::int64_t twice : twice_ranks(x, n)) ranks.push_back(0.5 * static_cast<double>(twice));
  return ranks;
}

// None for a row that is not finite.
template <typename T>
std::vector<std::int64_t> twice_centred_ranks(const T* x, Index n) {
  if (!std::all_of(x, x + n, [](T value) { return std::isfinite(value); })) return {};
  auto ranks = twice_ranks(x, n);
  for (auto& rank : ranks) rank -= n + 1;
  return ranks;
}
