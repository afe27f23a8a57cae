// Kernels on rows that are compiled once for each instruction set: products of long rows with few others, and marks for Kendall's tau.
#pragma once

#include <string>

#include "kernels.hpp"

namespace fastrdm {

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
// above it. `scratch` holds marks_size(n) words.
template <typename Position>
using TwiceLess = void(const Taken& a, const Others<Position>& b, std::uint64_t* scratch, std::uint64_t* out);

struct RowKernels {
  const char* name;
  Dots<float>* dots_f32;
  Dots<double>* dots_f64;
  TwiceLess<std::uint16_t>* twice_less_16;
  TwiceLess<std::uint32_t>* twice_less_32;
};

// Those of an instruction set that this processor has; std::invalid_argument for any other.
const RowKernels& row_kernels(const std::string& isa);

// Words of scratch that are enough for every instruction set.
std::size_t marks_size(std::size_t n);

}  // namespace fastrdm
