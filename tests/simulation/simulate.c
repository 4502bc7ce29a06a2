/* The long crash-point simulation: the histories of tests/native/engine_lives.h for as many seeds
 * as asked (plan.h).
 *
 * One seed is one history; every SWEEP_INTERVAL-th is a workload that is cut at each of its
 * events. A failure names its seed and aborts. */

#include "../native/engine_lives.h"
#include "plan.h"

#define SEEDS_DEFAULT 3000u
#define SWEEP_INTERVAL 100u

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
    lives_tally tally = {0};

    if (!simulation_read(&plan, count, arguments))
        return 2;
    for (uint64_t i = 0; simulation_goes_on(&plan, i); i++)
        history(plan.first + i, &tally);
    lives_print(&tally);
    return 0;
}
