// Rows of activations as the library reads them. Internal to each file, as pace.hpp.
#pragma once

#include <cmath>
#include <string>

#include "../half.hpp"
#include "../pace.hpp"
#include "library.hpp"

namespace fastrdm {
namespace {

using Doubles = std::vector<double>;

inline std::size_t size_of(Index n) { return static_cast<std::size_t>(n); }

template <typename S>
void check_finite(const Matrix<S>& x, const char* name) {
  for (Index i = 0; i < x.rows; ++i) {
    const S* row = x.data + i * x.stride;
    in_stretches(x.cols, [&](Index begin, Index end) {
      for (Index k = begin; k < end; ++k)
        if (!std::isfinite(widened(row[k])))
          throw std::invalid_argument(std::string(name) + " has NaN or infinity in condition " + std::to_string(i) + ", channel " +
                                      std::to_string(k));
    });
  }
}

// Rows in double, each times a power of two and minus a shift.
struct Wide {
  Doubles values;
  Index rows = 0, cols = 0;
  Matrix<double> matrix() const { return {values.data(), rows, cols, cols, nullptr}; }
};

template <typename S>
Wide widen(const Matrix<S>& x) {
  Wide wide;
  wide.rows = x.rows;
  wide.cols = x.cols;
  wide.values.resize(size_of(x.rows * x.cols));
  for (Index i = 0; i < x.rows; ++i) {
    double* to = wide.values.data() + i * x.cols;
    const double shift = x.shift ? x.shift[i] : 0;
    in_stretches(x.cols, [&](Index begin, Index end) {
      for (Index k = begin; k < end; ++k) to[k] = static_cast<double>(widened(x.data[i * x.stride + k])) - shift;
    });
  }
  return wide;
}

}  // namespace
}  // namespace fastrdm
