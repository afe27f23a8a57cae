// Pixels to a network's input, and sparse projections.

#include <algorithm>

#include "calls.hpp"

void check_normalise(Input& in) {
  const Index images = in.below(6), area = in.size(5000);
  Array<std::uint8_t> pixels(3 * images * area);
  for (Index i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<std::uint8_t>(in.random());
  Array<float> table(3 * 256), out(3 * images * area);
  table.fill(in, kind(in));
  const int channels[] = {static_cast<int>(in.below(3)), static_cast<int>(in.below(3)), static_cast<int>(in.below(3))};
  const int n_threads = in.threads();
  call(in, [&] { fastrdm::normalise(pixels.data(), images, area, table.data(), channels, out.data(), n_threads); });
  for (Index i = 0; i < images; ++i)
    for (Index c = 0; c < 3; ++c)
      for (Index p = 0; p < area; ++p)
        REQUIRE(same(out[(i * 3 + c) * area + p], table[c * 256 + pixels[3 * (i * area + p) + channels[c]]]), "image %td, channel %td, pixel %td", i,
                c, p);
}

void check_project(Input& in) {
  const Kind numbers = kind(in);
  const Index rows = in.size(40), cols = in.size(3000), components = in.size(40), blocks = (cols + fastrdm::kSignBlock - 1) / fastrdm::kSignBlock;
  const Index per_block = in.below(20) == 0 ? 0 : in.size(700);
  const Strided<float> x(in, rows, cols, numbers);
  Array<std::uint32_t> entries(blocks * per_block);
  for (Index e = 0; e < entries.size(); ++e)
    entries[e] = static_cast<std::uint32_t>(in.random() % static_cast<std::uint64_t>(components * 2 * fastrdm::kSignBlock));
  Array<float> first(rows * components), out(rows * components);
  Array<double> first_sums(rows), sums(rows);
  const fastrdm::SignMatrix matrix{entries.data(), per_block, components};
  const double scale = number(in, Kind::plain);
  const int n_threads = in.threads();
  fastrdm::project(x.matrix(), matrix, scale, first.data(), first_sums.data(), 1);
  call(in, [&] { fastrdm::project(x.matrix(), matrix, scale, out.data(), sums.data(), n_threads); });
  REQUIRE(same(first, out) && same(first_sums, sums), "%d threads change a projection of %td x %td", n_threads, rows, cols);
  for (Index i = 0; i < rows; ++i) {
    std::vector<long double> sum(static_cast<std::size_t>(components)), size(sum);
    long double total = 0, total_size = 0;
    const auto value = [&](Index k) { return x.numbers[i * x.stride + k] - static_cast<float>(x.shift[i]); };
    for (Index k = 0; k < cols; ++k) total += value(k), total_size += std::abs(value(k));
    for (Index e = 0; e < entries.size(); ++e) {
      const auto component = static_cast<std::size_t>(entries[e] / (2 * fastrdm::kSignBlock));
      const Index place = entries[e] % (2 * fastrdm::kSignBlock), k = e / per_block * fastrdm::kSignBlock + place / 2;
      const long double one = k < cols ? static_cast<long double>(value(k)) : 0;
      sum[component] += place % 2 ? -one : one;
      size[component] += std::abs(one);
    }
    const auto near = [&](double got, long double expected, long double of, Index n) {
      if (!(of < 1e37L)) return true;
      return std::abs(got - expected) <= static_cast<long double>(n + 8) * 0x1p-23L * of + 1e-36L;
    };
    REQUIRE(near(sums[i], total, total_size, fastrdm::kSignBlock), "sum of row %td: %g, not %Lg", i, sums[i], total);
    for (Index j = 0; j < components; ++j) {
      const auto c = static_cast<std::size_t>(j);
      REQUIRE(near(out[i * components + j], sum[c] * scale, size[c], blocks * per_block + 2), "row %td, component %td: %g, not %Lg", i, j,
              static_cast<double>(out[i * components + j]), sum[c] * scale);
    }
  }
}
