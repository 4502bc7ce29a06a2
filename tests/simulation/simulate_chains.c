/* The long simulation of chains: the lives of tests/native/chain_lives.h for as many seeds as
 * asked (plan.h).
 *
 * A failure names its seed and aborts; TALK=1 SEED=n tells what happened in it, event by event. */

#include "../native/chain_lives.h"
#include "plan.h"

#define SEEDS_DEFAULT 3000u

static void print(const char *name, uint64_t count)
{
    printf("%-12s %llu\n", name, (unsigned long long)count);
}

int main(int count, char **arguments)
{
    simulation plan = {.first = 1, .seeds = SEEDS_DEFAULT};
    chain_tally tally = {0};

    if (!simulation_read(&plan, count, arguments))
        return 2;
    for (uint64_t i = 0; simulation_goes_on(&plan, i); i++)
        chain_simulate(plan.first + i, getenv("TALK") != NULL, &tally);
    print("chains", tally.seeds);
    print("seconds", tally.time_us / SECOND);
    print("events", tally.events);
    print("operations", tally.operations);
    print("unknown", tally.unknown);
    print("changes", tally.changes);
    print("kills", tally.kills);
    print("stops", tally.stops);
    print("cuts", tally.cuts);
    print("dirty reads", tally.dirty);
    print("refusals", tally.refusals);
    print("synced keys", tally.syncs);
    return 0;
}
