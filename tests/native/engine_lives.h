/* Lives of a store: random work, cut at an event that a crash can show or closed, then opened again and
 * held against the model. Shared by the crash tests and by the long simulation; one seed is one history. */
#ifndef KV_ENGINE_LIVES_H
#define KV_ENGINE_LIVES_H

#include "engine_world.h"

#define LIVES_PER_SEED 4u
#define LIVES_ACTIONS 60u
#define LIVES_LIST_SIZE 65536u

typedef struct lives_tally {
    uint64_t seeds;
    uint64_t lives;
    uint64_t operations;
    uint64_t events;
    uint64_t power_cuts;
    uint64_t kills;
    uint64_t open_cuts; /* of both kinds, while the store opened or closed */
    uint64_t closes;
} lives_tally;

/* What a seed decides once. */
typedef struct lives_plan {
    kv_engine_options options;
    kv_sim_options sim;
    uint32_t compactions; /* weight in the work */
    uint32_t ttl_share;
} lives_plan;

static inline lives_plan lives_plan_of(uint64_t seed)
{
    lives_plan plan = {.options = {.capacity = 8u << 20,
                                   .slab_size = 256u << 10,
                                   .journal_size_max = 64u << 10,
                                   .journal_step = 64u << 10},
                       .sim = {.seed = seed, .space_max = 64u << 20},
                       .compactions = 1};
    kv_random random;

    kv_random_init(&random, seed);
    plan.options.durability = seed % 3;
    if (kv_random_below(&random, 3) > 0)
        plan.options.capacity = (1 + kv_random_below(&random, 3)) << 20; /* often full */
    if (kv_random_below(&random, 4) == 0)
        plan.options.eviction = KV_EVICTION_CACHE;
    if (kv_random_below(&random, 6) == 0)
        plan.options.objects_max = 20;
    if (kv_random_below(&random, 4) == 0)
        plan.options.memory_size = 1u << 20;
    if (kv_random_below(&random, 3) == 0)
        plan.compactions = 8;
    if (kv_random_below(&random, 3) == 0)
        plan.ttl_share = 40;
    plan.sim.reorder_completions = kv_random_below(&random, 2);
    plan.sim.tear_bytes = kv_random_below(&random, 2);
    plan.sim.lose_reserves = kv_random_below(&random, 2);
    return plan;
}

static inline void lives_act(world *state, uint32_t compactions)
{
    uint64_t dice = kv_random_below(&state->random, 18 + compactions);

    if (dice < 2)
        world_begin_update(state, true);
    else if (dice < 6)
        world_begin_read(state, (uint32_t)kv_random_below(&state->random, MODEL_KEYS), WORLD_BATCH);
    else if (dice == 6)
        world_begin_flush(state);
    else if (dice == 7)
        world_begin_pin(state, kv_random_below(&state->random, 2));
    else if (dice == 8)
        world_abort_any(state);
    else if (dice == 9)
        kv_engine_maintain(state->engine, world_run, state);
    else if (dice == 10 && kv_random_below(&state->random, 3) == 0)
        kv_engine_checkpoint(state->engine);
    else if (dice >= 18)
        kv_engine_compact(state->engine, 100, world_run, state);
    else
        world_begin_update(state, false);
    state->now_ms += kv_random_below(&state->random, 200);
}

/* Random work until `actions` are done or the life is cut. */
static inline void lives_work(world *state, uint32_t actions, uint32_t compactions)
{
    while (actions > 0 && !kv_sim_cut(state->sim)) {
        uint64_t dice = kv_random_below(&state->random, 3);

        if (dice == 0 && state->out_count < WORLD_OUT_MAX) {
            lives_act(state, compactions);
            actions--;
        } else if (dice == 1) {
            kv_sim_pump(state->sim, 1 + kv_random_below(&state->random, 4));
        } else if (!world_move(state) && state->out_count > 0) {
            model_fail(&state->model, 0, "or any other: operations wait for nothing:", state->out_count);
        }
    }
}

static inline void lives_run(world *state, kv_request *request)
{
    int result = world_run(state, request);

    assert(result == 0);
}

/* What a key holds after a crash becomes the truth; it must not be older than `least`. True: it is there. */
static inline bool lives_recover_key(world *state, uint32_t key, uint32_t least, uint32_t pin_least)
{
    static uint8_t value[MODEL_VALUE_MAX];
    char name[MODEL_NAME_SIZE];
    kv_item item = {.value = (uint64_t)value, .value_size = sizeof(value)};
    kv_item_stat stat = {0};
    kv_request request = {.items = &item, .stats = &stat, .count = 1, .operation = KV_OP_GET};
    int64_t update = -1;
    bool found;

    model_name(key, name);
    item.key = (uint64_t)name;
    item.key_size = (uint32_t)strlen(name);
    lives_run(state, &request);
    found = item.status == KV_OK;
    if (found)
        update = model_value_update(&state->model, key, value, item.result_size, least, state->now_ms);
    else if (item.status == KV_NOT_FOUND)
        update = model_absent_update(&state->model, key, least, pin_least, state->now_ms);
    if (update < 0)
        model_fail(&state->model, key, "answers after a crash status", (uint64_t)item.status);
    request.operation = KV_OP_STAT;
    lives_run(state, &request);
    assert(item.status == (found ? KV_OK : KV_NOT_FOUND));
    if (found)
        assert(kv_engine_peek(state->engine, name, item.key_size, &stat, &item.result_size) == 0);
    if (found && item.result_size == 0)
        update = model_empty_update(&state->model, key, least, stat.expiry_ms, stat.version);
    if (found && stat.version != state->model.keys[key].updates[update].version)
        model_fail(&state->model, key, "has version", stat.version);
    if (stat.version > kv_engine_version_max(state->engine))
        model_fail(&state->model, key, "is beyond the highest version with", stat.version);
    model_settle(&state->model, key, (uint32_t)update);
    if (key < MODEL_PIN_KEYS)
        model_settle_pin(&state->model, key, pin_least, (stat.flags & KV_ITEM_PINNED) != 0);
    return found;
}

/* Every value verifies, and the list names as many keys as were found. */
static inline void lives_verify(world *state, uint32_t found)
{
    static uint8_t buffer[LIVES_LIST_SIZE];
    uint64_t cursor = 0;
    uint64_t objects = 0;
    uint64_t bytes = 0;
    uint32_t listed = 0;
    int64_t used;

    while (cursor != UINT64_MAX) {
        used = kv_engine_verify(state->engine, &cursor, UINT64_MAX, buffer, sizeof(buffer), &objects,
                                &bytes, world_run, state);
        assert(used == 0);
    }
    cursor = 0;
    while (cursor != UINT64_MAX) {
        used = kv_engine_list(state->engine, &cursor, NULL, 0, buffer, sizeof(buffer));
        assert(used >= 0);
        for (int64_t at = 0; at < used; listed++) {
            uint16_t key_size;

            memcpy(&key_size, buffer + at, sizeof(key_size));
            at += 24 + key_size;
        }
    }
    assert(listed == found);
}

/* The life that an armed cut has stopped ends; true: by power loss. */
static inline bool lives_strike(world *state, lives_tally *tally, bool power)
{
    world_forget(state);
    if (power)
        kv_sim_power_cut(state->sim);
    else
        kv_sim_kill(state->sim);
    kv_sim_cut_at_event(state->sim, 0);
    tally->power_cuts += power;
    tally->kills += !power;
    return power;
}

/* Open, sometimes cut while opening. True: power was lost meanwhile. */
static inline bool lives_open(world *state, lives_tally *tally)
{
    char message[KV_MESSAGE_SIZE] = "";
    bool power = false;

    if (kv_random_below(&state->random, 3) == 0)
        kv_sim_cut_at_event(state->sim,
                            kv_sim_events(state->sim) + 1 + kv_random_below(&state->random, 16));
    while (world_open(state, message) < 0) {
        if (!kv_sim_cut(state->sim)) {
            fprintf(stderr, "%s: ", message);
            model_fail(&state->model, 0, "and all others: the store does not open", 0);
        }
        state->engine = NULL;
        power |= lives_strike(state, tally, kv_random_below(&state->random, 2));
        tally->open_cuts++;
    }
    kv_sim_cut_at_event(state->sim, 0);
    return power;
}

/* Begin the next life; `lossy`: what was only on its way to the device may be gone. */
static inline void lives_next(world *state, lives_tally *tally, bool lossy)
{
    uint32_t found = 0;

    lossy |= lives_open(state, tally) && state->options.durability != KV_DURABILITY_SYNC;
    for (uint32_t key = 0; key < MODEL_KEYS; key++) {
        const model_key *row = &state->model.keys[key];

        found += lives_recover_key(state, key, lossy ? row->flushed : row->acked,
                                   lossy ? row->pin_flushed : row->pin_acked);
    }
    lives_verify(state, found);
    tally->lives++;
}

/* Close; true: it came to its end, so that nothing may be lost. */
static inline bool lives_close(world *state)
{
    kv_engine *engine = state->engine;

    if (kv_random_below(&state->random, 2) == 0)
        kv_sim_cut_at_event(state->sim,
                            kv_sim_events(state->sim) + 1 + kv_random_below(&state->random, 8));
    state->engine = NULL;
    kv_engine_close(engine, true);
    if (kv_sim_cut(state->sim))
        return false;
    kv_sim_cut_at_event(state->sim, 0);
    state->device->operations->close(state->device);
    return true;
}

/* End a life by the cut that stopped it, or by a close that may itself be cut; then begin the next. */
static inline void lives_end(world *state, lives_tally *tally, bool power)
{
    bool memory = state->options.durability == KV_DURABILITY_MEMORY;
    bool closing = world_drain(state);

    if (closing && lives_close(state)) {
        tally->closes++;
        lives_next(state, tally, false);
        return;
    }
    tally->open_cuts += closing;
    lives_strike(state, tally, power);
    lives_next(state, tally, memory || (power && state->options.durability == KV_DURABILITY_DISK));
}

static inline world *lives_begin(uint64_t seed, const lives_plan *plan)
{
    world *state = world_create(seed, &plan->options, &plan->sim);
    char message[KV_MESSAGE_SIZE] = "";

    state->ttl_share = plan->ttl_share;
    if (world_open(state, message) < 0)
        model_fail(&state->model, 0, "and all others: a new store does not open", 0);
    return state;
}

/* One seed: several lives, each cut at a random event. */
static inline void lives_simulate(uint64_t seed, const lives_plan *plan, lives_tally *tally)
{
    world *state = lives_begin(seed, plan);

    for (uint32_t life = 0; life < LIVES_PER_SEED; life++) {
        uint64_t events = 20 + kv_random_below(&state->random, 1000);

        kv_sim_cut_at_event(state->sim, kv_sim_events(state->sim) + events);
        lives_work(state, LIVES_ACTIONS + (uint32_t)kv_random_below(&state->random, LIVES_ACTIONS),
                   plan->compactions);
        lives_end(state, tally, kv_random_below(&state->random, 2));
    }
    tally->seeds++;
    tally->operations += state->answered_count;
    tally->events += kv_sim_events(state->sim);
    world_destroy(state);
}

/* One short workload, cut at each of its events in turn. */
static inline void lives_cut_everywhere(uint64_t seed, const lives_plan *plan, lives_tally *tally)
{
    uint64_t begun = 0;
    uint64_t events = 0;

    for (uint64_t at = 0; at == 0 || begun + at <= events; at++) {
        world *state = lives_begin(seed, plan);

        begun = kv_sim_events(state->sim);
        if (at > 0)
            kv_sim_cut_at_event(state->sim, begun + at);
        lives_work(state, LIVES_ACTIONS / 2, plan->compactions);
        if (at == 0)
            world_drain(state);
        if (at == 0)
            events = kv_sim_events(state->sim);
        lives_end(state, tally, at % 2);
        tally->operations += state->answered_count;
        tally->events += kv_sim_events(state->sim);
        world_destroy(state);
    }
    tally->seeds++;
}

static inline void lives_print(const lives_tally *tally)
{
    printf("seeds %llu lives %llu operations %llu events %llu power cuts %llu kills %llu cuts while "
           "opening or closing %llu closes %llu\n",
           (unsigned long long)tally->seeds, (unsigned long long)tally->lives,
           (unsigned long long)tally->operations, (unsigned long long)tally->events,
           (unsigned long long)tally->power_cuts, (unsigned long long)tally->kills,
           (unsigned long long)tally->open_cuts, (unsigned long long)tally->closes);
}

#endif
