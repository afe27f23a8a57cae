// Ranks, their similarities, and concordant pairs, against sorted copies and loops over all pairs.

#include <algorithm>
#include <stdexcept>

#include "calls.hpp"
#include "reference_ranks.hpp"

namespace {

using fastrdm::Isa;

Index padded(Index n) { return (n + fastrdm::kRowLength - 1) / fastrdm::kRowLength * fastrdm::kRowLength; }

template <typename T>
struct Ranked {
  Index stride;
  Array<float> values;
  Array<double> squares;
  Ranked(Input& in, const Strided<T>& x) : stride(padded(x.cols) + (in.flag() ? 32 : 0)), values(x.rows * stride), squares(x.rows) {
    fastrdm::centred_ranks(x.numbers.data(), x.rows, x.cols, x.stride, values.data(), stride, squares.data(), 1);
  }
};

template <typename T>
void rank_similarities(Input& in) {
  const Kind numbers = kind(in);
  const Index rows = in.size(60), cols = in.size(1300);
  const bool paired = in.flag();
  const Index others = paired ? rows : in.size(60), across = paired ? 1 : others;
  const Strided<T> x(in, rows, cols, numbers), y(in, others, cols, numbers);
  const Ranked<T> own(in, x), prepared(in, y);
  for (Index i = 0; i < rows; ++i) {
    const auto expected = twice_centred_ranks(x.numbers.data() + i * x.stride, cols);
    std::int64_t square = 0;
    for (Index k = 0; k < own.stride; ++k) {
      const std::int64_t twice = expected.empty() || k >= cols ? 0 : expected[static_cast<std::size_t>(k)];
      REQUIRE(own.values[i * own.stride + k] == static_cast<float>(twice), "rank %td of row %td", k, i);
      square += twice * twice;
    }
    REQUIRE(same(own.squares[i], expected.empty() ? NAN : static_cast<double>(square)), "square %g, not %lld", own.squares[i],
            static_cast<long long>(square));
  }
  const double squares = in.flag() ? 0 : 1000;
  const fastrdm::Rows<float> right{prepared.values.data(), others, prepared.stride, prepared.squares.data()};
  const int n_threads = in.threads();
  for (const Isa* isa : fastrdm::available_isas()) {
    Array<double> out(rows * across);
    call(in, [&] { fastrdm::rank_similarities(*isa, x.numbers.data(), rows, cols, x.stride, squares, right, paired, out.data(), n_threads); });
    for (Index i = 0; i < rows; ++i)
      for (Index j = 0; j < across; ++j) {
        const Index other = paired ? i : j;
        double product = 0;
        for (Index k = 0; k < cols; ++k)
          product += static_cast<double>(own.values[i * own.stride + k]) * static_cast<double>(prepared.values[other * prepared.stride + k]);
        const double square = squares > 0 && own.squares[i] == own.squares[i] ? squares : own.squares[i];
        double expected = product / std::sqrt(square * prepared.squares[other]);
        expected = expected > 1 ? 1 : expected < -1 ? -1 : expected;
        REQUIRE(same(out[i * across + j], expected), "%s: similarity %.17g, not %.17g", name(*isa), out[i * across + j], expected);
      }
  }
}

}  // namespace

void check_ranks(Input& in) {
  const Kind numbers = kind(in);
  const Index rows = in.size(12), cols = in.below(40) == 0 ? 0 : in.below(30) == 0 ? 8000 + in.below(1000) : in.size(3000);
  Array<double> x(rows * cols), out(rows * cols), again(rows * cols);
  x.fill(in, numbers);
  fastrdm::rank(x.data(), rows, cols, out.data(), 1);
  const int n_threads = in.threads();
  call(in, [&] { fastrdm::rank(x.data(), rows, cols, again.data(), n_threads); });
  for (Index i = 0; i < rows; ++i) {
    const double* row = x.data() + i * cols;
    // Rows with NaN are not ranked, and a part of their results is not written.
    if (std::any_of(row, row + cols, [](double value) { return value != value; })) continue;
    const auto expected = average_ranks(row, cols);
    for (Index k = 0; k < cols; ++k) {
      REQUIRE(out[i * cols + k] == expected[static_cast<std::size_t>(k)], "rank %g of %g, not %g", out[i * cols + k], row[k],
              expected[static_cast<std::size_t>(k)]);
      REQUIRE(again[i * cols + k] == out[i * cols + k], "%d threads change ranks", n_threads);
    }
  }
}

void check_rank_similarities(Input& in) {
  if (in.flag())
    rank_similarities<float>(in);
  else
    rank_similarities<double>(in);
}

void check_similarities(Input& in) {
  const Kind numbers = kind(in);
  const bool paired = in.flag();
  const Index rows = in.size(60), others = paired ? rows : in.size(60), across = paired ? 1 : others, stride = padded(in.size(1300));
  Array<double> a(rows * stride), b(others * stride), squares_a(rows), squares_b(others), first(rows * across), out(rows * across);
  a.fill(in, numbers);
  b.fill(in, numbers);
  for (Index i = 0; i < rows; ++i) squares_a[i] = 1 + std::abs(number(in, Kind::plain)) * 1e3;
  for (Index j = 0; j < others; ++j) squares_b[j] = 1 + std::abs(number(in, Kind::plain)) * 1e3;
  const fastrdm::Rows<double> left{a.data(), rows, stride, squares_a.data()}, right{b.data(), others, stride, squares_b.data()};
  const int n_threads = in.threads();
  for (const Isa* isa : fastrdm::available_isas()) {
    fastrdm::similarities(*isa, left, right, paired, first.data(), 1);
    call(in, [&] { fastrdm::similarities(*isa, left, right, paired, out.data(), n_threads); });
    REQUIRE(same(first, out), "%s: %d threads change similarities", name(*isa), n_threads);
    for (Index i = 0; i < rows; ++i)
      for (Index j = 0; j < across; ++j) {
        const Index other = paired ? i : j;
        long double product = 0, size = 0;
        for (Index k = 0; k < stride; ++k) {
          const long double one = static_cast<long double>(a[i * stride + k]) * b[other * stride + k];
          product += one;
          size += std::abs(one);
        }
        if (!(size < 1e300L)) continue;
        const long double root = std::sqrt(static_cast<long double>(squares_a[i]) * squares_b[other]);
        const long double expected = std::max(-1.0L, std::min(1.0L, product / root));
        REQUIRE(std::abs(expected - out[i * across + j]) <= 1e-13L * (1 + size / root), "%s: similarity %.17g, not %.17Lg", name(*isa),
                out[i * across + j], expected);
      }
  }
}

void check_concordance(Input& in) {
  const Index rows = in.size(20), others = in.size(20);
  // Positions have 16 bits below 65,536 columns, and counts two levels from 1024 and three from 16,384.
  const bool large = in.below(60) == 0;
  const Index cols = large ? 16'000 + 4 * in.below(14'000) : in.below(10) == 0 ? 0 : in.size(1300);
  const Index rows_a = large ? 2 : rows, rows_b = large ? 3 : others;
  Array<double> a(rows_a * cols), b(rows_b * cols);
  const auto fill = [&](Array<double>& to, Index n) {
    std::vector<double> row(static_cast<std::size_t>(cols));
    const Kind numbers = in.flag() ? Kind::whole : Kind::plain;
    for (Index i = 0; i < n; ++i) {
      for (double& value : row) value = number(in, numbers);
      const auto ranks = average_ranks(row.data(), cols);
      std::copy(ranks.begin(), ranks.end(), to.data() + i * cols);
    }
  };
  fill(a, rows_a);
  fill(b, rows_b);
  const bool wrong = cols > 0 && in.below(8) == 0;
  if (wrong) {
    static const double kWrong[] = {NAN, 0, -1, INFINITY, -INFINITY, 1e300, 0.5};
    Array<double>& spoiled = in.flag() ? a : b;
    spoiled[static_cast<Index>(in.random() % static_cast<std::uint64_t>(spoiled.size()))] =
        in.below(8) == 0 ? static_cast<double>(cols) + 1 : kWrong[in.below(7)];
  }
  const int n_threads = in.threads();
  for (const Isa* isa : fastrdm::available_isas()) {
    Array<std::int64_t> out(rows_a * rows_b), untied_a(rows_a), untied_b(rows_b);
    bool refused = false;
    try {
      call(in,
           [&] { fastrdm::concordance(*isa, a.data(), rows_a, b.data(), rows_b, cols, out.data(), untied_a.data(), untied_b.data(), n_threads); });
    } catch (const std::invalid_argument&) {
      refused = true;
    }
    REQUIRE(refused == wrong, "%s: numbers that are not ranks, or ranks refused", name(*isa));
    if (wrong) continue;
    for (Index i = 0; i < rows_a; ++i)
      for (Index j = 0; j < rows_b; ++j) {
        // The loop over all pairs of a long row takes seconds: one in eight, and of one pair of rows.
        if (large && (i > 0 || j > 0 || isa != fastrdm::available_isas().front() || cols % 32 > 0)) continue;
        std::int64_t expected = 0, in_a = 0, in_b = 0;
        for (Index k = 0; k < cols; ++k)
          for (Index l = k + 1; l < cols; ++l) {
            const double d = a[i * cols + k] - a[i * cols + l], e = b[j * cols + k] - b[j * cols + l];
            expected += d * e > 0 ? 1 : d * e < 0 ? -1 : 0;
            in_a += d != 0;
            in_b += e != 0;
          }
        REQUIRE(out[i * rows_b + j] == expected && untied_a[i] == in_a && untied_b[j] == in_b, "%s: %lld concordant, not %lld", name(*isa),
                static_cast<long long>(out[i * rows_b + j]), static_cast<long long>(expected));
      }
  }
}

void check_merge_near(Input& in) {
  const Kind numbers = kind(in);
  const Index rows = in.size(6), cols = in.size(3000);
  const double within = in.flag() ? 0x1p-40 : in.flag() ? 0 : std::abs(number(in, Kind::plain)) / 8;
  Array<double> start(rows * cols), out(rows * cols);
  start.fill(in, numbers);
  const int n_threads = in.threads();
  call(in, [&] {
    std::copy_n(start.data(), start.size(), out.data());
    fastrdm::merge_near(out.data(), rows, cols, within, n_threads);
  });
  for (Index i = 0; i < rows; ++i) {
    std::vector<double> sorted;
    for (Index k = 0; k < cols; ++k)
      if (start[i * cols + k] == start[i * cols + k]) sorted.push_back(start[i * cols + k]);
    std::sort(sorted.begin(), sorted.end());
    for (Index k = 0; k < cols; ++k) {
      const double value = start[i * cols + k], got = out[i * cols + k];
      double least = sorted.empty() ? NAN : sorted[0];
      for (const double next : sorted) {
        if (next > value) break;
        const double size = std::max(std::abs(least), std::abs(next));
        if (!(next == least || (next - least <= within * size && std::isfinite(size)))) least = next;
      }
      REQUIRE(same(got, value == value ? least : value), "%.17g becomes %.17g, not %.17g", value, got, least);
      if (in.random() % 4) k += 16;
    }
  }
}
