/* Attention: the work in pieces, and what they find put together.
 *
 * A run is cut into blocks of query rows: some of its tokens, with as many KV heads as fit. Each
 * looks at its context span by span, and puts together what it finds in that order. Where there are
 * too few blocks to keep all threads busy, each span is a piece of work of its own, and what the
 * pieces found is put together afterwards, in the same order: to the same bits.
 */
#pragma once

#include "looking.h"
#include "threads.h"

/* Pieces that each thread should have, since some take longer than others. */
enum { PIECES_EACH = 16 };

struct attention_job {
    const struct attention *it;
    const struct piece *pieces;
    float *found; /* by piece; null where each piece looks at its whole context */
};

INLINE long group_of(const struct attention *it) { return it->heads / it->kv_heads; }

/* Where a row of a piece is among all queries, in numbers. */
INLINE long place(const struct attention *it, const struct piece *piece, long row) {
    long group = group_of(it);
    long token = it->begins[piece->run] + piece->token + row / group % piece->tokens;
    long head = (piece->head + row / group / piece->tokens) * group + row % group;
    return (token * it->heads + head) * it->head_dim;
}

static void answer(const struct attention *it, const struct piece *piece, const struct found *found) {
    long dim = it->head_dim, rows = piece->tokens * piece->heads * group_of(it);
    for (long row = 0; row < rows; row++) {
        float *out = it->out + place(it, piece, row);
        for (long d = 0; d < dim; d++) out[d] = found->values[row * dim + d] / found->total[row];
    }
}

INLINE struct found found_by(const struct attention_job *job, long part) {
    return found_in(job->found + part * found_size(job->it->head_dim));
}

static void look_part(const void *given, long part) {
    const struct attention_job *job = given;
    const struct attention *it = job->it;
    float here[QUERIES * (MAX_HEAD + 2)], everywhere[QUERIES * (MAX_HEAD + 2)];
    struct found all = job->found ? found_by(job, part) : found_in(everywhere);
    struct looking look;
    look.it = it;
    look.piece = job->pieces[part];
    look.position = it->positions[look.piece.run] + look.piece.token;
    look.group = group_of(it);
    look.rows_each = look.group * look.piece.tokens;
    look.rows = look.rows_each * look.piece.heads;
    look.here = found_in(here);
    for (long row = 0; row < look.rows; row++) {
        const float *query = it->queries + place(it, &look.piece, row);
        for (long d = 0; d < it->head_dim; d++)
            look.queries[row * it->head_dim + d] = query[d] * it->scale;
    }
    find_nothing(&all, look.rows, it->head_dim);
    look_around(&look, &all);
    if (!job->found) answer(it, &look.piece, &all);
}

/* Where `part` is the first piece of a block of rows: put together what all of them have found. */
static void gather_part(const void *given, long part) {
    const struct attention_job *job = given;
    const struct piece *piece = job->pieces + part;
    if (part && piece[-1].more) return;
    struct found all = found_by(job, part);
    long rows = piece->tokens * piece->heads * group_of(job->it);
    for (long next = part + 1; next <= part + piece->more; next++) {
        struct found more = found_by(job, next);
        for (long row = 0; row < rows; row++) put_together(&all, &more, row, job->it->head_dim);
    }
    answer(job->it, piece, &all);
}

/* Adds a block of rows to the pieces, of which there are `num`; returns how many there are then. */
static long cut_block(const struct attention *it, struct piece piece, int by_spans, long num,
                      struct piece *pieces) {
    long position = it->positions[piece.run] + piece.token, end = position + piece.tokens, begin = 0;
    if (it->window && position >= it->window) begin = (position - it->window + 1) / SPAN * SPAN;
    for (long step = by_spans ? SPAN : end; begin < end; begin += step, num++) {
        piece.begin = begin;
        piece.end = end - begin < step ? end : begin + step;
        piece.more = (end - piece.end + SPAN - 1) / SPAN;
        if (pieces) pieces[num] = piece;
    }
    return num;
}

/* How many pieces the work has; they are written to `pieces` unless that is null. */
static long cut(const struct attention *it, int by_spans, struct piece *pieces) {
    long most = QUERIES / group_of(it), num = 0;
    for (long run = 0; run < it->runs; run++) {
        long count = it->counts[run], tokens = count < most ? count : most, heads = most / tokens;
        for (long token = 0; token < count; token += tokens)
            for (long head = 0; head < it->kv_heads; head += heads) {
                struct piece piece = {run, token, tokens, head, heads, 0, 0, 0};
                if (piece.tokens > count - token) piece.tokens = count - token;
                if (piece.heads > it->kv_heads - head) piece.heads = it->kv_heads - head;
                num = cut_block(it, piece, by_spans, num, pieces);
            }
    }
    return num;
}

/* Not 0 where memory is short; nothing is computed then. */
int attend(struct pool *pool, const struct attention *it) {
    int by_spans = cut(it, 0, 0) < PIECES_EACH * (pool->num_workers + 1);
    long num = cut(it, by_spans, 0);
    struct piece *pieces = malloc(num * sizeof *pieces);
    float *found = by_spans ? malloc(num * found_size(it->head_dim) * sizeof(float)) : 0;
    int short_of_memory = !pieces || (by_spans && !found);
    if (!short_of_memory) {
        cut(it, by_spans, pieces);
        struct attention_job job = {it, pieces, found};
        run_parts(pool, look_part, &job, num);
        if (by_spans) run_parts(pool, gather_part, &job, num);
    }
    free(pieces);
    free(found);
    return short_of_memory;
}
