#include "winograd.h"

#include <stdlib.h>

#include "vector.h"

enum {
    POINTS = 6,
    STEPS = 4,
    SPAN = 112 /* frames at once: what they become is 1 to 8 MB, and the weights are read a third as often as they could be */
};

static __m512 plus(__m512 a, __m512 b)
{
    return _mm512_add_ps(a, b);
}

static __m512 minus(__m512 a, __m512 b)
{
    return _mm512_sub_ps(a, b);
}

static __m512 times(float factor, __m512 a, __m512 b) /* plus b */
{
    return _mm512_fmadd_ps(_mm512_set1_ps(factor), a, b);
}

/* Sum up the rows [row - 1, row + 5) for each point: frames [first - 1, first + count + 1), zeros beyond the ends of x. */
static void spread(const struct winograd *w, long row, long first, long count, float *made)
{
    long size = (count + 2) * w->channels, before = first == 0 ? w->channels : 0;
    long behind = first + count == w->frames ? w->channels : 0;
    for (long i = 0; i < size; i += LANES) {
        __mmask16 all = first_lanes(size - i), there = first_lanes(size - behind - i) & ~first_lanes(before - i);
        __m512 x[POINTS];
        for (int j = 0; j < POINTS; j++) {
            long r = row - 1 + j;
            int inside = r >= 0 && r < w->rows;
            long index = inside ? (r * w->frames + first - 1) * w->channels + i : 0;
            x[j] = load(w->x, 0, index, inside ? there : 0);
        }
        __m512 even = times(-4, x[2], x[4]), odd = times(-4, x[1], x[3]);
        __m512 far = minus(x[4], x[2]), twice = minus(x[3], x[1]);
        __m512 y[POINTS] = {
            times(4, x[0], times(-5, x[2], x[4])), plus(even, odd), minus(even, odd), times(2, twice, far),
            times(-2, twice, far), times(4, x[1], times(-5, x[3], x[5])),
        };
        for (int j = 0; j < POINTS; j++)
            store(made + j * size, 0, i, all, y[j]);
    }
}

/* Make `rows` rows of the output of the sums for each point, with bias and GLU. */
static void gather(const struct winograd *w, long row, long rows, long first, long count, long columns, const float *made)
{
    for (long t = 0; t < count; t++)
        for (long c = 0; 2 * c < columns; c += LANES) {
            __m512 y[2][STEPS];
            for (int half = 0; half < 2; half++) {
                __m512 x[POINTS];
                long index = t * columns + 2 * c + half * LANES;
                for (int j = 0; j < POINTS; j++)
                    x[j] = _mm512_loadu_ps(made + j * count * columns + index);
                __m512 bias = _mm512_loadu_ps(w->bias + 2 * c + half * LANES);
                __m512 near = plus(x[1], x[2]), far = plus(x[3], x[4]);
                __m512 side = minus(x[1], x[2]), aside = minus(x[3], x[4]);
                y[half][0] = plus(plus(plus(x[0], near), far), bias);
                y[half][1] = plus(times(2, aside, side), bias);
                y[half][2] = plus(times(4, far, near), bias);
                y[half][3] = plus(plus(times(8, aside, side), x[5]), bias);
            }
            for (long j = 0; j < rows; j++) {
                long index = ((row + j) * w->frames + first + t) * w->out_channels + c;
                store(w->out, 0, index, first_lanes(w->out_channels - c), _mm512_mul_ps(y[0][j], sigmoid(y[1][j])));
            }
        }
}

int stems_winograd(const struct winograd *w)
{
    long columns = w->products->group_count * LANES, span = w->frames < SPAN ? w->frames : SPAN;
    long in_size = (span + 2) * w->channels, out_size = span * columns;
    float *into = malloc(sizeof(float) * POINTS * (size_t)(in_size + out_size)), *from = into + POINTS * in_size;
    if (into == NULL)
        return -1;
    int failed = 0;
    for (long row = 0; row < w->step_rows && !failed; row += STEPS)
        for (long first = 0; first < w->frames; first += span) {
            long count = w->frames - first < span ? w->frames - first : span;
            spread(w, w->first_row + row, first, count, into);
            for (int j = 0; j < POINTS; j++) {
                struct product product = w->products[j];
                product.x = into + j * (count + 2) * w->channels;
                product.frames = count + 2;
                product.out = from + j * count * columns;
                product.step_frames = count;
                failed = failed || stems_product(&product);
            }
            gather(w, row, w->step_rows - row < STEPS ? w->step_rows - row : STEPS, first, count, columns, from);
        }
    free(into);
    return failed ? -1 : 0;
}
