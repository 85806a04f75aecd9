#include "branch.h"

#include <math.h>
#include <stdlib.h>

#include "moments.h"
#include "vector.h"

enum { SPAN = 256 }; /* frames whose sums stay floats; theirs are summed up in double */

/* GroupNorm with one group, its factors, GELU: in place. */
static void normalise(const struct branch *b, float *x, long frames)
{
    long count = frames * b->hidden;
    double found[2];
    stems_moments(x, count, found);
    float mean = (float)found[0], factor = (float)(1 / sqrt(found[1] + b->first_eps));
    for (long c = 0; c < b->hidden; c += LANES) {
        __mmask16 mask = first_lanes(b->hidden - c);
        __m512 weight = _mm512_mul_ps(load(b->first_weight, 0, c, mask), _mm512_set1_ps(factor));
        __m512 bias = _mm512_fnmadd_ps(weight, _mm512_set1_ps(mean), load(b->first_bias, 0, c, mask));
        for (long i = c; i < count; i += b->hidden)
            store(x, 0, i, mask, gelu(_mm512_fmadd_ps(load(x, 0, i, mask), weight, bias)));
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
    size_t doubles = (size_t)(hidden + hidden * hidden + b->columns), floats = (size_t)(frames * hidden + b->place_count);
    double *means = malloc(doubles * sizeof(double) + floats * sizeof(float));
    if (means == NULL)
        return -1;
    double *products = means + hidden, *made = products + hidden * hidden;
    float *signal = (float *)(made + b->columns), *bias = signal + frames * hidden;
    struct product narrow = *b->narrow, wide = *b->wide;
    narrow.x = wide.out = b->x;
    narrow.out = signal;
    wide.x = signal;
    wide.bias = bias;
    int failed = 0;
    for (long row = 0; row < b->rows && !failed; row++) {
        failed = stems_product(&narrow);
        normalise(b, signal, frames);
        moments(signal, frames, hidden, means, products);
        wide.scale = second(b, means, products, made, bias);
        failed = failed || stems_product(&wide);
        narrow.x = wide.out = (char *)wide.out + frames * narrow.channels * (narrow.x_bf16 ? 2 : 4);
    }
    free(means);
    return failed ? -1 : 0;
}
