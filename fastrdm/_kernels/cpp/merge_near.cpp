// Numbers that are equal but for rounding, made equal (fastrdm/_kernels/ties.py).

#include <cmath>

#include "parallel.hpp"
#include "ranker.hpp"

namespace fastrdm {

void merge_near(double* data, Index rows, Index cols, double within, int n_threads) {
  parallel(rows, 1, n_threads, [&](Index begin, Index end, int) {
    LargeSort<Ranker> sort;
    for (Index row = begin; row < end; ++row) {
      double* x = data + row * cols;
      std::size_t first = 0;
      double least = 0;
      bool differ = false;
      // What is visited later is not changed: groups end before their successors are written.
      const auto end_group = [&](std::size_t last) {
        for (std::size_t k = first; differ && k < last; ++k) x[sort.at(k)] = least;
        first = last;
        differ = false;
      };
      const std::size_t size = sort.run(x, static_cast<std::size_t>(cols), [&](std::size_t k, double value) {
        const double scale = std::max(std::abs(least), std::abs(value));
        if (k > 0 && (value == least || (value - least <= within * scale && std::isfinite(scale)))) {
          differ |= value != least;
          return;
        }
        end_group(k);
        least = value;
      });
      end_group(size);
    }
  });
}

}  // namespace fastrdm
