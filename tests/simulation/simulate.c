/* The long crash-point simulation: the histories of tests/native/engine_lives.h for as many seeds as asked.
 *
 *   SEED=n simulate                       replay the history of one seed
 *   simulate [--seeds N] [--first S] [--seconds T]
 *
 * One seed is one history; every SWEEP_INTERVAL-th is a workload that is cut at each of its events. It
 * stops after N seeds or T seconds, whichever is first; 0 means no limit. --first 0 draws it from the
 * clock. A failure names its seed and aborts. */

#include "../native/engine_lives.h"

#include <time.h>

#define SEEDS_DEFAULT 3000u
#define SWEEP_INTERVAL 100u

typedef struct simulation {
    uint64_t first;
    uint64_t seeds;
    uint64_t seconds;
} simulation;

static uint64_t seconds_now(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec;
}

static bool number_read(const char *text, uint64_t *number)
{
    char *end;

    if (!text || !*text)
        return false;
    *number = strtoull(text, &end, 10);
    return *end == 0;
}

static bool arguments_read(simulation *plan, int count, char **arguments)
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

static void history(uint64_t seed, lives_tally *tally)
{
    lives_plan plan = lives_plan_of(seed);

    if (seed % SWEEP_INTERVAL == 0)
        lives_cut_everywhere(seed, &plan, tally);
    else
        lives_simulate(seed, &plan, tally);
}

int main(int count, char **arguments)
{
    simulation plan = {.first = 1, .seeds = SEEDS_DEFAULT};
    const char *replayed = getenv("SEED");
    uint64_t begun = seconds_now(CLOCK_MONOTONIC);
    lives_tally tally = {0};

    if (!arguments_read(&plan, count, arguments)) {
        fprintf(stderr, "usage: [SEED=n] simulate [--seeds N] [--first S] [--seconds T]\n");
        return 2;
    }
    if (replayed && *replayed) {
        if (!number_read(replayed, &plan.first)) {
            fprintf(stderr, "SEED is not a number: %s\n", replayed);
            return 2;
        }
        plan.seeds = 1;
    } else if (plan.first == 0) {
        plan.first = seconds_now(CLOCK_REALTIME);
    }
    printf("seed %llu\n", (unsigned long long)plan.first);
    fflush(stdout);
    for (uint64_t i = 0; plan.seeds == 0 || i < plan.seeds; i++) {
        if (plan.seconds > 0 && seconds_now(CLOCK_MONOTONIC) - begun >= plan.seconds)
            break;
        history(plan.first + i, &tally);
    }
    lives_print(&tally);
    return 0;
}
