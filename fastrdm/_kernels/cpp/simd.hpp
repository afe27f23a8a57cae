// Vector registers of float and double for the instruction set that the file is compiled for, and the size of its tiles. load also widens narrower
// floats; add4_to adds the lane sums of four registers to four consecutive doubles. Lanes are summed first, so the result does not depend on the
// previous values.
#pragma once

#include "half.hpp"

#if defined(FASTRDM_AVX512) || defined(FASTRDM_AVX2)
#include <immintrin.h>
#elif defined(FASTRDM_NEON)
#include <arm_neon.h>
#endif

namespace fastrdm::FASTRDM_ISA_NAME {

template <typename T>
struct Vec;

// kBlockBytes: bytes of a row over which a partial sum keeps the row's type before it is added in float64. Longer blocks amortise that step, shorter
// blocks limit the error; two packed blocks of about 120 rows and their sums must fit into L2. kSteps: registers of columns in a tile between two
// steps of packing the next block.

#if defined(FASTRDM_AVX512)

// 6 x 4 accumulators, six rows and one column: 31 of the 32 registers.
constexpr int kTileRows = 6;
constexpr Index kBlockBytes = 2560;
constexpr Index kSteps = 2;

inline __m256i halves(const std::uint16_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }

template <>
struct Vec<float> {
  using Reg = __m512;
  static constexpr int lanes = 16;
  static constexpr bool adds_8 = true;
  static Reg zero() { return _mm512_setzero_ps(); }
  static Reg all(float x) { return _mm512_set1_ps(x); }
  static Reg load(const float* p) { return _mm512_loadu_ps(p); }
  static Reg load(const Half* p) { return _mm512_cvtph_ps(halves(&p->bits)); }
  static Reg load(const BFloat16* p) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves(&p->bits)), 16)); }
  static void store(float* p, Reg a) { _mm512_storeu_ps(p, a); }
  static Reg add(Reg a, Reg b) { return _mm512_add_ps(a, b); }
  static Reg sub(Reg a, Reg b) { return _mm512_sub_ps(a, b); }
  static Reg mul(Reg a, Reg b) { return _mm512_mul_ps(a, b); }
  static Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_ps(a, b, c); }
  static void add4_to(Reg a, Reg b, Reg c, Reg d, double* out) {
    const Reg sums = lanes4(a, b, c, d);
    const Reg half = add(sums, _mm512_shuffle_f32x4(sums, sums, 0x4e));
    add_to(_mm512_castps512_ps128(add(half, _mm512_shuffle_f32x4(half, half, 0xb1))), out);
  }
  // Two rows together, with 40 % fewer instructions than one at a time.
  static void add8_to(Reg a, Reg b, Reg c, Reg d, double* out, Reg e, Reg f, Reg g, Reg h, double* next) {
    const Reg abcd = lanes4(a, b, c, d), efgh = lanes4(e, f, g, h);
    const Reg sums = add(_mm512_shuffle_f32x4(abcd, efgh, 0x44), _mm512_shuffle_f32x4(abcd, efgh, 0xee));
    const Reg both = add(sums, _mm512_shuffle_f32x4(sums, sums, 0xb1));
    add_to(_mm512_castps512_ps128(both), out);
    add_to(_mm512_extractf32x4_ps(both, 2), next);
  }

 private:
  static void add_to(__m128 sums, double* out) { _mm256_storeu_pd(out, _mm256_add_pd(_mm256_loadu_pd(out), _mm256_cvtps_pd(sums))); }
  static Reg pairs(Reg a, Reg b) { return add(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)); }
  // In each quarter of the register, a partial sum of each of the four.
  static Reg lanes4(Reg a, Reg b, Reg c, Reg d) {
    const __m512d ab = _mm512_castps_pd(pairs(a, b)), cd = _mm512_castps_pd(pairs(c, d));
    return add(_mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd)), _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd)));
  }
};

template <>
struct Vec<double> {
  using Reg = __m512d;
  static constexpr int lanes = 8;
  static constexpr bool adds_8 = false;
  static Reg zero() { return _mm512_setzero_pd(); }
  static Reg all(double x) { return _mm512_set1_pd(x); }
  static Reg load(const double* p) { return _mm512_loadu_pd(p); }
  static Reg load(const float* p) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }
  static void store(double* p, Reg a) { _mm512_storeu_pd(p, a); }
  static Reg add(Reg a, Reg b) { return _mm512_add_pd(a, b); }
  static Reg sub(Reg a, Reg b) { return _mm512_sub_pd(a, b); }
  static Reg mul(Reg a, Reg b) { return _mm512_mul_pd(a, b); }
  static Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_pd(a, b, c); }
  static void add4_to(Reg a, Reg b, Reg c, Reg d, double* out) {
    const __m256d ab = _mm256_hadd_pd(half(a), half(b)), cd = _mm256_hadd_pd(half(c), half(d));
    const __m256d sums = _mm256_add_pd(_mm256_permute2f128_pd(ab, cd, 0x20), _mm256_permute2f128_pd(ab, cd, 0x31));
    _mm256_storeu_pd(out, _mm256_add_pd(_mm256_loadu_pd(out), sums));
  }

 private:
  static __m256d half(Reg a) { return _mm256_add_pd(_mm512_castpd512_pd256(a), _mm512_extractf64x4_pd(a, 1)); }
};

#elif defined(FASTRDM_AVX2)

// 3 x 4 accumulators, three rows and one column: all 16 registers.
constexpr int kTileRows = 3;
constexpr Index kBlockBytes = 2048;
constexpr Index kSteps = 4;

inline __m128i halves(const std::uint16_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }

template <>
struct Vec<float> {
  using Reg = __m256;
  static constexpr int lanes = 8;
  static constexpr bool adds_8 = false;
  static Reg zero() { return _mm256_setzero_ps(); }
  static Reg all(float x) { return _mm256_set1_ps(x); }
  static Reg load(const float* p) { return _mm256_loadu_ps(p); }
  static Reg load(const Half* p) { return _mm256_cvtph_ps(halves(&p->bits)); }
  static Reg load(const BFloat16* p) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves(&p->bits)), 16)); }
  static void store(float* p, Reg a) { _mm256_storeu_ps(p, a); }
  static Reg add(Reg a, Reg b) { return _mm256_add_ps(a, b); }
  static Reg sub(Reg a, Reg b) { return _mm256_sub_ps(a, b); }
  static Reg mul(Reg a, Reg b) { return _mm256_mul_ps(a, b); }
  static Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_ps(a, b, c); }
  static void add4_to(Reg a, Reg b, Reg c, Reg d, double* out) {
    const __m256 abcd = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    const __m128 sums = _mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps(abcd, 1));
    _mm256_storeu_pd(out, _mm256_add_pd(_mm256_loadu_pd(out), _mm256_cvtps_pd(sums)));
  }
};

template <>
struct Vec<double> {
  using Reg = __m256d;
  static constexpr int lanes = 4;
  static constexpr bool adds_8 = false;
  static Reg zero() { return _mm256_setzero_pd(); }
  static Reg all(double x) { return _mm256_set1_pd(x); }
  static Reg load(const double* p) { return _mm256_loadu_pd(p); }
  static Reg load(const float* p) { return _mm256_cvtps_pd(_mm_loadu_ps(p)); }
  static void store(double* p, Reg a) { _mm256_storeu_pd(p, a); }
  static Reg add(Reg a, Reg b) { return _mm256_add_pd(a, b); }
  static Reg sub(Reg a, Reg b) { return _mm256_sub_pd(a, b); }
  static Reg mul(Reg a, Reg b) { return _mm256_mul_pd(a, b); }
  static Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_pd(a, b, c); }
  static void add4_to(Reg a, Reg b, Reg c, Reg d, double* out) {
    const __m256d ab = _mm256_hadd_pd(a, b), cd = _mm256_hadd_pd(c, d);
    const __m256d sums = _mm256_add_pd(_mm256_permute2f128_pd(ab, cd, 0x20), _mm256_permute2f128_pd(ab, cd, 0x31));
    _mm256_storeu_pd(out, _mm256_add_pd(_mm256_loadu_pd(out), sums));
  }
};

#elif defined(FASTRDM_NEON)

// 4 x 4 accumulators, four rows and one column: 21 of the 32 registers.
constexpr int kTileRows = 4;
constexpr Index kBlockBytes = 2048;
constexpr Index kSteps = 4;

template <>
struct Vec<float> {
  using Reg = float32x4_t;
  static constexpr int lanes = 4;
  static constexpr bool adds_8 = false;
  static Reg zero() { return vdupq_n_f32(0); }
  static Reg all(float x) { return vdupq_n_f32(x); }
  static Reg load(const float* p) { return vld1q_f32(p); }
  static Reg load(const Half* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(&p->bits))); }
  static Reg load(const BFloat16* p) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(&p->bits), 16)); }
  static void store(float* p, Reg a) { vst1q_f32(p, a); }
  static Reg add(Reg a, Reg b) { return vaddq_f32(a, b); }
  static Reg sub(Reg a, Reg b) { return vsubq_f32(a, b); }
  static Reg mul(Reg a, Reg b) { return vmulq_f32(a, b); }
  static Reg fma(Reg a, Reg b, Reg c) { return vfmaq_f32(c, a, b); }
  static void add4_to(Reg a, Reg b, Reg c, Reg d, double* out) {
    const float32x4_t sums = vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d));
    vst1q_f64(out, vaddq_f64(vld1q_f64(out), vcvt_f64_f32(vget_low_f32(sums))));
    vst1q_f64(out + 2, vaddq_f64(vld1q_f64(out + 2), vcvt_high_f64_f32(sums)));
  }
};

template <>
struct Vec<double> {
  using Reg = float64x2_t;
  static constexpr int lanes = 2;
  static constexpr bool adds_8 = false;
  static Reg zero() { return vdupq_n_f64(0); }
  static Reg all(double x) { return vdupq_n_f64(x); }
  static Reg load(const double* p) { return vld1q_f64(p); }
  static Reg load(const float* p) { return vcvt_f64_f32(vld1_f32(p)); }
  static void store(double* p, Reg a) { vst1q_f64(p, a); }
  static Reg add(Reg a, Reg b) { return vaddq_f64(a, b); }
  static Reg sub(Reg a, Reg b) { return vsubq_f64(a, b); }
  static Reg mul(Reg a, Reg b) { return vmulq_f64(a, b); }
  static Reg fma(Reg a, Reg b, Reg c) { return vfmaq_f64(c, a, b); }
  static void add4_to(Reg a, Reg b, Reg c, Reg d, double* out) {
    vst1q_f64(out, vaddq_f64(vld1q_f64(out), vpaddq_f64(a, b)));
    vst1q_f64(out + 2, vaddq_f64(vld1q_f64(out + 2), vpaddq_f64(c, d)));
  }
};

#else

// 2 x 4 accumulators of 16 bytes: fits any vector unit with 16 registers.
constexpr int kTileRows = 2;
constexpr Index kBlockBytes = 2048;
constexpr Index kSteps = 4;

#if defined(__GNUC__) || defined(__clang__)
template <typename T>
using Reg16 __attribute__((vector_size(16))) = T;
#else
template <typename T>
struct Reg16 {
  T v[16 / sizeof(T)];
  T& operator[](int l) { return v[l]; }
  T operator[](int l) const { return v[l]; }
  friend Reg16 operator+(Reg16 a, Reg16 b) {
    for (int l = 0; l < int{16 / sizeof(T)}; ++l) a[l] += b[l];
    return a;
  }
  friend Reg16 operator-(Reg16 a, Reg16 b) {
    for (int l = 0; l < int{16 / sizeof(T)}; ++l) a[l] -= b[l];
    return a;
  }
  friend Reg16 operator*(Reg16 a, Reg16 b) {
    for (int l = 0; l < int{16 / sizeof(T)}; ++l) a[l] *= b[l];
    return a;
  }
};
#endif

template <typename T>
struct Vec {
  static constexpr int lanes = 16 / sizeof(T);
  static constexpr bool adds_8 = false;
  using Reg = Reg16<T>;
  static Reg zero() { return Reg{}; }
  static Reg all(T x) {
    Reg r{};
    for (int l = 0; l < lanes; ++l) r[l] = x;
    return r;
  }
  static Reg load(const T* p) {
    Reg r;
    std::memcpy(&r, p, sizeof r);
    return r;
  }
  template <typename S>
  static Reg load(const S* p) {
    Reg r{};
    for (int l = 0; l < lanes; ++l) r[l] = widened(p[l]);
    return r;
  }
  static void store(T* p, Reg a) { std::memcpy(p, &a, sizeof a); }
  static Reg add(Reg a, Reg b) { return a + b; }
  static Reg sub(Reg a, Reg b) { return a - b; }
  static Reg mul(Reg a, Reg b) { return a * b; }
  static Reg fma(Reg a, Reg b, Reg c) { return c + a * b; }
  static void add4_to(Reg a, Reg b, Reg c, Reg d, double* out) {
    double sums[4] = {};
    for (int l = 0; l < lanes; ++l) {
      sums[0] += a[l];
      sums[1] += b[l];
      sums[2] += c[l];
      sums[3] += d[l];
    }
    for (int i = 0; i < 4; ++i) out[i] += sums[i];
  }
};

#endif

constexpr int kTileCols = 4;

// Conditions that are packed side by side for windows that slide (slide.cpp).
constexpr Index kPanel = 2 * Vec<double>::lanes;

// Left rows, one or several tiles high, that meet the right rows together. 12 and 24 were slower on all instruction sets.
constexpr Index kGroup = kTileRows < 6 ? kTileRows * (6 / kTileRows) : kTileRows;

}  // namespace fastrdm::FASTRDM_ISA_NAME
