/* Attention: softmax(query x key') x value, head by head, without the weights between all tokens ever in memory. */
#ifndef STEMS_ATTENTION_H
#define STEMS_ATTENTION_H

#include <stdint.h>

/* All four are (tokens, heads x width), their tokens so many elements apart; all floats, or all bfloat16 with an even
 * width. Queries come multiplied by log2(e) / sqrt(width). `transformer.py` mirrors this structure.
 */
struct attention {
    const void *query, *key, *value;
    void *out;
    int64_t bf16, tokens, seen, heads, width;
    int64_t query_stride, key_stride, value_stride, out_stride;
};

#endif
