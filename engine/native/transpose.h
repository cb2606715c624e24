/* Rows of numbers as panels. */
#pragma once

#include "vectors.h"

#if defined(__AVX512F__)
#define NEAR 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29
#define FAR 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27
#define PLACE(i) (((i) & 3) << 2 | ((i) & 4) >> 1 | ((i) & 8) >> 3)
#elif defined(__AVX2__)
#define NEAR 0, 8, 1, 9, 4, 12, 5, 13
#define FAR 0, 1, 2, 3, 8, 9, 10, 11
#define PLACE(i) (((i) & 3) << 1 | ((i) & 4) >> 2)
#else
#define NEAR 0, 4, 1, 5
#define FAR NEAR
#define PLACE(i) (i)
#endif

/* A square of WIDTH by WIDTH numbers whose row i is, before and after, rows[PLACE(i)]. Each stage
 * pairs rows that differ in the highest bit of their number, which becomes a bit of the column; a
 * bit of the column becomes the lowest of the row. In the first two stages numbers move among four
 * neighbours, in the others by fours, both of which are cheaper than any other move. */
INLINE void transpose(vec rows[WIDTH]) {
    const ivec near = {NEAR}, far = {FAR};
    UNROLLED for (int stage = 1; stage < WIDTH; stage *= 2) {
        const ivec first = stage < 4 ? near : far, last = stage < 4 ? near + 2 : far + 4;
        vec moved[WIDTH];
        UNROLLED for (int i = 0; i < WIDTH / 2; i++) {
            moved[2 * i] = __builtin_shuffle(rows[i], rows[i + WIDTH / 2], first);
            moved[2 * i + 1] = __builtin_shuffle(rows[i], rows[i + WIDTH / 2], last);
        }
        UNROLLED for (int i = 0; i < WIDTH; i++) rows[i] = moved[i];
    }
}

/* Sixteen rows of `dim` numbers, `stride` apart, as a panel. What is read next lies `ahead`. */
static void as_panel(const float *from, long stride, long dim, long ahead, float *panel) {
    for (long d = 0; d < dim; d += WIDTH)
        for (int part = 0; part < PARTS; part++) {
            vec square[WIDTH];
            UNROLLED for (int i = 0; i < WIDTH; i++) {
                const float *row = from + (part * WIDTH + i) * stride + d;
                square[PLACE(i)] = load(row);
                __builtin_prefetch(row + ahead, 0, 2);
            }
            transpose(square);
            UNROLLED for (int i = 0; i < WIDTH; i++)
                store(panel + (d + i) * LANES + part * WIDTH, square[PLACE(i)]);
        }
}
