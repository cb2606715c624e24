/* A few rows times a few columns, held in registers: what all products are made of. */
#pragma once

#include "vectors.h"

/* `depth` rows of one or more panels: row k of panel p begins at `at + p * apart + k * stride`.
 * What is needed next lies `ahead` of it: fetched meanwhile, it costs a batch of 16 a fifth less. */
struct panels {
    const float *at;
    long stride, apart, depth, ahead;
};

/* out[r][c] (+)= sum over k of x[r][k] * panel[k][c] */
INLINE void tile(const int rows, const int wide, const float *x, long ldx, struct panels w,
                 float *out, long ldo, int add) {
    vec sum[ROWS][WIDE];
    UNROLLED for (int r = 0; r < rows; r++)
        UNROLLED for (int c = 0; c < wide; c++)
            sum[r][c] = add ? load(out + r * ldo + c * WIDTH) : (vec){};
    for (long k = 0; k < w.depth; k++) {
        vec b[WIDE];
        UNROLLED for (int p = 0; p < (wide + PARTS - 1) / PARTS; p++)
            __builtin_prefetch(w.at + k * w.stride + p * w.apart + w.ahead, 0, 2);
        UNROLLED for (int c = 0; c < wide; c++)
            b[c] = load(w.at + k * w.stride + c / PARTS * w.apart + c % PARTS * WIDTH);
        UNROLLED for (int r = 0; r < rows; r++) {
            vec a = all(x[r * ldx + k]);
            UNROLLED for (int c = 0; c < wide; c++) sum[r][c] = a * b[c] + sum[r][c];
        }
    }
    UNROLLED for (int r = 0; r < rows; r++)
        UNROLLED for (int c = 0; c < wide; c++) store(out + r * ldo + c * WIDTH, sum[r][c]);
}

#define CASE(rows) case rows: tile(rows, wide, x, ldx, w, out, ldo, add); break;
INLINE void few_rows(int rows, const int wide, const float *x, long ldx, struct panels w,
                     float *out, long ldo, int add) {
    switch (rows) {
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#if defined(__AVX512F__)
        CASE(7) CASE(8)
#endif
    }
}

/* As `tile`, for any number of rows and 1 to PANELS panels. Where the caller knows strides and
 * depth, so do the loops: attention takes 14 % less time than with a function of its own. */
INLINE void product(long rows, int num_panels, const float *x, long ldx, struct panels w,
                    float *out, long ldo, int add) {
    for (long r = 0, few; r < rows; r += few) {
        long tiles = (rows - r + ROWS - 1) / ROWS;
        few = (rows - r + tiles - 1) / tiles; /* rather 5 and 5 than 8 and 2 */
        if (num_panels == PANELS)
            few_rows(few, WIDE, x + r * ldx, ldx, w, out + r * ldo, ldo, add);
        else
            few_rows(few, PARTS, x + r * ldx, ldx, w, out + r * ldo, ldo, add);
    }
}
