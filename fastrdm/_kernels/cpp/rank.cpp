// Ranks of every row of a matrix, and the similarities of ranked rows.

#include <cmath>

#include "isa.hpp"
#include "pace.hpp"
#include "parallel.hpp"
#include "ranker.hpp"

namespace fastrdm {
namespace {

constexpr Index kWorth = fuzzed<Index>(1 << 12, 8);        // entries to rank that justify a thread
constexpr double kWorthDots = fuzzed<double>(1 << 20, 8);  // products that justify a thread

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

int threads_for(double work, double worth, int n_threads) { return static_cast<int>(std::min<double>(n_threads, 1 + work / worth)); }

// Writes twice the centred ranks, which are integers, and returns their sum of squares; zeros and NaN for a row that is not finite.
template <typename T>
double twice_centred(Ranker& ranker, const T* x, Index cols, float* out) {
  const auto n = static_cast<std::size_t>(cols);
  const auto range = ranker.range(x);
  if (!range.finite) {
    std::fill_n(out, n, 0.0f);
    return kNaN;
  }
  return ranker.rank(x, range, [=](std::size_t i, std::size_t begin, std::size_t end) {
    out[i] = static_cast<float>(static_cast<std::int64_t>(begin + end) - static_cast<std::int64_t>(n));
  });
}

// Products -> similarities, clipped to [-1, 1] against rounding.
void scale(double* out, const double* squares_a, Index rows_a, const double* squares_b, Index rows_b, Index ld_out) {
  for (Index i = 0; i < rows_a; ++i)
    for (Index j = 0; j < rows_b; ++j) {
      double& x = out[i * ld_out + j];
      x /= std::sqrt(squares_a[i] * squares_b[j]);
      x = x > 1 ? 1 : x < -1 ? -1 : x;
    }
}

}  // namespace

void rank(const double* data, Index rows, Index cols, double* ranks, int n_threads) {
  if (cols == 0) return;
  parallel(rows, 1, threads_for(static_cast<double>(rows * cols), kWorth, n_threads), [&](Index begin, Index end, int) {
    Ranker ranker(cols);
    Pace pace;
    for (Index row = begin; row < end; ++row) {
      pace(cols);
      double* out = ranks + row * cols;
      const double* x = data + row * cols;
      ranker.rank(x, ranker.range(x),
                  [=](std::size_t i, std::size_t first, std::size_t last) { out[i] = 0.5 * static_cast<double>(first + 1 + last); });
    }
  });
}

template <typename T>
void centred_ranks(const T* data, Index rows, Index cols, Index stride, float* out, Index out_stride, double* squares, int n_threads) {
  parallel(rows, 1, threads_for(static_cast<double>(rows * cols), kWorth, n_threads), [&](Index begin, Index end, int) {
    Ranker ranker(cols);
    Pace pace;
    for (Index row = begin; row < end; ++row) {
      pace(cols);
      squares[row] = twice_centred(ranker, data + row * stride, cols, out + row * out_stride);
      std::fill(out + row * out_stride + cols, out + (row + 1) * out_stride, 0.0f);
    }
  });
}

template <typename T>
void rank_similarities(const Isa& isa, const T* a, Index rows_a, Index cols, Index stride_a, double squares, const Rows<float>& b, bool paired,
                       double* out, int n_threads) {
  const auto dots = std::get<Dots<float>*>(isa.dots);
  const Index across = paired ? 1 : b.rows;
  const auto ranked = [&](Ranker& ranker, Index row, float* to) {
    const double square = twice_centred(ranker, a + row * stride_a, cols, to);
    return squares > 0 && square == square ? squares : square;
  };
  const double work = static_cast<double>(across) * static_cast<double>(b.stride);
  if (rows_a < n_threads && !paired && work > kWorthDots) {
    // Few rows with many others: threads split the others.
    std::vector<float> ranks(static_cast<std::size_t>(rows_a * b.stride));
    std::vector<double> row_squares(static_cast<std::size_t>(rows_a));
    parallel(rows_a, 1, n_threads, [&](Index begin, Index end, int) {
      Ranker ranker(cols);
      Pace pace;
      for (Index row = begin; row < end; ++row, pace(cols))
        row_squares[static_cast<std::size_t>(row)] = ranked(ranker, row, ranks.data() + row * b.stride);
    });
    parallel(b.rows, kRowPad, threads_for(work * static_cast<double>(rows_a), kWorthDots, n_threads), [&](Index begin, Index end, int) {
      dots(ranks.data(), rows_a, b.stride, b.data + begin * b.stride, end - begin, b.stride, b.stride, out + begin, b.rows);
      scale(out + begin, row_squares.data(), rows_a, b.squares + begin, end - begin, b.rows);
    });
    return;
  }
  // Ranks of a few rows at a time stay in L2 and are not written to memory.
  n_threads = threads_for(static_cast<double>(rows_a) * (static_cast<double>(cols) + work / 32), kWorth, n_threads);
  parallel(rows_a, 1, n_threads, [&](Index begin, Index end, int) {
    Ranker ranker(cols);
    Pace pace;
    const Index at_once = paired ? 1 : std::min(kRowPad, end - begin);
    std::vector<float> ranks(static_cast<std::size_t>(at_once * b.stride));
    std::array<double, kRowPad> row_squares;
    for (Index row = begin; row < end; row += at_once) {
      const Index here = std::min(at_once, end - row);
      pace(here * (cols + across));
      for (Index i = 0; i < here; ++i) row_squares[static_cast<std::size_t>(i)] = ranked(ranker, row + i, ranks.data() + i * b.stride);
      const Index other = paired ? row : 0;
      dots(ranks.data(), here, b.stride, b.data + other * b.stride, across, b.stride, b.stride, out + row * across, across);
      scale(out + row * across, row_squares.data(), here, b.squares + other, across, across);
    }
  });
}

void similarities(const Isa& isa, const Rows<double>& a, const Rows<double>& b, bool paired, double* out, int n_threads) {
  const auto dots = std::get<Dots<double>*>(isa.dots);
  const Index across = paired ? 1 : b.rows;
  n_threads = threads_for(static_cast<double>(a.rows * across) * static_cast<double>(a.stride), kWorthDots, n_threads);
  if (a.rows < n_threads && !paired) {
    parallel(b.rows, kRowPad, n_threads, [&](Index begin, Index end, int) {
      dots(a.data, a.rows, a.stride, b.data + begin * b.stride, end - begin, b.stride, b.stride, out + begin, b.rows);
      scale(out + begin, a.squares, a.rows, b.squares + begin, end - begin, b.rows);
    });
    return;
  }
  parallel(a.rows, 1, n_threads, [&](Index begin, Index end, int) {
    const Index at_once = paired ? 1 : kRowPad;
    Pace pace;
    for (Index row = begin; row < end; row += at_once) {
      pace(at_once * (a.stride + across));
      const Index here = std::min(at_once, end - row), other = paired ? row : 0;
      dots(a.data + row * a.stride, here, a.stride, b.data + other * b.stride, across, b.stride, b.stride, out + row * across, across);
      scale(out + row * across, a.squares + row, here, b.squares + other, across, across);
    }
  });
}

#define FASTRDM_INSTANTIATE(T)                                                                \
  template void centred_ranks<T>(const T*, Index, Index, Index, float*, Index, double*, int); \
  template void rank_similarities<T>(const Isa&, const T*, Index, Index, Index, double, const Rows<float>&, bool, double*, int);
FASTRDM_INSTANTIATE(float)
FASTRDM_INSTANTIATE(double)

}  // namespace fastrdm
