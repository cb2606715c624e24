/* What a step of a transformer spends its time on, for a CPU: skinny and square products with
 * packed weights, attention over paged KV, and the small things between them, all float32.
 *
 * Every number is summed in one order, whatever the shape of the batch and however the work is
 * cut: a product adds its terms one by one, in the order of the inner dimension, by fused
 * multiply-add; a sum over a row has sixteen lanes that are added as a tree. So a row's result
 * depends on that row alone, and is the same with vectors of 4, 8 and 16 numbers.
 */
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
enum { WIDTH = 16, ROWS = 12, PANELS = 2 };
#elif defined(__AVX2__) && defined(__FMA__)
enum { WIDTH = 8, ROWS = 6, PANELS = 1 };
#elif defined(__aarch64__)
enum { WIDTH = 4, ROWS = 6, PANELS = 1 };
#else
#error "this processor has no fused multiply-add of vectors"
#endif

/* A panel is 16 columns of a matrix, the numbers of one row beside each other. */
enum { LANES = 16, PARTS = LANES / WIDTH, WIDE = PANELS * PARTS };
/* Rows that stay in a core's second-level cache while all panels pass. */
enum { BLOCK_ROWS = 96 };
/* Numbers of quantised weights that share a scale, and rows of a panel unpacked at once. */
enum { GROUP = 32, UNPACKED = 128 };
/* Tokens of context in one pass of attention, and query rows that share it. */
enum { SPAN = 512, QUERIES = 48, MAX_HEAD = 256 };

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

/* --- threads ----------------------------------------------------------------------------------
 *
 * A job is numbered parts; every thread, the caller too, takes the next part until none is left.
 * So a thread that the system holds up delays one part, not its whole share. `left` counts down:
 * whoever sees it positive before and gets a positive number owns that part of the current job,
 * which stays until all its parts are done.
 */

enum { SPINS = 4000, MAX_THREADS = 256 };

typedef void (*work)(const void *job, long part);

struct pool {
    work run;
    const void *job;
    _Atomic long left, done;
    _Atomic int sleepers, closing;
    int num_workers;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_t workers[MAX_THREADS];
};

INLINE void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void take_parts(struct pool *pool) {
    long part;
    while (atomic_load(&pool->left) > 0 && (part = atomic_fetch_sub(&pool->left, 1)) > 0) {
        pool->run(pool->job, part - 1);
        atomic_fetch_add(&pool->done, 1);
    }
}

static void sleep_until_work(struct pool *pool) {
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->sleepers, 1);
    while (atomic_load(&pool->left) <= 0 && !atomic_load(&pool->closing))
        pthread_cond_wait(&pool->wake, &pool->lock);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->lock);
}

static void *worker(void *given) {
    struct pool *pool = given;
    for (int spins = 0; !atomic_load(&pool->closing); spins++) {
        if (atomic_load(&pool->left) > 0) {
            take_parts(pool);
            spins = 0;
        }
        relax();
        if (spins == SPINS) {
            sleep_until_work(pool);
            spins = 0;
        }
    }
    return 0;
}

static void wake_sleepers(struct pool *pool) {
    if (!atomic_load(&pool->sleepers)) return;
    pthread_mutex_lock(&pool->lock);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
}

/* All parts of the job are done when it returns. */
static void run_parts(struct pool *pool, work run, const void *job, long num_parts) {
    if (!pool->num_workers || num_parts == 1) {
        for (long part = num_parts; part--;) run(job, part);
        return;
    }
    pool->run = run;
    pool->job = job;
    atomic_store(&pool->done, 0);
    atomic_store(&pool->left, num_parts);
    wake_sleepers(pool);
    take_parts(pool);
    for (int spins = 0; atomic_load(&pool->done) < num_parts; spins++)
        if (spins < SPINS) relax();
        else sched_yield();
}

void close_pool(struct pool *pool) {
    atomic_store(&pool->closing, 1);
    pthread_mutex_lock(&pool->lock);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 0; i < pool->num_workers; i++) pthread_join(pool->workers[i], 0);
    free(pool);
}

/* Null where the system gives no threads. */
struct pool *open_pool(long num_threads) {
    struct pool *pool = calloc(1, sizeof *pool);
    if (!pool) return 0;
    pthread_mutex_init(&pool->lock, 0);
    pthread_cond_init(&pool->wake, 0);
    while (pool->num_workers < num_threads - 1 && pool->num_workers < MAX_THREADS) {
        if (pthread_create(&pool->workers[pool->num_workers], 0, worker, pool)) {
            close_pool(pool);
            return 0;
        }
        pool->num_workers++;
    }
    return pool;
}

/* --- products ---------------------------------------------------------------------------------*/

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
        CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#endif
    }
}

/* As `tile`, for any number of rows and 1 to PANELS panels. */
static void product(long rows, int num_panels, const float *x, long ldx, struct panels w,
                    float *out, long ldo, int add) {
    for (long r = 0; r < rows; r += ROWS) {
        int few = rows - r < ROWS ? rows - r : ROWS;
        if (num_panels == PANELS)
            few_rows(few, WIDE, x + r * ldx, ldx, w, out + r * ldo, ldo, add);
        else
            few_rows(few, PARTS, x + r * ldx, ldx, w, out + r * ldo, ldo, add);
    }
}

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

/* --- rows of numbers --------------------------------------------------------------------------*/

enum { ROWS_EACH = 16, NUMBERS_EACH = 4096 };

/* out = x / sqrt(mean(x * x) + epsilon) * weight, along `size`; out may be x. */
struct norm {
    const float *x;
    long rows, size;
    const float *weight;
    float epsilon;
    float *out;
};

static void norm_part(const void *given, long part) {
    const struct norm *it = given;
    for (long r = part * ROWS_EACH; r < it->rows && r < (part + 1) * ROWS_EACH; r++) {
        const float *x = it->x + r * it->size;
        float squares[LANES] = {0}, *out = it->out + r * it->size;
        long whole = it->size / LANES * LANES;
        for (long i = 0; i < whole; i += LANES)
            for (int c = 0; c < LANES; c++) squares[c] = __builtin_fmaf(x[i + c], x[i + c], squares[c]);
        for (long i = whole; i < it->size; i++)
            squares[i - whole] = __builtin_fmaf(x[i], x[i], squares[i - whole]);
        float scale = 1.0f / sqrtf(lanes_sum(squares) / it->size + it->epsilon);
        for (long i = 0; i < it->size; i++) out[i] = x[i] * scale * it->weight[i];
    }
}

void norm(struct pool *pool, const struct norm *it) {
    run_parts(pool, norm_part, it, (it->rows + ROWS_EACH - 1) / ROWS_EACH);
}

/* out = gate / (1 + exp(-gate)) * up, number by number; out may be one of them. */
struct gated {
    const float *gate, *up;
    long size;
    float *out;
};

INLINE void gate_some(const float *gate, const float *up, float *out) {
    vec x = load(gate);
    store(out, x / (1.0f + exponential(-x)) * load(up));
}

static void gated_part(const void *given, long part) {
    const struct gated *it = given;
    long begin = part * NUMBERS_EACH, end = begin + NUMBERS_EACH, i = begin;
    if (end > it->size) end = it->size;
    for (; i + WIDTH <= end; i += WIDTH) gate_some(it->gate + i, it->up + i, it->out + i);
    if (i == end) return;
    float gate[WIDTH] = {0}, up[WIDTH] = {0}, out[WIDTH];
    memcpy(gate, it->gate + i, (end - i) * sizeof(float));
    memcpy(up, it->up + i, (end - i) * sizeof(float));
    gate_some(gate, up, out);
    memcpy(it->out + i, out, (end - i) * sizeof(float));
}

void gated(struct pool *pool, const struct gated *it) {
    run_parts(pool, gated_part, it, (it->size + NUMBERS_EACH - 1) / NUMBERS_EACH);
}

/* --- attention --------------------------------------------------------------------------------
 *
 * A layer of the pool, `cache`, is rows of one token's keys or values of all heads; a token's keys
 * are in row `slot`, its values `page_size` rows further (see engine/ragged.py).
 */

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

/* Softmax attention of runs of consecutive tokens, each over its own sequence so far. */
struct attention {
    const float *queries; /* [tokens, heads, head_dim] */
    float *out;
    const float *cache;
    const int32_t *pages; /* the block tables of all runs behind each other */
    /* By run: its first token on the token axis, how many, the position of the first in its
     * sequence, where its block table begins. */
    const int64_t *begins, *counts, *positions, *tables;
    long runs, heads, kv_heads, head_dim, page_size;
    long window; /* tokens that a token sees, itself included; 0: all */
    float scale;
};

/* Some query rows of one KV head: `group` rows for each of `tokens` tokens from `position` on. */
struct looking {
    const struct attention *it;
    const int32_t *pages;
    const float *heads; /* the cache from this KV head on */
    long position, tokens, group, rows, end;
    float queries[QUERIES * MAX_HEAD], found[QUERIES * MAX_HEAD];
    float scores[QUERIES * SPAN];
    float highest[QUERIES], total[QUERIES];
};

INLINE const float *keys_of(const struct looking *look, long token) {
    long size = look->it->page_size;
    long slot = look->pages[token / size] * 2 * size + token % size;
    return look->heads + slot * look->it->kv_heads * look->it->head_dim;
}

#if defined(__AVX512F__)
#define FIRST_HALVES 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define LAST_HALVES 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif defined(__AVX2__)
#define FIRST_HALVES 0, 8, 1, 9, 2, 10, 3, 11
#define LAST_HALVES 4, 12, 5, 13, 6, 14, 7, 15
#else
#define FIRST_HALVES 0, 4, 1, 5
#define LAST_HALVES 2, 6, 3, 7
#endif

/* A square of WIDTH by WIDTH numbers, by log2(WIDTH) perfect shuffles of its rows. */
INLINE void transpose(vec rows[WIDTH]) {
    const ivec first = {FIRST_HALVES}, last = {LAST_HALVES};
    UNROLLED for (int stage = 1; stage < WIDTH; stage *= 2) {
        vec shuffled[WIDTH];
        UNROLLED for (int i = 0; i < WIDTH / 2; i++) {
            shuffled[2 * i] = __builtin_shuffle(rows[i], rows[i + WIDTH / 2], first);
            shuffled[2 * i + 1] = __builtin_shuffle(rows[i], rows[i + WIDTH / 2], last);
        }
        UNROLLED for (int i = 0; i < WIDTH; i++) rows[i] = shuffled[i];
    }
}

/* The keys of 16 tokens from `token` on as a panel; what is behind the end counts as zeros. */
static void key_panel(const struct looking *look, long token, float *panel) {
    static const float nothing[MAX_HEAD];
    const float *keys[LANES];
    for (int i = 0; i < LANES; i++)
        keys[i] = token + i < look->end ? keys_of(look, token + i) : nothing;
    for (long d = 0; d < look->it->head_dim; d += WIDTH)
        for (int part = 0; part < PARTS; part++) {
            vec square[WIDTH];
            UNROLLED for (int i = 0; i < WIDTH; i++) square[i] = load(keys[part * WIDTH + i] + d);
            transpose(square);
            UNROLLED for (int i = 0; i < WIDTH; i++)
                store(panel + (d + i) * LANES + part * WIDTH, square[i]);
        }
}

static void score(struct looking *look, long begin, long count) {
    long dim = look->it->head_dim;
    float panels[PANELS * MAX_HEAD * LANES];
    for (long at = 0; at < count; at += PANELS * LANES) {
        int num_panels = (count - at + LANES - 1) / LANES;
        if (num_panels > PANELS) num_panels = PANELS;
        for (int p = 0; p < num_panels; p++)
            key_panel(look, begin + at + p * LANES, panels + p * dim * LANES);
        struct panels w = {panels, LANES, dim * LANES, dim, 0};
        product(look->rows, num_panels, look->queries, dim, w, look->scores + at, SPAN, 0);
    }
}

/* Scores of one row become weights; returns by how much what was found before counts less. */
static float weigh(struct looking *look, long row, long begin, long count) {
    float *scores = look->scores + row * SPAN, lanes[LANES];
    long here = look->position + row / look->group, to = here + 1 - begin, from = 0;
    if (look->it->window && here - look->it->window + 1 > begin)
        from = here - look->it->window + 1 - begin;
    long padded = (count + LANES - 1) / LANES * LANES;
    if (to > count) to = count;
    if (from >= to) { /* nothing of this span is seen from here */
        memset(scores, 0, padded * sizeof(float));
        return 1.0f;
    }
    for (long i = 0; i < from; i++) scores[i] = -INFINITY;
    for (long i = to; i < padded; i++) scores[i] = -INFINITY;
    vec most[PARTS], sum[PARTS];
    for (int c = 0; c < PARTS; c++) most[c] = all(look->highest[row]), sum[c] = (vec){};
    for (long i = 0; i < padded; i += LANES)
        UNROLLED for (int c = 0; c < PARTS; c++) {
            vec x = load(scores + i + c * WIDTH);
            most[c] = either(x > most[c], x, most[c]);
        }
    for (int c = 0; c < PARTS; c++) store(lanes + c * WIDTH, most[c]);
    float highest = lanes[0];
    for (int i = 1; i < LANES; i++) highest = lanes[i] > highest ? lanes[i] : highest;
    for (long i = 0; i < padded; i += LANES)
        UNROLLED for (int c = 0; c < PARTS; c++) {
            vec weight = exponential(load(scores + i + c * WIDTH) - highest);
            store(scores + i + c * WIDTH, weight);
            sum[c] += weight;
        }
    for (int c = 0; c < PARTS; c++) store(lanes + c * WIDTH, sum[c]);
    float faded = exponential(all(look->highest[row] - highest))[0];
    look->highest[row] = highest;
    look->total[row] = __builtin_fmaf(look->total[row], faded, lanes_sum(lanes));
    return faded;
}

/* Add up the values of the span by their weights, one token after the other. */
static void collect(struct looking *look, long begin, long count) {
    const struct attention *it = look->it;
    long dim = it->head_dim, size = it->kv_heads * dim;
    for (long at = 0, some; at < count; at += some) {
        some = it->page_size - (begin + at) % it->page_size;
        if (some > count - at) some = count - at;
        const float *values = keys_of(look, begin + at) + it->page_size * size;
        for (long d = 0; d < dim; d += PANELS * LANES) {
            int num_panels = dim - d < PANELS * LANES ? (dim - d) / LANES : PANELS;
            struct panels w = {values + d, size, LANES, some, it->page_size * 2 * size};
            product(look->rows, num_panels, look->scores + at, SPAN, w, look->found + d, dim, 1);
        }
    }
}

static void look_around(struct looking *look) {
    long dim = look->it->head_dim, first = 0;
    if (look->it->window && look->position >= look->it->window)
        first = (look->position - look->it->window + 1) / SPAN * SPAN;
    for (long begin = first; begin < look->end; begin += SPAN) {
        long count = look->end - begin < SPAN ? look->end - begin : SPAN;
        score(look, begin, count);
        for (long row = 0; row < look->rows; row++) {
            float faded = weigh(look, row, begin, count);
            if (faded != 1.0f)
                for (long d = 0; d < dim; d++) look->found[row * dim + d] *= faded;
        }
        collect(look, begin, count);
    }
}

INLINE long tokens_each(const struct attention *it) { return QUERIES / (it->heads / it->kv_heads); }

static void attention_part(const void *given, long part) {
    const struct attention *it = given;
    long each = tokens_each(it), head = part % it->kv_heads, dim = it->head_dim, run = 0;
    part /= it->kv_heads;
    for (long parts; part >= (parts = (it->counts[run] + each - 1) / each); run++) part -= parts;
    struct looking look;
    look.it = it;
    look.pages = it->pages + it->tables[run];
    look.heads = it->cache + head * dim;
    look.group = it->heads / it->kv_heads;
    look.position = it->positions[run] + part * each;
    look.tokens = it->counts[run] - part * each < each ? it->counts[run] - part * each : each;
    look.rows = look.tokens * look.group;
    look.end = look.position + look.tokens;
    long first = (it->begins[run] + part * each) * it->heads + head * look.group;
    for (long row = 0; row < look.rows; row++) {
        long from = (first + row / look.group * it->heads + row % look.group) * dim;
        for (long d = 0; d < dim; d++) look.queries[row * dim + d] = it->queries[from + d] * it->scale;
        look.highest[row] = -INFINITY, look.total[row] = 0.0f;
    }
    memset(look.found, 0, look.rows * dim * sizeof(float));
    look_around(&look);
    for (long row = 0; row < look.rows; row++) {
        long to = (first + row / look.group * it->heads + row % look.group) * dim;
        for (long d = 0; d < dim; d++) it->out[to + d] = look.found[row * dim + d] / look.total[row];
    }
}

void attend(struct pool *pool, const struct attention *it) {
    long each = tokens_each(it), parts = 0;
    for (long run = 0; run < it->runs; run++) parts += (it->counts[run] + each - 1) / each;
    run_parts(pool, attention_part, it, parts * it->kv_heads);
}
