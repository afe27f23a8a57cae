/* fastrdm for C: RDMs, ranks, similarities of RDMs and noise ceilings, without Python.
 *
 * Every function returns a status, FASTRDM_OK (0) or what went wrong; fastrdm_last_error() has the sentence, which names the argument. Nothing is
 * written to the results unless the status is FASTRDM_OK, but a call that was cancelled or ran out of memory may have written some of them. Arrays
 * are the caller's, row-major and in host memory; sizes are int64_t and count elements, never bytes. Functions may be called from several threads,
 * each with a context of its own.
 *
 * The ABI is stable: functions and constants are added, never changed or removed, while FASTRDM_ABI_VERSION keeps its number. A program that was
 * compiled for an ABI runs with every later library of it: check that fastrdm_abi_version() == FASTRDM_ABI_VERSION and
 * fastrdm_abi_revision() >= FASTRDM_ABI_REVISION.
 */
#ifndef FASTRDM_H
#define FASTRDM_H

#include <stdint.h>

/* Incompatible changes raise the version (and the name of the shared library), added functions the revision. */
#define FASTRDM_ABI_VERSION 1
#define FASTRDM_ABI_REVISION 2

#if defined(_WIN32) && defined(FASTRDM_SHARED)
#ifdef FASTRDM_BUILDING
#define FASTRDM_API __declspec(dllexport)
#else
#define FASTRDM_API __declspec(dllimport)
#endif
#elif defined(__GNUC__)
#define FASTRDM_API __attribute__((visibility("default")))
#else
#define FASTRDM_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Statuses. */
#define FASTRDM_OK 0
#define FASTRDM_INVALID 1   /* an argument that cannot be right: null, a shape, a method, NaN or infinity */
#define FASTRDM_MEMORY 2    /* no memory */
#define FASTRDM_CANCELLED 3 /* the callback asked for it */
#define FASTRDM_RANGE 4     /* squares that leave the range of float64 */
#define FASTRDM_FAILED 5    /* anything else */

/* Types of activations: float16 is IEEE 754 half precision, and like bfloat16 passed as its bits. */
#define FASTRDM_FLOAT32 0
#define FASTRDM_FLOAT64 1
#define FASTRDM_FLOAT16 2
#define FASTRDM_BFLOAT16 3

/* Dissimilarities of two conditions x and y. */
#define FASTRDM_CORRELATION 0  /* 1 - Pearson's r over channels; NaN for a condition that is constant */
#define FASTRDM_COSINE 1       /* 1 - cosine; NaN for a condition that is zero */
#define FASTRDM_SQEUCLIDEAN 2  /* sum of squared differences, not divided by the channels */
#define FASTRDM_EUCLIDEAN 3    /* its root */
#define FASTRDM_SPEARMAN_RDM 4 /* 1 - Spearman's rho over channels */

/* Similarities of two RDMs. Those of a constant RDM (for the cosine: of zeros) are NaN, and 0 for tau-a and rho-a. */
#define FASTRDM_SPEARMAN 0
#define FASTRDM_PEARSON 1
#define FASTRDM_COSINE_SIMILARITY 2
#define FASTRDM_TAU_A 3
#define FASTRDM_TAU_B 4
#define FASTRDM_RHO_A 5

/* What subjects' RDMs are before they are averaged. */
#define FASTRDM_POOL_RAW 0
#define FASTRDM_POOL_RANK 1

/* FASTRDM_ABI_VERSION and FASTRDM_ABI_REVISION of the library, which may be older or newer than this header. */
FASTRDM_API int32_t fastrdm_abi_version(void);
FASTRDM_API int32_t fastrdm_abi_revision(void);
/* The library's version, such as "0.2.0". */
FASTRDM_API const char* fastrdm_version(void);
/* The last error of this thread as one sentence; empty if its last call succeeded. Valid until this thread's next call. */
FASTRDM_API const char* fastrdm_last_error(void);
/* A status in words; never null. */
FASTRDM_API const char* fastrdm_status_text(int status);

/* The instruction sets that this library has and this processor supports, the fastest first: the name of number `index` from 0, or null. */
FASTRDM_API const char* fastrdm_isa_name(int32_t index);

/* How calls run: threads, instruction set, cancelling. A null context stands for all processors, the fastest instruction set and no callback. */
typedef struct fastrdm_context fastrdm_context;

FASTRDM_API int fastrdm_context_create(fastrdm_context** context);
/* Null is allowed. */
FASTRDM_API void fastrdm_context_destroy(fastrdm_context* context);
/* 0 for one thread a processor. */
FASTRDM_API int fastrdm_context_set_threads(fastrdm_context* context, int32_t n_threads);
/* A name of fastrdm_isa_name, or null for the fastest. */
FASTRDM_API int fastrdm_context_set_isa(fastrdm_context* context, const char* name);
/* About every 100 ms, the calling thread calls `cancel(user)`; if it returns a number other than 0, the call ends with FASTRDM_CANCELLED. */
FASTRDM_API int fastrdm_context_set_cancel(fastrdm_context* context, int (*cancel)(void* user), void* user);
/* The name of the instruction set that calls with this context use. */
FASTRDM_API const char* fastrdm_context_isa(const fastrdm_context* context);

/* n (n - 1) / 2. */
FASTRDM_API int64_t fastrdm_n_pairs(int64_t n_conditions);

/* The condensed RDM (n_pairs: the upper triangle, row by row) of activations: n_conditions rows of n_channels numbers of type `dtype`, `stride`
 * numbers apart. A dissimilarity depends on its two conditions alone, whatever the threads; numbers that are integers give exact products; values
 * that differ only by rounding are made equal as by fastrdm.calc_rdm in Python. NaN and infinity are refused. */
FASTRDM_API int fastrdm_calc_rdm(const fastrdm_context* context, const void* activations, int32_t dtype, int64_t n_conditions, int64_t n_channels,
                                 int64_t stride, int32_t method, double* rdm);

/* Products of all pairs of rows, (n_conditions, n_conditions), symmetric to the bit; not centred. */
FASTRDM_API int fastrdm_gram(const fastrdm_context* context, const void* activations, int32_t dtype, int64_t n_conditions, int64_t n_channels,
                             int64_t stride, double* products);

/* Average ranks, from 1, within each of n_rows rows of n_columns numbers. NaN is refused. */
FASTRDM_API int fastrdm_rank(const fastrdm_context* context, const double* rows, int64_t n_rows, int64_t n_columns, double* ranks);

/* Similarities (n_models, n_brains) of all models' RDMs with all brains', each condensed with n_pairs entries. NaN and infinity are refused. */
FASTRDM_API int fastrdm_compare(const fastrdm_context* context, const double* models, int64_t n_models, const double* brains, int64_t n_brains,
                                int64_t n_pairs, int32_t similarity, double* similarities);

/* The noise ceiling: lower[s] is the similarity of subject s to the mean RDM of the others, upper[s] that to the mean of all. Not squared. RDMs are
 * condensed, of n_conditions. Needs two subjects. FASTRDM_POOL_RANK is for FASTRDM_SPEARMAN and FASTRDM_RHO_A. */
FASTRDM_API int fastrdm_noise_ceiling(const fastrdm_context* context, const double* subjects, int64_t n_subjects, int64_t n_conditions,
                                      int32_t similarity, int32_t pool, double* lower, double* upper);

/* Similarities (n_draws, n_models, n_brains) with resampled conditions: condition c occurs counts[d * n_conditions + c] times in draw d; pairs of a
 * condition with itself are left out. For FASTRDM_SPEARMAN and FASTRDM_RHO_A. Counts are from 0 to 65535. */
FASTRDM_API int fastrdm_resampled_similarities(const fastrdm_context* context, const double* models, int64_t n_models, const double* brains,
                                               int64_t n_brains, int64_t n_conditions, const int32_t* counts, int64_t n_draws, int32_t similarity,
                                               double* similarities);

/* Since revision 2. The condensed RDM of Mahalanobis distances, the root of (x - y)^T P (x - y), with the precision P of the channels' noise:
 * symmetric, positive definite, n_channels rows of n_channels numbers. Products are in float64. NaN and infinity are refused. */
FASTRDM_API int fastrdm_mahalanobis_rdm(const fastrdm_context* context, const void* activations, int32_t dtype, int64_t n_conditions,
                                        int64_t n_channels, int64_t stride, const double* precision, double* rdm);

/* Since revision 2. The condensed RDM of crossnobis distances: the mean over all pairs of different folds f and g of (x_f - y_f)^T P (x_g - y_g), not
 * divided by the channels; around 0, and so negative half of the time, if conditions do not differ. Measurements (n_folds, n_conditions, n_channels)
 * have each condition once in each of two folds or more. A null precision stands for the unit matrix. NaN and infinity are refused. */
FASTRDM_API int fastrdm_crossnobis_rdm(const fastrdm_context* context, const void* measurements, int32_t dtype, int64_t n_folds, int64_t n_conditions,
                                       int64_t n_channels, const double* precision, double* rdm);

/* Since revision 2. RDMs (n_centres, n_pairs) of neighbourhoods of channels: those of centre k are neighbours[starts[k]] to
 * neighbours[starts[k + 1] - 1], so that `starts` has n_centres + 1 numbers, the first of which is 0. No neighbourhood is empty; a channel may be in
 * many, and may as well be a sample of a sensor. Data are as the activations of fastrdm_calc_rdm, and methods have the same values; those of a
 * condition that is constant (cosine: zero) in a neighbourhood are NaN. A call takes memory for a copy of the data and of the indices. */
FASTRDM_API int fastrdm_searchlight_rdms(const fastrdm_context* context, const void* data, int32_t dtype, int64_t n_conditions, int64_t n_channels,
                                         int64_t stride, const int64_t* neighbours, const int64_t* starts, int64_t n_centres, int32_t method,
                                         double* rdms);

/* Since revision 2. Similarities (n_centres, n_models) of these RDMs to models' condensed RDMs, without memory for all RDMs. NaN for an RDM that has
 * NaN. Needs three conditions. */
FASTRDM_API int fastrdm_searchlight_scores(const fastrdm_context* context, const void* data, int32_t dtype, int64_t n_conditions, int64_t n_channels,
                                           int64_t stride, const int64_t* neighbours, const int64_t* starts, int64_t n_centres, int32_t method,
                                           const double* models, int64_t n_models, int32_t similarity, double* scores);

#ifdef __cplusplus
}
#endif

#endif
