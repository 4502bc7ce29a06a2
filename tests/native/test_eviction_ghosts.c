#include "engine/eviction_ghosts.h"

#include <assert.h>

#include "bytes/random.h"

#define ENTRY_COUNT 3000u

/* The hash of key `n`: the same at every call, unlike that of any other. */
static uint64_t hash_of(uint64_t n)
{
    kv_random random;

    kv_random_init(&random, n);
    return kv_random_next(&random);
}

static void add_keys(kv_eviction_ghosts *ghosts, uint64_t from, uint64_t to)
{
    for (uint64_t n = from; n < to; n++)
        kv_eviction_ghosts_add(ghosts, hash_of(n), KV_EVICTION_ORIGIN_RECENT);
}

static uint64_t take_keys(kv_eviction_ghosts *ghosts, uint64_t from, uint64_t to)
{
    uint64_t found = 0;

    for (uint64_t n = from; n < to; n++)
        found += kv_eviction_ghosts_take(ghosts, hash_of(n)) != KV_EVICTION_ORIGIN_NONE;
    return found;
}

static void a_key_is_taken_once_with_its_origin(void)
{
    kv_eviction_ghosts ghosts;

    assert(kv_eviction_ghosts_open(&ghosts, ENTRY_COUNT) == 0);
    kv_eviction_ghosts_add(&ghosts, hash_of(1), KV_EVICTION_ORIGIN_RECENT);
    kv_eviction_ghosts_add(&ghosts, hash_of(2), KV_EVICTION_ORIGIN_FREQUENT);

    assert(kv_eviction_ghosts_count(&ghosts, KV_EVICTION_ORIGIN_RECENT) == 1);
    assert(kv_eviction_ghosts_count(&ghosts, KV_EVICTION_ORIGIN_FREQUENT) == 1);
    assert(kv_eviction_ghosts_take(&ghosts, hash_of(3)) == KV_EVICTION_ORIGIN_NONE);
    assert(kv_eviction_ghosts_take(&ghosts, hash_of(1)) == KV_EVICTION_ORIGIN_RECENT);
    assert(kv_eviction_ghosts_take(&ghosts, hash_of(1)) == KV_EVICTION_ORIGIN_NONE);
    assert(kv_eviction_ghosts_take(&ghosts, hash_of(2)) == KV_EVICTION_ORIGIN_FREQUENT);
    assert(kv_eviction_ghosts_count(&ghosts, KV_EVICTION_ORIGIN_RECENT) == 0);
    assert(kv_eviction_ghosts_count(&ghosts, KV_EVICTION_ORIGIN_FREQUENT) == 0);
    kv_eviction_ghosts_close(&ghosts);
}

static void fingerprints_of_zero_bits_are_remembered(void)
{
    kv_eviction_ghosts ghosts;

    assert(kv_eviction_ghosts_open(&ghosts, ENTRY_COUNT) == 0);
    kv_eviction_ghosts_add(&ghosts, 0, KV_EVICTION_ORIGIN_RECENT);
    kv_eviction_ghosts_add(&ghosts, UINT64_MAX, KV_EVICTION_ORIGIN_FREQUENT);

    assert(kv_eviction_ghosts_take(&ghosts, 0) == KV_EVICTION_ORIGIN_RECENT);
    assert(kv_eviction_ghosts_take(&ghosts, UINT64_MAX) == KV_EVICTION_ORIGIN_FREQUENT);
    kv_eviction_ghosts_close(&ghosts);
}

/* Two evictions an entry is promised; a third of an entry more is how coarse generations are. */
static void a_key_lives_for_two_evictions_an_entry_and_hardly_longer(void)
{
    const uint64_t count = 20 * ENTRY_COUNT;
    const uint64_t promised = 2 * ENTRY_COUNT, longest = 7 * ENTRY_COUNT / 3 + 7;
    kv_eviction_ghosts ghosts;

    assert(kv_eviction_ghosts_open(&ghosts, ENTRY_COUNT) == 0);
    add_keys(&ghosts, 0, count);

    assert(kv_eviction_ghosts_count(&ghosts, KV_EVICTION_ORIGIN_RECENT) <= longest);
    assert(take_keys(&ghosts, count - promised, count) > promised - promised / 50);
    kv_eviction_ghosts_close(&ghosts);

    assert(kv_eviction_ghosts_open(&ghosts, ENTRY_COUNT) == 0);
    add_keys(&ghosts, 0, count);
    assert(take_keys(&ghosts, 0, longest) < longest / 50); /* false matches */
    kv_eviction_ghosts_close(&ghosts);
}

static void unknown_keys_hardly_ever_match(void)
{
    const uint64_t probes = 40000;
    kv_eviction_ghosts ghosts;
    uint64_t matches = 0;

    assert(kv_eviction_ghosts_open(&ghosts, ENTRY_COUNT) == 0);
    add_keys(&ghosts, 0, 10 * ENTRY_COUNT);
    for (uint64_t n = 0; n < probes; n++) {
        kv_eviction_origin origin = kv_eviction_ghosts_take(&ghosts, hash_of(1000000 + n));

        matches += origin != KV_EVICTION_ORIGIN_NONE;
        if (origin != KV_EVICTION_ORIGIN_NONE) /* the table stays as full as it was */
            kv_eviction_ghosts_add(&ghosts, hash_of(2000000 + n), origin);
    }

    assert(matches < probes / 100);
    kv_eviction_ghosts_close(&ghosts);
}

static uint64_t slots_that_live(const kv_eviction_ghosts *ghosts)
{
    uint64_t count = 0;

    for (uint64_t i = 0; i < ghosts->set_count; i++) {
        for (int j = 0; j < KV_EVICTION_GHOSTS_SET_SLOTS; j++) {
            uint16_t slot = ghosts->sets[i].slots[j];
            uint32_t generation = slot >> 12 & 7;

            count += slot != 0 && generation != ((ghosts->generation + 1) & 7);
        }
    }
    return count;
}

static void counts_are_those_of_the_slots(void)
{
    static const uint64_t sizes[] = {0, 1, 2, 7, 100, 1000};
    kv_random random;

    kv_random_init(&random, 8);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        kv_eviction_ghosts ghosts;

        assert(kv_eviction_ghosts_open(&ghosts, sizes[i]) == 0);
        for (int step = 0; step < 20000; step++) {
            uint64_t hash = hash_of(kv_random_below(&random, 4 * sizes[i] + 8));

            if (kv_random_one_in(&random, 3))
                kv_eviction_ghosts_take(&ghosts, hash);
            else
                kv_eviction_ghosts_add(&ghosts, hash,
                                       kv_random_one_in(&random, 2) ? KV_EVICTION_ORIGIN_RECENT
                                                                    : KV_EVICTION_ORIGIN_FREQUENT);
            if (step % 37 == 0)
                assert(kv_eviction_ghosts_count(&ghosts, KV_EVICTION_ORIGIN_RECENT) +
                           kv_eviction_ghosts_count(&ghosts, KV_EVICTION_ORIGIN_FREQUENT) ==
                       slots_that_live(&ghosts));
        }
        kv_eviction_ghosts_close(&ghosts);
    }
}

static void the_table_takes_about_8_bytes_an_entry(void)
{
    for (uint64_t count = 0; count < 100000; count = count * 2 + 1)
        assert(kv_eviction_ghosts_set_count(count) * 64 <= 8 * count + 64);
}

int main(void)
{
    a_key_is_taken_once_with_its_origin();
    fingerprints_of_zero_bits_are_remembered();
    a_key_lives_for_two_evictions_an_entry_and_hardly_longer();
    unknown_keys_hardly_ever_match();
    counts_are_those_of_the_slots();
    the_table_takes_about_8_bytes_an_entry();
}
