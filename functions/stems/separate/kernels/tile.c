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
