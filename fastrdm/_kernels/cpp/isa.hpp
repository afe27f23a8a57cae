// The kernels that are compiled once for each instruction set, and the table that lists them.
#pragma once

#include <string>
#include <tuple>

#include "kernels.hpp"

#define FASTRDM_STRING_(x) #x
#define FASTRDM_STRING(x) FASTRDM_STRING_(x)

namespace fastrdm {

// The order in which products are added up, so that those of two rows depend on these two alone: numbers in their own type over a block of
// columns, blocks in float64 over a share of `width` columns, and shares in their order. Neither the number of threads nor how rows are
// split between them changes that.
struct Shares {
  explicit Shares(Index width_) : width(width_) {}
  // The next share to work on, or -1.
  virtual Index next() = 0;
  // Takes what a share adds up to, and gives zeros for another one.
  virtual double* done(Index share, double* part) = 0;
  const Index width;

 protected:
  ~Shares() = default;
};

// part[i * ld + j]: sums of a_ik b_jk over the columns of a share and the right rows j asked for, as read; with `b` null, b is a and only i <= j
// is sure to be filled. `part` holds pad(a.rows) x ld zeros, ld = pad(b.rows), and a number more for each row of a: where `with_sums`, that is
// the row's sum over the share.
template <typename S>
using Products = void(const Matrix<S>& a, const Matrix<S>* b, const Range& right_rows, Shares& shares, double* part, Index ld, bool with_sums);

// out[p] += sum_k (factor_a (a_ik - shift_a) - factor_b (b_jk - shift_b))^2 of the rows i and j of pair p; null factors are 1. The order of i and j
// changes no bit, nor do the other pairs.
template <typename S>
using Differences = void(const Matrix<S>& a, const double* factor_a, const Matrix<S>& b, const double* factor_b, const Pair* pairs, Index n_pairs,
                         double* out);

// Products of all rows of a with all of b, out[i * ld_out + j], summed in float64 and for every i, j in the same order. `cols` is a
// multiple of kRowLength.
template <typename T>
using Dots = void(const T* a, Index rows_a, Index stride_a, const T* b, Index rows_b, Index stride_b, Index cols, double* out, Index ld_out);

// A row taken apart: entries in rising order, and where each group of ties ends in it.
struct Taken {
  const std::uint32_t *order, *ends;
  std::size_t n, groups;
  bool tied;
};

// kWays rows, entry by entry: the kWays places of the entry in each row's order, and, read only where there are ties, the kWays ranges that it
// shares with them: where those begin, then where they end. 16-bit numbers for rows below 65,536 entries halve what has to stay in the cache.
constexpr std::size_t kWays = 4;
template <typename Position>
struct Others {
  const Position *positions, *ranges;
  bool tied;
};

// out[w]: sum over entries, in the order of a, of those before (ties of a left out) that lie below it in row w of b and those that do not lie
// above it. `scratch` is large enough for every instruction set (concordance.cpp).
template <typename Position>
using TwiceLess = void(const Taken& a, const Others<Position>& b, std::uint64_t* scratch, std::uint64_t* out);

// Everything that is compiled once for each instruction set; the only table of it. products.cpp fills it in.
struct Isa {
  const char* name;
  Index block_bytes;
  std::tuple<Products<float>*, Products<double>*, Products<Half>*, Products<BFloat16>*> products;
  std::tuple<Differences<float>*, Differences<double>*, Differences<Half>*, Differences<BFloat16>*> differences;
  std::tuple<Dots<float>*, Dots<double>*> dots;
  std::tuple<TwiceLess<std::uint16_t>*, TwiceLess<std::uint32_t>*> twice_less;
};

// Those built into this extension that this processor can run, the fastest first; never empty, `portable` is always last.
const std::vector<const Isa*>& available_isas();

// Throws std::invalid_argument for an instruction set that is not available.
const Isa& isa_named(const std::string& name);

}  // namespace fastrdm
