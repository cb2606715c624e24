/* Rows of numbers as panels. */
#pragma once

#include "vectors.h"

#if defined(__AVX512F__)
#define NEAR(n) n, n + 16, n + 1, n + 17, n + 4, n + 20, n + 5, n + 21, \
                n + 8, n + 24, n + 9, n + 25, n + 12, n + 28, n + 13, n + 29
#define FAR(n) n, n + 1, n + 2, n + 3, n + 8, n + 9, n + 10, n + 11, \
               n + 16, n + 17, n + 18, n + 19, n + 24, n + 25, n + 26, n + 27
#define PLACE(i) (((i) & 3) << 2 | ((i) & 4) >> 1 | ((i) & 8) >> 3)
#elif defined(__AVX2__)
#define NEAR(n) n, n + 8, n + 1, n + 9, n + 4, n + 12, n + 5, n + 13
#define FAR(n) n, n + 1, n + 2, n + 3, n + 8, n + 9, n + 10, n + 11
#define PLACE(i) (((i) & 3) << 1 | ((i) & 4) >> 2)
#else
#define NEAR(n) n, n + 4, n + 1, n + 5
#define FAR(n) NEAR(0) /* there is no such stage */
#define PLACE(i) (i)
#endif

/* The numbers of two vectors at these places. Clang has no __builtin_shuffle, and GCC before version
 * 12 not the other. */
#if defined(__clang__)
#define TAKEN(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define TAKEN(a, b, ...) __builtin_shuffle(a, b, (ivec){__VA_ARGS__})
#endif

/* A square of WIDTH by WIDTH numbers whose row i is, before and after, rows[PLACE(i)]. Each stage
 * pairs rows that differ in the highest bit of their number, which becomes a bit of the column; a
 * bit of the column becomes the lowest of the row. In the first two stages numbers move among four
 * neighbours, in the others by fours, both of which are cheaper than any other move. */
INLINE void transpose(vec rows[WIDTH]) {
    UNROLLED for (int stage = 1; stage < WIDTH; stage *= 2) {
        vec moved[WIDTH];
        UNROLLED for (int i = 0; i < WIDTH / 2; i++) {
            vec a = rows[i], b = rows[i + WIDTH / 2];
            moved[2 * i] = stage < 4 ? TAKEN(a, b, NEAR(0)) : TAKEN(a, b, FAR(0));
            moved[2 * i + 1] = stage < 4 ? TAKEN(a, b, NEAR(2)) : TAKEN(a, b, FAR(4));
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
