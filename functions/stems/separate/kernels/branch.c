#include "branch.h"

#include <math.h>
#include <stdlib.h>

#include "moments.h"
#include "vector.h"

enum { SPAN = 256 }; /* frames whose sums stay floats; theirs are summed up in double */

/* GroupNorm with one group, its factors, GELU: in place, and once more as bfloat16 where `halves` is not NULL.
 *
 * Channels are few, so that sixteen numbers may be those of several frames: `factors` has room for 2 x 16 of each channel,
 * after which channels and vectors begin together again.
 */
static void normalise(const struct branch *b, float *x, void *halves, long frames, float *factors)
{
    long count = frames * b->hidden, period = LANES * b->hidden;
    double found[2];
    stems_moments(x, count, found);
    float mean = (float)found[0], factor = (float)(1 / sqrt(found[1] + b->first_eps));
    for (long i = 0; i < period; i++) {
        factors[i] = b->first_weight[i % b->hidden] * factor;
        factors[period + i] = b->first_bias[i % b->hidden] - factors[i] * mean;
    }
    for (long first = 0; first < count; first += period)
        for (long i = 0; i < period && first + i < count; i += LANES) {
            __mmask16 mask = first_lanes(count - first - i);
            __m512 weight = _mm512_loadu_ps(factors + i), bias = _mm512_loadu_ps(factors + period + i);
            __m512 y = gelu(_mm512_fmadd_ps(load(x, 0, first + i, mask), weight, bias));
            store(x, 0, first + i, mask, y);
            if (halves != NULL)
                store(halves, 1, first + i, mask, y);
        }
}

/* Find the mean of each channel, and the means of the products of any two channels' differences from theirs. */
static void moments(const float *x, long frames, long channels, double *means, double *products)
{
    for (long c = 0; c < channels; c++)
        means[c] = 0;
    for (long i = 0; i < channels * channels; i++)
        products[i] = 0;
    for (long first = 0; first < frames; first += SPAN) {
        long stop = frames - first < SPAN ? frames : first + SPAN;
        for (long c = 0; c < channels; c += LANES) {
            __mmask16 mask = first_lanes(channels - c);
            __m512 sum = _mm512_setzero_ps();
            for (long t = first; t < stop; t++)
                sum = _mm512_add_ps(sum, load(x, 0, t * channels + c, mask));
            float sums[LANES];
            _mm512_storeu_ps(sums, sum);
            for (long i = c; i < channels && i < c + LANES; i++)
                means[i] += sums[i - c] / (double)frames;
        }
    }
    for (long first = 0; first < frames; first += SPAN) {
        long stop = frames - first < SPAN ? frames : first + SPAN;
        for (long c = 0; c < channels; c += LANES) {
            __mmask16 mask = first_lanes(channels - c);
            float centres[LANES] = {0};
            for (long i = c; i < channels && i < c + LANES; i++)
                centres[i - c] = (float)means[i];
            __m512 centre = _mm512_loadu_ps(centres);
            /* Four rows of products at once, so that each addition need not wait for the one before. */
            for (long row = 0; row < channels; row += 4) {
                __m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
                for (long t = first; t < stop; t++) {
                    __m512 value = _mm512_sub_ps(load(x, 0, t * channels + c, mask), centre);
                    for (long i = 0; i < 4 && row + i < channels; i++)
                        sum[i] = _mm512_fmadd_ps(_mm512_set1_ps(x[t * channels + row + i] - (float)means[row + i]),
                                                 value, sum[i]);
                }
                for (long i = 0; i < 4 && row + i < channels; i++) {
                    float sums[LANES];
                    _mm512_storeu_ps(sums, sum[i]);
                    for (long j = c; j < channels && j < c + LANES; j++)
                        products[(row + i) * channels + j] += sums[j - c] / (double)frames;
                }
            }
        }
    }
}

/* Make scale and bias of the second convolution, with the GroupNorm behind it, from the moments of its input. */
static float second(const struct branch *b, const double *means, const double *products, double *made, float *bias)
{
    long hidden = b->hidden, columns = b->columns;
    double mean = 0, variance = 0;
    for (long n = 0; n < columns; n++)
        made[n] = b->bias[n];
    for (long k = 0; k < hidden; k++)
        for (long n = 0; n < columns; n++)
            made[n] += means[k] * b->weight[k * columns + n];
    for (long n = 0; n < columns; n++)
        mean += made[n] / columns;
    for (long n = 0; n < columns; n++)
        variance += (made[n] - mean) * (made[n] - mean) / columns;
    for (long i = 0; i < hidden * hidden; i++)
        variance += products[i] * b->gram[i] / columns;
    double scale = 1 / sqrt(variance + b->second_eps);
    for (long i = 0; i < b->place_count; i++) {
        long n = b->places[i];
        bias[i] = n < 0 ? 0 : (float)(b->gain[n] * (b->bias[n] - mean) * scale + b->shift[n]);
    }
    return (float)scale;
}

int stems_branch(const struct branch *b)
{
    long frames = b->frames, hidden = b->hidden;
    struct product narrow = *b->narrow, wide = *b->wide;
    size_t doubles = (size_t)(hidden + hidden * hidden + b->columns), floats = (size_t)(frames * hidden);
    size_t more = (size_t)(b->place_count + 2 * LANES * hidden), words = wide.x_bf16 ? (floats + 1) / 2 : 0;
    double *means = malloc(doubles * sizeof(double) + (floats + more + words) * sizeof(float));
    if (means == NULL)
        return -1;
    double *products = means + hidden, *made = products + hidden * hidden;
    float *signal = (float *)(made + b->columns), *bias = signal + floats, *factors = bias + b->place_count;
    void *halves = wide.x_bf16 ? factors + 2 * LANES * hidden : NULL;
    narrow.x = wide.out = b->x;
    narrow.out = signal;
    wide.x = halves != NULL ? halves : signal;
    wide.bias = bias;
    int failed = 0;
    for (long row = 0; row < b->rows && !failed; row++) {
        failed = stems_product(&narrow);
        normalise(b, signal, halves, frames, factors);
        moments(signal, frames, hidden, means, products);
        wide.scale = second(b, means, products, made, bias);
        failed = failed || stems_product(&wide);
        narrow.x = wide.out = (char *)wide.out + frames * narrow.channels * (narrow.x_bf16 ? 2 : 4);
    }
    free(means);
    return failed ? -1 : 0;
}
