// The kernels as the bindings see them: plain pointers in, plain pointers out, for each instruction set that isa.hpp describes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fastrdm {

using Index = std::ptrdiff_t;

// IEEE 754 half precision and bfloat16, as their bits.
struct Half {
  std::uint16_t bits;
};
struct BFloat16 {
  std::uint16_t bits;
};

// `rows` rows of `cols` numbers, `stride` numbers from one row to the next. On reading, `shift` (one a row, or null) is
// subtracted.
template <typename S>
struct Matrix {
  const S* data;
  Index rows, cols, stride;
  const double* shift;
};

// The type that numbers of type S are multiplied in.
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

// Every tile height and width divides this, so that padded operands need no edge code.
constexpr Index kRowPad = 12;
constexpr Index pad_rows(Index rows) { return (rows + kRowPad - 1) / kRowPad * kRowPad; }

// Memory that a thread keeps for its next call, unless it is much: fresh pages cost as much as a small product. From a cache
// line's start, not zeroed, and this thread's until it is given back.
void* take_scratch(std::size_t bytes);
void give_scratch(void* memory);

// Columns of a share of rows of `cols` numbers that are multiplied as numbers of `size` bytes.
Index share_width(const Isa& isa, Index cols, Index size);

// out[i * out_stride + j] = a_i . b_j, as read, or added to what is there; with `b` null, the whole symmetric product of a with itself.
// sums[i]: the same of sum_k a_ik, for `b` null. Shares are of `width` columns.
template <typename S>
void products(const Isa& isa, const Matrix<S>& a, const Matrix<S>* b, Index width, bool add, double* out, Index out_stride, double* sums,
              int n_threads);

template <typename S>
void differences(const Isa& isa, const Matrix<S>& a, const double* factor_a, const Matrix<S>& b, const double* factor_b, const Pair* pairs,
                 Index n_pairs, double* out, int n_threads);

// mean[i]: of row i or, where it is long, of 16 stretches of it.
template <typename S>
void guess_means(const Matrix<S>& x, double* mean);

// Dissimilarities of rows and columns from their products (rows, stride): of all of them, or condensed of those above the diagonal. `norms` are the
// products of each with itself, less the same as here. The order of a row and a column changes no bit.
struct Tile {
  const double* product;
  Index rows, cols, stride;
  bool condensed;
  const double *norms_a, *norms_b;
};

// 1 - cosine of angles, where norms are n times the products less the products of the sums, which are null where nothing is to be taken off.
// Angles of products that are whole numbers are equal where the fractions are. Those below `near` have their sign bit set, and are counted.
Index angles(const Tile& tile, const double* sums_a, const double* sums_b, double n, double near, double* out);
// Squared distances; those below `near` times the sum of both norms have their sign bit set, and are counted.
Index distances(const Tile& tile, double near, double* out);

// Different numbers among the first of so many rows, up to `limit` of them, which is what is returned where there are more.
template <typename S>
Index distinct(const Matrix<S>& x, Index limit, typename ProductOf<S>::Type* out);

// Prepared rows are this many numbers long, or a multiple, with zeros at the end.
constexpr Index kRowLength = 32;

// Prepared rows, `stride` numbers from one to the next, and their sums of squares.
template <typename T>
struct Rows {
  const T* data;
  Index rows, stride;
  const double* squares;
};

// Average ranks from 1 of every row; no NaN.
void rank(const double* data, Index rows, Index cols, double* ranks, int n_threads);

// Ranks as prepared rows: twice the centred ones, which float32 holds exactly up to 2^24 columns. Those of a row that is not finite are zeros
// with NaN as their sum of squares.
template <typename T>
void centred_ranks(const T* data, Index rows, Index cols, Index stride, float* out, Index out_stride, double* squares, int n_threads);

// similarities: out[i * b.rows + j] = a_i . b_j / sqrt(squares_i squares_j), between -1 and 1; with `paired`, out[i] of a_i and b_i. Neither
// the number of threads nor the other rows change a bit. rank_similarities: the same, of rows of a that it ranks; `squares` > 0 stands for
// theirs.
void similarities(const Isa& isa, const Rows<double>& a, const Rows<double>& b, bool paired, double* out, int n_threads);
template <typename T>
void rank_similarities(const Isa& isa, const T* a, Index rows_a, Index cols, Index stride_a, double squares, const Rows<float>& b, bool paired,
                       double* out, int n_threads);

// out[i * rows_b + j]: pairs of columns that rows i of a and j of b order alike, less those that they order oppositely; rows hold average ranks.
// untied: pairs of columns that differ within a row.
void concordance(const Isa& isa, const double* a, Index rows_a, const double* b, Index rows_b, Index cols, std::int64_t* out, std::int64_t* untied_a,
                 std::int64_t* untied_b, int n_threads);

// resampled_similarities: out[(d * rows_a + i) * rows_b + j] = Spearman's coefficient of rows i of a and j of b, condensed RDMs, with condition k
// counts[d * conditions + k] times in draw d and pairs of a condition with itself left out; with `paired`, out[d * rows_a + i] of a_i and b_i;
// with `untied`, ranks are scaled as if none were tied (rho-a). NaN where a row has no two different pairs. Sums are of whole numbers, exact
// up to 2^53; no number of threads changes a bit.
void resampled_similarities(const Isa& isa, const double* a, Index rows_a, const double* b, Index rows_b, Index conditions,
                            const std::int32_t* counts, Index draws, bool paired, bool untied, double* out, int n_threads);

// out[(d * 2 + bound) * rows + s]: the same between subject s and the pool of those drawn, without the subject and with it; NaN for one that is not
// drawn. Pools are of ranks among the drawn pairs if `ranked`, else of the numbers, and those that differ by no more than `within` of the
// larger tie. Null counts: each once.
void resampled_ceilings(const Isa& isa, const double* subjects, Index rows, Index conditions, const std::int32_t* condition_counts,
                        const std::int32_t* subject_counts, Index draws, bool ranked, bool untied, double within, double* out, int n_threads);

// out[(p * rows_a + i) * b.rows + j]: similarity of prepared row j of b and of matrix i of a (conditions, conditions), whose upper triangle would be
// a prepared row, once its conditions are those of permutation p.
template <typename T>
void permuted_similarities(const Isa& isa, const T* a, const double* squares_a, Index rows_a, Index conditions, const std::int32_t* permutations,
                           Index n_permutations, const Rows<T>& b, double* out, int n_threads);

// out[(image * 3 + c) * area + p] = table[c * 256 + the pixel's channel channels[c]], of images of `area` pixels of three channels.
void normalise(const std::uint8_t* pixels, Index images, Index area, const float* table, const int* channels, float* out, int n_threads);

// A sparse matrix of signs (components, channels), block of channels by block: an entry is component * 2 * kSignBlock + 2 * channel within its block,
// + 1 where it is negative. Every block has `per_block` entries, the last one for channels that are not there as well.
constexpr Index kSignBlock = 256;
struct SignMatrix {
  const std::uint32_t* entries;
  Index per_block, components;
};

// out[i * components + j] = scale * sum_k sign_jk x_ik, as read; sums[i] = sum_k x_ik. Neither the number of threads nor the other rows change a bit.
void project(const Matrix<float>& x, const SignMatrix& matrix, double scale, float* out, double* sums, int n_threads);

}  // namespace fastrdm
