/* By blocks, as FlashAttention does it (Dao et al. 2022): 14 queries against 448 keys, the largest weight so far and the
 * sum of all kept for each query; what was summed up before is lowered where a larger weight turns up.
 */
#include "attention.h"

#include <stdlib.h>
#include <string.h>

#include "tile.h"

enum {
    KEYS = 448,       /* 14 panels: with their values 230 KB of floats, in the second-level cache */
    QUERY_PANELS = 12 /* that many times they are used there */
};

struct head {
    long depth;      /* words of a query */
    long across;     /* columns of the values, with those that fill the last vector */
    long padded;     /* keys, with those that fill the last panel */
    float *keys;     /* panels of 32 keys: (depth, 32) each */
    float *values;   /* panels of 32 or 16 columns: (keys in words, 32) each */
    float *queries;  /* QUERY_PANELS panels */
    float *weights;  /* one panel: the weights of its queries */
    float *sums;     /* (queries, across) */
};

static const char *element(const void *data, int bf16, long index)
{
    return (const char *)data + index * (bf16 ? 2 : 4);
}

/* Words of 32 keys beside each other; keys that do not exist are 0. */
static void pack_keys(const struct attention *a, const struct head *h, long offset)
{
    for (long first = 0; first < h->padded; first += TILE_COLUMNS)
        for (long i = 0; i < TILE_COLUMNS; i++) {
            float *to = h->keys + first * h->depth + i;
            const float *from = (const float *)element(a->key, (int)a->bf16, (first + i) * a->key_stride + offset);
            for (long k = 0; k < h->depth; k++)
                to[k * TILE_COLUMNS] = first + i < a->seen ? from[k] : 0;
        }
}

static __m512 value_at(const struct attention *a, long token, long index, __mmask16 mask)
{
    return load(a->value, (int)a->bf16, token * a->value_stride + index, token < a->seen ? mask : 0);
}

/* Words of 32 columns beside each other: a token's values or, in bfloat16, those of two tokens. */
static void pack_values(const struct attention *a, const struct head *h, long offset)
{
    long words = a->bf16 ? h->padded / 2 : h->padded;
    float *to = h->values;
    for (long column = 0; column < h->across; column += TILE_COLUMNS) {
        long stop = h->across - column < TILE_COLUMNS ? h->across : column + TILE_COLUMNS;
        for (long k = 0; k < words; k++)
            for (long c = column; c < stop; c += LANES, to += LANES) {
                __mmask16 mask = first_lanes(a->width - c);
                if (a->bf16) {
                    __m512i even = (__m512i)value_at(a, 2 * k, offset + c, mask);
                    __m512i odd = (__m512i)value_at(a, 2 * k + 1, offset + c, mask);
                    _mm512_storeu_si512(to, _mm512_or_si512(_mm512_srli_epi32(even, 16), odd));
                } else
                    _mm512_storeu_ps(to, value_at(a, k, offset + c, mask));
            }
    }
}

/* Turn a row of products into weights, in place, and lower what was summed up before; `count` of `padded` keys exist. */
INLINE void weigh(int bf16, float *row, long count, long padded, float *highest, float *total, float *sums, long across)
{
    __m512 lowest = _mm512_set1_ps(-1e30f), most[2] = {_mm512_set1_ps(*highest), lowest};
    /* Keys that do not exist weigh nothing. */
    for (long i = count; i < padded; i++)
        row[i] = -1e30f;
    for (long i = 0; i < padded; i += 2 * LANES)
        for (int j = 0; j < 2; j++)
            most[j] = _mm512_max_ps(most[j], _mm512_loadu_ps(row + i + j * LANES));
    float largest = _mm512_reduce_max_ps(_mm512_max_ps(most[0], most[1]));
    __m512 by = _mm512_set1_ps(largest), added[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    for (long i = 0; i < padded; i += 2 * LANES)
        for (int j = 0; j < 2; j++) {
            __m512 x = _mm512_sub_ps(_mm512_loadu_ps(row + i + j * LANES), by);
            x = bf16 ? power_of_2_roughly(x) : power_of_2(x);
            added[j] = _mm512_add_ps(added[j], x);
            store(row, bf16, i + j * LANES, 0xffff, x);
        }
    __m512 lowered = power_of_2(_mm512_set1_ps(*highest - largest));
    for (long i = 0; i < across; i += LANES)
        _mm512_storeu_ps(sums + i, _mm512_mul_ps(_mm512_loadu_ps(sums + i), lowered));
    *total = *total * _mm512_cvtss_f32(lowered) + _mm512_reduce_add_ps(_mm512_add_ps(added[0], added[1]));
    *highest = largest;
}

/* The queries of one panel against the keys [first, first + padded). */
static void meet(const struct attention *a, const struct head *h, const float *queries, long first, long padded,
                 float *highest, float *total, float *sums)
{
    int bf16 = (int)a->bf16;
    long count = a->seen - first < padded ? a->seen - first : padded;
    for (long k = 0; k < padded; k += TILE_COLUMNS)
        any_tile(bf16, 2, 0, h->depth, queries, h->keys + (first + k) * h->depth, h->weights + k, STRIDE);
    for (int i = 0; i < TILE_ROWS; i++)
        if (bf16)
            weigh(1, h->weights + i * STRIDE, count, padded, highest + i, total + i, sums + i * h->across, h->across);
        else
            weigh(0, h->weights + i * STRIDE, count, padded, highest + i, total + i, sums + i * h->across, h->across);
    long shared = bf16 ? 2 : 1; /* tokens in a word */
    for (long column = 0; column < h->across; column += TILE_COLUMNS) {
        int vectors = h->across - column > LANES ? 2 : 1;
        const float *values = h->values + column * (h->padded / shared) + first / shared * vectors * LANES;
        any_tile(bf16, vectors, 1, padded / shared, h->weights, values, sums + column, h->across);
    }
}

/* The queries [first, first + count) of a head against all keys. */
static void attend(const struct attention *a, const struct head *h, long offset, long first, long count)
{
    enum { MOST = QUERY_PANELS * TILE_ROWS };
    float highest[MOST], total[MOST];
    int bf16 = (int)a->bf16;
    for (long i = 0; i < MOST; i++) {
        float *to = h->queries + i / TILE_ROWS * PANEL + i % TILE_ROWS * STRIDE;
        if (i < count)
            memcpy(to, element(a->query, bf16, (first + i) * a->query_stride + offset), (size_t)h->depth * 4);
        else
            memset(to, 0, (size_t)h->depth * 4);
        highest[i] = -1e30f; /* not infinity, whose difference from itself is no number */
        total[i] = 0;
    }
    memset(h->sums, 0, sizeof(float) * (size_t)(MOST * h->across));
    for (long key = 0; key < h->padded; key += KEYS)
        for (long i = 0; i < count; i += TILE_ROWS)
            meet(a, h, h->queries + i / TILE_ROWS * PANEL, key, h->padded - key < KEYS ? h->padded - key : KEYS,
                 highest + i, total + i, h->sums + i * h->across);
    for (long i = 0; i < count; i++)
        for (long c = 0; c < a->width; c += LANES) {
            __m512 mean = _mm512_div_ps(_mm512_loadu_ps(h->sums + i * h->across + c), _mm512_set1_ps(total[i]));
            store(a->out, bf16, (first + i) * a->out_stride + offset + c, first_lanes(a->width - c), mean);
        }
}

static long rounded(long count, long to)
{
    return (count + to - 1) / to * to;
}

/* Compute the attention; 0, or -1 where there is no memory. */
int stems_attention(const struct attention *a)
{
    struct head h = {.depth = a->bf16 ? a->width / 2 : a->width,
                     .across = rounded(a->width, LANES),
                     .padded = rounded(a->seen, TILE_COLUMNS)};
    long keys = rounded(h.padded * h.depth, LANES), values = rounded(h.padded * h.across / (a->bf16 ? 2 : 1), LANES);
    long rows = QUERY_PANELS * TILE_ROWS, size = keys + values + (QUERY_PANELS + 1) * PANEL + rows * h.across;
    h.keys = aligned_alloc(64, sizeof(float) * (size_t)rounded(size, LANES));
    if (h.keys == NULL)
        return -1;
    h.values = h.keys + keys;
    h.queries = h.values + values;
    h.weights = h.queries + QUERY_PANELS * PANEL;
    h.sums = h.weights + PANEL;
    for (long offset = 0; offset < a->heads * a->width; offset += a->width) {
        pack_keys(a, &h, offset);
        pack_values(a, &h, offset);
        for (long first = 0; first < a->tokens; first += rows)
            attend(a, &h, offset, first, a->tokens - first < rows ? a->tokens - first : rows);
    }
    free(h.keys);
    return 0;
}
