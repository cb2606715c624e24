/* Linear layers: products with weights in panels of their own. */
#pragma once

#include "threads.h"
#include "tiles.h"

/* Rows that stay in a core's second-level cache while all panels pass. */
enum { BLOCK_ROWS = 128 };
/* Rows of panels that are multiplied at once; numbers of quantised weights that share a scale. */
enum { STRETCH = 128, GROUP = 32 };
/* With fewer rows a processor is ahead by itself, and hindered by being told (measured). */
enum { FETCHING_ROWS = 4 };

/* out = x @ weight.T (+ bias) (+ out), weight in panels of whole depth: see engine/packing.py. */
struct layer {
    const void *weight;
    const float *scales; /* null: the weights are float32, else int8 */
    long columns;
    const float *bias; /* may be null */
    float *out;
};

/* Some layers that see the same rows. */
struct linear {
    const float *x;
    long rows, depth;
    const struct layer *layers;
    long num_layers;
    long add; /* to what is there */
};

/* Rows [begin, begin + count) of quantised panels as float32, into `to`. The four bytes of an int32
 * are four rows of one column. */
INLINE struct panels unpack(const struct layer *it, long depth, long panel, int num_panels,
                            long begin, long count, float *to) {
    long fours = (depth + 3) / 4, groups = (depth + GROUP - 1) / GROUP;
    for (int p = 0; p < num_panels; p++) {
        const int32_t *from = (const int32_t *)it->weight + ((panel + p) * fours + begin / 4) * LANES;
        const float *scale = it->scales + ((panel + p) * groups + begin / GROUP) * LANES;
        for (long k = 0; k < count; k += 4)
            UNROLLED for (int c = 0; c < PARTS; c++) {
                ivec bytes = *(const ivec *)(from + k / 4 * LANES + c * WIDTH);
                vec scales = load(scale + k / GROUP * LANES + c * WIDTH);
                UNROLLED for (int i = 0; i < 4; i++) {
                    vec steps = __builtin_convertvector(bytes << (24 - 8 * i) >> 24, vec);
                    store(to + (p * STRETCH + k + i) * LANES + c * WIDTH, steps * scales);
                }
            }
    }
    return (struct panels){to, LANES, STRETCH * LANES, count, 0};
}

/* The panels' numbers for some rows, stretch by stretch of the depth: what of the panels is in
 * a core's first cache meets all rows there. */
static void panels_product(const struct layer *it, const float *x, long depth, long panel,
                           int num_panels, long rows, float *out) {
    float some[PANELS * STRETCH * LANES];
    long ahead = rows < FETCHING_ROWS ? 0 : PANELS * depth * LANES;
    for (long k = 0; k < depth; k += STRETCH) {
        long count = depth - k < STRETCH ? depth - k : STRETCH;
        struct panels w = {0, LANES, depth * LANES, count, ahead};
        if (it->scales) w = unpack(it, depth, panel, num_panels, k, count, some);
        else w.at = (const float *)it->weight + (panel * depth + k) * LANES;
        product(rows, num_panels, x + k, depth, w, out, PANELS * LANES, k > 0);
    }
}

/* Rows of some panels' numbers go where the layer wants them. */
static void put(const struct layer *it, const float *sums, long rows, long column, long columns,
                float *out, int add) {
    for (long r = 0; r < rows; r++, out += it->columns, sums += PANELS * LANES)
        for (long c = 0; c < columns; c++)
            out[c] = sums[c] + (it->bias ? it->bias[column + c] : 0.0f) + (add ? out[c] : 0.0f);
}

/* Columns that make a part of the work. */
enum { COLUMNS = PANELS * LANES };

INLINE long parts_of(const struct layer *layer) { return (layer->columns + COLUMNS - 1) / COLUMNS; }

static long parts_of_all(const struct linear *it) {
    long parts = 0;
    for (long i = 0; i < it->num_layers; i++) parts += parts_of(it->layers + i);
    return parts;
}

static void linear_part(const void *given, long part) {
    const struct linear *it = given;
    long all_parts = parts_of_all(it), row = part / all_parts * BLOCK_ROWS;
    long rows = it->rows - row < BLOCK_ROWS ? it->rows - row : BLOCK_ROWS;
    const struct layer *layer = it->layers;
    for (part %= all_parts; part >= parts_of(layer); layer++) part -= parts_of(layer);
    long column = part * COLUMNS, columns = layer->columns - column;
    if (columns > COLUMNS) columns = COLUMNS;
    float sums[BLOCK_ROWS * COLUMNS];
    panels_product(layer, it->x + row * it->depth, it->depth, part * PANELS,
                   (columns + LANES - 1) / LANES, rows, sums);
    put(layer, sums, rows, column, columns, layer->out + row * layer->columns + column, it->add);
}

void linear(struct pool *pool, const struct linear *it) {
    run_parts(pool, linear_part, it, (it->rows + BLOCK_ROWS - 1) / BLOCK_ROWS * parts_of_all(it));
}
