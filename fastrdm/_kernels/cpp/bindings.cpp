// The Python module: checks of shapes, and calls. The only file that includes Python headers.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "interrupt.hpp"
#include "isa.hpp"
#include "pace.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using fastrdm::BFloat16;
using fastrdm::Half;
using fastrdm::Index;
using fastrdm::Matrix;

template <typename T>
using Rows = nb::ndarray<const T, nb::ndim<2>, nb::device::cpu>;
using Vector = nb::ndarray<const double, nb::shape<-1>, nb::c_contig, nb::device::cpu>;
using OutVector = nb::ndarray<double, nb::shape<-1>, nb::c_contig, nb::device::cpu>;
using OutMatrix = nb::ndarray<double, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
template <typename T>
using Prepared = nb::ndarray<const T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using RankRows = nb::ndarray<const double, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
template <std::size_t n>
using OutCounts = nb::ndarray<std::int64_t, nb::ndim<n>, nb::c_contig, nb::device::cpu>;

// 16-bit floats arrive as bits: bfloat16 has no buffer format.
template <typename S>
using Stored = std::conditional_t<sizeof(S) == 2, std::uint16_t, S>;

template <typename S>
Matrix<S> matrix(const Rows<Stored<S>>& rows, const double* shift) {
  if (rows.shape(0) > 0 && rows.shape(1) > 1 && rows.stride(1) != 1) throw std::invalid_argument("rows must be contiguous");
  return {reinterpret_cast<const S*>(rows.data()), static_cast<Index>(rows.shape(0)), static_cast<Index>(rows.shape(1)),
          static_cast<Index>(rows.stride(0)), shift};
}

// A call whose kernel computes without the GIL. Every 100 ms, Python's signal handlers run if this is the main thread; if one of them raises, the
// kernel is interrupted, and the exception stays set.
class Released final : public fastrdm::Call {
 public:
  Released() : thread_(PyEval_SaveThread()) {}
  ~Released() { PyEval_RestoreThread(thread_); }

 private:
  bool stop_asked() override {
    if (elsewhere_) return false;
    PyEval_RestoreThread(thread_);
    const bool raised = PyErr_CheckSignals() != 0;
    // In other threads there is nothing to ask for, and waiting for the GIL takes time.
    if (!raised) elsewhere_ = !in_main_thread();
    thread_ = PyEval_SaveThread();
    return raised;
  }

  static bool in_main_thread() {
    try {
      const auto ident = nb::module_::import_("threading").attr("main_thread")().attr("ident");
      return nb::cast<unsigned long>(ident) == PyThread_get_thread_ident();
    } catch (const std::exception&) {  // the interpreter is being shut down
      return true;
    }
  }

  PyThreadState* thread_;
  bool elsewhere_ = false;
};

void check(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

template <typename S>
void gram(const Rows<Stored<S>>& x, const Vector& shift, std::size_t share, bool add, OutMatrix& out, OutVector& sums, int n_threads,
          const std::string& isa) {
  check(shift.shape(0) == x.shape(0) && sums.shape(0) == x.shape(0) && out.shape(0) == x.shape(0) && out.shape(1) == x.shape(0) && share > 0,
        "gram: shapes disagree");
  const auto& chosen = fastrdm::isa_named(isa);
  const auto a = matrix<S>(x, shift.data());
  Released released;
  fastrdm::products<S>(chosen, a, nullptr, static_cast<Index>(share), add, out.data(), static_cast<Index>(out.shape(1)), sums.data(), n_threads);
}

template <typename S>
void guess_means(const Rows<Stored<S>>& x, OutVector& means) {
  check(means.shape(0) == x.shape(0) && x.shape(1) > 0, "guess_means: shapes disagree");
  const auto rows = matrix<S>(x, nullptr);
  Released released;
  fastrdm::guess_means<S>(rows, means.data());
}

template <typename S>
void cross(const Rows<Stored<S>>& a, const Rows<Stored<S>>& b, const Vector& shift_a, const Vector& shift_b, std::size_t share, bool add,
           OutMatrix& out, int n_threads, const std::string& isa) {
  check(a.shape(1) == b.shape(1) && out.shape(0) == a.shape(0) && out.shape(1) == b.shape(0) && shift_a.shape(0) == a.shape(0) &&
            shift_b.shape(0) == b.shape(0) && share > 0,
        "cross: shapes disagree");
  const auto& chosen = fastrdm::isa_named(isa);
  const auto left = matrix<S>(a, shift_a.data()), right = matrix<S>(b, shift_b.data());
  Released released;
  fastrdm::products<S>(chosen, left, &right, static_cast<Index>(share), add, out.data(), static_cast<Index>(out.shape(1)), nullptr, n_threads);
}

using Pairs = nb::ndarray<const std::int32_t, nb::shape<-1, 2>, nb::c_contig, nb::device::cpu>;

template <typename S>
void differences(const Rows<Stored<S>>& a, const Rows<Stored<S>>& b, const Vector& shift_a, const Vector& shift_b, const Vector& factor_a,
                 const Vector& factor_b, const Pairs& pairs, OutVector& out, int n_threads, const std::string& isa) {
  check(a.shape(1) == b.shape(1) && shift_a.shape(0) == a.shape(0) && shift_b.shape(0) == b.shape(0) && factor_a.shape(0) == a.shape(0) &&
            factor_b.shape(0) == b.shape(0) && out.shape(0) == pairs.shape(0),
        "differences: shapes disagree");
  static_assert(sizeof(fastrdm::Pair) == 2 * sizeof(std::int32_t));
  const auto& chosen = fastrdm::isa_named(isa);
  const auto left = matrix<S>(a, shift_a.data()), right = matrix<S>(b, shift_b.data());
  Released released;
  fastrdm::in_stretches(static_cast<Index>(pairs.shape(0)), [&](Index begin, Index end) {
    for (Index p = begin; p < end; ++p) {
      const std::int32_t i = pairs.data()[2 * p], j = pairs.data()[2 * p + 1];
      check(i >= 0 && j >= 0 && i < left.rows && j < right.rows, "differences: no such row");
    }
  });
  fastrdm::differences<S>(chosen, left, factor_a.data(), right, factor_b.data(), reinterpret_cast<const fastrdm::Pair*>(pairs.data()),
                          static_cast<Index>(pairs.shape(0)), out.data(), n_threads);
}

template <typename S>
Index distinct(const Rows<Stored<S>>& x, nb::ndarray<typename fastrdm::ProductOf<S>::Type, nb::shape<-1>, nb::c_contig, nb::device::cpu>& out) {
  check(x.shape(1) > 0 && out.shape(0) > 0 && out.shape(0) < 1 << 16, "distinct: shapes disagree");
  const auto rows = matrix<S>(x, nullptr);
  Released released;
  return fastrdm::distinct<S>(rows, static_cast<Index>(out.shape(0)), out.data());
}

std::size_t share(std::size_t cols, std::size_t size, const std::string& isa) {
  return static_cast<std::size_t>(fastrdm::share_width(fastrdm::isa_named(isa), static_cast<Index>(cols), static_cast<Index>(size)));
}

template <typename T>
fastrdm::Rows<T> prepared(const Prepared<T>& rows, const Vector& squares) {
  check(rows.shape(1) % fastrdm::kRowLength == 0 && squares.shape(0) == rows.shape(0), "prepared rows: shapes disagree");
  return {rows.data(), static_cast<Index>(rows.shape(0)), static_cast<Index>(rows.shape(1)), squares.data()};
}

void check_similarities(std::size_t rows_a, std::size_t rows_b, bool paired, const OutMatrix& out) {
  check(out.shape(0) == rows_a && out.shape(1) == (paired ? 1 : rows_b) && (!paired || rows_a == rows_b), "similarities: shapes disagree");
}

void similarities(const Prepared<double>& a, const Vector& squares_a, const Prepared<double>& b, const Vector& squares_b, bool paired, OutMatrix& out,
                  int n_threads, const std::string& isa) {
  const auto left = prepared(a, squares_a), right = prepared(b, squares_b);
  check(left.stride == right.stride, "similarities: shapes disagree");
  check_similarities(a.shape(0), b.shape(0), paired, out);
  const auto& chosen = fastrdm::isa_named(isa);
  Released released;
  fastrdm::similarities(chosen, left, right, paired, out.data(), n_threads);
}

template <typename T>
void rank_similarities(const Rows<T>& a, double squares, const Prepared<float>& b, const Vector& squares_b, bool paired, OutMatrix& out,
                       int n_threads, const std::string& isa) {
  const auto left = matrix<T>(a, nullptr);
  const auto right = prepared(b, squares_b);
  check(left.cols > 0 && left.cols <= right.stride && a.shape(1) < (std::size_t{1} << 32), "rank_similarities: shapes disagree");
  check_similarities(a.shape(0), b.shape(0), paired, out);
  const auto& chosen = fastrdm::isa_named(isa);
  Released released;
  fastrdm::rank_similarities(chosen, left.data, left.rows, left.cols, left.stride, squares, right, paired, out.data(), n_threads);
}

template <typename T>
void centred_ranks(const Rows<T>& x, nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>& out, OutVector& squares, int n_threads) {
  const auto rows = matrix<T>(x, nullptr);
  check(rows.cols > 0 && out.shape(0) == x.shape(0) && squares.shape(0) == x.shape(0) && out.shape(1) >= x.shape(1) &&
            x.shape(1) < (std::size_t{1} << 32),
        "centred_ranks: shapes disagree");
  Released released;
  fastrdm::centred_ranks(rows.data, rows.rows, rows.cols, rows.stride, out.data(), static_cast<Index>(out.shape(1)), squares.data(), n_threads);
}

void rank(const nb::ndarray<const double, nb::ndim<2>, nb::c_contig, nb::device::cpu>& x, OutMatrix& out, int n_threads) {
  check(x.shape(0) == out.shape(0) && x.shape(1) == out.shape(1), "rank: shapes disagree");
  check(x.shape(1) < (std::size_t{1} << 32), "rank: more than 2**32 values in a row");
  Released released;
  fastrdm::rank(x.data(), static_cast<Index>(x.shape(0)), static_cast<Index>(x.shape(1)), out.data(), n_threads);
}

fastrdm::Tile tile(const nb::ndarray<const double, nb::ndim<2>, nb::c_contig, nb::device::cpu>& product, bool condensed, const Vector& norms_a,
                   const Vector& norms_b, const OutVector& out) {
  const std::size_t rows = product.shape(0), cols = product.shape(1);
  check(norms_a.shape(0) == rows && norms_b.shape(0) == cols && (!condensed || rows == cols) &&
            out.shape(0) == (condensed ? rows * (rows - 1) / 2 : rows * cols),
        "tile: shapes disagree");
  return {product.data(), static_cast<Index>(rows), static_cast<Index>(cols), static_cast<Index>(cols), condensed, norms_a.data(), norms_b.data()};
}

Index angles(const nb::ndarray<const double, nb::ndim<2>, nb::c_contig, nb::device::cpu>& product, bool condensed, const Vector& norms_a,
             const Vector& norms_b, const std::optional<Vector>& sums_a, const std::optional<Vector>& sums_b, double n, double near, OutVector& out) {
  const auto of = tile(product, condensed, norms_a, norms_b, out);
  check(sums_a.has_value() == sums_b.has_value() && (!sums_a || (sums_a->shape(0) == product.shape(0) && sums_b->shape(0) == product.shape(1))),
        "angles: shapes disagree");
  const double *left = sums_a ? sums_a->data() : nullptr, *right = sums_b ? sums_b->data() : nullptr;
  Released released;
  return fastrdm::angles(of, left, right, n, near, out.data());
}

Index distances(const nb::ndarray<const double, nb::ndim<2>, nb::c_contig, nb::device::cpu>& product, bool condensed, const Vector& norms_a,
                const Vector& norms_b, double near, OutVector& out) {
  const auto of = tile(product, condensed, norms_a, norms_b, out);
  Released released;
  return fastrdm::distances(of, near, out.data());
}

void merge_near(OutMatrix& values, double within, int n_threads) {
  check(values.shape(1) < (std::size_t{1} << 32), "merge_near: more than 2**32 values in a row");
  Released released;
  fastrdm::merge_near(values.data(), static_cast<Index>(values.shape(0)), static_cast<Index>(values.shape(1)), within, n_threads);
}

void concordance(const RankRows& a, const RankRows& b, OutCounts<2>& out, OutCounts<1>& untied_a, OutCounts<1>& untied_b, int n_threads,
                 const std::string& isa) {
  check(a.shape(1) == b.shape(1) && out.shape(0) == a.shape(0) && out.shape(1) == b.shape(0) && untied_a.shape(0) == a.shape(0) &&
            untied_b.shape(0) == b.shape(0),
        "concordance: shapes disagree");
  check(a.shape(1) < (std::size_t{1} << 32) - 1, "concordance: more than 2**32 values in a row");
  const auto& chosen = fastrdm::isa_named(isa);
  Released released;
  fastrdm::concordance(chosen, a.data(), static_cast<Index>(a.shape(0)), b.data(), static_cast<Index>(b.shape(0)), static_cast<Index>(a.shape(1)),
                       out.data(), untied_a.data(), untied_b.data(), n_threads);
}

using Counts = nb::ndarray<const std::int32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
template <std::size_t n>
using OutDoubles = nb::ndarray<double, nb::ndim<n>, nb::c_contig, nb::device::cpu>;

std::size_t pairs_of(std::size_t conditions) { return conditions * (conditions - 1) / 2; }

void check_counts(const Counts& counts, std::size_t columns) {
  check(counts.shape(1) == columns, "counts: shapes disagree");
  fastrdm::in_stretches(static_cast<Index>(counts.size()), [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) check(counts.data()[i] >= 0 && counts.data()[i] < 1 << 16, "counts: one is negative, or too large");
  });
}

void resampled_similarities(const RankRows& a, const RankRows& b, const Counts& counts, bool paired, bool untied, OutDoubles<3>& out, int n_threads,
                            const std::string& isa) {
  const std::size_t n = counts.shape(1);
  check(n >= 2 && a.shape(1) == pairs_of(n) && b.shape(1) == pairs_of(n) && a.shape(1) < (std::size_t{1} << 32) && out.shape(0) == counts.shape(0) &&
            out.shape(1) == a.shape(0) && out.shape(2) == (paired ? 1 : b.shape(0)) && (!paired || a.shape(0) == b.shape(0)),
        "resampled_similarities: shapes disagree");
  const auto& chosen = fastrdm::isa_named(isa);
  Released released;
  check_counts(counts, n);
  fastrdm::resampled_similarities(chosen, a.data(), static_cast<Index>(a.shape(0)), b.data(), static_cast<Index>(b.shape(0)), static_cast<Index>(n),
                                  counts.data(), static_cast<Index>(counts.shape(0)), paired, untied, out.data(), n_threads);
}

void resampled_ceilings(const RankRows& subjects, const std::optional<Counts>& condition_counts, const std::optional<Counts>& subject_counts,
                        std::size_t conditions, bool ranked, bool untied, double within, OutDoubles<3>& out, int n_threads, const std::string& isa) {
  const std::size_t draws = out.shape(0);
  check(conditions >= 2 && subjects.shape(1) == pairs_of(conditions) && subjects.shape(1) < (std::size_t{1} << 32) && out.shape(1) == 2 &&
            out.shape(2) == subjects.shape(0) && (!condition_counts || condition_counts->shape(0) == draws) &&
            (!subject_counts || subject_counts->shape(0) == draws),
        "resampled_ceilings: shapes disagree");
  const auto& chosen = fastrdm::isa_named(isa);
  const auto* of_conditions = condition_counts ? condition_counts->data() : nullptr;
  const auto* of_subjects = subject_counts ? subject_counts->data() : nullptr;
  Released released;
  if (condition_counts) check_counts(*condition_counts, conditions);
  if (subject_counts) check_counts(*subject_counts, subjects.shape(0));
  fastrdm::resampled_ceilings(chosen, subjects.data(), static_cast<Index>(subjects.shape(0)), static_cast<Index>(conditions), of_conditions,
                              of_subjects, static_cast<Index>(draws), ranked, untied, within, out.data(), n_threads);
}

template <typename T>
void permuted_similarities(const nb::ndarray<const T, nb::ndim<3>, nb::c_contig, nb::device::cpu>& a, const Vector& squares_a,
                           const Counts& permutations, const Prepared<T>& b, const Vector& squares_b, OutDoubles<3>& out, int n_threads,
                           const std::string& isa) {
  const std::size_t n = a.shape(1);
  const auto right = prepared(b, squares_b);
  check(n >= 2 && a.shape(2) == n && permutations.shape(1) == n && squares_a.shape(0) == a.shape(0) && b.shape(1) >= pairs_of(n) &&
            out.shape(0) == permutations.shape(0) && out.shape(1) == a.shape(0) && out.shape(2) == b.shape(0),
        "permuted_similarities: shapes disagree");
  const auto& chosen = fastrdm::isa_named(isa);
  Released released;
  fastrdm::in_stretches(static_cast<Index>(permutations.size()), [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i)
      check(permutations.data()[i] >= 0 && static_cast<std::size_t>(permutations.data()[i]) < n, "permuted_similarities: no such condition");
  });
  fastrdm::permuted_similarities(chosen, a.data(), squares_a.data(), static_cast<Index>(a.shape(0)), static_cast<Index>(n), permutations.data(),
                                 static_cast<Index>(permutations.shape(0)), right, out.data(), n_threads);
}

void normalise(const nb::ndarray<const std::uint8_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>& pixels,
               const nb::ndarray<const float, nb::shape<3, 256>, nb::c_contig, nb::device::cpu>& table, const std::array<int, 3>& channels,
               nb::ndarray<float, nb::ndim<3>, nb::c_contig, nb::device::cpu>& out, int n_threads) {
  check(pixels.shape(2) == 3 && out.shape(0) == pixels.shape(0) && out.shape(1) == 3 && out.shape(2) == pixels.shape(1),
        "normalise: shapes disagree");
  for (const int channel : channels) check(0 <= channel && channel < 3, "normalise: no such channel");
  Released released;
  fastrdm::normalise(pixels.data(), static_cast<Index>(pixels.shape(0)), static_cast<Index>(pixels.shape(1)), table.data(), channels.data(),
                     out.data(), n_threads);
}

void project(const Rows<float>& x, const nb::ndarray<const std::uint32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>& entries, const Vector& shift,
             double scale, nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>& out, OutVector& sums, int n_threads) {
  const auto rows = matrix<float>(x, shift.data());
  check(entries.shape(0) == (x.shape(1) + fastrdm::kSignBlock - 1) / fastrdm::kSignBlock && shift.shape(0) == x.shape(0) &&
            out.shape(0) == x.shape(0) && sums.shape(0) == x.shape(0),
        "project: shapes disagree");
  Released released;
  fastrdm::project(rows, {entries.data(), static_cast<Index>(entries.shape(1)), static_cast<Index>(out.shape(1))}, scale, out.data(), sums.data(),
                   n_threads);
}

using Indices = nb::ndarray<const std::int64_t, nb::shape<-1>, nb::c_contig, nb::device::cpu>;

const Index* indices(const Indices& values) {
  static_assert(sizeof(Index) == sizeof(std::int64_t));
  return reinterpret_cast<const Index*>(values.data());
}

void check_lists(const Indices& values, const Indices& starts, Index below) {
  check(starts.shape(0) > 0 && starts.data()[0] == 0 && starts.data()[starts.shape(0) - 1] == static_cast<std::int64_t>(values.shape(0)),
        "lists: starts do not fit");
  for (std::size_t k = 0; k + 1 < starts.shape(0); ++k) check(starts.data()[k] < starts.data()[k + 1], "lists: one is empty");
  for (std::size_t k = 0; k < values.shape(0); ++k) check(values.data()[k] >= 0 && values.data()[k] < below, "lists: no such index");
}

template <typename S>
fastrdm::Light<S> light_of(const Prepared<S>& x, const Indices& channels, const Indices& channel_starts, std::size_t n_samples, int method,
                           bool whole, const std::optional<Vector>& row_shift) {
  check(x.shape(1) > 1 && n_samples > 0 && x.shape(0) % n_samples == 0 && method >= 0 && method <= fastrdm::Light<S>::spearman &&
            (!row_shift || row_shift->shape(0) == x.shape(0)),
        "searchlight: shapes disagree");
  check_lists(channels, channel_starts, static_cast<Index>(x.shape(0) / n_samples));
  return {x.data(),
          static_cast<Index>(x.shape(1)),
          indices(channels),
          indices(channel_starts),
          static_cast<Index>(channel_starts.shape(0)) - 1,
          static_cast<Index>(n_samples),
          static_cast<typename fastrdm::Light<S>::Method>(method),
          whole,
          row_shift ? row_shift->data() : nullptr};
}

template <typename S>
void searchlight(const Prepared<S>& x, const Indices& channels, const Indices& channel_starts, std::size_t n_samples, const Indices& samples,
                 const Indices& sample_starts, int method, bool whole, const std::optional<Vector>& row_shift, OutMatrix& out, int n_threads,
                 const std::string& isa) {
  const auto light = light_of<S>(x, channels, channel_starts, n_samples, method, whole, row_shift);
  check_lists(samples, sample_starts, light.n_samples);
  const Index n_windows = static_cast<Index>(sample_starts.shape(0)) - 1;
  check(static_cast<Index>(out.shape(0)) == light.n_centres * n_windows && out.shape(1) == pairs_of(x.shape(1)), "searchlight: shapes disagree");
  const auto& chosen = fastrdm::isa_named(isa);
  Released released;
  fastrdm::searchlight(chosen, light, indices(samples), indices(sample_starts), n_windows, out.data(), n_threads);
}

template <typename S>
void sliding_searchlight(const Prepared<S>& x, const Indices& channels, const Indices& channel_starts, std::size_t n_samples, const Indices& starts,
                         std::size_t width, std::size_t origin, int method, bool whole, const std::optional<Vector>& row_shift, OutMatrix& out,
                         int n_threads, const std::string& isa) {
  const auto light = light_of<S>(x, channels, channel_starts, n_samples, method, whole, row_shift);
  const std::size_t n_windows = starts.shape(0);
  check(method != fastrdm::Light<S>::spearman && width > 0 && n_windows > 0, "sliding_searchlight: wrong method or width");
  auto last = static_cast<std::int64_t>(origin);
  for (std::size_t k = 0; k < n_windows; last = starts.data()[k++])
    check(starts.data()[k] >= last + (k > 0 ? 1 : 0) && starts.data()[k] + static_cast<std::int64_t>(width) <= static_cast<std::int64_t>(n_samples),
          "sliding_searchlight: windows do not rise, or do not fit");
  check(static_cast<Index>(out.shape(0)) == light.n_centres * static_cast<Index>(n_windows) && out.shape(1) == pairs_of(x.shape(1)),
        "sliding_searchlight: shapes disagree");
  const auto& chosen = fastrdm::isa_named(isa);
  Released released;
  fastrdm::sliding_searchlight(chosen, light, indices(starts), static_cast<Index>(n_windows), static_cast<Index>(width), static_cast<Index>(origin),
                               out.data(), n_threads);
}

std::vector<std::string> isas() {
  std::vector<std::string> names;
  for (const auto* isa : fastrdm::available_isas()) names.emplace_back(isa->name);
  return names;
}

}  // namespace

NB_MODULE(_core, m) {
  // The handler's exception is set already.
  nb::register_exception_translator([](const std::exception_ptr& thrown, void*) {
    try {
      std::rethrow_exception(thrown);
    } catch (const fastrdm::Interrupted&) {
    }
  });
  const auto define = [&m](const std::string& suffix, auto of) {
    using S = decltype(of);
    m.def(("gram" + suffix).c_str(), &gram<S>, "x"_a.noconvert(), "shift"_a.noconvert(), "share"_a, "add"_a, "out"_a.noconvert(),
          "sums"_a.noconvert(), "n_threads"_a, "isa"_a);
    m.def(("cross" + suffix).c_str(), &cross<S>, "a"_a.noconvert(), "b"_a.noconvert(), "shift_a"_a.noconvert(), "shift_b"_a.noconvert(), "share"_a,
          "add"_a, "out"_a.noconvert(), "n_threads"_a, "isa"_a);
    m.def(("differences" + suffix).c_str(), &differences<S>, "a"_a.noconvert(), "b"_a.noconvert(), "shift_a"_a.noconvert(), "shift_b"_a.noconvert(),
          "factor_a"_a.noconvert(), "factor_b"_a.noconvert(), "pairs"_a.noconvert(), "out"_a.noconvert(), "n_threads"_a, "isa"_a);
    m.def(("guess_means" + suffix).c_str(), &guess_means<S>, "x"_a.noconvert(), "means"_a.noconvert());
    m.def(("distinct" + suffix).c_str(), &distinct<S>, "x"_a.noconvert(), "out"_a.noconvert());
  };
  define("", float{});
  define("", double{});
  define("_float16", Half{});
  define("_bfloat16", BFloat16{});
  m.def("share", &share, "cols"_a, "size"_a, "isa"_a);
  m.def("angles", &angles, "product"_a.noconvert(), "condensed"_a, "norms_a"_a.noconvert(), "norms_b"_a.noconvert(), "sums_a"_a.noconvert().none(),
        "sums_b"_a.noconvert().none(), "n"_a, "near"_a, "out"_a.noconvert());
  m.def("distances", &distances, "product"_a.noconvert(), "condensed"_a, "norms_a"_a.noconvert(), "norms_b"_a.noconvert(), "near"_a,
        "out"_a.noconvert());
  m.def("similarities", &similarities, "a"_a.noconvert(), "squares_a"_a.noconvert(), "b"_a.noconvert(), "squares_b"_a.noconvert(), "paired"_a,
        "out"_a.noconvert(), "n_threads"_a, "isa"_a);
  m.def("rank_similarities", &rank_similarities<float>, "a"_a.noconvert(), "squares"_a, "b"_a.noconvert(), "squares_b"_a.noconvert(), "paired"_a,
        "out"_a.noconvert(), "n_threads"_a, "isa"_a);
  m.def("rank_similarities", &rank_similarities<double>, "a"_a.noconvert(), "squares"_a, "b"_a.noconvert(), "squares_b"_a.noconvert(), "paired"_a,
        "out"_a.noconvert(), "n_threads"_a, "isa"_a);
  m.def("centred_ranks", &centred_ranks<float>, "x"_a.noconvert(), "out"_a.noconvert(), "squares"_a.noconvert(), "n_threads"_a);
  m.def("centred_ranks", &centred_ranks<double>, "x"_a.noconvert(), "out"_a.noconvert(), "squares"_a.noconvert(), "n_threads"_a);
  m.def("rank", &rank, "x"_a.noconvert(), "out"_a.noconvert(), "n_threads"_a);
  m.def("merge_near", &merge_near, "values"_a.noconvert(), "within"_a, "n_threads"_a);
  m.def("concordance", &concordance, "a"_a.noconvert(), "b"_a.noconvert(), "out"_a.noconvert(), "untied_a"_a.noconvert(), "untied_b"_a.noconvert(),
        "n_threads"_a, "isa"_a);
  m.def("resampled_similarities", &resampled_similarities, "a"_a.noconvert(), "b"_a.noconvert(), "counts"_a.noconvert(), "paired"_a, "untied"_a,
        "out"_a.noconvert(), "n_threads"_a, "isa"_a);
  m.def("resampled_ceilings", &resampled_ceilings, "subjects"_a.noconvert(), "condition_counts"_a.noconvert().none(),
        "subject_counts"_a.noconvert().none(), "conditions"_a, "ranked"_a, "untied"_a, "within"_a, "out"_a.noconvert(), "n_threads"_a, "isa"_a);
  m.def("permuted_similarities", &permuted_similarities<float>, "a"_a.noconvert(), "squares_a"_a.noconvert(), "permutations"_a.noconvert(),
        "b"_a.noconvert(), "squares_b"_a.noconvert(), "out"_a.noconvert(), "n_threads"_a, "isa"_a);
  m.def("permuted_similarities", &permuted_similarities<double>, "a"_a.noconvert(), "squares_a"_a.noconvert(), "permutations"_a.noconvert(),
        "b"_a.noconvert(), "squares_b"_a.noconvert(), "out"_a.noconvert(), "n_threads"_a, "isa"_a);
  m.def("normalise", &normalise, "pixels"_a.noconvert(), "table"_a.noconvert(), "channels"_a, "out"_a.noconvert(), "n_threads"_a);
  m.def("project", &project, "x"_a.noconvert(), "entries"_a.noconvert(), "shift"_a.noconvert(), "scale"_a, "out"_a.noconvert(), "sums"_a.noconvert(),
        "n_threads"_a);
  const auto define_searchlight = [&m](auto of) {
    using S = decltype(of);
    m.def("searchlight", &searchlight<S>, "x"_a.noconvert(), "channels"_a.noconvert(), "channel_starts"_a.noconvert(), "n_samples"_a,
          "samples"_a.noconvert(), "sample_starts"_a.noconvert(), "method"_a, "whole"_a, "row_shift"_a.noconvert().none(), "out"_a.noconvert(),
          "n_threads"_a, "isa"_a);
    m.def("sliding_searchlight", &sliding_searchlight<S>, "x"_a.noconvert(), "channels"_a.noconvert(), "channel_starts"_a.noconvert(), "n_samples"_a,
          "starts"_a.noconvert(), "width"_a, "origin"_a, "method"_a, "whole"_a, "row_shift"_a.noconvert().none(), "out"_a.noconvert(), "n_threads"_a,
          "isa"_a);
  };
  define_searchlight(float{});
  define_searchlight(double{});
  m.def("isas", &isas);
}
