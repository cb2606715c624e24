/* Vectors of as many numbers as the processor has, and what is computed within one. */
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
enum { WIDTH = 16, ROWS = 8, PANELS = 2 };
#elif defined(__AVX2__) && defined(__FMA__)
enum { WIDTH = 8, ROWS = 6, PANELS = 1 };
#elif defined(__aarch64__)
enum { WIDTH = 4, ROWS = 6, PANELS = 1 };
#else
#error "this processor has no fused multiply-add of vectors"
#endif

/* A panel is 16 columns of a matrix, the numbers of one row beside each other. */
enum { LANES = 16, PARTS = LANES / WIDTH, WIDE = PANELS * PARTS };

typedef float vec __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))
#define UNROLLED _Pragma("GCC unroll 16")

INLINE vec load(const float *from) { return *(const vec *)from; }
INLINE void store(float *to, vec value) { *(vec *)to = value; }
INLINE vec all(float value) { return value - (vec){}; }
INLINE vec either(ivec mask, vec yes, vec no) { return (vec)(((ivec)yes & mask) | ((ivec)no & ~mask)); }

/* e to the power of x, relative error below 2e-7; 0 far below, infinity far above. */
INLINE vec exponential(vec x) {
    x = either(x < -104.0f, all(-104.0f), either(x > 89.0f, all(89.0f), x));
    const vec shift = all(12582912.0f); /* 1.5 * 2**23: adding it rounds to a whole number */
    vec n = x * 1.44269504f + shift;
    ivec whole = (ivec)n - (ivec)shift;
    n -= shift;
    vec r = x - n * 0.693359375f + n * 2.12194440e-4f;
    vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    ivec half = whole >> 1; /* in two steps, so that neither power of two leaves float's range */
    return p * (vec)((half + 127) << 23) * (vec)((whole - half + 127) << 23);
}

/* The sum of sixteen lanes, as a tree. */
INLINE float lanes_sum(const float *lanes) {
    float sums[LANES];
    memcpy(sums, lanes, sizeof sums);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) sums[i] += sums[i + half];
    return sums[0];
}
