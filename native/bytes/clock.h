/* The clock of deadlines: it never goes back, and says nothing about the time of day.
 *
 * For shells alone: what is pure gets the time as an argument. */
#ifndef KV_CLOCK_H
#define KV_CLOCK_H

#include <stdint.h>
#include <time.h>

/* CLOCK_MONOTONIC, the clock of reactors and timers too. */
static inline uint64_t kv_clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

#endif
