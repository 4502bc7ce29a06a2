/* Cache mode under pressure: it keeps accepting, keeps what is pinned and what is hot, and what it holds
 * after a crash is what was set. */

#include "engine_calls.h"
#include "engine_lives.h"

static const kv_engine_options cache_options = {
    .capacity = 4u << 20,
    .slab_size = 256u << 10,
    .journal_size_max = 1u << 20,
    .journal_step = 64u << 10,
    .durability = KV_DURABILITY_DISK,
    .eviction = KV_EVICTION_CACHE,
};

static const char *name(uint32_t i)
{
    static char names[4][16];
    static uint32_t turn;
    char *text = names[turn++ % 4];

    snprintf(text, 16, "k%u", i);
    return text;
}

/* Many times the capacity, in one size and in mixed ones, one by one and without any upkeep. */
static void a_full_cache_keeps_accepting(void)
{
    static const uint32_t sizes[] = {100, 4096, 5000, 65536, 300000, 0 /* mixed */};

    for (uint32_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        world *state = calls_create(&cache_options);
        uint32_t count = sizes[s] && sizes[s] < 60000 ? 4000 : 400;

        for (uint32_t i = 0; i < count; i++) {
            uint32_t size = sizes[s] ? sizes[s] : model_value_size(3, i);
            int32_t status = calls_set(state, name(i), i, size);

            if (status != KV_OK) {
                fprintf(stderr, "size %u: set %u answers %d\n", sizes[s], i, status);
                abort();
            }
            assert(calls_holds(state, name(i), i, size));
        }
        assert(calls_statistics(state).evictions > 0 && calls_statistics(state).offline == 0);
        world_destroy(state);
    }
}

/* Many sets at once hold all the space there is: they wait for each other, and none is refused. */
static void concurrent_sets_into_a_full_cache_wait_for_each_other(void)
{
    for (uint32_t durability = KV_DURABILITY_MEMORY; durability <= KV_DURABILITY_SYNC; durability++) {
        static uint8_t values[WORLD_OUT_MAX][400000];
        kv_engine_options options = cache_options;
        world *state;

        options.durability = durability;
        options.capacity = 1u << 20;
        state = calls_create(&options);
        for (uint32_t round = 0; round < 10; round++) {
            kv_item items[WORLD_OUT_MAX];
            kv_request requests[WORLD_OUT_MAX];
            world_client *clients[WORLD_OUT_MAX];

            for (uint32_t i = 0; i < WORLD_OUT_MAX; i++) {
                model_value_fill(i, round, values[i], sizeof(values[i]));
                items[i] = calls_item(name(100 + i), values[i], sizeof(values[i]));
                items[i].key = (uint64_t)strdup(name(round * 100 + i));
                items[i].key_size = (uint32_t)strlen((const char *)items[i].key);
                requests[i] = (kv_request){.items = &items[i], .count = 1, .operation = KV_OP_SET};
                clients[i] = calls_begin(state, &requests[i]);
            }
            for (uint32_t i = 0; i < WORLD_OUT_MAX; i++)
                calls_finish(state, clients[i]);
            for (uint32_t i = 0; i < WORLD_OUT_MAX; i++) {
                assert(items[i].status == KV_OK);
                free((void *)items[i].key);
            }
        }
        world_destroy(state);
    }
}

static void what_is_pinned_stays(void)
{
    world *state = calls_create(&cache_options);

    for (uint32_t i = 0; i < 8; i++) {
        assert(calls_set(state, name(i), i, 30000 + i) == KV_OK);
        assert(calls_key(state, KV_OP_PIN, name(i)) == KV_OK);
    }
    for (uint32_t i = 8; i < 1000; i++)
        assert(calls_set(state, name(i), i, 20000 + i) == KV_OK);
    calls_reopen(state, CALLS_KILL);
    for (uint32_t i = 1000; i < 2000; i++)
        assert(calls_set(state, name(i), i, 20000 + i) == KV_OK);
    for (uint32_t i = 0; i < 8; i++) {
        assert(calls_holds(state, name(i), i, 30000 + i));
        assert(calls_key(state, KV_OP_UNPIN, name(i)) == KV_OK);
    }
    assert(calls_statistics(state).pinned_objects == 0);
    world_destroy(state);
}

/* Nothing may go: then even a cache is full. */
static void a_cache_of_pinned_keys_refuses(void)
{
    world *state = calls_create(&cache_options);
    uint32_t count = 0;

    while (calls_set(state, name(count), count, 60000) == KV_OK && count < 1000) {
        assert(calls_key(state, KV_OP_PIN, name(count)) == KV_OK);
        count++;
    }
    assert(count > 50 && count < 80 && calls_set(state, "k", 1, 60000) == KV_NO_SPACE);
    assert(calls_key(state, KV_OP_UNPIN, name(0)) == KV_OK && calls_set(state, "k", 1, 60000) == KV_OK);
    for (uint32_t i = 1; i < count; i++)
        assert(calls_holds(state, name(i), i, 60000));
    world_destroy(state);
}

/* What is asked for again and again survives a stream of keys that nobody asks for. */
static void hot_keys_survive_a_scan(void)
{
    world *state = calls_create(&cache_options);
    uint32_t hits = 0;

    for (uint32_t i = 0; i < 20; i++)
        assert(calls_set(state, name(i), i, 20000) == KV_OK);
    for (uint32_t round = 0; round < 3; round++)
        for (uint32_t i = 0; i < 20; i++)
            assert(calls_holds(state, name(i), i, 20000));
    for (uint32_t i = 1000; i < 2000; i++) {
        assert(calls_set(state, name(i), i, 20000) == KV_OK);
        if (i % 10 == 0)
            calls_status(state, name(i / 10 % 20));
    }
    for (uint32_t i = 0; i < 20; i++)
        hits += calls_status(state, name(i)) == KV_OK;
    assert(hits >= 18);
    assert(calls_statistics(state).get_hits >= 60 && calls_statistics(state).get_misses <= 10);
    world_destroy(state);
}

/* Upkeep evicts to the watermark, so that sets seldom wait. */
static void upkeep_keeps_some_space_free(void)
{
    world *state = calls_create(&cache_options);
    kv_store_statistics statistics;

    for (uint32_t i = 0; i < 300; i++) {
        assert(calls_set(state, name(i), i, 30000) == KV_OK);
        state->now_ms += 500;
        kv_engine_maintain(state->engine, world_run, state);
    }
    assert(calls_flush(state));
    statistics = calls_statistics(state);
    assert(statistics.space_free + statistics.space_quarantined >= statistics.capacity / 100);
    assert(statistics.objects > 80);
    world_destroy(state);
}

/* A crash may take an eviction back. Who reads learns at once that the key is gone; who deletes it waits
 * until no crash can bring it back. */
static void a_delete_of_an_evicted_key_waits_for_the_eviction(void)
{
    kv_engine_options options = cache_options;
    kv_item items[3] = {calls_item("b", NULL, 0), calls_item("a", NULL, 0), calls_item("a", NULL, 0)};
    kv_request requests[3] = {{.items = &items[0], .count = 1, .operation = KV_OP_SET},
                              {.items = &items[1], .count = 1, .operation = KV_OP_EXISTS},
                              {.items = &items[2], .count = 1, .operation = KV_OP_DELETE}};
    world_client *clients[3];
    world *state;

    options.objects_max = 1;
    options.durability = KV_DURABILITY_SYNC;
    state = calls_create(&options);
    assert(calls_set(state, "a", 1, 0) == KV_OK);
    for (uint32_t i = 0; i < 3; i++) {
        clients[i] = calls_begin(state, &requests[i]);
        world_step(state, clients[i]);
        if (i != 1)
            assert(!clients[i]->answered);
        else
            assert(items[1].status == KV_NOT_FOUND);
        if (i == 1)
            world_client_free(clients[1]);
    }
    calls_finish(state, clients[0]);
    calls_finish(state, clients[2]);
    assert(items[0].status == KV_OK && items[2].status == KV_NOT_FOUND);
    calls_reopen(state, CALLS_POWER);
    assert(calls_status(state, "a") == KV_NOT_FOUND && calls_status(state, "b") == KV_OK);
    world_destroy(state);
}

/* Histories with crashes, in a cache that is always full. */
static void crashes_under_pressure_lose_nothing_but_what_was_evicted(void)
{
    lives_tally tally = {0};

    for (uint64_t seed = 1; seed <= 30; seed++) {
        lives_plan plan = lives_plan_of(seed);

        plan.options.eviction = KV_EVICTION_CACHE;
        plan.options.capacity = (1 + seed % 2) << 20;
        if (seed % 5 == 0)
            plan.options.objects_max = 10;
        if (seed % 30 == 0)
            lives_cut_everywhere(seed, &plan, &tally);
        else
            lives_simulate(seed, &plan, &tally);
    }
    lives_print(&tally);
}

int main(void)
{
    a_full_cache_keeps_accepting();
    concurrent_sets_into_a_full_cache_wait_for_each_other();
    what_is_pinned_stays();
    a_cache_of_pinned_keys_refuses();
    hot_keys_survive_a_scan();
    upkeep_keeps_some_space_free();
    a_delete_of_an_evicted_key_waits_for_the_eviction();
    crashes_under_pressure_lose_nothing_but_what_was_evicted();
    return 0;
}
