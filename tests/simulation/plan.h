/* What the long simulations are asked for: which seeds, how many, for how long.
 *
 *   SEED=n PROGRAM                                        replay the history of one seed
 *   PROGRAM [--seeds N] [--first S] [--seconds T]
 *
 * It stops after N seeds or T seconds, whichever is first; 0 means no limit. --first 0 draws it
 * from the clock. */
#ifndef KV_SIMULATION_PLAN_H
#define KV_SIMULATION_PLAN_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct simulation {
    uint64_t first;
    uint64_t seeds;
    uint64_t seconds;
    uint64_t begun;
} simulation;

static inline uint64_t seconds_now(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec;
}

static inline bool number_read(const char *text, uint64_t *number)
{
    char *end;

    if (!text || !*text)
        return false;
    *number = strtoull(text, &end, 10);
    return *end == 0;
}

static inline bool arguments_read(simulation *plan, int count, char **arguments)
{
    for (int i = 1; i < count; i += 2) {
        const char *value = i + 1 < count ? arguments[i + 1] : NULL;
        bool known = false;

        if (strcmp(arguments[i], "--seeds") == 0)
            known = number_read(value, &plan->seeds);
        else if (strcmp(arguments[i], "--first") == 0)
            known = number_read(value, &plan->first);
        else if (strcmp(arguments[i], "--seconds") == 0)
            known = number_read(value, &plan->seconds);
        if (!known)
            return false;
    }
    return true;
}

/* False: it was asked for something else, and has been told so. */
static inline bool simulation_read(simulation *plan, int count, char **arguments)
{
    const char *replayed = getenv("SEED");

    plan->begun = seconds_now(CLOCK_MONOTONIC);
    if (!arguments_read(plan, count, arguments)) {
        fprintf(stderr, "usage: [SEED=n] %s [--seeds N] [--first S] [--seconds T]\n",
                arguments[0]);
        return false;
    }
    if (replayed && *replayed) {
        if (!number_read(replayed, &plan->first)) {
            fprintf(stderr, "SEED is not a number: %s\n", replayed);
            return false;
        }
        plan->seeds = 1;
    } else if (plan->first == 0) {
        plan->first = seconds_now(CLOCK_REALTIME);
    }
    printf("seed %llu\n", (unsigned long long)plan->first);
    fflush(stdout);
    return true;
}

/* Whether the i-th seed is to be run. */
static inline bool simulation_goes_on(const simulation *plan, uint64_t i)
{
    if (plan->seconds > 0 && seconds_now(CLOCK_MONOTONIC) - plan->begun >= plan->seconds)
        return false;
    return plan->seeds == 0 || i < plan->seeds;
}

#endif
