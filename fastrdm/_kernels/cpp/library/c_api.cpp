// The C functions: checks of arguments, and exceptions → statuses. No exception leaves them.

#include <algorithm>
#include <climits>
#include <cmath>
#include <cstring>
#include <new>
#include <string>
#include <thread>
#include <utility>

#ifdef __linux__
#include <sched.h>
#endif

#include "../interrupt.hpp"
#include "../pace.hpp"
#include "fastrdm/fastrdm.h"
#include "library.hpp"

#ifndef FASTRDM_VERSION_TEXT
#error "CMakeLists.txt defines the version"
#endif

struct fastrdm_context {
  int n_threads = 0;
  const fastrdm::Isa* isa = nullptr;
  int (*cancel)(void*) = nullptr;
  void* user = nullptr;
};

namespace {

using fastrdm::BFloat16;
using fastrdm::Half;
using fastrdm::Index;
using fastrdm::Matrix;
using fastrdm::RdmKind;
using fastrdm::Run;
using fastrdm::SimilarityKind;

thread_local std::string last_error;

// Sizes whose products stay within 63 bits.
constexpr std::int64_t kMost = std::int64_t{1} << 40, kMostConditions = std::int64_t{1} << 30;

int failed(int status, const char* message) noexcept {
  try {
    last_error = message;
  } catch (...) {
    last_error.clear();
  }
  return status;
}

template <typename Work>
int guarded(Work&& work) noexcept {
  last_error.clear();
  try {
    work();
    return FASTRDM_OK;
  } catch (const std::invalid_argument& error) {
    return failed(FASTRDM_INVALID, error.what());
  } catch (const std::range_error& error) {
    return failed(FASTRDM_RANGE, error.what());
  } catch (const fastrdm::Interrupted&) {
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

int processors() {
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

Run run_of(const fastrdm_context* context) {
  const auto* isa = context && context->isa ? context->isa : fastrdm::available_isas().front();
  return {*isa, context && context->n_threads ? context->n_threads : processors()};
}

class CancelCall final : public fastrdm::Call {
 public:
  explicit CancelCall(const fastrdm_context* context) : context_(context) {}
  ~CancelCall() = default;

 private:
  bool stop_asked() override { return context_ && context_->cancel && context_->cancel(context_->user) != 0; }
  const fastrdm_context* context_;
};

void require(bool condition, const std::string& message) {
  if (!condition) throw std::invalid_argument(message);
}

void check_given(const void* pointer, const char* name) { require(pointer != nullptr, std::string(name) + " is null"); }

void check_size(std::int64_t size, std::int64_t least, std::int64_t most, const char* name) {
  require(least <= size && size <= most,
          std::string(name) + " must be from " + std::to_string(least) + " to " + std::to_string(most) + ", got " + std::to_string(size));
}

void check_finite(const double* rows, std::int64_t n_rows, std::int64_t n_columns, const char* name, bool infinite = false) {
  fastrdm::in_stretches(n_rows * n_columns, [&](Index begin, Index end) {
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

void check_activations(const void* activations, std::int64_t n_conditions, std::int64_t n_channels, std::int64_t stride) {
  check_given(activations, "activations");
  check_size(n_conditions, 2, kMostConditions, "n_conditions");
  check_size(n_channels, 1, kMost, "n_channels");
  check_size(stride, n_channels, kMost, "stride");
  require(stride <= INT64_MAX / 8 / n_conditions, "n_conditions * stride is too large");
}

SimilarityKind similarity_of(std::int32_t similarity) {
  require(0 <= similarity && similarity <= FASTRDM_RHO_A,
          "similarity must be one of FASTRDM_SPEARMAN (0) to FASTRDM_RHO_A (5), got " + std::to_string(similarity));
  // In the order of the constants.
  constexpr SimilarityKind kinds[] = {SimilarityKind::spearman, SimilarityKind::pearson, SimilarityKind::cosine,
                                      SimilarityKind::tau_a,    SimilarityKind::tau_b,   SimilarityKind::rho_a};
  return kinds[similarity];
}

bool is_rank_correlation(std::int32_t similarity) { return similarity == FASTRDM_SPEARMAN || similarity == FASTRDM_RHO_A; }

}  // namespace

extern "C" {

int32_t fastrdm_abi_version(void) { return FASTRDM_ABI_VERSION; }
int32_t fastrdm_abi_revision(void) { return FASTRDM_ABI_REVISION; }
const char* fastrdm_version(void) { return FASTRDM_VERSION_TEXT; }
const char* fastrdm_last_error(void) { return last_error.c_str(); }

const char* fastrdm_status_text(int status) {
  constexpr const char* texts[] = {"success", "invalid argument", "not enough memory", "cancelled", "out of the range of float64", "failed"};
  return 0 <= status && status <= FASTRDM_FAILED ? texts[status] : "unknown status";
}

const char* fastrdm_isa_name(int32_t index) {
  const char* name = nullptr;
  guarded([&] {
    const auto& isas = fastrdm::available_isas();
    if (index >= 0 && static_cast<std::size_t>(index) < isas.size()) name = isas[static_cast<std::size_t>(index)]->name;
  });
  return name;
}

int fastrdm_context_create(fastrdm_context** context) {
  return guarded([&] {
    check_given(context, "context");
    *context = new fastrdm_context;
  });
}

void fastrdm_context_destroy(fastrdm_context* context) { delete context; }

int fastrdm_context_set_threads(fastrdm_context* context, int32_t n_threads) {
  return guarded([&] {
    check_given(context, "context");
    check_size(n_threads, 0, 1 << 16, "n_threads");
    context->n_threads = n_threads;
  });
}

int fastrdm_context_set_isa(fastrdm_context* context, const char* name) {
  return guarded([&] {
    check_given(context, "context");
    context->isa = name ? &fastrdm::isa_named(name) : nullptr;
  });
}

int fastrdm_context_set_cancel(fastrdm_context* context, int (*cancel)(void* user), void* user) {
  return guarded([&] {
    check_given(context, "context");
    context->cancel = cancel;
    context->user = user;
  });
}

const char* fastrdm_context_isa(const fastrdm_context* context) {
  const char* name = nullptr;
  guarded([&] { name = run_of(context).isa.name; });
  return name;
}

int64_t fastrdm_n_pairs(int64_t n_conditions) {
  return n_conditions < 2 || n_conditions > kMostConditions ? 0 : n_conditions * (n_conditions - 1) / 2;
}

int fastrdm_calc_rdm(const fastrdm_context* context, const void* activations, int32_t dtype, int64_t n_conditions, int64_t n_channels, int64_t stride,
                     int32_t method, double* rdm) {
  return guarded([&] {
    check_activations(activations, n_conditions, n_channels, stride);
    check_given(rdm, "rdm");
    require(0 <= method && method <= FASTRDM_SPEARMAN_RDM,
            "method must be one of FASTRDM_CORRELATION (0) to FASTRDM_SPEARMAN_RDM (4), got " + std::to_string(method));
    if (method == FASTRDM_SPEARMAN_RDM) check_size(n_channels, 1, (std::int64_t{1} << 32) - 1, "n_channels");
    constexpr RdmKind kinds[] = {RdmKind::correlation, RdmKind::cosine, RdmKind::sqeuclidean, RdmKind::euclidean, RdmKind::spearman};
    CancelCall call(context);
    const Run run = run_of(context);
    with_matrix(activations, dtype, n_conditions, n_channels, stride, [&](const auto& x) { fastrdm::whole_rdm(run, x, kinds[method], rdm); });
  });
}

int fastrdm_gram(const fastrdm_context* context, const void* activations, int32_t dtype, int64_t n_conditions, int64_t n_channels, int64_t stride,
                 double* products) {
  return guarded([&] {
    check_activations(activations, n_conditions, n_channels, stride);
    check_given(products, "products");
    CancelCall call(context);
    const Run run = run_of(context);
    with_matrix(activations, dtype, n_conditions, n_channels, stride, [&](const auto& x) {
      const Index width = fastrdm::share_width(run.isa, x.cols, dtype == FASTRDM_FLOAT64 ? 8 : 4);
      const std::vector<double> shift(static_cast<std::size_t>(n_conditions));
      auto shifted = x;
      shifted.shift = shift.data();
      fastrdm::products(run.isa, shifted, static_cast<decltype(&shifted)>(nullptr), width, false, products, x.rows, nullptr, run.n_threads);
    });
  });
}

int fastrdm_rank(const fastrdm_context* context, const double* rows, int64_t n_rows, int64_t n_columns, double* ranks) {
  return guarded([&] {
    check_given(rows, "rows");
    check_given(ranks, "ranks");
    check_size(n_rows, 0, kMostConditions, "n_rows");
    check_size(n_columns, 1, (std::int64_t{1} << 32) - 1, "n_columns");
    require(rows != ranks, "ranks must not be rows");
    CancelCall call(context);
    check_finite(rows, n_rows, n_columns, "rows", true);
    fastrdm::rank(rows, static_cast<Index>(n_rows), static_cast<Index>(n_columns), ranks, run_of(context).n_threads);
  });
}

int fastrdm_compare(const fastrdm_context* context, const double* models, int64_t n_models, const double* brains, int64_t n_brains, int64_t n_pairs,
                    int32_t similarity, double* similarities) {
  return guarded([&] {
    check_given(models, "models");
    check_given(brains, "brains");
    check_given(similarities, "similarities");
    check_size(n_models, 1, kMostConditions, "n_models");
    check_size(n_brains, 1, kMostConditions, "n_brains");
    check_size(n_pairs, 2, (std::int64_t{1} << 32) - 2, "n_pairs");
    const SimilarityKind kind = similarity_of(similarity);
    CancelCall call(context);
    check_finite(models, n_models, n_pairs, "models");
    check_finite(brains, n_brains, n_pairs, "brains");
    fastrdm::compare_rdms(run_of(context), models, static_cast<Index>(n_models), brains, static_cast<Index>(n_brains), static_cast<Index>(n_pairs),
                          kind, similarities);
  });
}

int fastrdm_noise_ceiling(const fastrdm_context* context, const double* subjects, int64_t n_subjects, int64_t n_conditions, int32_t similarity,
                          int32_t pool, double* lower, double* upper) {
  return guarded([&] {
    check_given(subjects, "subjects");
    check_given(lower, "lower");
    check_given(upper, "upper");
    check_size(n_subjects, 2, kMostConditions, "n_subjects");
    check_size(n_conditions, 3, 1 << 16, "n_conditions");
    const SimilarityKind kind = similarity_of(similarity);
    require(pool == FASTRDM_POOL_RAW || (pool == FASTRDM_POOL_RANK && is_rank_correlation(similarity)),
            "pool must be FASTRDM_POOL_RAW or, for FASTRDM_SPEARMAN and FASTRDM_RHO_A, FASTRDM_POOL_RANK; got " + std::to_string(pool));
    CancelCall call(context);
    check_finite(subjects, n_subjects, fastrdm_n_pairs(n_conditions), "subjects");
    fastrdm::ceiling_of(run_of(context), subjects, static_cast<Index>(n_subjects), static_cast<Index>(n_conditions), kind, pool == FASTRDM_POOL_RANK,
                        lower, upper);
  });
}

int fastrdm_resampled_similarities(const fastrdm_context* context, const double* models, int64_t n_models, const double* brains, int64_t n_brains,
                                   int64_t n_conditions, const int32_t* counts, int64_t n_draws, int32_t similarity, double* similarities) {
  return guarded([&] {
    check_given(models, "models");
    check_given(brains, "brains");
    check_given(counts, "counts");
    check_given(similarities, "similarities");
    check_size(n_models, 1, kMostConditions, "n_models");
    check_size(n_brains, 1, kMostConditions, "n_brains");
    check_size(n_conditions, 3, 1 << 16, "n_conditions");
    check_size(n_draws, 1, kMostConditions, "n_draws");
    require(is_rank_correlation(similarity), "similarity must be FASTRDM_SPEARMAN or FASTRDM_RHO_A, got " + std::to_string(similarity));
    for (std::int64_t i = 0; i < n_draws * n_conditions; ++i)
      require(0 <= counts[i] && counts[i] < 1 << 16, "counts must be from 0 to 65535, got " + std::to_string(counts[i]));
    CancelCall call(context);
    const std::int64_t n_pairs = fastrdm_n_pairs(n_conditions);
    check_finite(models, n_models, n_pairs, "models");
    check_finite(brains, n_brains, n_pairs, "brains");
    const Run run = run_of(context);
    fastrdm::resampled_similarities(run.isa, models, static_cast<Index>(n_models), brains, static_cast<Index>(n_brains),
                                    static_cast<Index>(n_conditions), counts, static_cast<Index>(n_draws), false, similarity == FASTRDM_RHO_A,
                                    similarities, run.n_threads);
  });
}

}  // extern "C"
