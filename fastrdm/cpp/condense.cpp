// Symmetric products → condensed dissimilarities.

#include <algorithm>
#include <cmath>

#include "kernels.hpp"

namespace fastrdm {

void condense_angles(const double* gram, Index n, double* out) {
  std::vector<double> scale(static_cast<std::size_t>(n));
  for (Index i = 0; i < n; ++i) scale[static_cast<std::size_t>(i)] = 1 / std::sqrt(gram[i * n + i]);
  for (Index i = 0; i < n; ++i) {
    const double own = scale[static_cast<std::size_t>(i)];
    for (Index j = i + 1; j < n; ++j) {
      const double cosine = gram[i * n + j] * own * scale[static_cast<std::size_t>(j)];
      // Written so that NaN passes.
      *out++ = 1 - (cosine > 1 ? 1 : cosine < -1 ? -1 : cosine);
    }
  }
}

void condense_distances(const double* gram, Index n, double* out) {
  for (Index i = 0; i < n; ++i)
    for (Index j = i + 1; j < n; ++j) {
      const double square = gram[i * n + i] + gram[j * n + j] - 2 * gram[i * n + j];
      *out++ = square < 0 ? 0 : square;
    }
}

}  // namespace fastrdm
