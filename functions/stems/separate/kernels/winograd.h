/* A convolution of 3 x 3 with GLU behind it, with half of the products: Winograd's F(4, 3) along the rows. */
#ifndef STEMS_WINOGRAD_H
#define STEMS_WINOGRAD_H

#include "product.h"

/* Four rows of the output follow from six sums of the six rows around them, each of them convolved along its frames. The
 * points are 0, 1, -1, 2, -2 and infinity; `kernels/winograd.py` makes the six weights, and mirrors this structure.
 */
struct winograd {
    const struct product *products; /* six, from (1, frames + 2, channels) to (1, frames, 2 groups x 16); floats */
    const float *x;                 /* (rows, frames, channels) */
    float *out;                     /* (step_rows, frames, out_channels): what becomes of x's rows from first_row on */
    const float *bias;              /* in the order of the products' columns: 16 values, their 16 gates, and so on */
    int64_t rows, frames, channels, first_row, step_rows, out_channels;
};

/* Compute the convolution; 0, or -1 where there is no memory. */
int stems_winograd(const struct winograd *winograd);

#endif
