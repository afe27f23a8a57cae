// Dot products of all pairs of rows, compiled once for each instruction set.
//
// A block of columns of all rows is packed, with the shift subtracted and 16-bit numbers widened, into a buffer whose row length is an odd number of
// cache lines (rows of CNN activations are multiples of 4 KiB apart and would all fall into the same cache sets). It is then multiplied tile by tile.
// Meanwhile the next block is packed, from lines that were prefetched one tile earlier, so that multiplications hide the latency of memory. On a Zen
// 4 with AVX-512 and two threads, 118 x 802,816 float32 reach 51 % of the FMA peak with blocks packed one after the other, 84 % with lines packed
// between tiles, and 90 % with a line packed every few steps of a tile, when the load and store units are idle.
//
// Nothing here may instantiate a template of the standard library: the linker would keep one copy for all instruction sets.

#include <cstring>

#include "isa.hpp"
#include "pace.hpp"
#include "simd.hpp"

// Sums stay in registers only if the loops over a tile are unrolled before register allocation; unrolling the loop over columns by four gains 2 %.
#if defined(__clang__)
#define FASTRDM_UNROLL _Pragma("unroll")
#define FASTRDM_UNROLL_BY_4 _Pragma("unroll 4")
#elif defined(__GNUC__)
#define FASTRDM_UNROLL _Pragma("GCC unroll 32")
#define FASTRDM_UNROLL_BY_4 _Pragma("GCC unroll 4")
#else
#define FASTRDM_UNROLL
#define FASTRDM_UNROLL_BY_4
#endif

namespace fastrdm::FASTRDM_ISA_NAME {
namespace {

constexpr Index kSquare = 120;                     // rows on either side whose blocks stay in L2 during their multiplication
constexpr Index kLine = 64;                        // bytes
constexpr Index kPiece = kBlockBytes / kLine / 2;  // lines packed inside a tile

template <typename T>
constexpr Index kPerLine = kLine / static_cast<Index>(sizeof(T));
template <typename T>
constexpr Index kBlock = kBlockBytes / static_cast<Index>(sizeof(T));
template <typename T>
constexpr Index kStride = kBlock<T> + kPerLine<T>;

constexpr Index least(Index a, Index b) { return a < b ? a : b; }

enum class Hint { once, kept };

inline void prefetch(const void* address, Hint hint) {
#if defined(__GNUC__) || defined(__clang__)
  if (hint == Hint::once)
    __builtin_prefetch(address, 0, 0);
  else
    __builtin_prefetch(address, 1, 3);
#elif defined(FASTRDM_AVX512) || defined(FASTRDM_AVX2)
  if (hint == Hint::once)
    _mm_prefetch(static_cast<const char*>(address), _MM_HINT_NTA);
  else
    _mm_prefetch(static_cast<const char*>(address), _MM_HINT_T0);
#else
  (void)address, (void)hint;
#endif
}

template <typename T>
class Buffer {
 public:
  explicit Buffer(Index size) : data_(static_cast<T*>(take_scratch(static_cast<std::size_t>(size) * sizeof(T)))) {}
  ~Buffer() { give_scratch(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* data() const { return data_; }

 private:
  T* data_;
};

// Lines of a row that a tile packs, and the address of the next ones to prefetch.
template <typename S>
struct Piece {
  using T = typename ProductOf<S>::Type;
  const S *from, *ahead;
  T* to;
  T shift;
  typename Vec<T>::Reg* sum;
};

// Packs a block of columns of some rows, some lines at a time. The tail of a short block is zero.
template <typename S>
class Packer {
  using T = typename ProductOf<S>::Type;
  using V = Vec<T>;
  static constexpr Index line = kPerLine<T>;

 public:
  // Adds the rows' sums to `sums` unless it is null.
  Packer(const Matrix<S>& m, const Range& columns, T* to, double* sums)
      : m_(m), from_(m.rows > 0 ? m.data + columns.begin : m.data), length_(columns.end - columns.begin), to_(to), sums_(sums) {
    if (length_ <= 0) m_.rows = 0;
  }

  // prefetch and pack return the number of lines left over.
  Index prefetch(Index lines) {
    while (lines > 0 && ahead_row_ < m_.rows) {
      const S* from = from_ + ahead_row_ * m_.stride + ahead_;
      const Index here = least(lines, (length_ - ahead_ + line - 1) / line);
      for (Index l = 0; l < here; ++l) FASTRDM_ISA_NAME::prefetch(from + l * line, Hint::once);
      lines -= here;
      ahead_ += here * line;
      if (ahead_ >= length_) ahead_ = 0, ++ahead_row_;
    }
    return lines;
  }

  Index pack(Index lines) {
    while (row_ < m_.rows) {
      if (done_ == length_) {
        end_row();
        continue;
      }
      if (lines == 0) break;
      const Index whole = least(lines, (length_ - done_) / line);
      copy(whole);
      lines -= whole;
      if (lines > 0 && done_ < length_) copy_tail(), --lines;
    }
    return lines;
  }

  // Gets the next piece, which the caller must pack before the next call; false if there is no whole piece.
  bool take(Piece<S>& piece) {
    if (length_ != kBlock<T>) return false;
    if (row_ < m_.rows && done_ == length_) end_row();
    if (row_ == m_.rows) return false;
    const S* row = from_ + row_ * m_.stride;
    piece.from = row + done_;
    piece.to = to_ + row_ * kStride<T> + done_;
    piece.shift = row_shift();
    piece.sum = &sum_;
    done_ += kPiece * line;
    const bool last = row_ + 1 == m_.rows;
    piece.ahead = done_ < length_ ? row + done_ : row + (last ? 0 : m_.stride);
    ahead_row_ = row_;
    ahead_ = done_;
    return true;
  }

 private:
  // The sum stays in one register, so the pieces in which a row is packed do not affect it.
  void copy(Index lines) {
    const S* from = from_ + row_ * m_.stride + done_;
    T* to = to_ + row_ * kStride<T> + done_;
    const typename V::Reg shift = V::all(row_shift());
    typename V::Reg sum = sum_;
    for (Index k = 0; k < lines * line; k += V::lanes) {
      const typename V::Reg x = V::sub(V::load(from + k), shift);
      V::store(to + k, x);
      sum = V::add(sum, x);
    }
    sum_ = sum;
    done_ += lines * line;
  }

  void copy_tail() {
    const S* from = from_ + row_ * m_.stride;
    T* to = to_ + row_ * kStride<T>;
    std::memset(to + done_, 0, static_cast<std::size_t>(kBlock<T> - done_) * sizeof(T));
    for (; done_ < length_; ++done_) {
      to[done_] = widened(from[done_]) - row_shift();
      tail_sum_ += to[done_];
    }
  }

  T row_shift() const { return m_.shift ? static_cast<T>(m_.shift[row_]) : T(0); }

  void end_row() {
    T lanes[V::lanes];
    V::store(lanes, sum_);
    for (const T x : lanes) tail_sum_ += x;
    if (sums_) sums_[row_] += tail_sum_;
    sum_ = V::zero();
    tail_sum_ = 0;
    done_ = 0;
    ++row_;
  }

  Matrix<S> m_;
  const S* from_;
  Index length_;
  T* to_;
  double* sums_;
  Index row_ = 0, done_ = 0, ahead_row_ = 0, ahead_ = 0;
  typename V::Reg sum_ = V::zero();
  double tail_sum_ = 0;
};

// Left rows, then right rows.
template <typename S>
struct Packers {
  Packer<S> left, right;

  void prefetch(Index lines) { right.prefetch(left.prefetch(lines)); }
  bool pack(Index lines) { return right.pack(left.pack(lines)) == 0; }
  bool take(Piece<S>& piece) { return left.take(piece) || right.take(piece); }
  // `ahead`: lines to prefetch before the first is packed.
  void pack_rest(Index ahead) {
    constexpr Index kStep = 16;
    prefetch(ahead);
    do prefetch(kStep);
    while (pack(kStep));
  }
};

// Sums of products of a few rows at `a` and at `b`, kStride apart.
template <typename T>
struct Sums {
  using V = Vec<T>;
  typename V::Reg sum[kTileRows][kTileCols];

  inline Sums(const double* out, Index ld_out) {
    FASTRDM_UNROLL
    for (int r = 0; r < kTileRows; ++r) prefetch(out + r * ld_out, Hint::kept);
    FASTRDM_UNROLL
    for (int r = 0; r < kTileRows; ++r) {
      FASTRDM_UNROLL
      for (int c = 0; c < kTileCols; ++c) sum[r][c] = V::zero();
    }
  }

  template <int kCols>
  inline void step(const T* a, const T* b) {
    typename V::Reg x[kTileRows];
    FASTRDM_UNROLL
    for (int r = 0; r < kTileRows; ++r) x[r] = V::load(a + r * kStride<T>);
    FASTRDM_UNROLL
    for (int c = 0; c < kCols; ++c) {
      const typename V::Reg y = V::load(b + c * kStride<T>);
      FASTRDM_UNROLL
      for (int r = 0; r < kTileRows; ++r) sum[r][c] = V::fma(x[r], y, sum[r][c]);
    }
  }

  template <int kCols>
  inline void add_to(double* out, Index ld_out) {
    if constexpr (kCols < kTileCols) {
      FASTRDM_UNROLL
      for (int r = 0; r < kTileRows; ++r) {
        double sums[kTileCols] = {};
        V::add4_to(sum[r][0], sum[r][1], sum[r][2], sum[r][3], sums);
        FASTRDM_UNROLL
        for (int c = 0; c < kCols; ++c) out[r * ld_out + c] += sums[c];
      }
    } else if constexpr (V::adds_8) {
      FASTRDM_UNROLL
      for (int r = 0; r < kTileRows; r += 2)
        V::add8_to(sum[r][0], sum[r][1], sum[r][2], sum[r][3], out + r * ld_out, sum[r + 1][0], sum[r + 1][1], sum[r + 1][2], sum[r + 1][3],
                   out + (r + 1) * ld_out);
    } else {
      FASTRDM_UNROLL
      for (int r = 0; r < kTileRows; ++r) V::add4_to(sum[r][0], sum[r][1], sum[r][2], sum[r][3], out + r * ld_out);
    }
  }
};

// out[r * ld_out + c] += a_r . b_c over packed columns.
template <typename T, int kCols>
void tile(const T* a, const T* b, Index length, double* out, Index ld_out) {
  Sums<T> sums(out, ld_out);
  FASTRDM_UNROLL_BY_4
  for (Index k = 0; k < length; k += Vec<T>::lanes) sums.template step<kCols>(a + k, b + k);
  sums.template add_to<kCols>(out, ld_out);
}

// The same over a whole block, and packs a piece between the steps.
template <typename S, typename T>
void tile_and_pack(const T* a, const T* b, double* out, Index ld_out, const Piece<S>& piece) {
  using V = Vec<T>;
  constexpr Index kVectors = kPiece * kPerLine<T> * kSteps / kBlock<T>;
  static_assert(kVectors * kBlock<T> == kPiece * kPerLine<T> * kSteps && kBlock<T> % (kSteps * V::lanes) == 0);
  const S *from = piece.from, *ahead = piece.ahead;
  T* to = piece.to;
  const typename V::Reg shift = V::all(piece.shift);
  Sums<T> sums(out, ld_out);
  for (Index k = 0; k < kBlock<T>; k += kSteps * V::lanes) {
    FASTRDM_UNROLL
    for (Index step = 0; step < kSteps; ++step) sums.template step<kTileCols>(a + k + step * V::lanes, b + k + step * V::lanes);
    FASTRDM_UNROLL
    for (Index v = 0; v < kVectors; ++v) {
      const typename V::Reg x = V::sub(V::load(from + v * V::lanes), shift);
      V::store(to + v * V::lanes, x);
      *piece.sum = V::add(*piece.sum, x);
    }
    for (Index ahead_of = 0; ahead_of < kVectors * V::lanes; ahead_of += kPerLine<T>) prefetch(ahead + ahead_of, Hint::once);
    from += kVectors * V::lanes;
    ahead += kVectors * V::lanes;
    to += kVectors * V::lanes;
  }
  sums.template add_to<kTileCols>(out, ld_out);
}

// out[r * ld_out + c] += a_r . a_c for r <= c.
template <typename T>
void triangle(const T* a, const T*, Index length, double* out, Index ld_out) {
  using V = Vec<T>;
  constexpr int kSums = (kTileRows * (kTileRows + 1) / 2 + 3) / 4 * 4;
  typename V::Reg sum[kSums];
  FASTRDM_UNROLL
  for (auto& s : sum) s = V::zero();
  FASTRDM_UNROLL_BY_4
  for (Index k = 0; k < length; k += V::lanes) {
    typename V::Reg x[kTileRows];
    FASTRDM_UNROLL
    for (int r = 0; r < kTileRows; ++r) x[r] = V::load(a + r * kStride<T> + k);
    FASTRDM_UNROLL
    for (int r = 0, i = 0; r < kTileRows; ++r) {
      FASTRDM_UNROLL
      for (int c = r; c < kTileRows; ++c, ++i) sum[i] = V::fma(x[r], x[c], sum[i]);
    }
  }
  double sums[kSums] = {};
  FASTRDM_UNROLL
  for (int i = 0; i < kSums; i += 4) V::add4_to(sum[i], sum[i + 1], sum[i + 2], sum[i + 3], sums + i);
  FASTRDM_UNROLL
  for (int r = 0, i = 0; r < kTileRows; ++r) {
    FASTRDM_UNROLL
    for (int c = r; c < kTileRows; ++c, ++i) out[r * ld_out + c] += sums[i];
  }
}

// Tiles by width; 0 is a triangle.
template <typename T>
constexpr void (*kTiles[])(const T*, const T*, Index, double*, Index) = {triangle<T>, tile<T, 1>, tile<T, 2>, tile<T, 3>, tile<T, 4>};

// Calls visit(i, j, width) for tiles that cover all pairs of left rows up to left_end and right rows; with `symmetric`, pairs i <= j. A group of left
// rows stays in L1 while it meets the right rows of a square.
template <typename Visit>
void walk(Index left_end, const Range& right, bool symmetric, Visit visit) {
  static_assert(kGroup % kTileRows == 0 && kSquare % kGroup == 0);
  for (Index square = right.begin; square < right.end; square += kSquare) {
    const Index end = least(square + kSquare, right.end), stop = symmetric ? least(left_end, end) : left_end;
    for (Index group = 0; group < stop; group += kGroup) {
      const Index group_end = least(group + kGroup, stop);
      Index begin = square;
      if (symmetric && group >= square) {
        begin = group_end;
        for (Index i = group; i < group_end; i += kTileRows) {
          visit(i, i, 0);
          for (Index j = i + kTileRows; j < begin; j += kTileCols) visit(i, j, static_cast<int>(least(kTileCols, begin - j)));
        }
      }
      for (Index j = begin; j < end; j += kTileCols)
        for (Index i = group; i < group_end; i += kTileRows) visit(i, j, static_cast<int>(least(kTileCols, end - j)));
    }
  }
}

template <typename T>
void clear_padding(Index rows, T* packed) {
  std::memset(packed + rows * kStride<T>, 0, static_cast<std::size_t>((pad_rows(rows) - rows) * kStride<T>) * sizeof(T));
}

// The blocks of one share of the columns, then of the next.
template <typename T>
class Cursor {
 public:
  Cursor(Shares& shares, Index cols) : shares_(shares), cols_(cols) { take(); }
  bool over() const { return share_ < 0; }
  Range block() const { return over() ? Range{0, 0} : Range{at_, least(at_ + kBlock<T>, end_)}; }
  Index share() const { return share_; }
  void advance() {
    at_ += kBlock<T>;
    if (at_ >= end_) take();
  }

 private:
  void take() {
    share_ = shares_.next();
    at_ = share_ * shares_.width;
    end_ = least(at_ + shares_.width, cols_);
  }

  Shares& shares_;
  Index cols_, share_ = -1, at_ = 0, end_ = 0;
};

template <typename S>
void products(const Matrix<S>& a, const Matrix<S>* b, const Range& right_range, Shares& shares, double* part, Index ld, bool with_sums) {
  using T = typename ProductOf<S>::Type;
  using V = Vec<T>;
  static_assert(kRowPad % kTileRows == 0 && kSquare % kRowPad == 0);
  static_assert(kBlock<T> % kPerLine<T> == 0 && kPerLine<T> % V::lanes == 0);
  const Range right{right_range.begin, least(right_range.end, b ? b->rows : a.rows)};
  Matrix<S> left = a;
  if (!b) left.rows = least(a.rows, right.end);
  const Matrix<S> other = b ? *b : Matrix<S>{nullptr, 0, 0, 0, nullptr};
  const Index left_size = pad_rows(left.rows) * kStride<T>, size = left_size + pad_rows(other.rows) * kStride<T>;
  Buffer<T> buffer(2 * size);
  T *now = buffer.data(), *next = now + size;
  for (T* packed : {now, next}) {
    clear_padding(left.rows, packed);
    clear_padding(other.rows, packed + left_size);
  }

  Index n_tiles = 0;
  walk(left.rows, right, !b, [&](Index, Index, int) { ++n_tiles; });
  if (n_tiles == 0) return;
  const Index lines = (left.rows + other.rows) * (kBlock<T> / kPerLine<T>), per_tile = (lines + n_tiles - 1) / n_tiles;
  const bool inside = per_tile <= kPiece;  // there are enough tiles to do all packing inside them
  const Index sums_at = pad_rows(a.rows) * ld;

  // Sums of the next share are kept separately until the present share is done.
  Buffer<double> sums_buffer(2 * a.rows);
  double *sums = sums_buffer.data(), *sums_next = sums + a.rows;
  std::memset(sums, 0, static_cast<std::size_t>(2 * a.rows) * sizeof(double));
  const auto packers = [&](const Range& block, T* to, double* row_sums) {
    return Packers<S>{{left, block, to, with_sums ? row_sums : nullptr}, {other, block, to + left_size, nullptr}};
  };
  Pace pace;
  constexpr Index kTileWork = kTileRows * kTileCols * kBlock<T> / 64;  // products are fast
  Cursor<T> cursor(shares, a.cols);
  packers(cursor.block(), now, sums).pack_rest(96);
  while (!cursor.over()) {
    const Index share = cursor.share();
    const Range block = cursor.block();
    const Index length = (block.end - block.begin + V::lanes - 1) / V::lanes * V::lanes;
    const T* others = b ? now + left_size : now;
    cursor.advance();
    const bool last = cursor.share() != share;
    auto following = packers(cursor.block(), next, last ? sums_next : sums);
    following.prefetch(inside ? kPiece : per_tile);
    walk(left.rows, right, !b, [&](Index i, Index j, int width) {
      const T *left_rows = now + i * kStride<T>, *right_rows = others + j * kStride<T>;
      double* corner = part + i * ld + j;
      pace(kTileWork);
      Piece<S> piece;
      if (inside && width == kTileCols && length == kBlock<T> && following.take(piece)) {
        tile_and_pack(left_rows, right_rows, corner, ld, piece);
        return;
      }
      if (!inside) following.prefetch(per_tile);
      kTiles<T>[width](left_rows, right_rows, length, corner, ld);
      if (!inside) following.pack(per_tile);
    });
    following.pack_rest(0);
    T* packed = now;
    now = next;
    next = packed;
    if (!last) continue;
    if (with_sums)
      for (Index i = 0; i < a.rows; ++i) part[sums_at + i] = sums[i];
    part = shares.done(share, part);
    double* summed = sums;
    sums = sums_next;
    sums_next = summed;
    std::memset(sums_next, 0, static_cast<std::size_t>(a.rows) * sizeof(double));
  }
}

// Sum of squares of factor_a * (a_k - shift_a) - factor_b * (b_k - shift_b) over a block. Both terms are rounded before the subtraction, so the order
// of the rows does not matter and equal rows give 0.
template <typename S, typename T>
double block_difference(const S* a, const S* b, Index length, T shift_a, T shift_b, T factor_a, T factor_b) {
  using V = Vec<T>;
  constexpr int kSums = 4;
  const typename V::Reg sa = V::all(shift_a), sb = V::all(shift_b), fa = V::all(factor_a), fb = V::all(factor_b);
  typename V::Reg sum[kSums];
  FASTRDM_UNROLL
  for (auto& s : sum) s = V::zero();
  Index k = 0;
  for (; k + kSums * V::lanes <= length; k += kSums * V::lanes) {
    FASTRDM_UNROLL
    for (int s = 0; s < kSums; ++s) {
      const typename V::Reg x = V::mul(V::sub(V::load(a + k + s * V::lanes), sa), fa), y = V::mul(V::sub(V::load(b + k + s * V::lanes), sb), fb);
      const typename V::Reg w = V::sub(x, y);
      sum[s] = V::fma(w, w, sum[s]);
    }
  }
  T lanes[V::lanes];
  V::store(lanes, V::add(V::add(sum[0], sum[1]), V::add(sum[2], sum[3])));
  double total = 0;
  for (const T lane : lanes) total += lane;
  for (; k < length; ++k) {
    const T x = (widened(a[k]) - shift_a) * factor_a, y = (widened(b[k]) - shift_b) * factor_b, w = x - y;
    total += static_cast<double>(w) * w;
  }
  return total;
}

template <typename S>
void differences(const Matrix<S>& a, const double* factor_a, const Matrix<S>& b, const double* factor_b, const Pair* pairs, Index n_pairs,
                 double* out) {
  using T = typename ProductOf<S>::Type;
  const auto number = [](const double* values, Index i, double fallback) { return static_cast<T>(values ? values[i] : fallback); };
  Pace pace;
  for (Index k = 0; k < a.cols; k += kBlock<T>)
    for (Index p = 0; p < n_pairs; ++p) {
      pace(kBlock<T>);
      const Index i = pairs[p].first, j = pairs[p].second;
      out[p] += block_difference(a.data + i * a.stride + k, b.data + j * b.stride + k, least(kBlock<T>, a.cols - k), number(a.shift, i, 0),
                                 number(b.shift, j, 0), number(factor_a, i, 1), number(factor_b, j, 1));
    }
}

}  // namespace

// Defined in dots.cpp, marks.cpp, outer.cpp and slide.cpp.
extern Dots<float> dots;
extern Dots<double> dots;
extern TwiceLess<std::uint16_t> twice_less;
extern TwiceLess<std::uint32_t> twice_less;
extern Deviations<float> deviations;
extern Deviations<double> deviations;
extern Pack<float> pack;
extern Pack<double> pack;
extern Outer outer;
extern SmallValues small_values;
extern PackPanels<float> pack_panels;
extern PackPanels<double> pack_panels;
extern WindowSums window_sums;
extern WindowValues window_values;

extern const Isa isa;
const Isa isa{FASTRDM_STRING(FASTRDM_ISA_NAME),
              kBlockBytes,
              {products<float>, products<double>, products<Half>, products<BFloat16>},
              {differences<float>, differences<double>, differences<Half>, differences<BFloat16>},
              {dots, dots},
              {twice_less, twice_less},
              {deviations, deviations},
              {pack, pack},
              outer,
              small_values,
              kPanel,
              {pack_panels, pack_panels},
              window_sums,
              window_values};

}  // namespace fastrdm::FASTRDM_ISA_NAME
