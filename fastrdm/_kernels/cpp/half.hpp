// Widening of single 16-bit floats. The functions are internal to each file: otherwise the linker would keep one copy, compiled for one instruction
// set, for all.
#pragma once

#include <cstring>

#include "kernels.hpp"

namespace fastrdm {
namespace {

inline float float_of(std::uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

inline double widened(double x) { return x; }
inline float widened(float x) { return x; }
inline float widened(BFloat16 x) { return float_of(std::uint32_t{x.bits} << 16); }
inline float widened(Half x) {
  const std::uint32_t sign = (x.bits & 0x8000u) << 16, rest = (x.bits & 0x7fffu) << 13;
  if (rest >= 0x7c00u << 13) return float_of(sign | 0x7f800000u | rest);  // infinity and NaN
  const float scaled = float_of(rest) * 0x1p112f;                         // the exponents' biases differ by 112
  return sign ? -scaled : scaled;
}

}  // namespace
}  // namespace fastrdm
