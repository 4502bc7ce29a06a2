/* Pauses between attempts: doubling, bounded, jittered, the same from the same seed. */

#include "client/backoff.h"

#define NS_PER_MS 1000000u

static void pauses_double_up_to_the_limit_and_are_jittered(void)
{
    kv_random random;

    kv_random_init(&random, 1);
    for (uint32_t attempt = 0; attempt < 100; attempt++) {
        uint64_t whole_ms = attempt < 5 ? 10u << attempt : 200;

        for (int i = 0; i < 100; i++) {
            uint64_t pause_ns = kv_backoff_ns(&random, attempt, 10, 200);

            assert(pause_ns >= (whole_ms < 200 ? whole_ms : 200) * NS_PER_MS / 2);
            assert(pause_ns <= (whole_ms < 200 ? whole_ms : 200) * NS_PER_MS);
        }
    }
}

static void the_same_seed_gives_the_same_pauses(void)
{
    kv_random left, right;

    kv_random_init(&left, 7);
    kv_random_init(&right, 7);
    for (uint32_t attempt = 0; attempt < 10; attempt++)
        assert(kv_backoff_ns(&left, attempt, 5, 1000) == kv_backoff_ns(&right, attempt, 5, 1000));
}

int main(void)
{
    pauses_double_up_to_the_limit_and_are_jittered();
    the_same_seed_gives_the_same_pauses();
    return 0;
}
