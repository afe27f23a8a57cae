// Counting for Kendall's tau, compiled once for each instruction set; concordance.cpp explains the algorithm.
//
// A set of positions that can count its members below a position: marks are bits, and above the 64-bit words are levels of running counts, kFan per
// node, so that a mark costs one short vector addition per level and a count reads one number per level. Each addition waits until the previous one
// has reached memory; kWays independent rows at a time keep the processor busy. Nothing here may instantiate a template of the standard library: the
// linker would keep one copy for all instruction sets.

#include <cstring>

#if defined(FASTRDM_AVX512) || defined(FASTRDM_AVX2)
#include <immintrin.h>
#elif defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
#endif
#if defined(_MSC_VER) && (defined(FASTRDM_AVX512) || defined(FASTRDM_AVX2))
#include <intrin.h>
#endif

#include "isa.hpp"
#include "pace.hpp"

namespace fastrdm::FASTRDM_ISA_NAME {
namespace {

inline std::uint64_t popcount(std::uint64_t x) {
#if defined(_MSC_VER) && (defined(FASTRDM_AVX512) || defined(FASTRDM_AVX2))
  return __popcnt64(x);
#elif defined(__GNUC__) && (defined(__POPCNT__) || defined(FASTRDM_NEON))
  return static_cast<std::uint64_t>(__builtin_popcountll(x));
#else
  // Without -mpopcnt, which the oldest x86-64 lacks, the builtin is a function call.
  const std::uint64_t halves = x - (x >> 1 & 0x5555555555555555u);
  const std::uint64_t quarters = (halves & 0x3333333333333333u) + (halves >> 2 & 0x3333333333333333u);
  return ((quarters + (quarters >> 4)) & 0x0f0f0f0f0f0f0f0fu) * 0x0101010101010101u >> 56;
#endif
}

constexpr std::size_t kFan = 16;

// node[k] += k > child: the addends start kFan - 1 - child from the first value.
template <typename Count>
struct alignas(64) Steps {
  Count values[2 * kFan];
  constexpr Steps() : values() {
    for (std::size_t k = kFan; k < 2 * kFan; ++k) values[k] = 1;
  }
};
template <typename Count>
constexpr Steps<Count> kSteps;

// With intrinsics, because compilers unroll a loop over so few numbers without vectorising it, or copy them through the stack.
#if defined(FASTRDM_AVX512) || defined(FASTRDM_AVX2)
using Piece = __m256i;
inline Piece load(const void* p) { return _mm256_loadu_si256(static_cast<const Piece*>(p)); }
inline void store(void* p, Piece x) { _mm256_storeu_si256(static_cast<Piece*>(p), x); }
inline Piece sum(Piece a, Piece b, std::uint16_t) { return _mm256_add_epi16(a, b); }
inline Piece sum(Piece a, Piece b, std::uint32_t) { return _mm256_add_epi32(a, b); }
#elif defined(__SSE2__) || defined(_M_X64)
using Piece = __m128i;
inline Piece load(const void* p) { return _mm_loadu_si128(static_cast<const Piece*>(p)); }
inline void store(void* p, Piece x) { _mm_storeu_si128(static_cast<Piece*>(p), x); }
inline Piece sum(Piece a, Piece b, std::uint16_t) { return _mm_add_epi16(a, b); }
inline Piece sum(Piece a, Piece b, std::uint32_t) { return _mm_add_epi32(a, b); }
#else
// No count overflows into its neighbour.
using Piece = std::uint64_t;
inline Piece load(const void* p) {
  Piece x;
  std::memcpy(&x, p, sizeof x);
  return x;
}
inline void store(void* p, Piece x) { std::memcpy(p, &x, sizeof x); }
template <typename Count>
inline Piece sum(Piece a, Piece b, Count) {
  return a + b;
}
#endif

template <typename Count>
inline void add(Count* node, const Count* step) {
  constexpr std::size_t kPiece = sizeof(Piece) / sizeof(Count);
  for (std::size_t k = 0; k < kFan; k += kPiece) store(node + k, sum(load(node + k), load(step + k), Count()));
}

// kWays sets, interleaved by word and by node, so that one address reaches all of them.
template <typename Count, int kLevels>
class Marks {
 public:
  Marks(std::size_t n, std::uint64_t* scratch) : words_(scratch) {
    std::size_t nodes = n / 64 + 1;
    // Whole cache lines: a store across two lines is slow to read back.
    std::uint64_t* end = scratch + (nodes * kWays + 7) / 8 * 8;
    for (auto& level : levels_) {
      nodes = (nodes + kFan - 1) / kFan;
      level = reinterpret_cast<Count*>(end);
      end += nodes * kWays * kFan * sizeof(Count) / sizeof(std::uint64_t);
    }
    std::memset(scratch, 0, static_cast<std::size_t>(end - scratch) * sizeof(std::uint64_t));
  }

  template <std::size_t way>
  void mark(std::size_t position) {
    words_[position / 64 * kWays + way] |= std::uint64_t{1} << position % 64;
    mark_level<way, 0>(position / 64);
  }

  // Marks below `begin` plus marks below `end`, which is nearly always in the same word.
  template <std::size_t way>
  std::uint64_t below_both(std::size_t begin, std::size_t end) const {
    const std::uint64_t first = below<way>(begin);
    if (begin / 64 != end / 64) return first + below<way>(end);
    const std::uint64_t between = (~std::uint64_t{0} << begin % 64) & ~(~std::uint64_t{0} << end % 64);
    return 2 * first + popcount(words_[begin / 64 * kWays + way] & between);
  }

  template <std::size_t way>
  std::uint64_t below(std::size_t position) const {
    return popcount(words_[position / 64 * kWays + way] & ~(~std::uint64_t{0} << position % 64)) + below_level<way, 0>(position / 64);
  }

 private:
  // Not every compiler unrolls loops over levels.
  template <std::size_t way, int level>
  void mark_level(std::size_t child) {
    add(levels_[level] + (child / kFan * kWays + way) * kFan, kSteps<Count>.values + (kFan - 1 - child % kFan));
    if constexpr (level + 1 < kLevels) mark_level<way, level + 1>(child / kFan);
  }

  template <std::size_t way, int level>
  std::uint64_t below_level(std::size_t child) const {
    std::uint64_t count = levels_[level][(child / kFan * kWays + way) * kFan + child % kFan];
    if constexpr (level + 1 < kLevels) count += below_level<way, level + 1>(child / kFan);
    return count;
  }

  std::uint64_t* words_;
  Count* levels_[kLevels];
};

// Counts are as wide as positions.
template <typename Count, int kLevels, bool kTied>
void count(const SortedRow& a, const RowBlock<Count>& b, std::uint64_t* scratch, std::uint64_t* out) {
  static_assert(kWays == 4);
  Marks<Count, kLevels> marks(a.n, scratch);
  std::uint64_t less0 = 0, less1 = 0, less2 = 0, less3 = 0;
  const auto look = [&](std::size_t i) {
    if (kTied) {
      const Count *below = b.ranges + 2 * i * kWays, *upto = below + kWays;
      less0 += marks.template below_both<0>(below[0], upto[0]);
      less1 += marks.template below_both<1>(below[1], upto[1]);
      less2 += marks.template below_both<2>(below[2], upto[2]);
      less3 += marks.template below_both<3>(below[3], upto[3]);
    } else {
      const Count* at = b.positions + i * kWays;
      less0 += marks.template below<0>(at[0]);
      less1 += marks.template below<1>(at[1]);
      less2 += marks.template below<2>(at[2]);
      less3 += marks.template below<3>(at[3]);
    }
  };
  const auto mark = [&](std::size_t i) {
    const Count* at = b.positions + i * kWays;
    marks.template mark<0>(at[0]);
    marks.template mark<1>(at[1]);
    marks.template mark<2>(at[2]);
    marks.template mark<3>(at[3]);
  };
  if (a.tied) {
    Pace pace;
    std::size_t begin = 0;
    for (std::size_t g = 0; g < a.groups; ++g) {
      const std::size_t end = a.ends[g];
      for (std::size_t k = begin; k < end; ++k) look(a.order[k]);
      pace(static_cast<Index>(end - begin));
      for (; begin < end; ++begin) mark(a.order[begin]);
    }
  } else {
    in_stretches(static_cast<Index>(a.n), [&](Index begin, Index end) {
      for (Index k = begin; k < end; ++k) {
        look(a.order[k]);
        mark(a.order[k]);
      }
    });
  }
  constexpr std::uint64_t times = kTied ? 1 : 2;
  out[0] = times * less0;
  out[1] = times * less1;
  out[2] = times * less2;
  out[3] = times * less3;
}

template <typename Count, int kLevels>
void count(const SortedRow& a, const RowBlock<Count>& b, std::uint64_t* scratch, std::uint64_t* out) {
  b.tied ? count<Count, kLevels, true>(a, b, scratch, out) : count<Count, kLevels, false>(a, b, scratch, out);
}

std::uint64_t* aligned(std::uint64_t* scratch) {
  constexpr std::uintptr_t kLine = 64;
  return reinterpret_cast<std::uint64_t*>((reinterpret_cast<std::uintptr_t>(scratch) + kLine - 1) / kLine * kLine);
}

}  // namespace

// Enough levels that the highest is one node: 64 * kFan^levels positions.
void twice_less(const SortedRow& a, const RowBlock<std::uint16_t>& b, std::uint64_t* scratch, std::uint64_t* out) {
  const auto run = a.n < std::size_t{1} << 10   ? count<std::uint16_t, 1>
                   : a.n < std::size_t{1} << 14 ? count<std::uint16_t, 2>
                                                : count<std::uint16_t, 3>;
  run(a, b, aligned(scratch), out);
}
void twice_less(const SortedRow& a, const RowBlock<std::uint32_t>& b, std::uint64_t* scratch, std::uint64_t* out) {
  const auto run = a.n < std::size_t{1} << 22 ? count<std::uint32_t, 4> : count<std::uint32_t, 7>;
  run(a, b, aligned(scratch), out);
}

}  // namespace fastrdm::FASTRDM_ISA_NAME
