// The kernels as the bindings call them, on plain pointers. isa.hpp has what is compiled once for each instruction set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fastrdm {

using Index = std::ptrdiff_t;

// The second of both in the fuzzing program, whose inputs are small.
template <typename T>
constexpr T fuzzed([[maybe_unused]] T usual, [[maybe_unused]] T small) {
#ifdef FASTRDM_FUZZ
  return small;
#else
  return usual;
#endif
}

// IEEE 754 half precision and bfloat16 as bits.
struct Half {
  std::uint16_t bits;
};
struct BFloat16 {
  std::uint16_t bits;
};

// `rows` rows of `cols` numbers, `stride` numbers apart. `shift` (one number per row, or null) is subtracted on reading.
template <typename S>
struct Matrix {
  const S* data;
  Index rows, cols, stride;
  const double* shift;
};

// The type in which numbers of type S are multiplied.
template <typename S>
struct ProductOf {
  using Type = float;
};
template <>
struct ProductOf<double> {
  using Type = double;
};

struct Range {
  Index begin, end;
};

struct Pair {
  std::int32_t first, second;
};

// One instruction set: isa.hpp.
struct Isa;

// Throws Interrupted if the call has to stop (interrupt.hpp). pace.hpp says how often kernels come here.
void checkpoint();

// A multiple of every tile height and width, so that padded operands need no edge code.
constexpr Index kRowPad = 12;
constexpr Index pad_rows(Index rows) { return (rows + kRowPad - 1) / kRowPad * kRowPad; }

// Memory that the thread keeps for its next call, unless it is large: new pages cost as much as a small product. Aligned to a cache line, not zeroed.
void* take_scratch(std::size_t bytes);
void give_scratch(void* memory);

// Columns of a share, for rows of `cols` numbers that are multiplied as numbers of `size` bytes.
Index share_width(const Isa& isa, Index cols, Index size);

// out[i * out_stride + j] = or, with `add`, += a_i . b_j of the numbers as read; if `b` is null, the whole symmetric product of a with itself, and
// the same for sums[i] = sum_k a_ik. Shares have `width` columns.
template <typename S>
void products(const Isa& isa, const Matrix<S>& a, const Matrix<S>* b, Index width, bool add, double* out, Index out_stride, double* sums,
              int n_threads);

template <typename S>
void differences(const Isa& isa, const Matrix<S>& a, const double* factor_a, const Matrix<S>& b, const double* factor_b, const Pair* pairs,
                 Index n_pairs, double* out, int n_threads);

// mean[i]: mean of row i or, if it is long, of 16 stretches of it.
template <typename S>
void guess_means(const Matrix<S>& x, double* mean);

// Dissimilarities of rows and columns from their products (rows, stride): all of them, or condensed from those above the diagonal. `norms` are the
// products of each with itself, after the same subtractions. The order of a row and a column changes no bit.
struct Tile {
  const double* product;
  Index rows, cols, stride;
  bool condensed;
  const double *norms_a, *norms_b;
};

// 1 - cosine, from n times the products minus the products of the sums, or from the products if sums are null. If products are integers, equal
// fractions give equal angles. Values below `near` have their sign bit set; returns their number.
Index angles(const Tile& tile, const double* sums_a, const double* sums_b, double n, double near, double* out);
// Squared distances; those below `near` times the sum of both norms have their sign bit set; returns their number.
Index distances(const Tile& tile, double near, double* out);

// Writes the different numbers of all rows, up to `limit`, and returns how many; `limit` if there are more.
template <typename S>
Index distinct(const Matrix<S>& x, Index limit, typename ProductOf<S>::Type* out);

// The length of prepared rows is a multiple of this, with zeros at the end.
constexpr Index kRowLength = 32;

// Prepared rows, `stride` numbers from one to the next, and their sums of squares.
template <typename T>
struct Rows {
  const T* data;
  Index rows, stride;
  const double* squares;
};

// Average ranks, from 1, of every row without NaN.
void rank(const double* data, Index rows, Index cols, double* ranks, int n_threads);

// Makes numbers of a row equal that differ by no more than `within` times the larger magnitude, in groups that each start at their smallest number,
// as fastrdm/_kernels/ties.py does; NaN are kept. In four bytes of memory for each number of a row, per thread.
void merge_near(double* data, Index rows, Index cols, double within, int n_threads);

// Ranks as prepared rows: twice the centred ranks, which are exact in float32 up to 2^24 columns. For a row that is not finite: zeros, with NaN as
// sum of squares.
template <typename T>
void centred_ranks(const T* data, Index rows, Index cols, Index stride, float* out, Index out_stride, double* squares, int n_threads);

// similarities: out[i * b.rows + j] = a_i . b_j / sqrt(squares_i squares_j), between -1 and 1; with `paired`, out[i] of a_i and b_i. Threads and
// other rows change no bit. rank_similarities ranks the rows of a first; `squares` > 0 replaces their sums of squares.
void similarities(const Isa& isa, const Rows<double>& a, const Rows<double>& b, bool paired, double* out, int n_threads);
template <typename T>
void rank_similarities(const Isa& isa, const T* a, Index rows_a, Index cols, Index stride_a, double squares, const Rows<float>& b, bool paired,
                       double* out, int n_threads);

// out[i * rows_b + j]: pairs of columns that rows i of a and j of b order equally, minus those that they order oppositely; rows hold average ranks.
// untied: pairs of columns that differ within a row.
void concordance(const Isa& isa, const double* a, Index rows_a, const double* b, Index rows_b, Index cols, std::int64_t* out, std::int64_t* untied_a,
                 std::int64_t* untied_b, int n_threads);

// resampled_similarities: out[(d * rows_a + i) * rows_b + j] = Spearman's coefficient of rows i of a and j of b, condensed RDMs, with condition k
// counts[d * conditions + k] times in draw d, without pairs of a condition with itself; with `paired`, out[d * rows_a + i] of a_i and b_i; with
// `untied`, ranks are scaled as if none were tied (rho-a). NaN if a row has no two different pairs. Sums are integers, exact up to 2^53; threads
// change no bit.
void resampled_similarities(const Isa& isa, const double* a, Index rows_a, const double* b, Index rows_b, Index conditions,
                            const std::int32_t* counts, Index draws, bool paired, bool untied, double* out, int n_threads);

// out[(d * 2 + bound) * rows + s]: the same between subject s and the pool of the drawn subjects, without the subject and with it; NaN for a subject
// that is not drawn. Pools are means of ranks among the drawn pairs if `ranked`, else of the numbers, which tie if they differ by no more than
// `within` of the larger. Null counts: each once.
void resampled_ceilings(const Isa& isa, const double* subjects, Index rows, Index conditions, const std::int32_t* condition_counts,
                        const std::int32_t* subject_counts, Index draws, bool ranked, bool untied, double within, double* out, int n_threads);

// out[(p * rows_a + i) * b.rows + j]: similarity of prepared row j of b and the upper triangle of matrix i of a (conditions, conditions), with its
// conditions in the order of permutation p.
template <typename T>
void permuted_similarities(const Isa& isa, const T* a, const double* squares_a, Index rows_a, Index conditions, const std::int32_t* permutations,
                           Index n_permutations, const Rows<T>& b, double* out, int n_threads);

// out[(image * 3 + c) * area + p] = table[c * 256 + the pixel's channel channels[c]], for images of `area` pixels with three channels.
void normalise(const std::uint8_t* pixels, Index images, Index area, const float* table, const int* channels, float* out, int n_threads);

// A sparse matrix of signs (components, channels), one block of channels after the other: an entry is component * 2 * kSignBlock + 2 * channel within
// its block, + 1 if negative. Every block has `per_block` entries, also the last, whose channels may exceed those of the rows.
constexpr Index kSignBlock = 256;
struct SignMatrix {
  const std::uint32_t* entries;
  Index per_block, components;
};

// out[i * components + j] = scale * sum_k sign_jk x_ik of the numbers as read; sums[i] = sum_k x_ik. Threads and other rows change no bit.
void project(const Matrix<float>& x, const SignMatrix& matrix, double scale, float* out, double* sums, int n_threads);

// Data of neighbourhoods: n conditions side by side in each row; channel c at sample t is row c * n_samples + t. The channels of centre k are those
// from channel_starts[k] to channel_starts[k + 1]. `whole`: all numbers are integers with exact products. `row_shift`, for distances: a number to
// subtract from each row, or null.
template <typename S>
struct Light {
  enum Method { correlation, cosine, sqeuclidean, euclidean, spearman };
  const S* data;
  Index n;
  const Index *channels, *channel_starts;
  Index n_centres, n_samples;
  Method method;
  bool whole;
  const double* row_shift;
};

// out[(k * n_windows + w) * pairs]: the condensed RDM of centre k and the samples of window w, from sample_starts[w] to sample_starts[w + 1]. NaN for
// conditions that are constant (cosine: zero). Threads and other places change no bit.
template <typename S>
void searchlight(const Isa& isa, const Light<S>& light, const Index* samples, const Index* sample_starts, Index n_windows, double* out,
                 int n_threads);

// The same for windows of `width` samples from each start, in rising order from `origin` on, with sums that they share; not for spearman.
template <typename S>
void sliding_searchlight(const Isa& isa, const Light<S>& light, const Index* starts, Index n_windows, Index width, Index origin, double* out,
                         int n_threads);

}  // namespace fastrdm
