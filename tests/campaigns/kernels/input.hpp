// A fuzzer's bytes as shapes and numbers, and arrays that end where their last number ends.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "half.hpp"
#include "isa.hpp"
#include "kernels.hpp"

using fastrdm::BFloat16;
using fastrdm::Half;
using fastrdm::Index;

// Ends the program, which is a finding, unless the condition holds.
#define REQUIRE(condition, ...)                                            \
  do {                                                                     \
    if (!(condition)) {                                                    \
      std::fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
      std::fprintf(stderr, __VA_ARGS__);                                   \
      std::fputc('\n', stderr);                                            \
      std::abort();                                                        \
    }                                                                      \
  } while (false)

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : at_(data), end_(data + size) {
    for (std::size_t i = 0; i < size; ++i) state_ = (state_ ^ data[i]) * 0x100000001b3u;
    state_ += state_ == 0;
  }

  // Of the next two bytes or, after the last, random.
  std::uint32_t below(std::uint32_t limit) {
    if (end_ - at_ < 2) return static_cast<std::uint32_t>(random() >> 32) % limit;
    const std::uint32_t number = std::uint32_t{at_[0]} << 8 | at_[1];
    at_ += 2;
    return number % limit;
  }
  bool flag() { return below(2) != 0; }

  // Sizes around those at which kernels change their way.
  Index size(Index most) {
    static constexpr Index kSizes[] = {1,   2,   3,   4,   5,   6,   7,    8,    11,   12,   13,   15,   16,   17,  24,
                                       31,  32,  33,  63,  64,  65,  119,  120,  121,  127,  128,  129,  255,  256, 257,
                                       511, 512, 513, 639, 640, 641, 1023, 1024, 1025, 1279, 1280, 1281, 2049, 2561};
    const Index size = below(4) == 0 ? 1 + below(3000) : kSizes[below(sizeof kSizes / sizeof *kSizes)];
    return size > most ? 1 + size % most : size;
  }
  int threads() {
    static constexpr int kThreads[] = {1, 2, 3, 4, 7, 8, 13, 64};
    return kThreads[below(8)];
  }

  // xorshift64*, seeded by all bytes (FNV-1a).
  std::uint64_t random() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545f4914f6cdd1du;
  }

 private:
  const std::uint8_t *at_, *end_;
  std::uint64_t state_ = 0xcbf29ce484222325u;
};

// Kinds of numbers: whole (products are exact in float32), crowded, plain, of any bits, and with NaN, infinities, denormals and huge numbers among
// them.
enum class Kind { whole, crowded, plain, finite, special };

inline Kind kind(Input& in) { return static_cast<Kind>(in.below(5)); }

inline double number(Input& in, Kind kind) {
  const std::uint64_t r = in.random();
  const double unit = static_cast<double>(r >> 11) * 0x1p-53;
  switch (kind) {
    case Kind::whole:
      return static_cast<double>(r >> 40) / 0x1p24 < 0.5 ? static_cast<double>(r % 9) - 4 : static_cast<double>(r % 3);
    case Kind::crowded:
      return 1 + static_cast<double>(r % 5) * 0x1p-52;
    case Kind::plain:
      return 2 * unit - 1;
    case Kind::finite:
      return std::ldexp(2 * unit - 1, static_cast<int>(r % 61) - 30);
    case Kind::special:
      break;
  }
  static const double kSpecial[] = {NAN, INFINITY, -INFINITY, 0.0, -0.0, 5e-324, -1e-310, 1e-40, 6e-8, 3e38, -3e38, 65504.0, 1e308, -1.7e308, 1.0};
  return r % 16 < sizeof kSpecial / sizeof *kSpecial && r >> 60 < 2 ? kSpecial[r % 16] : 2 * unit - 1;
}

inline void put(double value, double& to) { to = value; }
inline void put(double value, float& to) { to = static_cast<float>(value); }
inline void put(double value, BFloat16& to) {
  const auto narrow = static_cast<float>(value);
  std::uint32_t bits;
  std::memcpy(&bits, &narrow, sizeof bits);
  to.bits = static_cast<std::uint16_t>(bits >> 16);
  if (narrow != narrow) to.bits |= 0x40;
}
inline void put(double value, Half& to) {
  // The nearest half towards zero is enough here.
  const std::uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double size = std::abs(value);
  if (value != value) {
    to.bits = 0x7e01;
  } else if (size > 65504) {
    to.bits = static_cast<std::uint16_t>(sign | 0x7c00);
  } else if (size < 0x1p-14) {
    to.bits = static_cast<std::uint16_t>(sign | static_cast<std::uint16_t>(size * 0x1p24));
  } else {
    int exponent;
    const double fraction = std::frexp(size, &exponent);
    to.bits = static_cast<std::uint16_t>(sign | (exponent + 14) << 10 | static_cast<std::uint16_t>((2 * fraction - 1) * 1024));
  }
}

// Memory of its exact size, so that a sanitizer sees each access beyond it; not aligned beyond the number's size if `offset` is odd.
template <typename T>
class Array {
 public:
  explicit Array(Index size, Index offset = 0) : memory_(new T[static_cast<std::size_t>(size + offset)]), offset_(offset), size_(size) {}
  T* data() { return memory_.get() + offset_; }
  const T* data() const { return memory_.get() + offset_; }
  Index size() const { return size_; }
  T& operator[](Index i) { return data()[i]; }
  const T& operator[](Index i) const { return data()[i]; }
  void fill(Input& in, Kind kind) {
    for (Index i = 0; i < size_; ++i) put(number(in, kind), data()[i]);
  }

 private:
  std::unique_ptr<T[]> memory_;
  Index offset_, size_;
};

// Rows with numbers between them that no kernel may read: the sanitizer cannot see that, but NaN spoils the results.
template <typename S>
struct Strided {
  Index rows, cols, stride;
  Array<S> numbers;
  Array<double> shift;

  Strided(Input& in, Index rows_, Index cols_, Kind kind)
      : rows(rows_), cols(cols_), stride(cols_ + (in.flag() ? in.below(70) : 0)), numbers(rows_ == 0 ? 0 : (rows_ - 1) * stride + cols_, in.below(3)),
        shift(rows_) {
    const Kind of_shift = in.flag() ? Kind::whole : Kind::plain;
    for (Index i = 0; i < numbers.size(); ++i) put(i % stride < cols ? number(in, kind) : NAN, numbers[i]);
    const bool shifted = in.flag();
    for (Index i = 0; i < rows; ++i) shift[i] = shifted ? static_cast<double>(static_cast<float>(number(in, of_shift))) : 0;
    // Some rows equal, and some constant.
    if (rows > 1 && in.below(3) == 0) std::memcpy(&numbers[stride], &numbers[0], static_cast<std::size_t>(cols) * sizeof(S));
    if (rows > 2 && in.below(3) == 0)
      for (Index k = 1; k < cols; ++k) numbers[2 * stride + k] = numbers[2 * stride];
  }
  fastrdm::Matrix<S> matrix() const { return {numbers.data(), rows, cols, stride, shift.data()}; }
};

inline bool same(double a, double b) { return a == b || (a != a && b != b); }

template <typename T>
bool same(const Array<T>& a, const Array<T>& b) {
  for (Index i = 0; i < a.size(); ++i)
    if (!same(static_cast<double>(a[i]), static_cast<double>(b[i]))) return false;
  return true;
}

inline const char* name(const fastrdm::Isa& isa) { return isa.name; }
