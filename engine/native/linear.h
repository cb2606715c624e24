/* Linear layers: products with weights in panels of their own. */
#pragma once

#include "threads.h"
#include "tiles.h"

/* Rows that stay in a core's second-level cache while all panels pass. */
enum { BLOCK_ROWS = 96 };
/* Numbers of quantised weights that share a scale, and rows of a panel unpacked at once. */
enum { GROUP = 32, UNPACKED = 128 };

/* out = x @ weight.T (+ bias) (+ out), weight in panels of whole depth: see engine/packing.py. */
struct linear {
    const float *x;
    long rows, depth;
    const void *weight;
    const float *scales; /* null: the weights are float32, else int8 */
    long columns;
    const float *bias; /* may be null */
    float *out;
    long add; /* to what is there */
};

struct linear_job {
    struct linear it;
    long parts_of_columns, panels_each;
};

/* Rows [begin, begin + count) of quantised panels as float32, into `to`. The four bytes of an int32
 * are four rows of one column. */
INLINE struct panels unpack(const struct linear *it, long panel, int num_panels, long begin,
                            long count, float *to) {
    long fours = (it->depth + 3) / 4, groups = (it->depth + GROUP - 1) / GROUP;
    for (int p = 0; p < num_panels; p++) {
        const int32_t *from = (const int32_t *)it->weight + ((panel + p) * fours + begin / 4) * LANES;
        const float *scale = it->scales + ((panel + p) * groups + begin / GROUP) * LANES;
        for (long k = 0; k < count; k += 4)
            UNROLLED for (int c = 0; c < PARTS; c++) {
                ivec bytes = *(const ivec *)(from + k / 4 * LANES + c * WIDTH);
                vec scales = load(scale + k / GROUP * LANES + c * WIDTH);
                UNROLLED for (int i = 0; i < 4; i++) {
                    vec steps = __builtin_convertvector(bytes << (24 - 8 * i) >> 24, vec);
                    store(to + (p * UNPACKED + k + i) * LANES + c * WIDTH, steps * scales);
                }
            }
    }
    return (struct panels){to, LANES, UNPACKED * LANES, count, 0};
}

static void panels_product(const struct linear *it, long panel, int num_panels, long row,
                           long rows, float *out, long ldo) {
    const float *x = it->x + row * it->depth;
    if (!it->scales) {
        const float *at = (const float *)it->weight + panel * it->depth * LANES;
        struct panels w = {at, LANES, it->depth * LANES, it->depth, PANELS * it->depth * LANES};
        product(rows, num_panels, x, it->depth, w, out, ldo, 0);
        return;
    }
    float some[PANELS * UNPACKED * LANES];
    for (long k = 0; k < it->depth; k += UNPACKED) {
        long count = it->depth - k < UNPACKED ? it->depth - k : UNPACKED;
        struct panels w = unpack(it, panel, num_panels, k, count, some);
        product(rows, num_panels, x + k, it->depth, w, out, ldo, k > 0);
    }
}

static void linear_part(const void *given, long part) {
    const struct linear_job *job = given;
    const struct linear *it = &job->it;
    long row = part / job->parts_of_columns * BLOCK_ROWS;
    long rows = it->rows - row < BLOCK_ROWS ? it->rows - row : BLOCK_ROWS;
    long all_panels = (it->columns + LANES - 1) / LANES;
    long begin = part % job->parts_of_columns * job->panels_each, end = begin + job->panels_each;
    for (long panel = begin; panel < end && panel < all_panels; panel += PANELS) {
        int num_panels = all_panels - panel < PANELS ? all_panels - panel : PANELS;
        float sums[BLOCK_ROWS * PANELS * LANES];
        panels_product(it, panel, num_panels, row, rows, sums, PANELS * LANES);
        long column = panel * LANES, columns = num_panels * LANES;
        if (columns > it->columns - column) columns = it->columns - column;
        for (long r = 0; r < rows; r++) {
            float *out = it->out + (row + r) * it->columns + column;
            const float *sum = sums + r * PANELS * LANES;
            for (long c = 0; c < columns; c++)
                out[c] = sum[c] + (it->bias ? it->bias[column + c] : 0.0f) + (it->add ? out[c] : 0.0f);
        }
    }
}

void linear(struct pool *pool, const struct linear *it) {
    struct linear_job job = {*it, 0, 0};
    long panels = (it->columns + LANES - 1) / LANES, blocks = (it->rows + BLOCK_ROWS - 1) / BLOCK_ROWS;
    long wanted = 8 * (pool->num_workers + 1), each = (panels + wanted - 1) / wanted;
    job.panels_each = (each + PANELS - 1) / PANELS * PANELS;
    job.parts_of_columns = (panels + job.panels_each - 1) / job.panels_each;
    run_parts(pool, linear_part, &job, blocks * job.parts_of_columns);
}
