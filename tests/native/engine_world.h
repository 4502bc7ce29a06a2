/* A world for engine tests: a simulated device, an engine over it, a model of what every key may hold,
 * and clients whose operations interleave, all from one seed. */
#ifndef KV_ENGINE_WORLD_H
#define KV_ENGINE_WORLD_H

#include "engine_network.h"

static inline void world_begin(world *state, world_client *client)
{
    int result = kv_operation_begin(state->engine, &client->request, &client->operation);

    assert(result == 0);
    kv_operation_set_owner(client->operation, client);
    kv_list_append(&state->ready, &client->link);
    state->out_count++;
}

/* Step somebody who is ready, at random. */
static inline bool world_step_any(world *state)
{
    uint32_t count = 0;
    uint32_t chosen;
    kv_list *link;

    for (link = state->ready.next; link != &state->ready; link = link->next)
        count++;
    if (count == 0)
        return false;
    chosen = (uint32_t)kv_random_below(&state->random, count);
    link = state->ready.next;
    while (chosen-- > 0)
        link = link->next;
    world_step(state, KV_CONTAINER(link, world_client, link));
    return true;
}

static inline int world_run(void *runner, kv_request *request);

/* Maintenance that was asked for, but not within maintenance. */
static inline bool world_maintain_now(world *state)
{
    if (!state->maintain_wanted || state->maintaining)
        return false;
    state->maintain_wanted = false;
    state->maintaining = true;
    kv_engine_maintain(state->engine, world_run, state);
    state->maintaining = false;
    return true;
}

/* Let something happen; false: everyone waits, and for nothing. */
static inline bool world_move(world *state)
{
    if (kv_random_below(&state->random, 4) == 0 && !kv_sim_cut(state->sim) && world_network_any(state))
        return true;
    return world_step_any(state) || kv_sim_pump(state->sim, 1) > 0 || kv_sim_cut(state->sim) ||
           world_maintain_now(state) || world_network_any(state);
}

/* Maintenance runs its requests to the end while others go on. */
static inline int world_run(void *runner, kv_request *request)
{
    world *state = runner;
    world_client client = {.world = state, .internal = true};
    kv_operation *operation;

    kv_list_init(&client.link);
    assert(kv_operation_begin(state->engine, request, &operation) == 0);
    client.operation = operation;
    kv_operation_set_owner(operation, &client);
    kv_list_append(&state->ready, &client.link);
    state->out_count++;
    while (!client.finished) {
        if (kv_sim_cut(state->sim)) {
            kv_list_remove(&client.link);
            kv_operation_abandon(operation);
            state->out_count--;
            return -ECANCELED;
        }
        if (!world_move(state))
            model_fail(&state->model, 0, "or any other: maintenance waits for nothing, kind",
                       request->operation);
    }
    return 0;
}

/* Make a receiving set of a set: values come in pieces, and now and then they are not what was promised. */
static inline void world_receive(world *state, world_client *client)
{
    client->request.operation = KV_OP_RECEIVE;
    for (uint32_t i = 0; i < client->request.count; i++) {
        client->items[i].value = 0;
        client->stats[i].checksum = kv_checksum(0, client->values[i], client->items[i].value_size);
        client->corrupted[i] = kv_random_below(&state->random, 16) == 0;
        client->stats[i].checksum ^= client->corrupted[i];
    }
}

/* Make an update of a chain of it, where a node would have room for that. */
static inline void world_chain(world *state, world_client *client, bool expires)
{
    uint64_t limit = (state->options.memory_size ? state->options.memory_size : WORLD_MEMORY_MAX) / WORLD_KEPT_SHARE;
    uint64_t size = 0;
    bool pins = false;

    for (uint32_t i = 0; i < client->request.count; i++) {
        size += 2 * (uint64_t)client->items[i].value_size + 4096;
        pins |= client->keys[i] < MODEL_PIN_KEYS;
    }
    if (state->kept_size + size > limit)
        return;
    client->request.flags = KV_REQUEST_VERSIONED;
    client->held = kv_random_below(&state->random, 4) > 0;
    client->retained = kv_random_below(&state->random, 4) > 0;
    client->request.flags |= client->held ? KV_REQUEST_HELD : 0;
    client->request.flags |= client->retained ? KV_REQUEST_RETAINED : 0;
    client->request.flags |= pins ? 0 : KV_REQUEST_EXACT; /* the others are never pinned */
    client->kept_size = size;
    state->kept_size += size;
    for (uint32_t i = 0; i < client->request.count; i++) {
        client->stats[i].version = kv_version(1 + client->keys[i], ++state->version);
        client->stats[i].expiry_ms = expires ? state->now_ms + client->request.ttl_ms : 0;
        state->model.keys[client->keys[i]].updates[client->updates[i]].version = client->stats[i].version;
    }
}

/* Sets or deletes of random keys that no update is out for. */
static inline void world_begin_update(world *state, bool deletes)
{
    world_client *client = world_client_create(state);
    uint32_t count = 1 + (uint32_t)kv_random_below(&state->random, WORLD_BATCH);
    bool expires = !deletes && kv_random_below(&state->random, 100) < state->ttl_share;

    client->request.ttl_ms = expires ? 1 + kv_random_below(&state->random, 6000) : 0;
    client->request.if_absent = !deletes && kv_random_below(&state->random, 8) == 0;
    client->request.operation = deletes ? KV_OP_DELETE : KV_OP_SET;
    for (uint32_t n = 0; n < count; n++) {
        uint32_t key = (uint32_t)kv_random_below(&state->random, MODEL_KEYS);
        uint32_t i;
        uint32_t size;

        if (!model_may_issue(&state->model, key) || (key < MODEL_PIN_KEYS && (deletes || expires)))
            continue;
        i = world_client_add(client, key);
        client->updates[i] = model_issue(&state->model, key, deletes ? UPDATE_DELETE : UPDATE_SET,
                                         expires ? state->now_ms + client->request.ttl_ms : 0);
        if (deletes)
            continue;
        size = model_value_size(key, client->updates[i]);
        client->values[i] = malloc(size + 1);
        model_value_fill(key, client->updates[i], client->values[i], size);
        client->items[i].value = (uint64_t)client->values[i];
        client->items[i].value_size = size;
    }
    if (!deletes && kv_random_below(&state->random, 2) == 0)
        world_receive(state, client);
    if (client->request.operation == KV_OP_RECEIVE && kv_random_below(&state->random, 2) == 0)
        world_chain(state, client, expires);
    world_begin(state, client);
}

static inline void world_begin_pin(world *state, bool pins)
{
    uint32_t key = (uint32_t)kv_random_below(&state->random, MODEL_PIN_KEYS);
    model_key *row = &state->model.keys[key];
    world_client *client;

    if (!model_may_issue(&state->model, key))
        return;
    client = world_client_create(state);
    row->busy = true;
    row->pins[++row->pin_issued] = pins;
    client->request.operation = pins ? KV_OP_PIN : KV_OP_UNPIN;
    client->updates[world_client_add(client, key)] = row->pin_issued;
    world_begin(state, client);
}

/* Make a lending get of a get: values have no address. */
static inline void world_lend(world_client *client)
{
    client->request.operation = KV_OP_LEND;
    for (uint32_t i = 0; i < client->request.count; i++)
        client->items[i].value = 0;
}

static inline void world_begin_read(world *state, uint32_t first, uint32_t count)
{
    world_client *client = world_client_create(state);

    client->request.operation = KV_OP_GET;
    for (uint32_t n = 0; n < count; n++) {
        uint32_t key = (first + n) % MODEL_KEYS;
        uint32_t i = world_client_add(client, key);

        client->acked[i] = state->model.keys[key].acked;
        client->pin_acked[i] = state->model.keys[key].pin_acked;
        client->values[i] = malloc(MODEL_VALUE_MAX);
        client->items[i].value = (uint64_t)client->values[i];
        client->items[i].value_size = MODEL_VALUE_MAX;
    }
    if (kv_random_below(&state->random, 2) == 0)
        world_lend(client);
    world_begin(state, client);
}

static inline void world_begin_flush(world *state)
{
    world_client *client = world_client_create(state);

    for (uint32_t key = 0; key < MODEL_KEYS; key++) {
        client->acked[key] = state->model.keys[key].acked;
        client->pin_acked[key] = state->model.keys[key].pin_acked;
    }
    client->request.operation = KV_OP_FLUSH;
    world_begin(state, client);
}

/* Ask one that is out to end early. */
static inline void world_abort_any(world *state)
{
    for (kv_list *link = state->out.next; link != &state->out; link = link->next) {
        world_client *client = KV_CONTAINER(link, world_client, link);

        if (client->internal || client->answered || kv_random_below(&state->random, 4) != 0)
            continue;
        client->aborted = true;
        kv_operation_abort(client->operation, KV_CANCELLED);
        return;
    }
}

/* A status that says nothing about the key. */
static inline void world_check_failure(const world *state, const world_client *client, int32_t status)
{
    bool excused = kv_sim_cut(state->sim) || state->offline_expected;

    if (status == KV_CANCELLED ? !client->aborted : !excused)
        model_fail(&state->model, client->keys[0], "answers status", (uint64_t)status);
}

/* A value that was lent came with the version of its update. */
static inline void world_check_version(const world *state, const world_client *client, uint32_t i, uint32_t update)
{
    uint64_t version = state->model.keys[client->keys[i]].updates[update].version;

    if (client->request.operation == KV_OP_LEND && client->items[i].result_size > 0 && version != 0 &&
        client->stats[i].version != version)
        model_fail(&state->model, client->keys[i], "is lent with version", client->stats[i].version);
}

static inline void world_answer_read(const world *state, const world_client *client)
{
    for (uint32_t i = 0; i < client->request.count; i++) {
        const kv_item *item = &client->items[i];
        uint32_t key = client->keys[i];

        if (item->status == KV_OK)
            world_check_version(state, client, i,
                                model_value_update(&state->model, key, client->values[i], item->result_size,
                                                   client->acked[i], client->begun_ms));
        else if (item->status != KV_NOT_FOUND)
            world_check_failure(state, client, item->status);
        else if (model_absent_update(&state->model, key, client->acked[i], client->pin_acked[i],
                                     state->now_ms) < 0)
            model_fail(&state->model, key, "is absent; it must hold an update from", client->acked[i]);
    }
}

static inline void world_answer_update(world *state, const world_client *client)
{
    for (uint32_t i = 0; i < client->request.count; i++) {
        model_key *row = &state->model.keys[client->keys[i]];
        model_update *update = &row->updates[client->updates[i]];
        int32_t status = client->items[i].status;

        row->busy = false;
        if (update->expiry_first_ms != 0)
            update->expiry_last_ms = state->now_ms + client->request.ttl_ms;
        if (status == KV_OK && client->corrupted[i])
            model_fail(&state->model, client->keys[i], "was set, though damaged on its way; update",
                       client->updates[i]);
        if (status == KV_OK && (client->held || client->declined[i]))
            model_fail(&state->model, client->keys[i], "was set before it was settled; update",
                       client->updates[i]);
        if (status == KV_OK || (update->kind == UPDATE_DELETE && status == KV_NOT_FOUND))
            row->acked = client->updates[i];
        else if ((status == KV_CORRUPT && client->corrupted[i]) ||
                 (status == KV_NO_SPACE && !state->options.eviction) ||
                 (status == KV_QUOTA && state->options.objects_max > 0) ||
                 (status == KV_EXISTS && (client->request.if_absent || client->declined[i])))
            update->kind = UPDATE_VOID;
        else
            world_check_failure(state, client, status);
    }
}

static inline void world_answer_pin(world *state, const world_client *client)
{
    model_key *row = &state->model.keys[client->keys[0]];
    int32_t status = client->items[0].status;
    uint32_t pin = client->updates[0];

    row->busy = false;
    if (status == KV_NOT_FOUND) {
        if (row->pins[row->pin_acked] && model_pinned(&state->model, client->keys[0], row->pin_acked))
            model_fail(&state->model, client->keys[0], "was pinned and is absent; pin", pin);
        row->pins[pin] = 0;
    }
    if (status == KV_OK || status == KV_NOT_FOUND)
        row->pin_acked = pin;
    else
        world_check_failure(state, client, status);
}

static inline void world_answer_flush(world *state, const world_client *client)
{
    if (client->request.status != KV_OK) {
        world_check_failure(state, client, client->aborted ? KV_CANCELLED : KV_UNAVAILABLE);
        return;
    }
    for (uint32_t key = 0; key < MODEL_KEYS; key++) {
        model_key *row = &state->model.keys[key];

        if (row->flushed < client->acked[key])
            row->flushed = client->acked[key];
        if (row->pin_flushed < client->pin_acked[key])
            row->pin_flushed = client->pin_acked[key];
    }
}

static inline void world_answered(void *executor, kv_operation *operation)
{
    world *state = executor;
    world_client *client = kv_operation_owner(operation);

    client->answered = true;
    state->answered_count++;
    if (client->internal)
        return;
    switch (client->request.operation) {
    case KV_OP_GET:
    case KV_OP_LEND:
        world_answer_read(state, client);
        break;
    case KV_OP_FLUSH:
        world_answer_flush(state, client);
        break;
    case KV_OP_PIN:
    case KV_OP_UNPIN:
        world_answer_pin(state, client);
        break;
    default:
        world_answer_update(state, client);
    }
}

/* Let everything that is out come to its end. False: the power was cut. */
static inline bool world_drain(world *state)
{
    while (state->out_count > 0 && !kv_sim_cut(state->sim))
        if (!world_move(state))
            model_fail(&state->model, 0, "or any other: operations wait for nothing:", state->out_count);
    return !kv_sim_cut(state->sim);
}

/* Simulated devices and memory are kept for the next world: page faults are what many short lives would
 * spend their time on. */
static kv_sim *world_sims[8];
static uint8_t *world_memory;

static inline uint32_t world_sim_index(const kv_sim_options *sim)
{
    return (uint32_t)(sim->reorder_completions | sim->tear_bytes << 1 | sim->lose_reserves << 2);
}

static inline world *world_create(uint64_t seed, const kv_engine_options *options,
                                  const kv_sim_options *sim)
{
    world *state = calloc(1, sizeof(*state));

    assert(state);
    kv_random_init(&state->random, seed);
    state->model.seed = seed;
    state->model.may_evict = options->eviction == KV_EVICTION_CACHE;
    state->now_ms = WORLD_START_MS;
    state->options = *options;
    kv_list_init(&state->ready);
    kv_list_init(&state->out);
    state->sim_index = world_sim_index(sim);
    state->sim = world_sims[state->sim_index];
    world_sims[state->sim_index] = NULL;
    if (state->sim)
        kv_sim_reset(state->sim, sim->seed);
    else
        assert(kv_sim_open(sim, &state->sim) == 0);
    kv_sim_set_space(state->sim, sim->space_max);
    state->memory = world_memory;
    world_memory = NULL;
    if (!state->memory)
        assert(posix_memalign((void **)&state->memory, 4096, WORLD_MEMORY_MAX) == 0);
    return state;
}

/* Begin a life: open the engine over what the device holds. */
static inline int world_open(world *state, char *message)
{
    kv_engine_options options = state->options;

    state->device = kv_sim_device(state->sim);
    options.device = state->device;
    options.memory = state->memory;
    if (options.memory_size == 0)
        options.memory_size = WORLD_MEMORY_MAX;
    options.seed = kv_random_next(&state->random);
    options.now_ms = world_now;
    options.clock = state;
    options.ready = world_ready;
    options.answered = world_answered;
    options.maintain = world_maintain;
    options.executor = state;
    return kv_engine_open(&options, &state->engine, message);
}

/* The life is over: forget what it had in memory. */
static inline void world_forget(world *state)
{
    kv_list *lists[2] = {&state->ready, &state->out};

    for (uint32_t i = 0; i < 2; i++)
        while (!kv_list_empty(lists[i])) {
            world_client *client = KV_CONTAINER(lists[i]->next, world_client, link);

            kv_operation_abandon(client->operation);
            world_client_free(client);
        }
    state->out_count = 0;
    assert(state->kept_size == 0);
    if (state->engine)
        kv_engine_close(state->engine, false);
    state->engine = NULL;
    for (uint32_t key = 0; key < MODEL_KEYS; key++)
        state->model.keys[key].busy = false;
}

static inline void world_destroy(world *state)
{
    world_forget(state);
    if (world_sims[state->sim_index])
        kv_sim_close(state->sim);
    else
        world_sims[state->sim_index] = state->sim;
    if (world_memory)
        free(state->memory);
    else
        world_memory = state->memory;
    free(state);
}

#endif
