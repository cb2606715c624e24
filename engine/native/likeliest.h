/* The largest few of many numbers, of several rows. */
#pragma once

#include "found.h"
#include "threads.h"

/* A row is dealt into groups, of which so many lie abreast:
 *
 *   row   | a b c ... a b c ... | d e f ... d e f ... | ... | the rest: a b c ... |
 *           `depth` times         `depth` times
 *
 * So many groups as numbers are wanted have a maximum that is not below the smallest wanted one;
 * the others need not be looked at again. */
enum { ABREAST = 4 * LANES, GROUPS = 8 * ABREAST };

enum { NOT_FINITE = 0, TOO_MANY = -1 };

/* Of row r the `wanted[r]` largest and all that equal the smallest of them, in order of place:
 * `places` and `numbers`, [num_rows, room], where what is left of a row are zeros and minus
 * infinities; what is minus infinity itself is left out. `counts[r]` is how many: NOT_FINITE where
 * the largest is not, or any is NaN; TOO_MANY, and what is found means nothing, where they have no
 * room. `room` is a multiple of sixteen. */
struct likeliest {
    const float *const *rows;
    const int64_t *wanted;
    long num_rows, size, room;
    int64_t *places, *counts;
    float *numbers;
};

/* What was found of a row. */
struct list {
    int64_t *places;
    float *numbers;
    long count, room;
};

INLINE void put_last(struct list *list, const float *row, long place) {
    if (list->count < list->room) {
        list->places[list->count] = place;
        list->numbers[list->count] = row[place];
    }
    list->count++;
}

/* Whole numbers in the order of the floats that have their bits. */
INLINE int64_t rank_of(float x) {
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits < 0 ? bits ^ INT32_MAX : bits;
}

INLINE float of_rank(int64_t rank) {
    int32_t bits = rank < 0 ? rank ^ INT32_MAX : rank;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* How many of whole vectors of sixteen. */
INLINE long num_from(const float *numbers, long count, float least) {
    ivec found[PARTS] = {{0}};
    long num = 0;
    for (long i = 0; i < count; i += LANES)
        UNROLLED for (int c = 0; c < PARTS; c++) found[c] -= load(numbers + i + c * WIDTH) >= least;
    UNROLLED for (int c = 1; c < PARTS; c++) found[0] += found[c];
    for (int i = 0; i < WIDTH; i++) num += found[0][i];
    return num;
}

/* A number that `wanted` of these reach, and more only if equal; whole vectors of sixteen, none of
 * which is NaN or above `highest`. By bisection of its bits: no branch hangs on a single number. */
static float reached_by(long wanted, const float *numbers, long count, float highest) {
    int64_t low = rank_of(-INFINITY), high = rank_of(highest) + 1;
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        long num = num_from(numbers, count, of_rank(middle));
        if (num < wanted) high = middle;
        else low = middle;
        if (num == wanted) break;
    }
    return of_rank(low);
}

/* The maximum of each group; returns whether all numbers of the row are some. */
static int group_maxima(const float *row, long size, float *maxima) {
    long depth = size / GROUPS, whole = depth * GROUPS, rest = size - whole;
    ivec none[ABREAST / WIDTH] = {{0}};
    for (long g = 0; g < GROUPS; g += ABREAST) {
        vec most[ABREAST / WIDTH];
        UNROLLED for (int c = 0; c < ABREAST / WIDTH; c++) most[c] = all(-INFINITY);
        for (long d = 0; d < depth; d++)
            UNROLLED for (int c = 0; c < ABREAST / WIDTH; c++) {
                vec x = load(row + g * depth + d * ABREAST + c * WIDTH);
                none[c] |= x != x;
                most[c] = either(x > most[c], x, most[c]);
            }
        UNROLLED for (int c = 0; c < ABREAST / WIDTH; c++) store(maxima + g + c * WIDTH, most[c]);
    }
    int any = 0;
    for (long g = 0; g < rest; g++) {
        float x = row[whole + g];
        any |= x != x;
        maxima[g] = x > maxima[g] ? x : maxima[g];
    }
    for (int c = 0; c < ABREAST / WIDTH; c++)
        for (int i = 0; i < WIDTH; i++) any |= none[c][i];
    return !any;
}

/* The finite ones from `least` on, which are in groups with such a maximum. */
static void take_from(float least, const float *row, long size, const float *maxima,
                      struct list *list) {
    long depth = size / GROUPS, whole = depth * GROUPS;
    for (long g = 0; g < GROUPS; g += ABREAST) {
        long groups[ABREAST], num = 0;
        for (long i = 0; i < ABREAST; i++) {
            groups[num] = i;
            num += maxima[g + i] >= least && maxima[g + i] > -INFINITY;
        }
        for (long d = 0; d < depth; d++)
            for (long n = 0; n < num; n++) {
                long place = g * depth + d * ABREAST + groups[n];
                if (row[place] >= least && row[place] > -INFINITY) put_last(list, row, place);
            }
    }
    for (long place = whole; place < size; place++)
        if (row[place] >= least && row[place] > -INFINITY) put_last(list, row, place);
}

/* Those from `least` on, and nothing behind them. */
static void keep_from(float least, struct list *list) {
    long kept = 0;
    for (long i = 0; i < list->count; i++) {
        if (list->numbers[i] < least) continue;
        list->places[kept] = list->places[i];
        list->numbers[kept++] = list->numbers[i];
    }
    list->count = kept;
    for (long i = kept; i < list->room; i++) list->places[i] = 0, list->numbers[i] = -INFINITY;
}

static void likeliest_part(const void *given, long r) {
    const struct likeliest *it = given;
    const float *row = it->rows[r];
    struct list list = {it->places + r * it->room, it->numbers + r * it->room, 0, it->room};
    float maxima[GROUPS];
    int all_are_numbers = group_maxima(row, it->size, maxima);
    float highest = highest_of(maxima, GROUPS);
    long wanted = it->wanted[r];
    if (all_are_numbers && highest < INFINITY && highest > -INFINITY)
        take_from(reached_by(wanted, maxima, GROUPS, highest), row, it->size, maxima, &list);
    it->counts[r] = TOO_MANY;
    if (list.count > list.room) return;
    keep_from(-INFINITY, &list);
    if (list.count > wanted)
        keep_from(reached_by(wanted, list.numbers, list.room, highest), &list);
    it->counts[r] = list.count;
}

void likeliest(struct pool *pool, const struct likeliest *it) {
    run_parts(pool, likeliest_part, it, it->num_rows);
}
