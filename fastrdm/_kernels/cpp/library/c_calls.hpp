// What every C function does: checks of its arguments, contexts, and exceptions → statuses.
#pragma once

#include <climits>
#include <cmath>
#include <cstdint>
#include <new>
#include <stdexcept>
#include <string>

#include "../interrupt.hpp"
#include "../pace.hpp"
#include "fastrdm/fastrdm.h"
#include "library.hpp"

struct fastrdm_context {
  int n_threads = 0;
  const fastrdm::Isa* isa = nullptr;
  int (*cancel)(void*) = nullptr;
  void* user = nullptr;
};

namespace fastrdm {

// The sentence of the last error of this thread.
void clear_error() noexcept;
int failed(int status, const char* message) noexcept;

Run run_of(const fastrdm_context* context);

namespace {

// Sizes whose products stay within 63 bits.
constexpr std::int64_t kMost = std::int64_t{1} << 40, kMostConditions = std::int64_t{1} << 30;

template <typename Work>
int guarded(Work&& work) noexcept {
  clear_error();
  try {
    work();
    return FASTRDM_OK;
  } catch (const std::invalid_argument& error) {
    return failed(FASTRDM_INVALID, error.what());
  } catch (const std::range_error& error) {
    return failed(FASTRDM_RANGE, error.what());
  } catch (const Interrupted&) {
    return failed(FASTRDM_CANCELLED, "cancelled by the callback");
  } catch (const std::bad_alloc&) {
    return failed(FASTRDM_MEMORY, "not enough memory");
  } catch (const std::length_error&) {
    return failed(FASTRDM_MEMORY, "not enough memory");
  } catch (const std::exception& error) {
    return failed(FASTRDM_FAILED, error.what());
  } catch (...) {
    return failed(FASTRDM_FAILED, "unknown error");
  }
}

class CancelCall final : public Call {
 public:
  explicit CancelCall(const fastrdm_context* context) : context_(context) {}
  ~CancelCall() = default;

 private:
  bool stop_asked() override { return context_ && context_->cancel && context_->cancel(context_->user) != 0; }
  const fastrdm_context* context_;
};

inline void require(bool condition, const std::string& message) {
  if (!condition) throw std::invalid_argument(message);
}

inline void check_given(const void* pointer, const char* name) { require(pointer != nullptr, std::string(name) + " is null"); }

inline void check_size(std::int64_t size, std::int64_t least, std::int64_t most, const char* name) {
  require(least <= size && size <= most,
          std::string(name) + " must be from " + std::to_string(least) + " to " + std::to_string(most) + ", got " + std::to_string(size));
}

inline void check_finite(const double* rows, std::int64_t n_rows, std::int64_t n_columns, const char* name, bool infinite = false) {
  in_stretches(n_rows * n_columns, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i)
      if (!(infinite ? !std::isnan(rows[i]) : std::isfinite(rows[i])))
        throw std::invalid_argument(std::string(name) + " has NaN" + (infinite ? "" : " or infinity") + " in row " + std::to_string(i / n_columns) +
                                    ", column " + std::to_string(i % n_columns));
  });
}

template <typename Work>
void with_matrix(const void* data, std::int32_t dtype, std::int64_t rows, std::int64_t cols, std::int64_t stride, Work&& work) {
  const auto call = [&](auto type) {
    using S = decltype(type);
    work(Matrix<S>{static_cast<const S*>(data), static_cast<Index>(rows), static_cast<Index>(cols), static_cast<Index>(stride), nullptr});
  };
  switch (dtype) {
    case FASTRDM_FLOAT32:
      return call(float{});
    case FASTRDM_FLOAT64:
      return call(double{});
    case FASTRDM_FLOAT16:
      return call(Half{});
    case FASTRDM_BFLOAT16:
      return call(BFloat16{});
    default:
      throw std::invalid_argument("dtype must be FASTRDM_FLOAT32, FASTRDM_FLOAT64, FASTRDM_FLOAT16 or FASTRDM_BFLOAT16, got " +
                                  std::to_string(dtype));
  }
}

inline void check_activations(const void* activations, std::int64_t n_conditions, std::int64_t n_channels, std::int64_t stride,
                              const char* name = "activations") {
  check_given(activations, name);
  check_size(n_conditions, 2, kMostConditions, "n_conditions");
  check_size(n_channels, 1, kMost, "n_channels");
  check_size(stride, n_channels, kMost, "stride");
  require(stride <= INT64_MAX / 8 / n_conditions, "n_conditions * stride is too large");
}

inline void check_method(std::int32_t method) {
  require(0 <= method && method <= FASTRDM_SPEARMAN_RDM,
          "method must be one of FASTRDM_CORRELATION (0) to FASTRDM_SPEARMAN_RDM (4), got " + std::to_string(method));
}

inline SimilarityKind similarity_of(std::int32_t similarity) {
  require(0 <= similarity && similarity <= FASTRDM_RHO_A,
          "similarity must be one of FASTRDM_SPEARMAN (0) to FASTRDM_RHO_A (5), got " + std::to_string(similarity));
  // In the order of the constants.
  constexpr SimilarityKind kinds[] = {SimilarityKind::spearman, SimilarityKind::pearson, SimilarityKind::cosine,
                                      SimilarityKind::tau_a,    SimilarityKind::tau_b,   SimilarityKind::rho_a};
  return kinds[similarity];
}

inline bool is_rank_correlation(std::int32_t similarity) { return similarity == FASTRDM_SPEARMAN || similarity == FASTRDM_RHO_A; }

}  // namespace
}  // namespace fastrdm
