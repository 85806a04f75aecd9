#include "moments.h"

#include "vector.h"

enum { SPAN = 256 }; /* vectors whose sums stay floats; theirs are summed up in double */

/* Sum up the lanes in double. */
static double total(__m512 x)
{
    return _mm512_reduce_add_pd(_mm512_cvtps_pd(_mm512_castps512_ps256(x)))
           + _mm512_reduce_add_pd(_mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1)));
}

/* Return the mean of all numbers, or of the squares of their differences from `from`. */
static double mean_of(const float *x, long count, int squared, float from)
{
    double sum = 0;
    for (long first = 0; first < count; first += SPAN * LANES) {
        long stop = count - first < SPAN * LANES ? count : first + SPAN * LANES;
        __m512 part = _mm512_setzero_ps(), offset = _mm512_set1_ps(from);
        for (long i = first; i < stop; i += LANES) {
            __mmask16 mask = first_lanes(stop - i);
            __m512 value = _mm512_maskz_sub_ps(mask, load(x, 0, i, mask), offset);
            part = squared ? _mm512_fmadd_ps(value, value, part) : _mm512_add_ps(part, value);
        }
        sum += total(part);
    }
    return sum / count;
}

void stems_moments(const float *x, int64_t count, double *found)
{
    found[0] = mean_of(x, count, 0, 0);
    found[1] = mean_of(x, count, 1, (float)found[0]);
}
