/* Mean and variance of a signal, in blocks: 86,000 floats added up one by one would lose five digits. */
#ifndef STEMS_MOMENTS_H
#define STEMS_MOMENTS_H

#include <stdint.h>

/* Find the mean and the variance (of the numbers, not of what they are samples of) of `count` floats. */
void stems_moments(const float *x, int64_t count, double *found);

#endif
