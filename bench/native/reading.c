/* Read memory as fast as it can be read: the yardstick of whoever reads weights. */
#include <stdint.h>

typedef uint64_t words __attribute__((vector_size(64), aligned(64)));

enum { EACH = 4 };

/* The exclusive or of all words, so that none is left out. `bytes` is a multiple of `streams` times
 * 256; so many places are read by turns, each `bytes / streams` from the next, and what lies `ahead`
 * is fetched meanwhile: which numbers are best is for the caller to find out. */
uint64_t read_all(const char *memory, long bytes, long streams, long ahead) {
    words found[EACH] = {{0}};
    long apart = bytes / streams, step = EACH * sizeof(words);
    for (long at = 0; at < apart; at += step)
        for (long s = 0; s < streams; s++) {
            const char *from = memory + s * apart + at;
            for (int i = 0; i < EACH; i++) {
                __builtin_prefetch(from + i * sizeof(words) + ahead, 0, 2);
                found[i] ^= *(const words *)(from + i * sizeof(words));
            }
        }
    uint64_t all = 0;
    for (int i = 0; i < EACH; i++)
        for (int lane = 0; lane < 8; lane++) all ^= found[i][lane];
    return all;
}
