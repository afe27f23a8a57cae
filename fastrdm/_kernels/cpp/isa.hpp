// The kernels that are compiled once for each instruction set, and the table that lists them.
#pragma once

#include <string>
#include <tuple>

#include "kernels.hpp"

#define FASTRDM_STRING_(x) #x
#define FASTRDM_STRING(x) FASTRDM_STRING_(x)

namespace fastrdm {

// The order of sums, which makes a product depend on its two rows alone: numbers in their type over a block of columns, blocks in float64 over a
// share of `width` columns, and shares in order. Threads, and how they split the rows, do not change it.
struct Shares {
  explicit Shares(Index width_) : width(width_) {}
  // The next share to work on, or -1.
  virtual Index next() = 0;
  // Takes the sums of a share, and returns zeros for the next one.
  virtual double* done(Index share, double* part) = 0;
  const Index width;

 protected:
  ~Shares() = default;
};

// part[i * ld + j]: sums of a_ik b_jk, as read, over the columns of a share, for the right rows j. If `b` is null, b is a, and only i <= j is
// defined. `part` holds pad(a.rows) x ld zeros, ld = pad(b.rows), and one more number for each row of a: the row's sum over the share, if
// `with_sums`.
template <typename S>
using Products = void(const Matrix<S>& a, const Matrix<S>* b, const Range& right_rows, Shares& shares, double* part, Index ld, bool with_sums);

// out[p] += sum_k (factor_a (a_ik - shift_a) - factor_b (b_jk - shift_b))^2 for the rows i and j of pair p; null factors are 1. The order of i and j
// and other pairs change no bit.
template <typename S>
using Differences = void(const Matrix<S>& a, const double* factor_a, const Matrix<S>& b, const double* factor_b, const Pair* pairs, Index n_pairs,
                         double* out);

// out[i * ld_out + j]: products of all rows of a with all rows of b, summed in float64 and in the same order for all i, j. `cols` is a multiple of
// kRowLength.
template <typename T>
using Dots = void(const T* a, Index rows_a, Index stride_a, const T* b, Index rows_b, Index stride_b, Index cols, double* out, Index ld_out);

// How values come from products: 1 - cosine with squared lengths as `scale` or, rounded twice more, with inverse lengths; or squared distances, with
// squared lengths.
enum class Form { fraction, inverse, distance };

// Conditions side by side, n of them in each row (a channel at one time). deviations: sums over rows of x_ki - x_0i, and the largest magnitude of
// one. pack: out[k * ld + i] = x_ki - shift_i or, without shifts, - row_shift of the row; zeros up to ld. outer: product[i * ld + j] += sum_k p_ki
// p_kj for i <= j, and sums[i] += sum_k p_ki, of packed rows; ld is a multiple of kRowLength, and product has pad_rows(n) rows. small_values:
// condensed values of i < j, of angles from factor * product - sums_i * sums_j, or products if sums are null; returns how many are below `near`
// (distances: `near` times both squared lengths).
template <typename S>
using Deviations = void(const S* data, Index n, const Index* rows, Index n_rows, double* sums, double* largest);
template <typename S>
using Pack = void(const S* data, Index n, const Index* rows, Index n_rows, const double* shift, const double* row_shift, Index ld, double* out);
using Outer = void(const double* packed, Index n_rows, Index n, Index ld, double* product, double* sums);
using SmallValues = Index(const double* product, Index n, Index ld, Form form, const double* scale, const double* sums, double factor, double near,
                          double* out);

// Windows of `width` samples from each start, in rising order, which all contain the sample before `middle` or begin there. Rows are packed in panels
// of Isa::panel conditions: number i of row k is packed[(i / panel * n_rows + k) * panel + i % panel], with zeros from n to the end of its panel; ld
// is a multiple of kRowLength; there are `channels` rows for each sample from `first` on. `scale` is (windows, ld), as the form wants, and so are
// `sums`, or null.
struct Slide {
  const double* packed;
  Index n, ld, n_rows, channels, first, middle, width;
  const Index* starts;
  Index n_starts;
  const double *scale, *sums;
  double factor, near;
};

// pack_panels: rows less `shift`, or less the row_shift of each, or as they are. window_sums: sums and sums of squares (windows, ld) of each
// condition. window_values: out[w * pairs], condensed values of window w, and few[w], as small_values. `scratch` has window_scratch(slide, panel)
// numbers.
template <typename S>
using PackPanels = void(const S* data, Index n, const Index* rows, Index n_rows, const double* shift, const double* row_shift, double* out);
using WindowSums = void(const Slide& slide, double* squares, double* sums);
using WindowValues = void(const Slide& slide, Form form, double* scratch, double* out, Index* few);
inline Index window_scratch(const Slide& slide, Index panel) { return slide.n_starts * panel * (slide.ld + panel); }

// A sorted row: its entries in rising order, and where each group of ties ends.
struct SortedRow {
  const std::uint32_t *order, *ends;
  std::size_t n, groups;
  bool tied;
};

// kWays rows, entry by entry: the entry's position in the order of each row and, read only if there are ties, the range that it shares with its ties
// in each row: kWays begins, then kWays ends. 16-bit numbers for rows below 65,536 entries halve the cache footprint.
constexpr std::size_t kWays = 4;
template <typename Position>
struct RowBlock {
  const Position *positions, *ranges;
  bool tied;
};

// out[w]: sum over entries of the earlier entries in the order of a (without ties in a) that lie below it in row w of b, plus those that do not lie
// above it. `scratch` is large enough for every instruction set (concordance.cpp).
template <typename Position>
using TwiceLess = void(const SortedRow& a, const RowBlock<Position>& b, std::uint64_t* scratch, std::uint64_t* out);

// The kernels of one instruction set; products.cpp defines one table for each. dispatch.cpp lists the tables.
struct Isa {
  const char* name;
  Index block_bytes;
  std::tuple<Products<float>*, Products<double>*, Products<Half>*, Products<BFloat16>*> products;
  std::tuple<Differences<float>*, Differences<double>*, Differences<Half>*, Differences<BFloat16>*> differences;
  std::tuple<Dots<float>*, Dots<double>*> dots;
  std::tuple<TwiceLess<std::uint16_t>*, TwiceLess<std::uint32_t>*> twice_less;
  std::tuple<Deviations<float>*, Deviations<double>*> deviations;
  std::tuple<Pack<float>*, Pack<double>*> pack;
  Outer* outer;
  SmallValues* small_values;
  Index panel;
  std::tuple<PackPanels<float>*, PackPanels<double>*> pack_panels;
  WindowSums* window_sums;
  WindowValues* window_values;
};

// The instruction sets that this extension has and this processor supports, the fastest first; `portable` is always last.
const std::vector<const Isa*>& available_isas();

// Throws std::invalid_argument for an instruction set that is not available.
const Isa& isa_named(const std::string& name);

}  // namespace fastrdm
