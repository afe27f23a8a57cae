// Products of conditions in windows that slide over samples, tile by tile; compiled once for each instruction set.
//
// A tile of pairs goes over all windows before the next one, so that its sums stay in registers and the first-level cache; a few rows of totals
// become values together. Each sample is multiplied once for the windows that start before a boundary and end after it, and once for those that are
// on its other side (the sums of van Herk and of Gil & Werman), without a difference of sums, in which digits would be lost. Nothing here may
// instantiate a template of the standard library: the linker would keep one copy for all instruction sets.

#include "isa.hpp"
#include "pace.hpp"
#include "simd.hpp"
#include "values.hpp"

namespace fastrdm::FASTRDM_ISA_NAME {
namespace {

using V = Vec<double>;
constexpr int kRows = V::lanes > 4 ? 8 : 4;
static_assert(kPanel % kRows == 0 && kRowLength % kPanel == 0);

struct Tile {
  V::Reg sum[kRows][2];

  void clear() {
    for (auto& row : sum) row[0] = row[1] = V::zero();
  }

  // Adds the products of conditions at `left` with those at `right`, over rows of panels.
  void multiply(const double* left, const double* right, Index n_rows) {
    for (Index k = 0; k < n_rows; ++k, left += kPanel, right += kPanel) {
      const V::Reg y0 = V::load(right), y1 = V::load(right + V::lanes);
      for (int r = 0; r < kRows; ++r) {
        const V::Reg x = V::all(left[r]);
        sum[r][0] = V::fma(x, y0, sum[r][0]);
        sum[r][1] = V::fma(x, y1, sum[r][1]);
      }
    }
  }

  void store(double* to) const {
    for (int r = 0; r < kRows; ++r)
      for (int c = 0; c < 2; ++c) V::store(to + r * kPanel + c * V::lanes, sum[r][c]);
  }

  // Sums with those at `kept`.
  void total(const double* kept, double* to, Index ld) const {
    for (int r = 0; r < kRows; ++r)
      for (int c = 0; c < 2; ++c) V::store(to + r * ld + c * V::lanes, V::add(V::load(kept + r * kPanel + c * V::lanes), sum[r][c]));
  }
};

// Calls before(rows, count) and kept(window) from the boundary back to the first start, then after(rows, count) and complete(window) from it on.
template <typename Before, typename Kept, typename Reset, typename After, typename Complete>
inline void slide_over(const Slide& slide, Before&& before, Kept&& kept, Reset&& reset, After&& after, Complete&& complete) {
  for (Index t = slide.middle, w = slide.n_starts - 1; w >= 0; --w) {
    for (; t > slide.starts[w]; --t) before((t - 1 - slide.first) * slide.channels);
    kept(w);
  }
  reset();
  for (Index t = slide.middle, w = 0; w < slide.n_starts; ++w) {
    const Index end = slide.starts[w] + slide.width;
    if (end > t) after((t - slide.first) * slide.channels, (end - t) * slide.channels);
    t = end > t ? end : t;
    complete(w);
  }
}

// Products of conditions [i, i + kRows) with [j, j + kPanel) in all windows: totals[(w * kRows + r) * ld + j].
void totals_of(const Slide& slide, Index i, Index j, double* kept, double* totals) {
  constexpr Index area = kRows * kPanel;
  const Index panel = slide.n_rows * kPanel;
  const double *left = slide.packed + i / kPanel * panel + i % kPanel, *right = slide.packed + j / kPanel * panel;
  Tile tile;
  tile.clear();
  slide_over(
      slide, [&](Index row) { tile.multiply(left + row * kPanel, right + row * kPanel, slide.channels); },
      [&](Index w) { tile.store(kept + w * area); }, [&] { tile.clear(); },
      [&](Index row, Index count) { tile.multiply(left + row * kPanel, right + row * kPanel, count); },
      [&](Index w) { tile.total(kept + w * area, totals + w * kRows * slide.ld + j, slide.ld); });
}

// Sums and squares of the numbers of a panel.
struct Moments {
  V::Reg sum[2], square[2];

  void clear() { sum[0] = sum[1] = square[0] = square[1] = V::zero(); }

  void add(const double* rows, Index n_rows) {
    for (Index k = 0; k < n_rows; ++k, rows += kPanel)
      for (int c = 0; c < 2; ++c) {
        const V::Reg x = V::load(rows + c * V::lanes);
        sum[c] = V::add(sum[c], x);
        square[c] = V::fma(x, x, square[c]);
      }
  }
};

template <typename S>
void pack_panels_of(const S* data, Index n, const Index* rows, Index n_rows, const double* shift, const double* row_shift, double* out) {
  Pace pace;
  for (Index k = 0; k < n_rows; ++k, pace(n)) {
    const S* row = data + rows[k] * n;
    double* to = out + k * kPanel;
    const double all = row_shift && !shift ? row_shift[rows[k]] : 0;
    for (Index i = 0; i < n; i += kPanel, to += n_rows * kPanel) {
      const Index some = n - i < kPanel ? n - i : kPanel;
      if (some < kPanel) {
        for (Index c = 0; c < kPanel; ++c) to[c] = c < some ? static_cast<double>(row[i + c]) - (shift ? shift[i + c] : all) : 0;
      } else if (shift) {
        for (Index c = 0; c < kPanel; ++c) to[c] = static_cast<double>(row[i + c]) - shift[i + c];
      } else {
        for (Index c = 0; c < kPanel; ++c) to[c] = static_cast<double>(row[i + c]) - all;
      }
    }
  }
}

}  // namespace

void pack_panels(const float* data, Index n, const Index* rows, Index n_rows, const double* shift, const double* row_shift, double* out) {
  pack_panels_of(data, n, rows, n_rows, shift, row_shift, out);
}
void pack_panels(const double* data, Index n, const Index* rows, Index n_rows, const double* shift, const double* row_shift, double* out) {
  pack_panels_of(data, n, rows, n_rows, shift, row_shift, out);
}

void window_sums(const Slide& slide, double* squares, double* sums) {
  Moments moments;
  for (Index i = 0; i < slide.n; i += kPanel) {
    const double* packed = slide.packed + i * slide.n_rows;
    const auto each = [&](auto&& put) {
      for (int c = 0; c < 2; ++c) put(squares + i + c * V::lanes, moments.square[c]), put(sums + i + c * V::lanes, moments.sum[c]);
    };
    moments.clear();
    slide_over(
        slide, [&](Index row) { moments.add(packed + row * kPanel, slide.channels); },
        [&](Index w) { each([&](double* to, V::Reg x) { V::store(to + w * slide.ld, x); }); }, [&] { moments.clear(); },
        [&](Index row, Index count) { moments.add(packed + row * kPanel, count); },
        [&](Index w) { each([&](double* to, V::Reg x) { V::store(to + w * slide.ld, V::add(V::load(to + w * slide.ld), x)); }); });
  }
}

void window_values(const Slide& slide, Form form, double* scratch, double* out, Index* few) {
  const Index pairs = slide.n * (slide.n - 1) / 2, ld = slide.ld;
  double* const totals = scratch + slide.n_starts * kPanel * kPanel;
  Pace pace;
  for (Index w = 0; w < slide.n_starts; ++w) few[w] = 0;
  for (Index i = 0; i < slide.n; i += kRows) {
    for (Index j = i / kPanel * kPanel; j < slide.n; j += kPanel, pace(slide.n_rows * kRows)) totals_of(slide, i, j, scratch, totals);
    for (Index w = 0; w < slide.n_starts; ++w, pace(kRows * ld))
      for (Index r = 0; r < kRows && i + r < slide.n; ++r) {
        const Index row = i + r, at = w * ld;
        const double* sums = slide.sums ? slide.sums + at : nullptr;
        const ProductRow products{
            totals + (w * kRows + r) * ld, sums, sums ? sums[row] : 0, slide.scale + at, slide.scale[at + row], slide.factor, slide.near};
        few[w] += values_of_row(form, products, row + 1, slide.n, out + w * pairs + row * (2 * slide.n - row - 1) / 2 - row - 1);
      }
  }
}

}  // namespace fastrdm::FASTRDM_ISA_NAME
