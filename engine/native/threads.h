/* The threads that compute. */
#pragma once

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "vectors.h"

/* A job is numbered parts, of which every thread, the caller too, has a share of neighbours: what
 * it fetches ahead is then its own. A thread that is through with its share goes on with the
 * others', so one that the system holds up delays a part, not its share. What is left of a share
 * counts down: whoever sees it positive before and gets a positive number owns a part of the
 * current job, which stays until all its parts are done.
 */

enum { SPINS = 4000, MAX_THREADS = 256, LINE = 64 };

typedef void (*work)(const void *job, long part);

struct share {
    _Alignas(LINE) _Atomic long left;
};

struct pool {
    work run;
    const void *job;
    long num_parts;
    int num_workers;
    pid_t owner; /* the process that has the threads: a fork of it has none */
    struct share shares[MAX_THREADS + 1];
    _Alignas(LINE) _Atomic long num_jobs, done;
    _Atomic int sleepers, closing, joined;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_t workers[MAX_THREADS];
};

INLINE void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

INLINE long begin_of_share(const struct pool *pool, long number) {
    return number * pool->num_parts / (pool->num_workers + 1);
}

static void take_parts(struct pool *pool, int self) {
    for (int i = 0, num = pool->num_workers + 1; i < num; i++) {
        int number = (self + i) % num;
        _Atomic long *share = &pool->shares[number].left;
        long left;
        while (atomic_load(share) > 0 && (left = atomic_fetch_sub(share, 1)) > 0) {
            pool->run(pool->job, begin_of_share(pool, number + 1) - left);
            atomic_fetch_add(&pool->done, 1);
        }
    }
}

static void sleep_until_work(struct pool *pool, long seen) {
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->sleepers, 1);
    while (atomic_load(&pool->num_jobs) == seen && !atomic_load(&pool->closing))
        pthread_cond_wait(&pool->wake, &pool->lock);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->lock);
}

static void *worker(void *given) {
    struct pool *pool = given;
    int self = atomic_fetch_add(&pool->joined, 1) + 1; /* 0 is the caller */
    long seen = 0;
    for (int spins = 0; !atomic_load(&pool->closing); spins++) {
        if (atomic_load(&pool->num_jobs) != seen) {
            seen = atomic_load(&pool->num_jobs);
            take_parts(pool, self);
            spins = 0;
        }
        relax();
        if (spins == SPINS) {
            sleep_until_work(pool, seen);
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
        for (long part = 0; part < num_parts; part++) run(job, part);
        return;
    }
    pool->run = run;
    pool->job = job;
    pool->num_parts = num_parts;
    atomic_store(&pool->done, 0);
    for (int i = 0; i <= pool->num_workers; i++)
        atomic_store(&pool->shares[i].left, begin_of_share(pool, i + 1) - begin_of_share(pool, i));
    atomic_fetch_add(&pool->num_jobs, 1);
    wake_sleepers(pool);
    take_parts(pool, 0);
    for (int spins = 0; atomic_load(&pool->done) < num_parts; spins++)
        if (spins < SPINS) relax();
        else sched_yield();
}

void close_pool(struct pool *pool) {
    if (pool->owner != getpid()) return;
    atomic_store(&pool->closing, 1);
    pthread_mutex_lock(&pool->lock);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 0; i < pool->num_workers; i++) pthread_join(pool->workers[i], 0);
    free(pool);
}

/* Null where the system gives no threads. */
struct pool *open_pool(long num_threads) {
    struct pool *pool = aligned_alloc(LINE, sizeof *pool);
    if (!pool) return 0;
    memset(pool, 0, sizeof *pool);
    pool->owner = getpid();
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
