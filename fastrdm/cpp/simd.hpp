// One vector register of float or double for the instruction set this file is compiled for, and the tile it feeds.
// reduce4 sums the lanes of four registers into four consecutive doubles.
#pragma once

#include <cstddef>

#if defined(FASTRDM_AVX512) || defined(FASTRDM_AVX2)
#include <immintrin.h>
#elif defined(FASTRDM_NEON)
#include <arm_neon.h>
#endif

namespace fastrdm::FASTRDM_ISA_NAME {

template <typename T>
struct Vec;

// kBlock: columns that a partial sum of its own type may span before it is flushed to float64. Longer blocks amortise the
// flush, shorter ones hold the error; a packed block of some 120 float32 rows and their sums have to fit into L2.

#if defined(FASTRDM_AVX512)

// 6 x 4 accumulators, four columns and one row: 29 of the 32 registers.
constexpr int kTileRows = 6;
constexpr std::ptrdiff_t kBlock = 768;

inline __m256 halves(__m512 a) { return _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1)); }
inline __m256d halves(__m512d a) { return _mm256_add_pd(_mm512_castpd512_pd256(a), _mm512_extractf64x4_pd(a, 1)); }

inline void add4(__m256 a, __m256 b, __m256 c, __m256 d, double* out) {
  const __m256 abcd = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
  const __m128 sum = _mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps(abcd, 1));
  _mm256_storeu_pd(out, _mm256_add_pd(_mm256_loadu_pd(out), _mm256_cvtps_pd(sum)));
}
inline void add4(__m256d a, __m256d b, __m256d c, __m256d d, double* out) {
  const __m256d ab = _mm256_hadd_pd(a, b), cd = _mm256_hadd_pd(c, d);
  const __m256d sum = _mm256_add_pd(_mm256_permute2f128_pd(ab, cd, 0x20), _mm256_permute2f128_pd(ab, cd, 0x31));
  _mm256_storeu_pd(out, _mm256_add_pd(_mm256_loadu_pd(out), sum));
}

template <>
struct Vec<float> {
  using Reg = __m512;
  static constexpr int lanes = 16;
  static Reg zero() { return _mm512_setzero_ps(); }
  static Reg load(const float* p) { return _mm512_loadu_ps(p); }
  static Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_ps(a, b, c); }
  static void add4_to(Reg a, Reg b, Reg c, Reg d, double* out) { add4(halves(a), halves(b), halves(c), halves(d), out); }
};

template <>
struct Vec<double> {
  using Reg = __m512d;
  static constexpr int lanes = 8;
  static Reg zero() { return _mm512_setzero_pd(); }
  static Reg load(const double* p) { return _mm512_loadu_pd(p); }
  static Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_pd(a, b, c); }
  static void add4_to(Reg a, Reg b, Reg c, Reg d, double* out) { add4(halves(a), halves(b), halves(c), halves(d), out); }
};

#elif defined(FASTRDM_AVX2)

// 3 x 4 accumulators, three columns kept and one row: all 16 registers.
constexpr int kTileRows = 3;
constexpr std::ptrdiff_t kBlock = 512;

template <>
struct Vec<float> {
  using Reg = __m256;
  static constexpr int lanes = 8;
  static Reg zero() { return _mm256_setzero_ps(); }
  static Reg load(const float* p) { return _mm256_loadu_ps(p); }
  static Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_ps(a, b, c); }
  static void add4_to(Reg a, Reg b, Reg c, Reg d, double* out) {
    const __m256 abcd = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    const __m128 sum = _mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps(abcd, 1));
    _mm256_storeu_pd(out, _mm256_add_pd(_mm256_loadu_pd(out), _mm256_cvtps_pd(sum)));
  }
};

template <>
struct Vec<double> {
  using Reg = __m256d;
  static constexpr int lanes = 4;
  static Reg zero() { return _mm256_setzero_pd(); }
  static Reg load(const double* p) { return _mm256_loadu_pd(p); }
  static Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_pd(a, b, c); }
  static void add4_to(Reg a, Reg b, Reg c, Reg d, double* out) {
    const __m256d ab = _mm256_hadd_pd(a, b), cd = _mm256_hadd_pd(c, d);
    const __m256d sum = _mm256_add_pd(_mm256_permute2f128_pd(ab, cd, 0x20), _mm256_permute2f128_pd(ab, cd, 0x31));
    _mm256_storeu_pd(out, _mm256_add_pd(_mm256_loadu_pd(out), sum));
  }
};

#elif defined(FASTRDM_NEON)

// 4 x 4 accumulators and five operands: 21 of the 32 registers.
constexpr int kTileRows = 4;
constexpr std::ptrdiff_t kBlock = 512;

template <>
struct Vec<float> {
  using Reg = float32x4_t;
  static constexpr int lanes = 4;
  static Reg zero() { return vdupq_n_f32(0); }
  static Reg load(const float* p) { return vld1q_f32(p); }
  static Reg fma(Reg a, Reg b, Reg c) { return vfmaq_f32(c, a, b); }
  static void add4_to(Reg a, Reg b, Reg c, Reg d, double* out) {
    const float32x4_t sum = vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d));
    vst1q_f64(out, vaddq_f64(vld1q_f64(out), vcvt_f64_f32(vget_low_f32(sum))));
    vst1q_f64(out + 2, vaddq_f64(vld1q_f64(out + 2), vcvt_high_f64_f32(sum)));
  }
};

template <>
struct Vec<double> {
  using Reg = float64x2_t;
  static constexpr int lanes = 2;
  static Reg zero() { return vdupq_n_f64(0); }
  static Reg load(const double* p) { return vld1q_f64(p); }
  static Reg fma(Reg a, Reg b, Reg c) { return vfmaq_f64(c, a, b); }
  static void add4_to(Reg a, Reg b, Reg c, Reg d, double* out) {
    vst1q_f64(out, vaddq_f64(vld1q_f64(out), vpaddq_f64(a, b)));
    vst1q_f64(out + 2, vaddq_f64(vld1q_f64(out + 2), vpaddq_f64(c, d)));
  }
};

#else

// 2 x 4 accumulators of 16 bytes: what any 16-register vector unit holds, left to the compiler to find.
constexpr int kTileRows = 2;
constexpr std::ptrdiff_t kBlock = 512;

template <typename T>
struct Vec {
  static constexpr int lanes = 16 / sizeof(T);
  struct Reg {
    T v[lanes];
  };
  static Reg zero() { return {}; }
  static Reg load(const T* p) {
    Reg r;
    for (int l = 0; l < lanes; ++l) r.v[l] = p[l];
    return r;
  }
  static Reg fma(Reg a, Reg b, Reg c) {
    for (int l = 0; l < lanes; ++l) c.v[l] += a.v[l] * b.v[l];
    return c;
  }
  static void add4_to(Reg a, Reg b, Reg c, Reg d, double* out) {
    for (int l = 0; l < lanes; ++l) {
      out[0] += a.v[l];
      out[1] += b.v[l];
      out[2] += c.v[l];
      out[3] += d.v[l];
    }
  }
};

#endif

constexpr int kTileCols = 4;

}  // namespace fastrdm::FASTRDM_ISA_NAME
