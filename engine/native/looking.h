/* Some query rows look at a part of their context. */
#pragma once

#include "found.h"
#include "tiles.h"
#include "transpose.h"

/* Tokens that are looked at together. */
enum { SPAN = 128 };

/* Softmax attention of runs of consecutive tokens, each over its own sequence so far. */
struct attention {
    const float *queries; /* [tokens, heads, head_dim] */
    float *out;
    /* A layer of the pool: rows of one token's keys or values of all heads; a token's values are
     * `page_size` rows behind its keys (see engine/ragged.py). */
    const float *cache;
    const int32_t *pages; /* the block tables of all runs behind each other */
    /* By run: its first token on the token axis, how many, the position of the first in its
     * sequence, where its block table begins. */
    const int64_t *begins, *counts, *positions, *tables;
    long runs, heads, kv_heads, head_dim, page_size;
    long window; /* tokens that a token sees, itself included; 0: all */
    float scale;
};

/* A piece of the work: some tokens of a run with some KV heads, at most QUERIES rows together, that
 * look at tokens [begin, end) of their context; `begin` is a multiple of SPAN.
 *
 *   rows    | first head: first token: its query heads | second token: ... | second head: ...
 */
struct piece {
    long run, token, tokens, head, heads, begin, end;
    long more; /* how many pieces follow for the rest of the context */
};

struct looking {
    const struct attention *it;
    struct piece piece;
    long position; /* of the first token */
    long group, rows_each, rows; /* query rows of a token and KV head, of a KV head, of all */
    long begin, count; /* the span */
    float scores[QUERIES * SPAN];
    float queries[QUERIES * MAX_HEAD];
    struct found here; /* in the span */
};

/* Where the keys of a token are, from the piece's first KV head on. */
INLINE const float *keys_of(const struct looking *look, long token) {
    const struct attention *it = look->it;
    long page = it->pages[it->tables[look->piece.run] + token / it->page_size];
    long slot = page * 2 * it->page_size + token % it->page_size;
    return it->cache + (slot * it->kv_heads + look->piece.head) * it->head_dim;
}

INLINE const float *values_of(const struct looking *look, long token) {
    const struct attention *it = look->it;
    return keys_of(look, token) + it->page_size * it->kv_heads * it->head_dim;
}

/* What is read behind the keys of the span before token `at` of it: more keys, or the first values.
 * A processor cannot guess it, since pages lie anywhere; told in time, it reads twice as fast. */
INLINE const float *behind_keys(const struct looking *look, long at) {
    return at < look->count ? keys_of(look, look->begin + at) : values_of(look, look->begin);
}

/* What is read behind the values before token `at`: more values, or the next span's keys. */
INLINE const float *behind_values(const struct looking *look, long at) {
    if (at < look->count) return values_of(look, look->begin + at);
    long next = look->begin + SPAN;
    return keys_of(look, next < look->piece.end ? next : look->begin);
}

/* The keys of 16 tokens, from token `at` of the span on, as a panel; behind the end, anything. */
static void key_panel(const struct looking *look, long at, long head, float *panel) {
    long dim = look->it->head_dim, stride = look->it->kv_heads * dim, token = look->begin + at;
    const float *from = keys_of(look, token);
    if (token % look->it->page_size + LANES <= look->it->page_size) {
        as_panel(from + head * dim, stride, dim, behind_keys(look, at + LANES) - from, panel);
        return;
    }
    float keys[LANES * MAX_HEAD] = {0}; /* they are in several pages */
    for (long i = 0; i < LANES && at + i < look->count; i++)
        memcpy(keys + i * dim, keys_of(look, token + i) + head * dim, dim * sizeof(float));
    as_panel(keys, dim, dim, 0, panel);
}

/* Sixteen tokens at a time: with more, what is fetched ahead comes too late (measured). */
static void score(struct looking *look) {
    long dim = look->it->head_dim, rows = look->rows_each;
    float panel[MAX_HEAD * LANES];
    for (long at = 0; at < look->count; at += LANES)
        for (long head = 0; head < look->piece.heads; head++) {
            key_panel(look, at, head, panel);
            struct panels w = {panel, LANES, 0, dim, 0};
            product(rows, 1, look->queries + head * rows * dim, dim, w,
                    look->scores + head * rows * SPAN + at, SPAN, 0);
        }
}

/* Scores of one row become weights, relative to their highest. */
static void weigh(struct looking *look, long row) {
    float *scores = look->scores + row * SPAN;
    long padded = (look->count + LANES - 1) / LANES * LANES;
    long self = look->position + row / look->group % look->piece.tokens - look->begin;
    long from = look->it->window ? self + 1 - look->it->window : 0, to = self + 1;
    if (to > look->count) to = look->count;
    for (long i = 0; i < from && i < padded; i++) scores[i] = -INFINITY;
    for (long i = to < 0 ? 0 : to; i < padded; i++) scores[i] = -INFINITY;
    float highest = highest_of(scores, padded);
    if (highest == -INFINITY) /* no score, or none that is a number: damaged keys are not passed over */
        for (long i = 0; i < padded; i++) highest = scores[i] == scores[i] ? highest : scores[i];
    look->here.highest[row] = highest;
    if (highest != -INFINITY) look->here.total[row] = become_exponentials(scores, padded, highest);
    else memset(scores, 0, padded * sizeof(float)); /* nothing of this span is seen from here */
}

/* Add up the values of the span by their weights, one token after the other. */
static void collect(struct looking *look) {
    long dim = look->it->head_dim, stride = look->it->kv_heads * dim, size = look->it->page_size;
    long rows = look->rows_each;
    memset(look->here.values, 0, look->rows * dim * sizeof(float));
    for (long at = 0, some; at < look->count; at += some) {
        some = size - (look->begin + at) % size;
        if (some > look->count - at) some = look->count - at;
        const float *values = values_of(look, look->begin + at);
        long ahead = behind_values(look, at + some) - values;
        for (long head = 0; head < look->piece.heads; head++)
            for (long d = 0; d < dim; d += LANES) {
                struct panels w = {values + head * dim + d, stride, 0, some, ahead};
                product(rows, 1, look->scores + head * rows * SPAN + at, SPAN, w,
                        look->here.values + head * rows * dim + d, dim, 1);
            }
    }
}

/* All that the rows of a piece find, span by span. */
static void look_around(struct looking *look, struct found *all) {
    long dim = look->it->head_dim;
    for (look->begin = look->piece.begin; look->begin < look->piece.end; look->begin += SPAN) {
        look->count = look->piece.end - look->begin;
        if (look->count > SPAN) look->count = SPAN;
        score(look);
        for (long row = 0; row < look->rows; row++) weigh(look, row);
        collect(look);
        for (long row = 0; row < look->rows; row++) put_together(all, &look->here, row, dim);
    }
}
