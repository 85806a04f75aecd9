#include "tile.h"

/* One function for each kind: sums stay in registers only where all their counts are constants. */
#define KIND(name, bf16, vectors, add)                                                                     \
    static void name(long depth, const float *panel, const float *packed, float *sums, long stride)       \
    {                                                                                                      \
        tile(bf16, vectors, add, depth, panel, packed, sums, stride);                                     \
    }
KIND(narrow, 0, 1, 0)
KIND(narrow_add, 0, 1, 1)
KIND(wide, 0, 2, 0)
KIND(wide_add, 0, 2, 1)
KIND(narrow_bf16, 1, 1, 0)
KIND(narrow_bf16_add, 1, 1, 1)
KIND(wide_bf16, 1, 2, 0)
KIND(wide_bf16_add, 1, 2, 1)

void any_tile(int bf16, int vectors, int add, long depth, const float *panel, const float *packed, float *sums,
              long stride)
{
    typedef void kind(long, const float *, const float *, float *, long);
    static kind *const kinds[2][2][2] = {
        {{narrow, narrow_add}, {wide, wide_add}},
        {{narrow_bf16, narrow_bf16_add}, {wide_bf16, wide_bf16_add}},
    };
    kinds[bf16][vectors - 1][add](depth, panel, packed, sums, stride);
}

/* Three rows share a pointer: more of them than there are registers would be fetched from memory each time. */
INLINE void in_place(int bf16, int vectors, const struct stretch *stretches, int count, long step, const float *packed,
                     float *sums)
{
    enum { SHARE = 3, POINTERS = (TILE_ROWS + SHARE - 1) / SHARE };
    __m512 sum[TILE_ROWS][2];
#pragma GCC unroll 14
    for (int i = 0; i < TILE_ROWS; i++)
        for (int j = 0; j < vectors; j++)
            sum[i][j] = _mm512_setzero_ps();
    for (const struct stretch *each = stretches; each < stretches + count; each++) {
        const float *right_factor = packed + each->first * vectors * LANES;
        const char *x[POINTERS];
#pragma GCC unroll 5
        for (int i = 0; i < POINTERS; i++)
            x[i] = each->x + i * SHARE * step;
        for (long k = 0; k < each->depth; k++) {
            __m512 right[2];
            for (int j = 0; j < vectors; j++)
                right[j] = _mm512_loadu_ps(right_factor + j * LANES);
            right_factor += vectors * LANES;
#pragma GCC unroll 14
            for (int i = 0; i < TILE_ROWS; i++) {
                __m512 left = _mm512_set1_ps(*(const float *)(x[i / SHARE] + i % SHARE * step));
                for (int j = 0; j < vectors; j++)
                    sum[i][j] = bf16 ? _mm512_dpbf16_ps(sum[i][j], (__m512bh)left, (__m512bh)right[j])
                                     : _mm512_fmadd_ps(left, right[j], sum[i][j]);
            }
#pragma GCC unroll 5
            for (int i = 0; i < POINTERS; i++)
                x[i] += sizeof(float);
        }
    }
#pragma GCC unroll 14
    for (int i = 0; i < TILE_ROWS; i++)
        for (int j = 0; j < vectors; j++)
            _mm512_storeu_ps(sums + i * TILE_COLUMNS + j * LANES, sum[i][j]);
}

#define KIND_IN_PLACE(name, bf16, vectors)                                                                    \
    static void name(const struct stretch *stretches, int count, long step, const float *packed, float *sums) \
    {                                                                                                         \
        in_place(bf16, vectors, stretches, count, step, packed, sums);                                        \
    }
KIND_IN_PLACE(narrow_in_place, 0, 1)
KIND_IN_PLACE(wide_in_place, 0, 2)
KIND_IN_PLACE(narrow_bf16_in_place, 1, 1)
KIND_IN_PLACE(wide_bf16_in_place, 1, 2)

void any_tile_in_place(int bf16, int vectors, const struct stretch *stretches, int count, long step,
                       const float *packed, float *sums)
{
    typedef void kind(const struct stretch *, int, long, const float *, float *);
    static kind *const kinds[2][2] = {{narrow_in_place, wide_in_place}, {narrow_bf16_in_place, wide_bf16_in_place}};
    kinds[bf16][vectors - 1](stretches, count, step, packed, sums);
}
