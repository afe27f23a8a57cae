// The C functions of noise-normalised distances and of searchlights. No exception leaves them.

#include "c_calls.hpp"

using namespace fastrdm;

namespace {

void check_centres(const std::int64_t* neighbours, const std::int64_t* starts, std::int64_t n_centres, std::int64_t n_channels) {
  check_given(neighbours, "neighbours");
  check_given(starts, "starts");
  check_size(n_centres, 1, kMostConditions, "n_centres");
  require(starts[0] == 0, "starts[0] must be 0, got " + std::to_string(starts[0]));
  for (std::int64_t k = 0; k < n_centres; ++k)
    if (!(starts[k] < starts[k + 1] && starts[k + 1] <= kMost))
      throw std::invalid_argument("starts must rise, got " + std::to_string(starts[k]) + " and " + std::to_string(starts[k + 1]) + " at centre " +
                                  std::to_string(k));
  in_stretches(static_cast<Index>(starts[n_centres]), [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i)
      if (!(0 <= neighbours[i] && neighbours[i] < n_channels))
        throw std::invalid_argument("neighbours[" + std::to_string(i) + "] is " + std::to_string(neighbours[i]) + ", and data have " +
                                    std::to_string(n_channels) + " channels");
  });
}

void check_data(const void* data, std::int64_t n_conditions, std::int64_t n_channels, std::int64_t stride) {
  check_activations(data, n_conditions, n_channels, stride, "data");
  check_size(n_conditions, 2, 1 << 16, "n_conditions");
}

}  // namespace

extern "C" {

int fastrdm_mahalanobis_rdm(const fastrdm_context* context, const void* activations, int32_t dtype, int64_t n_conditions, int64_t n_channels,
                            int64_t stride, const double* precision, double* rdm) {
  return guarded([&] {
    check_activations(activations, n_conditions, n_channels, stride);
    check_given(precision, "precision");
    check_given(rdm, "rdm");
    check_size(n_channels, 1, kMostConditions, "n_channels");
    CancelCall call(context);
    const Run run = run_of(context);
    with_matrix(activations, dtype, n_conditions, n_channels, stride, [&](const auto& x) { mahalanobis(run, x, precision, rdm); });
  });
}

int fastrdm_crossnobis_rdm(const fastrdm_context* context, const void* measurements, int32_t dtype, int64_t n_folds, int64_t n_conditions,
                           int64_t n_channels, const double* precision, double* rdm) {
  return guarded([&] {
    check_activations(measurements, n_conditions, n_channels, n_channels, "measurements");
    check_given(rdm, "rdm");
    check_size(n_folds, 2, kMostConditions / n_conditions, "n_folds");
    require(n_channels <= INT64_MAX / 8 / n_conditions / n_folds, "n_folds * n_conditions * n_channels is too large");
    if (precision) check_size(n_channels, 1, kMostConditions, "n_channels");
    CancelCall call(context);
    const Run run = run_of(context);
    with_matrix(measurements, dtype, n_folds * n_conditions, n_channels, n_channels,
                [&](const auto& x) { crossnobis(run, x, static_cast<Index>(n_folds), precision, rdm); });
  });
}

int fastrdm_searchlight_rdms(const fastrdm_context* context, const void* data, int32_t dtype, int64_t n_conditions, int64_t n_channels,
                             int64_t stride, const int64_t* neighbours, const int64_t* starts, int64_t n_centres, int32_t method, double* rdms) {
  return guarded([&] {
    check_data(data, n_conditions, n_channels, stride);
    check_given(rdms, "rdms");
    check_centres(neighbours, starts, n_centres, n_channels);
    check_method(method);
    CancelCall call(context);
    const Run run = run_of(context);
    const Centres centres{neighbours, starts, static_cast<Index>(n_centres)};
    with_matrix(data, dtype, n_conditions, n_channels, stride, [&](const auto& x) { searchlight_rdms(run, x, centres, method, rdms); });
  });
}

int fastrdm_searchlight_scores(const fastrdm_context* context, const void* data, int32_t dtype, int64_t n_conditions, int64_t n_channels,
                               int64_t stride, const int64_t* neighbours, const int64_t* starts, int64_t n_centres, int32_t method,
                               const double* models, int64_t n_models, int32_t similarity, double* scores) {
  return guarded([&] {
    check_data(data, n_conditions, n_channels, stride);
    check_size(n_conditions, 3, 1 << 16, "n_conditions");
    check_given(models, "models");
    check_given(scores, "scores");
    check_centres(neighbours, starts, n_centres, n_channels);
    check_method(method);
    check_size(n_models, 1, kMostConditions, "n_models");
    const SimilarityKind kind = similarity_of(similarity);
    CancelCall call(context);
    check_finite(models, n_models, fastrdm_n_pairs(n_conditions), "models");
    const Run run = run_of(context);
    const Centres centres{neighbours, starts, static_cast<Index>(n_centres)};
    with_matrix(data, dtype, n_conditions, n_channels, stride,
                [&](const auto& x) { searchlight_scores(run, x, centres, method, models, static_cast<Index>(n_models), kind, scores); });
  });
}

}  // extern "C"
