/* What a softmax has found in a part of a context, and how two parts become one. */
#pragma once

#include "vectors.h"

/* Query rows that look together, and the numbers of a head at most. */
enum { QUERIES = 48, MAX_HEAD = 256 };

/* By row: the highest score, and, relative to it, the sum of all weights and the values by their
 * weights, [rows, head_dim]. */
struct found {
    float *highest, *total, *values;
};

INLINE long found_size(long dim) { return QUERIES * (dim + 2); }

INLINE struct found found_in(float *memory) {
    return (struct found){memory, memory + QUERIES, memory + 2 * QUERIES};
}

static void find_nothing(struct found *found, long rows, long dim) {
    for (long row = 0; row < rows; row++) found->highest[row] = -INFINITY, found->total[row] = 0.0f;
    memset(found->values, 0, rows * dim * sizeof(float));
}

/* One row of `found` becomes what is found in its tokens and those of `more`, which follow. */
INLINE void put_together(struct found *found, const struct found *more, long row, long dim) {
    float before = found->highest[row], here = more->highest[row];
    if (here == -INFINITY) return;
    float highest = found->highest[row] = before > here ? before : here;
    float faded = exponential(all(before - highest))[0], counts = exponential(all(here - highest))[0];
    found->total[row] = __builtin_fmaf(found->total[row], faded, more->total[row] * counts);
    float *to = found->values + row * dim;
    const float *from = more->values + row * dim;
    for (long d = 0; d < dim; d++) to[d] = __builtin_fmaf(to[d], faded, from[d] * counts);
}

/* Of whole vectors of sixteen. */
INLINE float highest_of(const float *numbers, long count) {
    vec most[PARTS];
    float lanes[LANES];
    UNROLLED for (int c = 0; c < PARTS; c++) most[c] = all(-INFINITY);
    for (long i = 0; i < count; i += LANES)
        UNROLLED for (int c = 0; c < PARTS; c++) {
            vec x = load(numbers + i + c * WIDTH);
            most[c] = either(x > most[c], x, most[c]);
        }
    UNROLLED for (int c = 0; c < PARTS; c++) store(lanes + c * WIDTH, most[c]);
    float highest = lanes[0];
    for (int i = 1; i < LANES; i++) highest = lanes[i] > highest ? lanes[i] : highest;
    return highest;
}

/* Numbers, whole vectors of sixteen, become e to the power of their distance from `highest`;
 * returns their sum. */
INLINE float become_exponentials(float *numbers, long count, float highest) {
    vec sum[PARTS];
    float lanes[LANES];
    UNROLLED for (int c = 0; c < PARTS; c++) sum[c] = (vec){};
    for (long i = 0; i < count; i += LANES)
        UNROLLED for (int c = 0; c < PARTS; c++) {
            vec weight = exponential(load(numbers + i + c * WIDTH) - highest);
            store(numbers + i + c * WIDTH, weight);
            sum[c] += weight;
        }
    UNROLLED for (int c = 0; c < PARTS; c++) store(lanes + c * WIDTH, sum[c]);
    return lanes_sum(lanes);
}
