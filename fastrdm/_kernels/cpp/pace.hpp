// How often kernels meet a checkpoint. Internal to each file: otherwise the linker would keep one copy, compiled for one instruction set, for all.
#pragma once

#include "kernels.hpp"

namespace fastrdm {
namespace {

// Numbers between two checkpoints: milliseconds in the slowest kernel, and at least 10 us, against 30 ns for a checkpoint, in the fastest.
constexpr Index kStretch = fuzzed(1 << 16, 64);

// Meets a checkpoint each time that the work passed to it adds up to a stretch.
class Pace {
 public:
  void operator()(Index work) {
    left_ -= work;
    if (left_ > 0) return;
    left_ = kStretch;
    checkpoint();
  }

 private:
  Index left_ = kStretch;
};

// Calls work(begin, end) for the stretches of [0, count), with checkpoints between them.
template <typename Work>
inline void in_stretches(Index count, Work&& work) {
  for (Index begin = 0; begin < count; begin += kStretch) {
    if (begin > 0) checkpoint();
    work(begin, count - begin < kStretch ? count : begin + kStretch);
  }
}

}  // namespace
}  // namespace fastrdm
