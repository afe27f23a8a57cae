// Products of rows → dissimilarities.
//
// Compiled without contraction of products and sums: a row with itself, and i, j and j, i, must round in the same way.

#include <algorithm>
#include <cmath>

#include "pace.hpp"

namespace fastrdm {
namespace {

// Powers of two that bring the roots of norms near 1, and the scaled norms.
struct Scaled {
  std::vector<double> factor, norm;
  Scaled(const double* norms, Index n) : factor(static_cast<std::size_t>(n)), norm(static_cast<std::size_t>(n)) {
    for (std::size_t i = 0; i < factor.size(); ++i) {
      int exponent = 0;
      if (std::isfinite(norms[i])) std::frexp(norms[i], &exponent);
      const int half = exponent / 2;
      factor[i] = std::ldexp(1.0, -half);
      norm[i] = std::ldexp(norms[i], -2 * half);
    }
  }
};

// Marks near values by their sign, and counts them.
struct Marker {
  Index count = 0;
  double operator()(double value, bool near) {
    count += near;
    return near ? -value : value;
  }
};

}  // namespace

Index angles(const Tile& tile, const double* sums_a, const double* sums_b, double n, double near, double* out) {
  const Scaled a(tile.norms_a, tile.rows), b(tile.norms_b, tile.cols);
  const double *factors = b.factor.data(), *norms = b.norm.data();
  Marker mark;
  Pace pace;
  for (Index i = 0; i < tile.rows; ++i) {
    const double *row = tile.product + i * tile.stride, factor = a.factor[static_cast<std::size_t>(i)], norm = a.norm[static_cast<std::size_t>(i)];
    const Index begin = tile.condensed ? i + 1 : 0;
    double* to = out - begin;
    const auto finish = [&](Index j, double product) {
      const double scaled = product * factor * factors[j];
      // The fraction is rounded once, so equal fractions of products and norms give equal cosines.
      double cosine = std::sqrt(scaled * scaled / (norm * norms[j]));
      cosine = cosine > 1 ? 1 : cosine;
      const double value = scaled < 0 ? 1 + cosine : 1 - cosine;
      to[j] = mark(value, value < near);
    };
    if (sums_a)
      for (Index j = begin; j < tile.cols; ++j) finish(j, n * row[j] - sums_a[i] * sums_b[j]);
    else
      for (Index j = begin; j < tile.cols; ++j) finish(j, row[j]);
    out += tile.cols - begin;
    pace(tile.cols - begin);
  }
  return mark.count;
}

Index distances(const Tile& tile, double near, double* out) {
  Marker mark;
  Pace pace;
  for (Index i = 0; i < tile.rows; ++i, pace(tile.cols))
    for (Index j = tile.condensed ? i + 1 : 0; j < tile.cols; ++j) {
      const double sum = tile.norms_a[i] + tile.norms_b[j], square = sum - 2 * tile.product[i * tile.stride + j];
      *out++ = mark(square < 0 ? 0 : square, square < near * sum);
    }
  return mark.count;
}

}  // namespace fastrdm
