// Similarities of resampled and permuted RDMs, and their ceilings, against weighted ranks counted pair by pair.

#include <algorithm>
#include <numeric>

#include "calls.hpp"

namespace {

using fastrdm::Isa;
using Whole = std::vector<std::int64_t>;

double scaled(double product, double square1, double square2) {
  if (!(square1 > 0 && square2 > 0)) return NAN;
  const double x = product / std::sqrt(square1 * square2);
  return x > 1 ? 1 : x < -1 ? -1 : x;
}

// The pairs of a draw with a weight.
struct Draw {
  Whole pairs, weights;
  std::int64_t total = 0;

  Draw(const std::int32_t* counts, Index conditions) {
    Index pair = 0;
    for (Index i = 0; i < conditions; ++i)
      for (Index j = i + 1; j < conditions; ++j, ++pair) {
        const std::int64_t weight = counts ? std::int64_t{counts[i]} * counts[j] : 1;
        if (weight == 0) continue;
        pairs.push_back(pair);
        weights.push_back(weight);
        total += weight;
      }
  }

  std::size_t size() const { return pairs.size(); }

  template <typename Values>
  auto take(const Values& row) const {
    std::vector<double> taken;
    for (const std::int64_t pair : pairs) taken.push_back(static_cast<double>(row[static_cast<std::size_t>(pair)]));
    return taken;
  }

  // Twice the centred ranks of the drawn pairs, each repeated by its weight.
  template <typename Values>
  Whole ranks(const Values& x) const {
    Whole made;
    for (std::size_t k = 0; k < size(); ++k) {
      std::int64_t rank = -total;
      for (std::size_t l = 0; l < size(); ++l) rank += x[l] < x[k] ? 2 * weights[l] : x[l] == x[k] ? weights[l] : 0;
      made.push_back(rank);
    }
    return made;
  }

  double dot(const Whole& a, const Whole& b) const {
    std::int64_t sum = 0;
    for (std::size_t k = 0; k < size(); ++k) sum += weights[k] * a[k] * b[k];
    return static_cast<double>(sum);
  }

  double square(const Whole& ranks, bool untied) const {
    const auto n = static_cast<double>(total);
    return untied ? (n * n * n - n) / 3 : dot(ranks, ranks);
  }
};

Array<std::int32_t> counts(Input& in, Index draws, Index columns) {
  Array<std::int32_t> made(draws * columns);
  const std::uint64_t most = 1 + in.below(4);
  for (Index i = 0; i < made.size(); ++i) made[i] = static_cast<std::int32_t>(in.random() % (most + 1));
  return made;
}

// Numbers whose sums and differences are exact, with ties.
void fill_exactly(Input& in, Array<double>& to) {
  const bool tied = in.flag();
  const double unit = in.flag() ? 1 : 0.25;
  for (Index i = 0; i < to.size(); ++i) to[i] = unit * static_cast<double>(in.random() % (tied ? 7 : 4001));
}

}  // namespace

void check_resampled_similarities(Input& in) {
  const Index conditions = 2 + in.below(in.below(10) == 0 ? 40 : 14), cols = conditions * (conditions - 1) / 2, draws = in.below(9);
  const bool paired = in.flag(), untied = in.flag(), exact = in.below(4) > 0;
  const Index rows_a = in.size(15), rows_b = paired ? rows_a : in.size(15), across = paired ? 1 : rows_b;
  Array<double> a(rows_a * cols), b(rows_b * cols);
  if (exact) {
    fill_exactly(in, a);
    fill_exactly(in, b);
  } else {
    const Kind numbers = kind(in);
    a.fill(in, numbers);
    b.fill(in, numbers);
  }
  const auto drawn = counts(in, draws, conditions);
  const int n_threads = in.threads();
  for (const Isa* isa : fastrdm::available_isas()) {
    Array<double> out(draws * rows_a * across);
    call(in, [&] {
      fastrdm::resampled_similarities(*isa, a.data(), rows_a, b.data(), rows_b, conditions, drawn.data(), draws, paired, untied, out.data(),
                                      n_threads);
    });
    if (!exact) continue;
    for (Index d = 0; d < draws; ++d) {
      const Draw draw(drawn.data() + d * conditions, conditions);
      std::vector<Whole> ranks_b;
      for (Index j = 0; j < rows_b; ++j) ranks_b.push_back(draw.ranks(draw.take(b.data() + j * cols)));
      for (Index i = 0; i < rows_a; ++i) {
        const Whole ranks = draw.ranks(draw.take(a.data() + i * cols));
        for (Index j = 0; j < across; ++j) {
          const Whole& other = ranks_b[static_cast<std::size_t>(paired ? i : j)];
          const double expected = draw.size() ? scaled(draw.dot(ranks, other), draw.square(ranks, untied), draw.square(other, untied)) : NAN;
          const double got = out[(d * rows_a + i) * across + j];
          REQUIRE(same(got, expected), "%s: draw %td: %.17g, not %.17g", name(*isa), d, got, expected);
        }
      }
    }
  }
}

void check_resampled_ceilings(Input& in) {
  const Index conditions = 2 + in.below(in.below(10) == 0 ? 40 : 12), cols = conditions * (conditions - 1) / 2, draws = in.below(7),
              rows = in.size(12);
  const bool ranked = in.flag(), untied = in.flag(), exact = in.below(4) > 0, of_conditions = in.flag(), of_subjects = !of_conditions || in.flag();
  Array<double> subjects(rows * cols);
  if (exact)
    fill_exactly(in, subjects);
  else
    subjects.fill(in, kind(in));
  const auto drawn = counts(in, draws, conditions), times = counts(in, draws, rows);
  const double within = exact ? 0x1p-40 : number(in, Kind::plain);
  const int n_threads = in.threads();
  for (const Isa* isa : fastrdm::available_isas()) {
    Array<double> out(draws * 2 * rows);
    call(in, [&] {
      fastrdm::resampled_ceilings(*isa, subjects.data(), rows, conditions, of_conditions ? drawn.data() : nullptr,
                                  of_subjects ? times.data() : nullptr, draws, ranked, untied, within, out.data(), n_threads);
    });
    if (!exact) continue;
    for (Index d = 0; d < draws; ++d) {
      const Draw draw(of_conditions ? drawn.data() + d * conditions : nullptr, conditions);
      const auto count = [&](Index s) -> std::int64_t { return of_subjects ? times[d * rows + s] : 1; };
      std::vector<Whole> ranks;
      std::vector<std::vector<double>> values;
      Index present = 0;
      for (Index s = 0; s < rows; ++s) {
        values.push_back(draw.take(subjects.data() + s * cols));
        ranks.push_back(draw.ranks(values.back()));
        present += count(s) > 0;
      }
      // Similarity of subject s to the pool without `but`.
      const auto bound = [&](Index s, Index but) {
        std::vector<double> pool(draw.size());
        for (Index t = 0; t < rows; ++t)
          for (std::size_t k = 0; k < pool.size() && t != but; ++k)
            pool[k] += static_cast<double>(count(t)) *
                       (ranked ? static_cast<double>(ranks[static_cast<std::size_t>(t)][k]) : values[static_cast<std::size_t>(t)][k]);
        const Whole pooled = draw.ranks(pool), &own = ranks[static_cast<std::size_t>(s)];
        return scaled(draw.dot(pooled, own), draw.square(pooled, untied), draw.square(own, untied));
      };
      for (Index s = 0; s < rows; ++s) {
        const bool counted = draw.size() > 0 && count(s) > 0;
        const double upper = counted ? bound(s, -1) : NAN, lower = counted ? bound(s, present == 1 ? -1 : s) : NAN;
        const double got_lower = out[(d * 2) * rows + s], got_upper = out[(d * 2 + 1) * rows + s];
        REQUIRE(same(got_upper, upper), "%s: draw %td, subject %td: upper %.17g, not %.17g", name(*isa), d, s, got_upper, upper);
        REQUIRE(same(got_lower, lower), "%s: draw %td, subject %td: lower %.17g, not %.17g", name(*isa), d, s, got_lower, lower);
      }
    }
  }
}

namespace {

template <typename T>
void permuted(Input& in) {
  const Kind numbers = kind(in);
  const Index conditions = 2 + in.below(20), cols = conditions * (conditions - 1) / 2, stride = (cols + 31) / 32 * 32 + (in.flag() ? 32 : 0);
  const Index rows_a = in.size(6), rows_b = in.size(20), n = in.size(40);
  Array<T> a(rows_a * conditions * conditions), b(rows_b * stride);
  Array<double> squares_a(rows_a), squares_b(rows_b);
  a.fill(in, numbers);
  b.fill(in, numbers);
  for (Index j = 0; j < rows_b; ++j) std::fill_n(b.data() + j * stride + cols, stride - cols, T(0));
  for (Index i = 0; i < rows_a; ++i) squares_a[i] = in.below(9) == 0 ? NAN : 1 + std::abs(number(in, Kind::plain));
  for (Index j = 0; j < rows_b; ++j) squares_b[j] = in.below(9) == 0 ? 0 : 1 + std::abs(number(in, Kind::plain));
  Array<std::int32_t> permutations(n * conditions);
  for (Index p = 0; p < n; ++p) {
    std::int32_t* own = permutations.data() + p * conditions;
    std::iota(own, own + conditions, 0);
    for (Index k = conditions - 1; k > 0; --k) std::swap(own[k], own[in.random() % static_cast<std::uint64_t>(k + 1)]);
  }
  const fastrdm::Rows<T> right{b.data(), rows_b, stride, squares_b.data()};
  const int n_threads = in.threads();
  for (const Isa* isa : fastrdm::available_isas()) {
    Array<double> first(n * rows_a * rows_b), out(n * rows_a * rows_b);
    fastrdm::permuted_similarities(*isa, a.data(), squares_a.data(), rows_a, conditions, permutations.data(), n, right, first.data(), 1);
    call(in, [&] {
      fastrdm::permuted_similarities(*isa, a.data(), squares_a.data(), rows_a, conditions, permutations.data(), n, right, out.data(), n_threads);
    });
    REQUIRE(same(first, out), "%s: %d threads change permuted similarities", name(*isa), n_threads);
    for (Index p = 0; p < n; ++p)
      for (Index i = 0; i < rows_a; ++i)
        for (Index j = 0; j < rows_b; ++j) {
          const std::int32_t* order = permutations.data() + p * conditions;
          long double product = 0, size = 0;
          const T* to = b.data() + j * stride;
          for (Index r = 0; r < conditions; ++r)
            for (Index c = r + 1; c < conditions; ++c, ++to) {
              const long double one = static_cast<long double>(a[(i * conditions + order[r]) * conditions + order[c]]) * *to;
              product += one;
              size += std::abs(one);
            }
          const double got = out[(p * rows_a + i) * rows_b + j];
          if (!(squares_a[i] > 0 && squares_b[j] > 0)) {
            REQUIRE(got != got, "%s: similarity %g of a row without one", name(*isa), got);
          } else if (size < 1e300L) {
            const long double root = std::sqrt(static_cast<long double>(squares_a[i]) * squares_b[j]);
            const long double expected = std::max(-1.0L, std::min(1.0L, product / root));
            REQUIRE(std::abs(expected - got) <= 1e-13L * (1 + size / root), "%s: permutation %td: %.17g, not %.17Lg", name(*isa), p, got, expected);
          }
        }
  }
}

}  // namespace

void check_permuted_similarities(Input& in) {
  if (in.flag())
    permuted<float>(in);
  else
    permuted<double>(in);
}
