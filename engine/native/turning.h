/* Keys and values on their way into the pages. */
#pragma once

#include "rows.h"
#include "threads.h"

/* Turn queries where they are, and keys on their way into the pages; values go there as they are. */
struct writing {
    float *queries;
    const float *keys, *values, *cosines, *sines; /* [tokens, heads, head_dim], [tokens, head_dim / 2] */
    float *cache;
    const int64_t *slots;
    long tokens, heads, kv_heads, head_dim, page_size;
};

INLINE void turn(const float *from, const float *cosine, const float *sine, long half, float *to) {
    for (long i = 0; i < half; i++) {
        float a = from[i], b = from[i + half];
        to[i] = __builtin_fmaf(a, cosine[i], -(b * sine[i]));
        to[i + half] = __builtin_fmaf(b, cosine[i], a * sine[i]);
    }
}

static void writing_part(const void *given, long part) {
    const struct writing *it = given;
    long half = it->head_dim / 2, size = it->kv_heads * it->head_dim;
    for (long t = part * ROWS_EACH; t < it->tokens && t < (part + 1) * ROWS_EACH; t++) {
        const float *cosine = it->cosines + t * half, *sine = it->sines + t * half;
        float *keys = it->cache + it->slots[t] * size, *queries = it->queries + t * it->heads * it->head_dim;
        for (long h = 0; h < it->heads; h++)
            turn(queries + h * it->head_dim, cosine, sine, half, queries + h * it->head_dim);
        for (long h = 0; h < it->kv_heads; h++)
            turn(it->keys + t * size + h * it->head_dim, cosine, sine, half, keys + h * it->head_dim);
        memcpy(keys + it->page_size * size, it->values + t * size, size * sizeof(float));
    }
}

void write_kv(struct pool *pool, const struct writing *it) {
    run_parts(pool, writing_part, it, (it->tokens + ROWS_EACH - 1) / ROWS_EACH);
}
