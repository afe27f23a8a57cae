// Calls of kernels, some of which are interrupted first.
#pragma once

#include <chrono>

#include "input.hpp"
#include "interrupt.hpp"

// A call that asks at each checkpoint of the calling thread, and stops at one of the first.
class Stopping final : public fastrdm::Call {
 public:
  explicit Stopping(std::uint32_t after) : Call(std::chrono::milliseconds(0)), left_(after) {}

 private:
  bool stop_asked() override { return left_-- == 0; }
  std::uint32_t left_;
};

// Calls the kernel; one time in four it is interrupted before, which must leave nothing behind.
template <typename Kernel>
void call(Input& in, Kernel&& kernel) {
  if (in.below(4) == 0) {
    try {
      Stopping stopping(in.below(40));
      kernel();
    } catch (const fastrdm::Interrupted&) {
    }
  }
  kernel();
}

void check_products(Input& in);
void check_differences(Input& in);
void check_statistics(Input& in);
void check_condensing(Input& in);
void check_ranks(Input& in);
void check_rank_similarities(Input& in);
void check_similarities(Input& in);
void check_concordance(Input& in);
void check_merge_near(Input& in);
void check_resampled_similarities(Input& in);
void check_resampled_ceilings(Input& in);
void check_permuted_similarities(Input& in);
void check_normalise(Input& in);
void check_project(Input& in);
