#include "product.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tile.h"

enum {
    BLOCK_PANELS = 14,       /* of the left factor at once: 400 KB, less than half of a second-level cache */
    STRETCHES = 16,          /* of a panel in place, at most */
    IN_PLACE = 512 << 10     /* bytes of the right factor, at most, where panels are not worth the copy */
};

static long min(long a, long b)
{
    return a < b ? a : b;
}

/* Copy `count` elements: all of one kind, or floats to bfloat16. */
static void copy(void *to, int to_bf16, long place, const void *from, int from_bf16, long index, long count)
{
    if (count <= 0)
        return;
    if (to_bf16 == from_bf16) {
        long size = to_bf16 ? 2 : 4;
        memcpy((char *)to + place * size, (const char *)from + index * size, (size_t)(count * size));
        return;
    }
    for (long i = 0; i < count; i += LANES) {
        __mmask16 mask = first_lanes(count - i);
        store(to, 1, place + i, mask, load(from, 0, index + i, mask));
    }
}

static void clear(void *to, int bf16, long place, long count)
{
    if (count > 0)
        memset((char *)to + place * (bf16 ? 2 : 4), 0, (size_t)count * (bf16 ? 2 : 4));
}

/* Copy a step's run to `place` of a line, zeros where it is beyond the ends of x. */
static void copy_run(const struct product *p, const int64_t *run, long r, long t, void *line, long place)
{
    long row = (r + p->first_row) * p->row_step + run[0], frame = t * p->frame_step + run[1], count = run[2];
    int inside = row >= 0 && row < p->rows;
    long begin = !inside ? count : frame < 0 ? (-frame < count ? -frame : count) : 0;
    long end = frame + count > p->frames ? p->frames - frame : count;
    end = end < begin ? begin : end;
    long c = p->channels;
    clear(line, p->bf16, place, begin * c);
    copy(line, p->bf16, place + begin * c, p->x, p->x_bf16, (row * p->frames + frame + begin) * c, (end - begin) * c);
    clear(line, p->bf16, place + end * c, (count - end) * c);
}

/* Copy channels with their mean taken off, divided by their deviation. */
static void copy_normalised(const struct product *p, long t, void *line)
{
    long c = p->channels, index = t * c;
    __m512 sum = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
    for (long i = 0; i < c; i += LANES)
        sum = _mm512_add_ps(sum, load(p->x, p->x_bf16, index + i, first_lanes(c - i)));
    __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / c);
    for (long i = 0; i < c; i += LANES) {
        __mmask16 mask = first_lanes(c - i);
        __m512 offset = _mm512_maskz_sub_ps(mask, load(p->x, p->x_bf16, index + i, mask), mean);
        squares = _mm512_fmadd_ps(offset, offset, squares);
    }
    __m512 factor = _mm512_set1_ps(1 / sqrtf(_mm512_reduce_add_ps(squares) / c + p->eps));
    for (long i = 0; i < c; i += LANES) {
        __mmask16 mask = first_lanes(c - i);
        __m512 value = _mm512_mul_ps(_mm512_sub_ps(load(p->x, p->x_bf16, index + i, mask), mean), factor);
        store(line, p->bf16, i, mask, value);
    }
}

/* Put one step's line into row i of its panels, one for each DEPTH words; `line` is room for it where it is longer. */
static void pack_step(const struct product *p, long step, long words, float *panels, long between, int i, float *line)
{
    long r = step / p->step_frames, t = step % p->step_frames, place = 0;
    float *to = words > DEPTH ? line : panels + i * STRIDE;
    to[words - 1] = 0; /* its second half, where the depth is odd */
    if (p->normalise)
        copy_normalised(p, t, to);
    else
        for (long run = 0; run < p->run_count; place += p->runs[3 * run + 2] * p->channels, run++)
            copy_run(p, p->runs + 3 * run, r, t, to, place);
    for (long k = 0; words > DEPTH && k < words; k += DEPTH)
        copy(panels + k / DEPTH * between + i * STRIDE, 0, 0, line, 0, k, words - k < DEPTH ? words - k : DEPTH);
}

/* Put the lines of `count` steps from `step` on into panels. */
static void pack(const struct product *p, long step, long count, long words, float *panels, long between, float *line)
{
    for (long i = 0; i < count; i++)
        pack_step(p, step + i, words, panels, between, (int)i, line);
    /* The rows that a last panel lacks are computed as well: of zeros, since some numbers would be slow. */
    for (long i = count; i < TILE_ROWS; i++)
        for (long k = 0; k * DEPTH < words; k++)
            clear(panels + k * between + i * STRIDE, 0, 0, min(DEPTH, words));
}

/* Tell whether panels may be read where they are: not what is to be changed first, nor what is written meanwhile. */
static int may_stay(const struct product *p, long words, long columns)
{
    int even = !p->bf16 || p->channels % 2 == 0;
    return !p->normalise && p->x_bf16 == p->bf16 && p->x != p->out && even && p->run_count <= STRETCHES
           && words * columns * (long)sizeof(float) <= IN_PLACE;
}

/* Find the stretches of the panel of 14 steps from `step` on. None where its steps do not follow each other evenly, or
 * lack a part that is to be 0. A run whose row is not there adds nothing.
 */
static int find(const struct product *p, long step, struct stretch *to)
{
    long r = step / p->step_frames, t = step % p->step_frames, size = p->bf16 ? 2 : 4, first = 0;
    int count = 0;
    if (t + TILE_ROWS > p->step_frames)
        return 0;
    for (const int64_t *run = p->runs; run < p->runs + 3 * p->run_count; run += 3) {
        long row = (r + p->first_row) * p->row_step + run[0], frame = t * p->frame_step + run[1];
        long last = frame + (TILE_ROWS - 1) * p->frame_step + run[2], depth = run[2] * p->channels * size / 4;
        if (row >= 0 && row < p->rows) {
            if (frame < 0 || last > p->frames)
                return 0;
            const char *x = (const char *)p->x + (row * p->frames + frame) * p->channels * size;
            to[count++] = (struct stretch){x, first, depth};
        }
        first += depth;
    }
    return count;
}

/* Bring the sums of one group of columns to their places, for `count` steps from `step` on. */
INLINE void finish(const struct product *p, int activation, int add, long column, const int64_t *group, long step,
                   int count, const float *sums)
{
    __m512 scale = _mm512_set1_ps(p->scale), bias = _mm512_loadu_ps(p->bias + column);
    __m512 gate_bias = activation == GLU ? _mm512_loadu_ps(p->bias + column + LANES) : bias;
    __mmask16 mask = first_lanes(group[2]);
    long r = step / p->step_frames, t = step % p->step_frames, frames = p->step_frames;
    long row = (r + p->first_out_row) * p->out_row_step + group[0];
    long index = (row * frames + t) * p->out_channels + group[1];
    for (int i = 0; i < count; i++, sums += TILE_COLUMNS) {
        if (row >= 0 && row < p->out_rows) {
            __m512 y = _mm512_fmadd_ps(_mm512_loadu_ps(sums), scale, bias);
            if (activation == GELU)
                y = gelu(y);
            if (activation == GLU)
                y = _mm512_mul_ps(y, sigmoid(_mm512_fmadd_ps(_mm512_loadu_ps(sums + LANES), scale, gate_bias)));
            if (add)
                y = _mm512_add_ps(y, load(p->out, (int)p->out_bf16, index, mask));
            store(p->out, (int)p->out_bf16, index, mask, y);
        }
        index += p->out_channels;
        if (++t == frames) {
            t = 0;
            row += p->out_row_step;
            index += (p->out_row_step - 1) * frames * p->out_channels;
        }
    }
}

static void finish_tile(const struct product *p, long column, int vectors, long step, int count, const float *sums)
{
    if (p->activation == GLU) {
        const int64_t *group = p->groups + 3 * (column / TILE_COLUMNS);
        if (p->add)
            finish(p, GLU, 1, column, group, step, count, sums);
        else
            finish(p, GLU, 0, column, group, step, count, sums);
        return;
    }
    for (int j = 0; j < vectors; j++, column += LANES, sums += LANES) {
        const int64_t *group = p->groups + 3 * (column / LANES);
        if (p->activation == GELU && p->add)
            finish(p, GELU, 1, column, group, step, count, sums);
        else if (p->activation == GELU)
            finish(p, GELU, 0, column, group, step, count, sums);
        else if (p->add)
            finish(p, PLAIN, 1, column, group, step, count, sums);
        else
            finish(p, PLAIN, 0, column, group, step, count, sums);
    }
}

int stems_product(const struct product *p)
{
    long depth = 0, steps = p->step_rows * p->step_frames;
    for (long run = 0; run < p->run_count; run++)
        depth += p->runs[3 * run + 2] * p->channels;
    long words = p->bf16 ? (depth + 1) / 2 : depth;
    long columns = p->group_count * LANES * (p->activation == GLU ? 2 : 1);
    long deep = (words + DEPTH - 1) / DEPTH, high = min(BLOCK_PANELS / deep < 1 ? 1 : BLOCK_PANELS / deep,
                                                       (steps + TILE_ROWS - 1) / TILE_ROWS);
    long between = high * PANEL, line_size = (words + LANES - 1) / LANES * LANES;
    float *panels = aligned_alloc(64, sizeof(float) * (size_t)(deep * between + line_size));
    if (panels == NULL)
        return -1;
    float *line = panels + deep * between;
    float sums[BLOCK_PANELS][TILE_ROWS * TILE_COLUMNS] __attribute__((aligned(64)));
    struct stretch stretches[BLOCK_PANELS][STRETCHES];
    int found[BLOCK_PANELS], stay = may_stay(p, words, columns);
    for (long first = 0; first < steps; first += high * TILE_ROWS) {
        long count = min(high * TILE_ROWS, steps - first);
        for (long i = 0; i * TILE_ROWS < count; i++) {
            long step = first + i * TILE_ROWS;
            found[i] = stay ? find(p, step, stretches[i]) : 0;
            if (found[i] == 0)
                pack(p, step, min(TILE_ROWS, steps - step), words, panels + i * PANEL, between, line);
        }
        for (long column = 0; column < columns; column += TILE_COLUMNS) {
            int vectors = columns - column > LANES ? 2 : 1;
            const float *packed = p->packed + column * words;
            for (long k = 0; k < deep; k++)
                for (long i = 0; i * TILE_ROWS < count; i++)
                    if (found[i] == 0)
                        any_tile((int)p->bf16, vectors, k > 0, min(DEPTH, words - k * DEPTH),
                                 panels + k * between + i * PANEL, packed + k * DEPTH * vectors * LANES, sums[i],
                                 TILE_COLUMNS);
            for (long i = 0; i * TILE_ROWS < count; i++) {
                if (found[i] > 0)
                    any_tile_in_place((int)p->bf16, vectors, stretches[i], found[i],
                                      p->frame_step * p->channels * (p->bf16 ? 2 : 4), packed, sums[i]);
                finish_tile(p, column, vectors, first + i * TILE_ROWS, (int)min(TILE_ROWS, count - i * TILE_ROWS),
                            sums[i]);
            }
        }
    }
    free(panels);
    return 0;
}
