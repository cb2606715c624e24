/* Norms and gates: what is computed for each row, or number, by itself. */
#pragma once

#include "threads.h"
#include "vectors.h"

enum { ROWS_EACH = 16, NUMBERS_EACH = 4096 };

/* out = x / sqrt(mean(x * x) + epsilon) * weight, along `size`; out may be x. */
struct norm {
    const float *x;
    long rows, size;
    const float *weight;
    float epsilon;
    float *out;
};

/* The sum of squares, in sixteen lanes; what is missing of the last of them counts as zeros. */
INLINE float squares_of(const float *x, long size) {
    vec sums[PARTS] = {{0}};
    float lanes[LANES] = {0};
    long whole = size / LANES * LANES;
    for (long i = 0; i < whole; i += LANES)
        UNROLLED for (int c = 0; c < PARTS; c++) {
            vec some = load(x + i + c * WIDTH);
            sums[c] = some * some + sums[c];
        }
    memcpy(lanes, x + whole, (size - whole) * sizeof(float));
    UNROLLED for (int c = 0; c < PARTS; c++) {
        vec some = load(lanes + c * WIDTH);
        store(lanes + c * WIDTH, some * some + sums[c]);
    }
    return lanes_sum(lanes);
}

static void norm_part(const void *given, long part) {
    const struct norm *it = given;
    for (long r = part * ROWS_EACH; r < it->rows && r < (part + 1) * ROWS_EACH; r++) {
        const float *x = it->x + r * it->size, *weight = it->weight;
        float scale = 1.0f / sqrtf(squares_of(x, it->size) / it->size + it->epsilon);
        float *out = it->out + r * it->size;
        long i = 0;
        for (; i + WIDTH <= it->size; i += WIDTH) store(out + i, load(x + i) * scale * load(weight + i));
        for (; i < it->size; i++) out[i] = x[i] * scale * weight[i];
    }
}

void norm(struct pool *pool, const struct norm *it) {
    run_parts(pool, norm_part, it, (it->rows + ROWS_EACH - 1) / ROWS_EACH);
}

/* out = gate / (1 + exp(-gate)) * up, number by number; out may be one of them. */
struct gated {
    const float *gate, *up;
    long size;
    float *out;
};

INLINE void gate_some(const float *gate, const float *up, float *out) {
    vec x = load(gate);
    store(out, x / (1.0f + exponential(-x)) * load(up));
}

static void gated_part(const void *given, long part) {
    const struct gated *it = given;
    long begin = part * NUMBERS_EACH, end = begin + NUMBERS_EACH, i = begin;
    if (end > it->size) end = it->size;
    for (; i + WIDTH <= end; i += WIDTH) gate_some(it->gate + i, it->up + i, it->out + i);
    if (i == end) return;
    float gate[WIDTH] = {0}, up[WIDTH] = {0}, out[WIDTH];
    memcpy(gate, it->gate + i, (end - i) * sizeof(float));
    memcpy(up, it->up + i, (end - i) * sizeof(float));
    gate_some(gate, up, out);
    memcpy(it->out + i, out, (end - i) * sizeof(float));
}

void gated(struct pool *pool, const struct gated *it) {
    run_parts(pool, gated_part, it, (it->size + NUMBERS_EACH - 1) / NUMBERS_EACH);
}
