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
  std::vector<double> rdm(static_cast<std::size_t>(n_conditions < 2 ? 0 : fastrdm_n_pairs(n_conditions)));
  throw_if_failed(fastrdm_calc_rdm(context ? context->get() : nullptr, activations, dtype_of(activations), n_conditions, n_channels,
                                   stride ? stride : n_channels, static_cast<std::int32_t>(method), rdm.data()));
  return rdm;
}

template <typename T>
std::vector<double> gram(const T* activations, std::int64_t n_conditions, std::int64_t n_channels, const Context* context = nullptr,
                         std::int64_t stride = 0) {
  std::vector<double> products(static_cast<std::size_t>(n_conditions < 0 ? 0 : n_conditions * n_conditions));
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
