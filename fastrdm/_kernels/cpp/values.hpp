// Rows of dissimilarities from products. Internal to each file: otherwise the linker would keep one copy, compiled for one instruction set, for all.
#pragma once

#include <cmath>

#include "isa.hpp"

namespace fastrdm {
namespace {

// One row of products, and what makes values of them.
struct ProductRow {
  const double* product;
  const double* sums;  // or null
  double own_sum;
  const double* scale;
  double own_scale, factor, near;
};

// to[j] for begin <= j < end; returns how many are near 0. Nothing here branches, so that it is vectorised: selections are between numbers that
// exist.
template <Form kForm, bool kSums>
inline Index values_of_row(const ProductRow& row, Index begin, Index end, double* to) {
  const double *product = row.product, *sums = row.sums, *scale = row.scale;
  const double own_sum = row.own_sum, own = row.own_scale, factor = row.factor, near = row.near;
  Index few = 0;
  for (Index j = begin; j < end; ++j) {
    double value, limit = near;
    if (kForm == Form::distance) {
      const double lengths = own + scale[j];
      value = lengths - 2 * product[j];
      limit = near * lengths;
    } else {
      const double x = kSums ? factor * product[j] - own_sum * sums[j] : product[j];
      double cosine;
      if (kForm == Form::inverse) {
        cosine = x * (own * scale[j]);
      } else {
        // The fraction is rounded once, so that equal fractions of integers give equal cosines.
        const double size = std::sqrt(x * x / (own * scale[j]));
        cosine = x < 0 ? -size : size;
      }
      value = 1 - cosine;
      value = value > 2 ? 2 : value;
    }
    value = value < 0 ? 0 : value;
    to[j] = value;
    few += value < limit ? 1 : 0;
  }
  return few;
}

inline Index values_of_row(Form form, const ProductRow& row, Index begin, Index end, double* to) {
  if (form == Form::distance) return values_of_row<Form::distance, false>(row, begin, end, to);
  if (form == Form::fraction)
    return row.sums ? values_of_row<Form::fraction, true>(row, begin, end, to) : values_of_row<Form::fraction, false>(row, begin, end, to);
  return row.sums ? values_of_row<Form::inverse, true>(row, begin, end, to) : values_of_row<Form::inverse, false>(row, begin, end, to);
}

}  // namespace
}  // namespace fastrdm
