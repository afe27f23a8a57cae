// Rows times a sparse matrix of signs.
//
// A block of channels of some rows is transposed, so that a channel's numbers are adjacent, and stored again negated: an entry of the matrix is then
// one addition of lanes, from L1 to L2. 32 rows of 802,816 channels with five entries each take 27 ms on one thread of a Zen 5 and 15 ms on two,
// including transposition and means. scipy.sparse takes 45 ms, with a transposed copy, for rows that are centred already, which takes another 10 ms.
// Compiled for AVX2 or AVX-512 this takes about 20 ms on one thread: too small a gain for a copy per instruction set.

#include <cstring>

#include "pace.hpp"
#include "parallel.hpp"

namespace fastrdm {
namespace {

constexpr Index kLanes = 16;

// Shares of the channels do not depend on threads and rows, and are added in order, so neither changes a bit. Each share has separate sums, so there
// are few.
constexpr Index kShares = 16, kBlocksPerShare = 64;

// Additions of lanes that justify waking a thread.
constexpr double kWorkPerThread = fuzzed(1e6, 8.0);

// Loaded as a whole before any is stored: a compiler that cannot rule out overlap would not vectorise.
struct Lanes {
  float x[kLanes];
};

inline Lanes load(const float* from) {
  Lanes a;
  std::memcpy(&a, from, sizeof a);
  return a;
}
inline void store(float* to, const Lanes& a) { std::memcpy(to, &a, sizeof a); }
inline Lanes operator+(Lanes a, const Lanes& b) {
  for (Index l = 0; l < kLanes; ++l) a.x[l] += b.x[l];
  return a;
}
inline Lanes operator-(Lanes a, const Lanes& b) {
  for (Index l = 0; l < kLanes; ++l) a.x[l] -= b.x[l];
  return a;
}

struct Group {
  const float* rows[kLanes];
  Lanes shift;
  Index cols;
};

// For blocks [begin, end): out[j * kLanes + l] is the contribution of row l to component j, sums[l] the sum of row l.
void add_blocks(const Group& x, const SignMatrix& matrix, Index begin, Index end, float* out, double* sums) {
  alignas(64) float transposed[2 * kSignBlock * kLanes];
  std::memset(out, 0, static_cast<std::size_t>(matrix.components * kLanes) * sizeof(float));
  for (Index l = 0; l < kLanes; ++l) sums[l] = 0;
  Pace pace;
  for (Index block = begin; block < end; ++block) {
    pace(matrix.per_block + 2 * kSignBlock);
    const Index first = block * kSignBlock, length = std::min(kSignBlock, x.cols - first);
    if (length < kSignBlock) std::memset(transposed, 0, sizeof transposed);
    for (Index c = 0; c < length; ++c)
      for (Index l = 0; l < kLanes; ++l) transposed[2 * c * kLanes + l] = x.rows[l][first + c];
    Lanes sum{};
    for (Index c = 0; c < length; ++c) {
      float* to = transposed + 2 * c * kLanes;
      const Lanes value = load(to) - x.shift;
      sum = sum + value;
      store(to, value);
      store(to + kLanes, Lanes{} - value);
    }
    for (Index l = 0; l < kLanes; ++l) sums[l] += sum.x[l];
    const std::uint32_t* entry = matrix.entries + block * matrix.per_block;
    for (const std::uint32_t* last = entry + matrix.per_block; entry != last; ++entry) {
      float* to = out + *entry / (2 * kSignBlock) * kLanes;
      store(to, load(to) + load(transposed + *entry % (2 * kSignBlock) * kLanes));
    }
  }
}

class Buffer {
 public:
  explicit Buffer(Index size) : data_(static_cast<float*>(take_scratch(static_cast<std::size_t>(size) * sizeof(float)))) {}
  ~Buffer() { give_scratch(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  float* data() const { return data_; }

 private:
  float* data_;
};

}  // namespace

void project(const Matrix<float>& x, const SignMatrix& matrix, double scale, float* out, double* sums, int n_threads) {
  const Index blocks = (x.cols + kSignBlock - 1) / kSignBlock;
  const Index shares = std::max<Index>(1, std::min(kShares, blocks / kBlocksPerShare));
  const double work = static_cast<double>(blocks) * static_cast<double>(matrix.per_block + 2 * kSignBlock);
  n_threads = static_cast<int>(std::min<double>(n_threads, 1 + work / kWorkPerThread));
  const Index size = matrix.components * kLanes;
  const Buffer parts(shares * size);
  double part_sums[kShares][kLanes];
  for (Index first = 0; first < x.rows; first += kLanes) {
    const Index rows = std::min(kLanes, x.rows - first);
    Group group{{}, {}, x.cols};
    for (Index l = 0; l < kLanes; ++l) {
      const Index row = first + std::min(l, rows - 1);  // if there are fewer, the last is repeated
      group.rows[l] = x.data + row * x.stride;
      group.shift.x[l] = static_cast<float>(x.shift[row]);
    }
    parallel(shares, 1, n_threads, [&](Index begin, Index end, int) {
      for (Index s = begin; s < end; ++s)
        add_blocks(group, matrix, blocks * s / shares, blocks * (s + 1) / shares, parts.data() + s * size, part_sums[s]);
    });
    for (Index l = 0; l < rows; ++l) {
      sums[first + l] = 0;
      for (Index s = 0; s < shares; ++s) sums[first + l] += part_sums[s][l];
    }
    parallel(matrix.components, 1024, n_threads, [&](Index begin, Index end, int) {
      Pace pace;
      for (Index j = begin; j < end; ++j) {
        pace(shares * kLanes);
        double total[kLanes] = {};
        for (Index s = 0; s < shares; ++s)
          for (Index l = 0; l < kLanes; ++l) total[l] += parts.data()[s * size + j * kLanes + l];
        for (Index l = 0; l < rows; ++l) out[(first + l) * matrix.components + j] = static_cast<float>(total[l] * scale);
      }
    });
  }
}

}  // namespace fastrdm
