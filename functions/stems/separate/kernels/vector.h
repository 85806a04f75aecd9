/* Sixteen floats at a time: loading, storing, and the functions that networks need, each to about 1e-7. */
#ifndef STEMS_VECTOR_H
#define STEMS_VECTOR_H

#include <immintrin.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

enum { LANES = 16 }; /* floats in a vector */

/* Return the mask of the first `count` lanes: none below 1, all from 16 on. */
INLINE __mmask16 first_lanes(long count)
{
    return count >= LANES ? 0xffff : count <= 0 ? 0 : (__mmask16)((1u << count) - 1);
}

/* Load elements [index, index + 16) of floats or of bfloat16; what the mask leaves out is 0 and not touched. */
INLINE __m512 load(const void *data, int bf16, long index, __mmask16 mask)
{
    if (!bf16)
        return _mm512_maskz_loadu_ps(mask, (const float *)data + index);
    __m256i halves = _mm256_maskz_loadu_epi16(mask, (const uint16_t *)data + index);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

INLINE void store(void *data, int bf16, long index, __mmask16 mask, __m512 value)
{
    if (bf16)
        _mm256_mask_storeu_epi16((uint16_t *)data + index, mask, (__m256i)_mm512_cvtneps_pbh(value));
    else
        _mm512_mask_storeu_ps((float *)data + index, mask, value);
}

/* Return 2^x for |x| <= 1/2, to 7.5e-8: a polynomial of least relative error. */
INLINE __m512 power_within(__m512 x)
{
    __m512 y = _mm512_set1_ps(1.327647178e-03f);
    y = _mm512_fmadd_ps(y, x, _mm512_set1_ps(9.675541333e-03f));
    y = _mm512_fmadd_ps(y, x, _mm512_set1_ps(5.550713274e-02f));
    y = _mm512_fmadd_ps(y, x, _mm512_set1_ps(2.402211972e-01f));
    y = _mm512_fmadd_ps(y, x, _mm512_set1_ps(6.931469671e-01f));
    return _mm512_fmadd_ps(y, x, _mm512_set1_ps(1.000000072f));
}

/* Return 2^x. */
INLINE __m512 power_of_2(__m512 x)
{
    __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    return _mm512_scalef_ps(power_within(_mm512_sub_ps(x, whole)), whole);
}

/* Return 2^x to 7.5e-5, less than bfloat16 tells. */
INLINE __m512 power_of_2_roughly(__m512 x)
{
    __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    x = _mm512_sub_ps(x, whole);
    __m512 y = _mm512_set1_ps(5.517166722e-02f);
    y = _mm512_fmadd_ps(y, x, _mm512_set1_ps(2.426111221e-01f));
    y = _mm512_fmadd_ps(y, x, _mm512_set1_ps(6.932609858e-01f));
    y = _mm512_fmadd_ps(y, x, _mm512_set1_ps(9.999280736e-01f));
    return _mm512_scalef_ps(y, whole);
}

/* Return e^x: the logarithm's last bits are kept apart, or large |x| would lose as many. */
INLINE __m512 exponential(__m512 x)
{
    __m512 log2_e = _mm512_set1_ps(1.44269502f), rest = _mm512_set1_ps(1.92596303e-8f);
    __m512 whole = _mm512_roundscale_ps(_mm512_mul_ps(x, log2_e), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 part = _mm512_fmadd_ps(x, rest, _mm512_fmsub_ps(x, log2_e, whole));
    return _mm512_scalef_ps(power_within(part), whole);
}

/* Return 1 / x, by an estimate of 14 bits and one step of Newton's. */
INLINE __m512 reciprocal(__m512 x)
{
    __m512 y = _mm512_rcp14_ps(x);
    return _mm512_mul_ps(y, _mm512_fnmadd_ps(x, y, _mm512_set1_ps(2)));
}

INLINE __m512 sigmoid(__m512 x)
{
    /* Beyond 80 it is 0 or 1 to 35 digits, and what follows could be no number. */
    x = _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(-80)), _mm512_set1_ps(80));
    return reciprocal(_mm512_add_ps(_mm512_set1_ps(1), exponential(_mm512_sub_ps(_mm512_setzero_ps(), x))));
}

/* Return x (1 + erf(x / sqrt 2)) / 2; the error function is Abramowitz and Stegun's 7.1.26, to 1.5e-7. */
INLINE __m512 gelu(__m512 x)
{
    __m512 half = _mm512_mul_ps(x, _mm512_set1_ps(0.5f));
    /* From 12 on the tail is less than any float. */
    __m512 size = _mm512_min_ps(_mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(0.707106781f)), _mm512_set1_ps(12));
    __m512 t = reciprocal(_mm512_fmadd_ps(size, _mm512_set1_ps(0.3275911f), _mm512_set1_ps(1)));
    __m512 y = _mm512_set1_ps(1.061405429f);
    y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(-1.453152027f));
    y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(1.421413741f));
    y = _mm512_fmadd_ps(y, t, _mm512_set1_ps(-0.284496736f));
    y = _mm512_mul_ps(_mm512_fmadd_ps(y, t, _mm512_set1_ps(0.254829592f)), t);
    /* The complement of erf |x|: half an x of it is taken from x above 0, and is all there is below. */
    y = _mm512_mul_ps(y, exponential(_mm512_fnmadd_ps(size, size, _mm512_setzero_ps())));
    __m512 tail = _mm512_mul_ps(_mm512_abs_ps(half), y);
    return _mm512_sub_ps(_mm512_max_ps(x, _mm512_setzero_ps()), tail);
}

#endif
