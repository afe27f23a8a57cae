// The C functions of contexts, whole RDMs, ranks and similarities. No exception leaves them.

#include <algorithm>
#include <string>
#include <thread>

#ifdef __linux__
#include <sched.h>
#endif

#include "c_calls.hpp"

#ifndef FASTRDM_VERSION_TEXT
#error "CMakeLists.txt defines the version"
#endif

namespace fastrdm {
namespace {

thread_local std::string last_error;

int processors() {
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

}  // namespace

void clear_error() noexcept { last_error.clear(); }

int failed(int status, const char* message) noexcept {
  try {
    last_error = message;
  } catch (...) {
    last_error.clear();
  }
  return status;
}

Run run_of(const fastrdm_context* context) {
  const auto* isa = context && context->isa ? context->isa : available_isas().front();
  return {*isa, context && context->n_threads ? context->n_threads : processors()};
}

}  // namespace fastrdm

using namespace fastrdm;

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
    check_method(method);
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
      if (!(0 <= counts[i] && counts[i] < 1 << 16)) throw std::invalid_argument("counts must be from 0 to 65535, got " + std::to_string(counts[i]));
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
