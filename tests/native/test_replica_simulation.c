/* Whole chains by seed, as many as fit a test; tests/simulation/simulate_chains.c runs more of
 * them. */

#include "chain_lives.h"

#define SEEDS 100u
#define SEEDS_TWICE 5u

/* Every kind of fault and of answer comes up, or the simulation proves less than it says. */
static void chains_survive_faults(void)
{
    chain_tally tally = {0};

    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        chain_simulate(seed, false, &tally);
    assert(tally.seeds == SEEDS && tally.operations == (uint64_t)SEEDS * CHAIN_OPERATIONS);
    assert(tally.unknown > 0 && tally.unknown < tally.operations / 5);
    assert(tally.changes > SEEDS && tally.kills > SEEDS && tally.cuts > SEEDS);
    assert(tally.stops > 0 && tally.dirty > 0 && tally.syncs > 0 && tally.refusals > 0);
}

static void a_seed_is_one_history(void)
{
    chain_tally tally = {0};

    for (uint64_t seed = 1; seed <= SEEDS_TWICE; seed++) {
        uint64_t trace = chain_simulate(seed, false, &tally);

        assert(chain_simulate(seed, false, &tally) == trace);
        assert(chain_simulate(seed + 1, false, &tally) != trace);
    }
}

int main(void)
{
    chains_survive_faults();
    a_seed_is_one_history();
    return 0;
}
