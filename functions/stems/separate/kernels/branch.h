/* A branch of demucs' DConv, added to its input: convolution, GroupNorm, GELU, convolution, GroupNorm, GLU, scale. */
#ifndef STEMS_BRANCH_H
#define STEMS_BRANCH_H

#include "product.h"

/* The second GroupNorm is an affine map whose two figures follow from mean and covariance of the hidden signal, so what
 * it would normalise, the largest signal of a layer, is made once and finished at once. `columns` are those before GLU.
 * Its factors are within the weight of `wide`, whose scale and bias, row by row, are made here. `branch.py` mirrors it.
 */
struct branch {
    const struct product *narrow; /* from a row of x to (1, frames, hidden), floats; x and out are set here */
    const struct product *wide;   /* from there to a row of x, added, with GLU; its bias is set here */
    void *x;
    int64_t rows, frames, hidden, columns;
    float first_eps, second_eps;
    const float *first_weight, *first_bias; /* of the first GroupNorm: (hidden) */
    const double *weight, *bias;            /* of the second convolution: (hidden, columns), (columns) */
    const double *gram;                     /* its weight x its weight': (hidden, hidden) */
    const double *gain, *shift;             /* of the second GroupNorm with the scale behind it: (columns) */
    const int64_t *places;                  /* which column each packed one of `wide` is, or -1 */
    int64_t place_count;
};

/* Add the branch to x (rows, frames, channels), row by row; 0, or -1 where there is no memory. */
int stems_branch(const struct branch *branch);

#endif
