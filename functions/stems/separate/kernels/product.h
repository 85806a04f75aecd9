/* One matrix product with what comes before and after it: every linear layer and every convolution is one. */
#ifndef STEMS_PRODUCT_H
#define STEMS_PRODUCT_H

#include <stdint.h>

enum { PLAIN = 0, GELU = 1, GLU = 2 };

/* For each step (r, t): the depth is what the runs find of x near (r row_step, t frame_step), zeros beyond its ends;
 * its product with `packed`, times `scale`, plus `bias`, activated, goes to the places that the groups name, or is
 * added to what is there. A group is 16 columns: the row and the channel of its first one, and how many of them exist.
 * A place whose row is not within the output is left out. `product.py` mirrors this structure.
 */
struct product {
    const void *x;                            /* (rows, frames, channels) */
    int64_t x_bf16, rows, frames, channels;
    int64_t row_step, frame_step;
    const int64_t *runs;                      /* run_count x (row, first frame, frames), each from the step's own */
    int64_t run_count;
    int64_t normalise;                        /* LayerNorm without its factors: a step's mean to 0, deviation to 1 */
    float eps, scale;
    const float *packed;                      /* panels of 32 columns; with GLU 16 values and their 16 gates */
    int64_t bf16;                             /* whether a packed word is two neighbours in bfloat16 */
    const float *bias;                        /* a float for each packed column */
    const int64_t *groups;                    /* group_count x (row, channel, count) */
    int64_t group_count;
    int64_t activation, add;
    void *out;                                /* (out_rows, step_frames, out_channels) */
    int64_t out_bf16, out_rows, out_row_step, out_channels;
    int64_t step_rows, step_frames;
    int64_t first_row, first_out_row;         /* what the first step's r is for x, and for the output */
};

/* Compute the product; 0, or -1 where there is no memory. The order of each sum does not depend on the blocks. */
int stems_product(const struct product *product);

#endif
