/* For how long device operations have been out, without a clock or a list for each of them.
 *
 * Operations belong to the generation in which they began; a look begins another one. The oldest
 * generation that is not empty says how old the oldest operation is, to the time between two looks.
 * Only time that was watched counts: a process that was stopped learns nothing of its device from
 * that. All locked by the caller. */
#ifndef KV_IO_WATCH_H
#define KV_IO_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#define KV_IO_WATCH_GENERATIONS 8u
#define KV_IO_WATCH_STEP_NS 1000000000ull /* what the time between two looks counts for at most */

typedef struct kv_io_watch {
    uint64_t clock_ns;    /* time that was watched */
    uint64_t looked_ns;   /* the last look, as its caller counts; 0: none yet */
    uint64_t progress_ns; /* of clock_ns: something ended since then, or nothing was out */
    uint64_t begun_ns[KV_IO_WATCH_GENERATIONS]; /* of clock_ns: when the generation did */
    uint32_t counts[KV_IO_WATCH_GENERATIONS];
    uint32_t out;
    uint8_t current;
    bool ended;           /* something, since the last look */
} kv_io_watch;

typedef struct kv_io_ages {
    uint64_t oldest_ns; /* of the operations that are out */
    uint64_t silent_ns; /* for so long none ended although some were out */
} kv_io_ages;

/* Returns the generation, for its end. */
uint8_t kv_io_watch_begin(kv_io_watch *watch);
void kv_io_watch_end(kv_io_watch *watch, uint8_t generation);
kv_io_ages kv_io_watch_look(kv_io_watch *watch, uint64_t now_ns);

#endif
