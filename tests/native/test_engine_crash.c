/* Crash points: workloads of sets, overwrites, deletes, flushes, checkpoints and compactions are cut at
 * every event that a crash can show, by power loss (unflushed writes lost, torn, reordered) or by
 * kill -9. After each cut the store opens, holds what was acknowledged, verifies, and goes on.
 *
 *   test_engine_crash [first seed [seeds]]     one seed is one workload with one cut in each of its lives */

#include "engine_world.h"

#define SEED_FIRST 1u
#define SEEDS 400u
#define LIVES 4u
#define ACTIONS 60u

static const uint32_t durabilities[] = {KV_DURABILITY_SYNC, KV_DURABILITY_DISK, KV_DURABILITY_SYNC,
                                        KV_DURABILITY_DISK};

static void act(world *state)
{
    switch (kv_random_below(&state->random, 16)) {
    case 0:
    case 1:
        world_begin_update(state, true);
        break;
    case 2:
    case 3:
    case 4:
        world_begin_read(state, (uint32_t)kv_random_below(&state->random, WORLD_KEYS), WORLD_BATCH);
        break;
    case 5:
        world_begin_flush(state);
        break;
    case 6:
        if (kv_random_below(&state->random, 4) == 0)
            kv_engine_checkpoint(state->engine);
        break;
    case 7:
        if (kv_random_below(&state->random, 2) == 0)
            kv_engine_compact(state->engine, 100, world_run, state);
        break;
    case 8:
        state->now_ms += kv_random_below(&state->random, 2000);
        kv_engine_maintain(state->engine, world_run, state);
        break;
    default:
        world_begin_update(state, false);
    }
}

/* Random work until `actions` are done or the life is cut. */
static void work(world *state, uint32_t actions)
{
    while (actions > 0 && !kv_sim_cut(state->sim)) {
        uint64_t dice = kv_random_below(&state->random, 3);

        if (dice == 0 && state->out_count < WORLD_OUT_MAX) {
            act(state);
            actions--;
        } else if (dice == 1) {
            kv_sim_pump(state->sim, 1 + kv_random_below(&state->random, 4));
        } else if (!world_step_any(state)) {
            kv_sim_pump(state->sim, 1);
        }
    }
}

/* What a key holds after a crash becomes the truth; it must not be older than `least`. */
static void recover_key(world *state, uint32_t key, uint32_t least)
{
    world_key *model = &state->keys[key];
    static uint8_t value[WORLD_VALUE_MAX];
    char name[32];
    kv_item item = {.value = (uint64_t)value, .value_size = sizeof(value)};
    kv_request request = {.items = &item, .count = 1, .operation = KV_OP_GET};
    int64_t update;

    world_name(key, name);
    item.key = (uint64_t)name;
    item.key_size = (uint32_t)strlen(name);
    assert(world_run(state, &request) == 0);
    if (item.status == KV_OK)
        update = world_value_update(state, key, value, item.result_size, least);
    else
        update = item.status == KV_NOT_FOUND ? world_absent_update(state, key, least) : -1;
    if (update < 0) {
        fprintf(stderr, "seed %llu: key %u answers status %d; updates %u ... %u were possible\n",
                (unsigned long long)state->seed, key, item.status, least, model->issued);
        abort();
    }
    for (uint32_t later = (uint32_t)update + 1; later <= model->issued; later++)
        model->kinds[later] = UPDATE_VOID;
    model->acked = (uint32_t)update;
    model->flushed = (uint32_t)update;
}

static void verify_everything(world *state)
{
    uint8_t bad[4096];
    uint64_t cursor = 0;
    uint64_t objects = 0;
    uint64_t bytes = 0;

    while (cursor != UINT64_MAX)
        assert(kv_engine_verify(state->engine, &cursor, UINT64_MAX, bad, sizeof(bad), &objects, &bytes,
                                world_run, state) == 0);
}

static void reopen(world *state, bool power)
{
    char message[KV_MESSAGE_SIZE] = "";

    world_forget(state);
    if (power)
        kv_sim_power_cut(state->sim);
    else
        kv_sim_kill(state->sim);
    kv_sim_cut_at_event(state->sim, 0);
    if (world_open(state, message) < 0) {
        fprintf(stderr, "seed %llu: does not open: %s\n", (unsigned long long)state->seed, message);
        abort();
    }
    for (uint32_t key = 0; key < WORLD_KEYS; key++) {
        const world_key *model = &state->keys[key];
        bool lossy = power && state->options.durability == KV_DURABILITY_DISK;

        recover_key(state, key, lossy ? model->flushed : model->acked);
    }
    verify_everything(state);
}

static world *begin(uint64_t seed)
{
    kv_random random;
    kv_engine_options options = {.capacity = 8u << 20,
                                 .slab_size = 256u << 10,
                                 .journal_size_max = 64u << 10,
                                 .journal_step = 64u << 10};
    kv_sim_options sim = {.seed = seed, .space_max = 64u << 20};
    char message[KV_MESSAGE_SIZE] = "";
    world *state;

    kv_random_init(&random, seed);
    options.durability = durabilities[seed % 4];
    if (kv_random_below(&random, 3) == 0)
        options.capacity = 2u << 20; /* often full */
    sim.reorder_completions = kv_random_below(&random, 2);
    sim.tear_bytes = kv_random_below(&random, 2);
    sim.lose_reserves = kv_random_below(&random, 2);
    state = world_create(seed, &options, &sim);
    if (world_open(state, message) < 0) {
        fprintf(stderr, "seed %llu: does not open: %s\n", (unsigned long long)seed, message);
        abort();
    }
    return state;
}

/* Several lives, each cut at a random event. */
static void a_cut_loses_nothing_acknowledged(uint64_t seed)
{
    world *state = begin(seed);

    for (uint32_t life = 0; life < LIVES; life++) {
        uint64_t events = 20 + kv_random_below(&state->random, 300);

        kv_sim_cut_at_event(state->sim, kv_sim_events(state->sim) + events);
        work(state, ACTIONS + (uint32_t)kv_random_below(&state->random, ACTIONS));
        world_drain(state);
        reopen(state, seed / 4 % 2 == 0 || kv_random_below(&state->random, 2) == 0);
    }
    world_destroy(state);
}

/* One workload, cut at each of its events in turn. */
static void every_event_is_a_cut_point(uint64_t seed)
{
    uint64_t begun = 0;
    uint64_t events = 0;

    for (uint64_t at = 0; at == 0 || begun + at <= events; at++) {
        world *state = begin(seed);

        begun = kv_sim_events(state->sim);
        if (at > 0)
            kv_sim_cut_at_event(state->sim, begun + at);
        work(state, ACTIONS / 2);
        world_drain(state);
        if (at == 0)
            events = kv_sim_events(state->sim);
        reopen(state, at % 2);
        world_destroy(state);
    }
}

int main(int count, char **arguments)
{
    uint64_t first = count > 1 ? strtoull(arguments[1], NULL, 10) : SEED_FIRST;
    uint64_t seeds = count > 2 ? strtoull(arguments[2], NULL, 10) : SEEDS;

    printf("seeds %llu ... %llu\n", (unsigned long long)first, (unsigned long long)(first + seeds - 1));
    for (uint64_t seed = first; seed < first + seeds; seed++) {
        a_cut_loses_nothing_acknowledged(seed);
        if (seed % 100 == 1)
            every_event_is_a_cut_point(seed);
    }
    return 0;
}
