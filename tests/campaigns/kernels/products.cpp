// Products and differences of rows, statistics, and dissimilarities from products, against loops in long double.

#include <algorithm>
#include <set>

#include "calls.hpp"

namespace {

using fastrdm::Isa;
using fastrdm::Matrix;
using Long = long double;

// Rounding errors of sums in a type over a block of columns, in units of its epsilon.
constexpr Long kRoundings = 400;

template <typename S>
using Number = typename fastrdm::ProductOf<S>::Type;

template <typename S>
Number<S> read(const Strided<S>& x, Index i, Index k) {
  return fastrdm::widened(x.numbers[i * x.stride + k]) - static_cast<Number<S>>(x.shift[i]);
}

// Whether a sum with this sum of magnitudes has its error bound: neither does it overflow, nor are numbers missing.
template <typename T>
bool bounded(Long size) {
  return size < static_cast<Long>(std::numeric_limits<T>::max()) / 8;
}

template <typename T>
Long tolerance(Long size, Index n) {
  return kRoundings * static_cast<Long>(std::numeric_limits<T>::epsilon()) * size +
         static_cast<Long>(n) * static_cast<Long>(std::numeric_limits<T>::min());
}

template <typename S>
void check_product(const Isa& isa, const Strided<S>& a, Index i, const Strided<S>& b, Index j, double got) {
  using T = Number<S>;
  Long sum = 0, size = 0;
  bool finite = true;
  for (Index k = 0; k < a.cols; ++k) {
    const T x = read(a, i, k), y = read(b, j, k);
    finite = finite && std::isfinite(x) && std::isfinite(y);
    sum += static_cast<Long>(x) * y;
    size += std::abs(static_cast<Long>(x) * y);
  }
  if (!finite)
    REQUIRE(!std::isfinite(got), "%s: %g of rows %td, %td that are not finite", name(isa), got, i, j);
  else if (bounded<T>(size))
    REQUIRE(std::abs(sum - got) <= tolerance<T>(size, a.cols), "%s: rows %td, %td: %.17g, not %.17Lg", name(isa), i, j, got, sum);
}

template <typename S>
void check_sum(const Isa& isa, const Strided<S>& a, Index i, double got) {
  using T = Number<S>;
  Long sum = 0, size = 0;
  for (Index k = 0; k < a.cols; ++k) {
    sum += read(a, i, k);
    size += std::abs(static_cast<Long>(read(a, i, k)));
  }
  if (!(size < std::numeric_limits<Long>::infinity()))
    REQUIRE(!std::isfinite(got), "%s: sum %g of row %td that is not finite", name(isa), got, i);
  else if (bounded<T>(size))
    REQUIRE(std::abs(sum - got) <= tolerance<T>(size, a.cols), "%s: sum of row %td: %.17g, not %.17Lg", name(isa), i, got, sum);
}

template <typename S>
void products(Input& in) {
  const Kind numbers = kind(in);
  const Index most = 1 << 20;
  const Index cols = in.below(40) == 0 ? 0 : in.size(4000),
              rows = in.size(std::max<Index>(2, std::min<Index>(130, most / std::max<Index>(1, cols) / 8)));
  const Index others = in.size(std::max<Index>(2, std::min<Index>(70, rows)));
  const Strided<S> a(in, rows, cols, numbers), b(in, others, cols, numbers);
  const int n_threads = in.threads();
  for (const Isa* isa : fastrdm::available_isas()) {
    const Index proper = fastrdm::share_width(*isa, cols, sizeof(Number<S>));
    const Index width = in.below(4) == 0 ? 1 + in.below(2000) : in.flag() ? proper : isa->block_bytes / static_cast<Index>(sizeof(Number<S>));
    Array<double> gram(rows * rows), sums(rows), again(rows * rows), more(rows), cross(rows * others), turned(others * rows);
    const auto x = a.matrix(), y = b.matrix();
    fastrdm::products<S>(*isa, x, nullptr, width, false, gram.data(), rows, sums.data(), 1);
    for (Index i = 0; i < rows; ++i) {
      check_sum(*isa, a, i, sums[i]);
      for (Index j = 0; j < rows; ++j) REQUIRE(same(gram[i * rows + j], gram[j * rows + i]), "%s: not symmetric at %td, %td", name(*isa), i, j);
      const Index j = i + static_cast<Index>(in.random() % static_cast<std::uint64_t>(rows - i));
      check_product(*isa, a, i, a, j, gram[i * rows + j]);
    }
    call(in, [&] { fastrdm::products<S>(*isa, x, nullptr, width, false, again.data(), rows, more.data(), n_threads); });
    REQUIRE(same(gram, again) && same(sums, more), "%s: %d threads change products of %td x %td", name(*isa), n_threads, rows, cols);
    call(in, [&] { fastrdm::products<S>(*isa, x, &x, width, false, again.data(), rows, nullptr, n_threads); });
    REQUIRE(same(gram, again), "%s: products with itself differ for %td x %td", name(*isa), rows, cols);
    call(in, [&] { fastrdm::products<S>(*isa, x, &y, width, false, cross.data(), others, nullptr, n_threads); });
    call(in, [&] { fastrdm::products<S>(*isa, y, &x, width, false, turned.data(), rows, nullptr, 1); });
    for (Index i = 0; i < rows; ++i)
      for (Index j = 0; j < others; ++j) {
        REQUIRE(same(cross[i * others + j], turned[j * rows + i]), "%s: the order of the matrices changes %td, %td", name(*isa), i, j);
        if (in.random() % 8 == 0) check_product(*isa, a, i, b, j, cross[i * others + j]);
      }
    // Share by share.
    for (Index k = 0; k == 0 || k < cols; k += width) {
      const Matrix<S> part{x.data + k, rows, std::min(width, cols - k), x.stride, x.shift};
      fastrdm::products<S>(*isa, part, nullptr, width, k > 0, again.data(), rows, more.data(), n_threads);
    }
    REQUIRE(same(gram, again) && same(sums, more), "%s: parts of %td columns change products of %td x %td", name(*isa), width, rows, cols);
  }
}

template <typename S>
void differences(Input& in) {
  using T = Number<S>;
  const Kind numbers = kind(in);
  const Index cols = in.below(40) == 0 ? 0 : in.size(4000), rows = in.size(20), others = in.size(20), n_pairs = in.size(60);
  const Strided<S> a(in, rows, cols, numbers), b(in, others, cols, numbers);
  Array<double> factor_a(rows), factor_b(others), start(n_pairs), first(n_pairs), found(n_pairs);
  for (Index i = 0; i < rows; ++i) factor_a[i] = static_cast<float>(number(in, Kind::plain));
  for (Index i = 0; i < others; ++i) factor_b[i] = static_cast<float>(number(in, Kind::plain));
  const bool scaled = in.flag();
  const double *left = scaled ? factor_a.data() : nullptr, *right = scaled ? factor_b.data() : nullptr;
  start.fill(in, Kind::plain);
  Array<fastrdm::Pair> pairs(n_pairs);
  for (Index p = 0; p < n_pairs; ++p)
    pairs[p] = {static_cast<std::int32_t>(in.random() % static_cast<std::uint64_t>(rows)),
                static_cast<std::int32_t>(in.random() % static_cast<std::uint64_t>(others))};
  const int n_threads = in.threads();
  for (const Isa* isa : fastrdm::available_isas()) {
    const auto run = [&](Array<double>& out, int threads) {
      std::copy_n(start.data(), n_pairs, out.data());
      fastrdm::differences<S>(*isa, a.matrix(), left, b.matrix(), right, pairs.data(), n_pairs, out.data(), threads);
    };
    run(first, 1);
    call(in, [&] { run(found, n_threads); });
    REQUIRE(same(first, found), "%s: %d threads change differences", name(*isa), n_threads);
    for (Index p = 0; p < n_pairs; ++p) {
      const Index i = pairs[p].first, j = pairs[p].second;
      Long sum = start[p], size = std::abs(static_cast<Long>(start[p]));
      bool finite = true;
      for (Index k = 0; k < cols; ++k) {
        const T x = read(a, i, k) * (scaled ? static_cast<T>(factor_a[i]) : T(1)), y = read(b, j, k) * (scaled ? static_cast<T>(factor_b[j]) : T(1));
        const T w = x - y;
        finite = finite && std::isfinite(w);
        sum += static_cast<Long>(w) * w;
      }
      size += sum;
      if (!finite)
        REQUIRE(!std::isfinite(found[p]), "%s: difference %g of rows that are not finite", name(*isa), found[p]);
      else if (bounded<T>(size))
        REQUIRE(std::abs(sum - found[p]) <= tolerance<T>(size, cols), "%s: difference %.17g, not %.17Lg", name(*isa), found[p], sum);
    }
  }
}

template <typename S>
void statistics(Input& in) {
  using T = Number<S>;
  const Kind numbers = kind(in);
  const Index rows = in.size(30), cols = in.size(3000);
  const Strided<S> x(in, rows, cols, numbers);
  Array<double> means(rows);
  call(in, [&] { fastrdm::guess_means<S>(x.matrix(), means.data()); });
  const Index limit = in.size(300);
  Array<T> out(limit);
  Index found = 0;
  call(in, [&] { found = fastrdm::distinct<S>(x.matrix(), limit, out.data()); });
  const auto bits = [](T value) {
    std::uint64_t made = 0;
    std::memcpy(&made, &value, sizeof value);
    return made;
  };
  std::set<std::uint64_t> expected, got;
  for (Index i = 0; i < rows; ++i) {
    Long low = std::numeric_limits<Long>::infinity(), high = -low;
    bool finite = true;
    for (Index k = 0; k < cols; ++k) {
      const T value = fastrdm::widened(x.numbers[i * x.stride + k]);
      expected.insert(bits(value));
      finite = finite && std::isfinite(value);
      low = std::min<Long>(low, value);
      high = std::max<Long>(high, value);
    }
    const Long slack = 1e-12L * (std::abs(low) + std::abs(high));
    if (finite && bounded<double>(128 * (std::abs(low) + std::abs(high))))
      REQUIRE(low - slack <= means[i] && means[i] <= high + slack, "mean %g of numbers from %Lg to %Lg", means[i], low, high);
  }
  REQUIRE(found == std::min<Index>(limit, static_cast<Index>(expected.size())), "%td different numbers, not %zu", found, expected.size());
  for (Index i = 0; i < found; ++i) got.insert(bits(out[i]));
  REQUIRE(static_cast<Index>(got.size()) == found && std::includes(expected.begin(), expected.end(), got.begin(), got.end()), "wrong numbers");
}

}  // namespace

void check_products(Input& in) {
  static void (*const kOf[])(Input&) = {products<float>, products<double>, products<Half>, products<BFloat16>};
  kOf[in.below(4)](in);
}

void check_differences(Input& in) {
  static void (*const kOf[])(Input&) = {differences<float>, differences<double>, differences<Half>, differences<BFloat16>};
  kOf[in.below(4)](in);
}

void check_statistics(Input& in) {
  static void (*const kOf[])(Input&) = {statistics<float>, statistics<double>, statistics<Half>, statistics<BFloat16>};
  kOf[in.below(4)](in);
}

void check_condensing(Input& in) {
  const Kind numbers = kind(in);
  const Index rows = in.size(130), cols = in.flag() ? rows : in.size(130), channels = 1 + in.below(20);
  const bool square = rows == cols;
  Array<double> x(rows * channels), y(cols * channels), product(rows * cols), norms_a(rows), norms_b(cols), sums_a(rows), sums_b(cols);
  x.fill(in, numbers);
  y.fill(in, numbers);
  if (square) std::copy_n(x.data(), x.size(), y.data());
  const auto dot = [channels](const double* a, const double* b) {
    double sum = 0;
    for (Index k = 0; k < channels; ++k) sum += a[k] * b[k];
    return sum;
  };
  for (Index i = 0; i < rows; ++i)
    for (Index j = 0; j < cols; ++j) product[i * cols + j] = dot(&x[i * channels], &y[j * channels]);
  for (Index i = 0; i < rows; ++i) norms_a[i] = dot(&x[i * channels], &x[i * channels]), sums_a[i] = number(in, numbers);
  for (Index j = 0; j < cols; ++j) norms_b[j] = dot(&y[j * channels], &y[j * channels]), sums_b[j] = square ? sums_a[j] : number(in, numbers);
  const double near = in.flag() ? 0 : 0.1, n = static_cast<double>(1 + in.below(100));
  const bool with_sums = in.flag(), of_angles = in.flag();
  const auto run = [&](bool condensed, Array<double>& out) {
    const fastrdm::Tile tile{product.data(), rows, cols, cols, condensed, norms_a.data(), norms_b.data()};
    return of_angles ? fastrdm::angles(tile, with_sums ? sums_a.data() : nullptr, with_sums ? sums_b.data() : nullptr, n, near, out.data())
                     : fastrdm::distances(tile, near, out.data());
  };
  Array<double> whole(rows * cols), upper(rows * (rows - 1) / 2);
  Index marked = 0, counted = 0;
  bool nan = false;
  call(in, [&] { marked = run(false, whole); });
  for (Index i = 0; i < whole.size(); ++i) {
    nan = nan || whole[i] != whole[i];
    counted += std::signbit(whole[i]);
    const double size = std::abs(whole[i]);
    if (of_angles && size == size) REQUIRE(size <= 2, "an angle of %g", size);
    if (!of_angles && size == size && std::isfinite(size)) {
      const double expected = norms_a[i / cols] + norms_b[i % cols] - 2 * product[i];
      REQUIRE(size == std::max(0.0, expected), "a distance of %g, not %g", size, expected);
    }
  }
  if (!nan) REQUIRE(marked == counted, "%td near, %td with their sign bit", marked, counted);
  if (!square) return;
  call(in, [&] { run(true, upper); });
  for (Index i = 0, p = 0; i < rows; ++i)
    for (Index j = i + 1; j < rows; ++j, ++p) {
      REQUIRE(same(upper[p], whole[i * cols + j]), "condensed: %g at %td, %td", upper[p], i, j);
      REQUIRE(same(whole[i * cols + j], whole[j * cols + i]), "not symmetric at %td, %td", i, j);
    }
}
