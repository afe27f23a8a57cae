// fastrdm for C++17: the functions of fastrdm.h with vectors and exceptions. Only this header is C++, so programs work with libraries of other
// compilers.
#pragma once

#include <fastrdm/fastrdm.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace fastrdm {

enum class Method : std::int32_t {
  correlation = FASTRDM_CORRELATION,
  cosine = FASTRDM_COSINE,
  sqeuclidean = FASTRDM_SQEUCLIDEAN,
  euclidean = FASTRDM_EUCLIDEAN,
  spearman = FASTRDM_SPEARMAN_RDM,
};

enum class Similarity : std::int32_t {
  spearman = FASTRDM_SPEARMAN,
  pearson = FASTRDM_PEARSON,
  cosine = FASTRDM_COSINE_SIMILARITY,
  tau_a = FASTRDM_TAU_A,
  tau_b = FASTRDM_TAU_B,
  rho_a = FASTRDM_RHO_A,
};

enum class Pool : std::int32_t { raw = FASTRDM_POOL_RAW, rank = FASTRDM_POOL_RANK };

// What a call with FASTRDM_CANCELLED throws.
struct Cancelled : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Throws for a status other than FASTRDM_OK: std::invalid_argument, std::range_error, std::bad_alloc, Cancelled or std::runtime_error.
inline void throw_if_failed(int status) {
  if (status == FASTRDM_OK) return;
  const std::string message = fastrdm_last_error();
  if (status == FASTRDM_INVALID) throw std::invalid_argument(message);
  if (status == FASTRDM_RANGE) throw std::range_error(message);
  if (status == FASTRDM_MEMORY) throw std::bad_alloc();
  if (status == FASTRDM_CANCELLED) throw Cancelled(message);
  throw std::runtime_error(message);
}

// Threads, instruction set and cancelling; see fastrdm_context. Its callback may not throw.
class Context {
 public:
  Context() {
    fastrdm_context* made = nullptr;
    throw_if_failed(fastrdm_context_create(&made));
    context_.reset(made);
  }
  Context& threads(int n_threads) {
    throw_if_failed(fastrdm_context_set_threads(get(), n_threads));
    return *this;
  }
  Context& isa(const std::string& name) {
    throw_if_failed(fastrdm_context_set_isa(get(), name.c_str()));
    return *this;
  }
  Context& cancel(std::function<bool()> asked) {
    asked_ = std::make_unique<std::function<bool()>>(std::move(asked));
    const auto call = [](void* user) -> int { return (*static_cast<std::function<bool()>*>(user))(); };
    throw_if_failed(fastrdm_context_set_cancel(get(), *asked_ ? call : static_cast<int (*)(void*)>(nullptr), asked_.get()));
    return *this;
  }
  std::string isa() const { return fastrdm_context_isa(get()); }
  fastrdm_context* get() const { return context_.get(); }

 private:
  struct Destroy {
    void operator()(fastrdm_context* context) const { fastrdm_context_destroy(context); }
  };
  std::unique_ptr<fastrdm_context, Destroy> context_;
  std::unique_ptr<std::function<bool()>> asked_;
};

inline std::int32_t dtype_of(const float*) { return FASTRDM_FLOAT32; }
inline std::int32_t dtype_of(const double*) { return FASTRDM_FLOAT64; }

// Rows of float or double, `stride` numbers apart; 0 for rows one after the other.
template <typename T>
std::vector<double> calc_rdm(const T* activations, std::int64_t n_conditions, std::int64_t n_channels, Method method = Method::correlation,
                             const Context* context = nullptr, std::int64_t stride = 0) {
  std::vector<double> rdm(static_cast<std::size_t>(fastrdm_n_pairs(n_conditions)));
  throw_if_failed(fastrdm_calc_rdm(context ? context->get() : nullptr, activations, dtype_of(activations), n_conditions, n_channels,
                                   stride ? stride : n_channels, static_cast<std::int32_t>(method), rdm.data()));
  return rdm;
}

template <typename T>
std::vector<double> gram(const T* activations, std::int64_t n_conditions, std::int64_t n_channels, const Context* context = nullptr,
                         std::int64_t stride = 0) {
  std::vector<double> products(static_cast<std::size_t>(fastrdm_n_pairs(n_conditions) ? n_conditions * n_conditions : 0));
  throw_if_failed(fastrdm_gram(context ? context->get() : nullptr, activations, dtype_of(activations), n_conditions, n_channels,
                               stride ? stride : n_channels, products.data()));
  return products;
}

// Ranks of rows one after the other, of n_columns each.
inline std::vector<double> rank(const std::vector<double>& rows, std::int64_t n_columns, const Context* context = nullptr) {
  const auto size = static_cast<std::int64_t>(rows.size());
  if (n_columns < 1 || size % n_columns) throw std::invalid_argument("rows is not a whole number of rows of n_columns");
  std::vector<double> ranks(rows.size());
  throw_if_failed(fastrdm_rank(context ? context->get() : nullptr, rows.data(), size / n_columns, n_columns, ranks.data()));
  return ranks;
}

// Similarities (models, brains) of condensed RDMs one after the other, of n_pairs each.
inline std::vector<double> compare(const std::vector<double>& models, const std::vector<double>& brains, std::int64_t n_pairs,
                                   Similarity similarity = Similarity::spearman, const Context* context = nullptr) {
  const auto n_models = static_cast<std::int64_t>(models.size()), n_brains = static_cast<std::int64_t>(brains.size());
  if (n_pairs < 1 || n_models % n_pairs || n_brains % n_pairs) throw std::invalid_argument("models or brains are not whole RDMs of n_pairs");
  std::vector<double> out(static_cast<std::size_t>(n_models / n_pairs * (n_brains / n_pairs)));
  throw_if_failed(fastrdm_compare(context ? context->get() : nullptr, models.data(), n_models / n_pairs, brains.data(), n_brains / n_pairs, n_pairs,
                                  static_cast<std::int32_t>(similarity), out.data()));
  return out;
}

// `precision` has n_channels rows of n_channels numbers.
template <typename T>
std::vector<double> mahalanobis_rdm(const T* activations, std::int64_t n_conditions, std::int64_t n_channels, const std::vector<double>& precision,
                                    const Context* context = nullptr, std::int64_t stride = 0) {
  if (static_cast<std::int64_t>(precision.size()) != n_channels * n_channels)
    throw std::invalid_argument("precision is not n_channels by n_channels");
  std::vector<double> rdm(static_cast<std::size_t>(fastrdm_n_pairs(n_conditions)));
  throw_if_failed(fastrdm_mahalanobis_rdm(context ? context->get() : nullptr, activations, dtype_of(activations), n_conditions, n_channels,
                                          stride ? stride : n_channels, precision.data(), rdm.data()));
  return rdm;
}

// Measurements (n_folds, n_conditions, n_channels). An empty precision stands for the unit matrix.
template <typename T>
std::vector<double> crossnobis_rdm(const T* measurements, std::int64_t n_folds, std::int64_t n_conditions, std::int64_t n_channels,
                                   const std::vector<double>& precision = {}, const Context* context = nullptr) {
  if (!precision.empty() && static_cast<std::int64_t>(precision.size()) != n_channels * n_channels)
    throw std::invalid_argument("precision is not n_channels by n_channels");
  std::vector<double> rdm(static_cast<std::size_t>(fastrdm_n_pairs(n_conditions)));
  throw_if_failed(fastrdm_crossnobis_rdm(context ? context->get() : nullptr, measurements, dtype_of(measurements), n_folds, n_conditions, n_channels,
                                         precision.empty() ? nullptr : precision.data(), rdm.data()));
  return rdm;
}

// The channels of each centre of a searchlight.
class Neighbourhoods {
 public:
  void add(const std::vector<std::int64_t>& channels) {
    channels_.insert(channels_.end(), channels.begin(), channels.end());
    starts_.push_back(static_cast<std::int64_t>(channels_.size()));
  }
  std::int64_t size() const { return static_cast<std::int64_t>(starts_.size()) - 1; }
  const std::int64_t* channels() const { return channels_.data(); }
  const std::int64_t* starts() const { return starts_.data(); }

 private:
  std::vector<std::int64_t> channels_, starts_{0};
};

// RDMs of the centres one after the other; data as the activations of calc_rdm.
template <typename T>
std::vector<double> searchlight_rdms(const T* data, std::int64_t n_conditions, std::int64_t n_channels, const Neighbourhoods& neighbours,
                                     Method method = Method::correlation, const Context* context = nullptr, std::int64_t stride = 0) {
  std::vector<double> rdms(static_cast<std::size_t>(neighbours.size() * fastrdm_n_pairs(n_conditions)));
  throw_if_failed(fastrdm_searchlight_rdms(context ? context->get() : nullptr, data, dtype_of(data), n_conditions, n_channels,
                                           stride ? stride : n_channels, neighbours.channels(), neighbours.starts(), neighbours.size(),
                                           static_cast<std::int32_t>(method), rdms.data()));
  return rdms;
}

// Similarities (centres, models) of these RDMs, which are not kept.
template <typename T>
std::vector<double> searchlight_scores(const T* data, std::int64_t n_conditions, std::int64_t n_channels, const Neighbourhoods& neighbours,
                                       const std::vector<double>& models, Method method = Method::correlation,
                                       Similarity similarity = Similarity::spearman, const Context* context = nullptr, std::int64_t stride = 0) {
  const std::int64_t n_pairs = fastrdm_n_pairs(n_conditions), size = static_cast<std::int64_t>(models.size());
  if (n_pairs < 1 || size % n_pairs) throw std::invalid_argument("models are not whole RDMs of n_conditions");
  std::vector<double> scores(static_cast<std::size_t>(neighbours.size() * (size / n_pairs)));
  throw_if_failed(fastrdm_searchlight_scores(context ? context->get() : nullptr, data, dtype_of(data), n_conditions, n_channels,
                                             stride ? stride : n_channels, neighbours.channels(), neighbours.starts(), neighbours.size(),
                                             static_cast<std::int32_t>(method), models.data(), size / n_pairs, static_cast<std::int32_t>(similarity),
                                             scores.data()));
  return scores;
}

struct NoiseCeiling {
  std::vector<double> lower, upper;  // one number for each subject
};

inline NoiseCeiling noise_ceiling(const std::vector<double>& subjects, std::int64_t n_conditions, Similarity similarity = Similarity::spearman,
                                  Pool pool = Pool::raw, const Context* context = nullptr) {
  const std::int64_t n_pairs = fastrdm_n_pairs(n_conditions), size = static_cast<std::int64_t>(subjects.size());
  if (n_pairs < 1 || size % n_pairs) throw std::invalid_argument("subjects are not whole RDMs of n_conditions");
  NoiseCeiling out{std::vector<double>(static_cast<std::size_t>(size / n_pairs)), std::vector<double>(static_cast<std::size_t>(size / n_pairs))};
  throw_if_failed(fastrdm_noise_ceiling(context ? context->get() : nullptr, subjects.data(), size / n_pairs, n_conditions,
                                        static_cast<std::int32_t>(similarity), static_cast<std::int32_t>(pool), out.lower.data(), out.upper.data()));
  return out;
}

}  // namespace fastrdm
