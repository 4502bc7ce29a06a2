/* Crash points: workloads of sets, overwrites, deletes, pins, flushes, checkpoints, expiry and compactions
 * are cut at every event that a crash can show, by power loss (unflushed writes lost, torn, reordered)
 * or by kill -9, also while the store opens or closes. After each cut the store opens, holds what was
 * acknowledged, verifies, and goes on.
 *
 *   test_engine_crash [first seed [seeds]]     one seed is one history of several lives */

#include "engine_lives.h"

#define SEED_FIRST 1u
#ifdef __SANITIZE_THREAD__
#define SEEDS 20u /* one thread: there is little to find, and it is slow */
#else
#define SEEDS 300u
#endif
#define SEEDS_PER_SWEEP 100u /* one of so many is cut at each of its events instead */

static void the_same_seed_gives_the_same_history(uint64_t seed)
{
    lives_plan plan = lives_plan_of(seed);
    lives_tally tallies[2] = {{0}};

    for (uint32_t i = 0; i < 2; i++)
        lives_simulate(seed, &plan, &tallies[i]);
    assert(memcmp(&tallies[0], &tallies[1], sizeof(tallies[0])) == 0);
}

int main(int count, char **arguments)
{
    uint64_t first = count > 1 ? strtoull(arguments[1], NULL, 10) : SEED_FIRST;
    uint64_t seeds = count > 2 ? strtoull(arguments[2], NULL, 10) : SEEDS;
    lives_tally tally = {0};

    the_same_seed_gives_the_same_history(first);
    for (uint64_t seed = first; seed < first + seeds; seed++) {
        lives_plan plan = lives_plan_of(seed);

        if (seed % SEEDS_PER_SWEEP == 0)
            lives_cut_everywhere(seed, &plan, &tally);
        else
            lives_simulate(seed, &plan, &tally);
    }
    lives_print(&tally);
    return 0;
}
