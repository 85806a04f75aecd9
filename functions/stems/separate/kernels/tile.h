/* The heart of every product: a tile of 14 rows and 16 or 32 columns, summed up in registers.
 *
 * Factors are words of 32 bits: one float, or two neighbours (k, k + 1) of bfloat16. The left factor is a panel: 14 rows,
 * STRIDE words apart, so that every address is a register and a constant, and no two rows fall into one set of the cache.
 * The right factor is packed: for each word of depth the words of 32 columns (16, where the last panel has no more).
 * 14 x 2 sums, two vectors of the right factor and one of the left are 31 of the 32 registers.
 */
#ifndef STEMS_TILE_H
#define STEMS_TILE_H

#include "vector.h"

enum {
    TILE_ROWS = 14, /* divides 336, the frames of a segment */
    TILE_COLUMNS = 2 * LANES,
    DEPTH = 512,            /* words of a row in a panel, at most */
    STRIDE = DEPTH + LANES, /* words between its rows */
    PANEL = TILE_ROWS * STRIDE,
    AHEAD = 12 /* words of depth that are fetched before their turn */
};

/* Put panel x packed into 14 rows of sums, `stride` apart, or add it: `vectors` of 16 columns, `depth` words deep. */
INLINE void tile(int bf16, int vectors, int add, long depth, const float *panel, const float *packed, float *sums,
                 long stride)
{
    __m512 sum[TILE_ROWS][2];
#pragma GCC unroll 14
    for (int i = 0; i < TILE_ROWS; i++)
        for (int j = 0; j < vectors; j++)
            sum[i][j] = add ? _mm512_loadu_ps(sums + i * stride + j * LANES) : _mm512_setzero_ps();
    for (long k = 0; k < depth; k++) {
        __m512 right[2];
        for (int j = 0; j < vectors; j++) {
            right[j] = _mm512_loadu_ps(packed + j * LANES);
            _mm_prefetch((const char *)(packed + (AHEAD * vectors + j) * LANES), _MM_HINT_T0);
        }
        packed += vectors * LANES;
#pragma GCC unroll 14
        for (int i = 0; i < TILE_ROWS; i++) {
            __m512 left = _mm512_set1_ps(panel[i * STRIDE + k]);
            for (int j = 0; j < vectors; j++)
                sum[i][j] = bf16 ? _mm512_dpbf16_ps(sum[i][j], (__m512bh)left, (__m512bh)right[j])
                                 : _mm512_fmadd_ps(left, right[j], sum[i][j]);
        }
    }
#pragma GCC unroll 14
    for (int i = 0; i < TILE_ROWS; i++)
        for (int j = 0; j < vectors; j++)
            _mm512_storeu_ps(sums + i * stride + j * LANES, sum[i][j]);
}

/* The same, where the kind is known at run time alone. */
void any_tile(int bf16, int vectors, int add, long depth, const float *panel, const float *packed, float *sums,
              long stride);

/* A stretch of the left factor where it lies, in no panel: `depth` words from `x` on, for the first of the 14 rows;
 * the others follow `step` bytes apart. `first`: its first word among those of the right factor.
 */
struct stretch {
    const char *x;
    long first, depth;
};

/* Put the sum over all stretches into 14 rows of sums, TILE_COLUMNS apart: in the order in which a panel of them would
 * be summed up. No column is fetched ahead: the right factor is small, where panels are worth leaving out.
 */
void any_tile_in_place(int bf16, int vectors, const struct stretch *stretches, int count, long step,
                       const float *packed, float *sums);

#endif
