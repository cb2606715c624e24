/* The threads that compute. */
#pragma once

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "vectors.h"

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
