/* A world for engine tests: a simulated device, an engine over it, a model of what every key may hold,
 * and clients whose operations interleave, all from one seed.
 *
 * The model keeps for each key the updates issued so far, in order, and the earliest one that a read
 * may still return. Contents are computed from (key, update), so a value proves which update it is. */
#ifndef KV_ENGINE_WORLD_H
#define KV_ENGINE_WORLD_H

#include "bytes/random.h"
#include "drivers/device_sim.h"
#include "engine/engine.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORLD_KEYS 48u
#define WORLD_BATCH 8u
#define WORLD_OUT_MAX 12u
#define WORLD_MEMORY (4u << 20)
#define WORLD_VALUE_MAX 120000u
#define WORLD_UPDATES_MAX 4096u

typedef enum world_update {
    UPDATE_SET = 0,
    UPDATE_DELETE = 1,
    UPDATE_VOID = 2 /* it had no effect, or a crash took it */
} world_update;

typedef struct world_key {
    uint32_t issued;  /* updates so far; update 0 is "never set" */
    uint32_t acked;   /* the last acknowledged update: reads return it or a later one */
    uint32_t flushed; /* the last one that a flush has answered for */
    bool busy;        /* an update of it is out */
    uint8_t kinds[WORLD_UPDATES_MAX];
} world_key;

typedef struct world_client {
    kv_list link;
    struct world *world;
    kv_operation *operation;
    kv_request request;
    kv_item items[WORLD_BATCH];
    kv_item_stat stats[WORLD_BATCH];
    uint32_t keys[WORLD_BATCH];
    uint32_t updates[WORLD_BATCH];
    uint32_t acked[WORLD_KEYS]; /* the model when it began: by item (get), by key (flush) */
    char names[WORLD_BATCH][32];
    uint8_t *values[WORLD_BATCH];
    bool answered;
    bool finished;
    bool internal;
} world_client;

typedef struct world {
    kv_random random;
    kv_sim *sim;
    kv_device *device;
    kv_engine *engine;
    kv_engine_options options;
    uint8_t *memory;
    world_key keys[WORLD_KEYS];
    kv_list ready; /* clients whose operation wants a step */
    kv_list out;   /* all others */
    uint32_t out_count;
    uint64_t now_ms;
    uint64_t seed;
    uint64_t answered_count;
    bool quiet_checks; /* faults are armed: statuses other than OK are legal */
    bool may_evict;
} world;

static inline void world_name(uint32_t key, char name[32])
{
    /* Names of several lengths. */
    snprintf(name, 32, "key-%0*u", (int)(1 + key % 12), key);
}

static inline uint32_t world_value_size(uint32_t key, uint32_t update)
{
    kv_random random;

    kv_random_init(&random, (uint64_t)key << 32 | update);
    switch (kv_random_below(&random, 8)) {
    case 0:
        return 0;
    case 1:
    case 2:
        return 1 + (uint32_t)kv_random_below(&random, 700);
    case 3:
        return 4096u * (1 + (uint32_t)kv_random_below(&random, 8));
    case 4:
        return 1 + (uint32_t)kv_random_below(&random, WORLD_VALUE_MAX);
    default:
        return 1 + (uint32_t)kv_random_below(&random, 20000);
    }
}

static inline void world_value_fill(uint32_t key, uint32_t update, uint8_t *value, uint32_t size)
{
    uint64_t word = ((uint64_t)key << 32 | update) * 0x9e3779b97f4a7c15u + 1;

    for (uint32_t i = 0; i < size; i += 8) {
        uint32_t part = size - i < 8 ? size - i : 8;

        memcpy(value + i, &word, part);
        word = word * 6364136223846793005u + 1442695040888963407u;
    }
}

/* Which update of the key is this value? Searches from the newest; it must be one of them. */
static inline uint32_t world_value_update(const world *state, uint32_t key, const uint8_t *value,
                                          uint32_t size, uint32_t least)
{
    static uint8_t expected[WORLD_VALUE_MAX + 8];

    for (uint32_t update = state->keys[key].issued; update + 1 > least && update > 0; update--) {
        if (state->keys[key].kinds[update] != UPDATE_SET || world_value_size(key, update) != size)
            continue;
        world_value_fill(key, update, expected, size);
        if (memcmp(expected, value, size) == 0)
            return update;
    }
    fprintf(stderr, "seed %llu: key %u holds %u bytes that are none of its updates %u ... %u\n",
            (unsigned long long)state->seed, key, size, least, state->keys[key].issued);
    abort();
}

/* The newest update in [least, issued] that leaves the key absent; -1: none does. */
static inline int64_t world_absent_update(const world *state, uint32_t key, uint32_t least)
{
    const world_key *model = &state->keys[key];

    for (uint32_t update = model->issued + 1; update-- > least;)
        if (update == 0 || model->kinds[update] == UPDATE_DELETE)
            return update;
    return state->may_evict ? (int64_t)least : -1;
}

static inline uint64_t world_now(void *clock)
{
    return ((world *)clock)->now_ms;
}

static inline void world_ready(void *executor, kv_operation *operation)
{
    world *state = executor;
    world_client *client = kv_operation_owner(operation);

    kv_list_remove(&client->link);
    kv_list_append(&state->ready, &client->link);
}

static inline void world_maintain(void *executor)
{
    (void)executor;
}

void world_answered(void *executor, kv_operation *operation);

static inline world_client *world_client_create(world *state)
{
    world_client *client = calloc(1, sizeof(*client));

    assert(client);
    client->world = state;
    client->request.items = client->items;
    client->request.stats = client->stats;
    kv_list_init(&client->link);
    return client;
}

static inline void world_client_free(world_client *client)
{
    kv_list_remove(&client->link);
    for (uint32_t i = 0; i < WORLD_BATCH; i++)
        free(client->values[i]);
    free(client);
}

/* One step of a client whose turn it is. */
static inline void world_step(world *state, world_client *client)
{
    kv_list_remove(&client->link);
    kv_list_append(&state->out, &client->link);
    if (kv_operation_step(client->operation)) {
        client->finished = true;
        kv_operation_end(client->operation);
        state->out_count--;
        if (client->internal)
            kv_list_remove(&client->link);
        else
            world_client_free(client);
    }
}

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
        if (!world_step_any(state) && kv_sim_pump(state->sim, 1) == 0 && !kv_sim_cut(state->sim)) {
            fprintf(stderr, "seed %llu: a request of maintenance waits for nothing\n",
                    (unsigned long long)state->seed);
            abort();
        }
    }
    return 0;
}

static inline void world_begin_update(world *state, bool deletes)
{
    world_client *client = world_client_create(state);
    uint32_t count = 1 + (uint32_t)kv_random_below(&state->random, WORLD_BATCH);

    for (uint32_t i = 0; i < count; i++) {
        uint32_t key = (uint32_t)kv_random_below(&state->random, WORLD_KEYS);
        world_key *model = &state->keys[key];
        uint32_t n = client->request.count;
        uint32_t update;

        if (model->busy || model->issued + 1 == WORLD_UPDATES_MAX)
            continue;
        model->busy = true;
        update = ++model->issued;
        model->kinds[update] = deletes ? UPDATE_DELETE : UPDATE_SET;
        world_name(key, client->names[n]);
        client->keys[n] = key;
        client->updates[n] = update;
        client->items[n].key = (uint64_t)client->names[n];
        client->items[n].key_size = (uint32_t)strlen(client->names[n]);
        if (!deletes) {
            uint32_t size = world_value_size(key, update);

            client->values[n] = malloc(size + 1);
            world_value_fill(key, update, client->values[n], size);
            client->items[n].value = (uint64_t)client->values[n];
            client->items[n].value_size = size;
        }
        client->request.count++;
    }
    client->request.operation = deletes ? KV_OP_DELETE : KV_OP_SET;
    world_begin(state, client);
}

static inline void world_begin_read(world *state, uint32_t first, uint32_t count)
{
    world_client *client = world_client_create(state);

    for (uint32_t n = 0; n < count; n++) {
        uint32_t key = (first + n) % WORLD_KEYS;

        world_name(key, client->names[n]);
        client->keys[n] = key;
        client->acked[n] = state->keys[key].acked;
        client->items[n].key = (uint64_t)client->names[n];
        client->items[n].key_size = (uint32_t)strlen(client->names[n]);
        client->values[n] = malloc(WORLD_VALUE_MAX);
        client->items[n].value = (uint64_t)client->values[n];
        client->items[n].value_size = WORLD_VALUE_MAX;
    }
    client->request.count = count;
    client->request.operation = KV_OP_GET;
    world_begin(state, client);
}

static inline void world_begin_flush(world *state)
{
    world_client *client = world_client_create(state);

    for (uint32_t key = 0; key < WORLD_KEYS; key++)
        client->acked[key] = state->keys[key].acked;
    client->request.operation = KV_OP_FLUSH;
    world_begin(state, client);
}

static inline void world_answer_read(world *state, const world_client *client)
{
    for (uint32_t i = 0; i < client->request.count; i++) {
        const kv_item *item = &client->items[i];
        uint32_t key = client->keys[i];

        if (item->status == KV_NOT_FOUND)
            assert(world_absent_update(state, key, client->acked[i]) >= 0);
        else if (item->status == KV_OK)
            world_value_update(state, key, client->values[i], item->result_size, client->acked[i]);
        else
            assert(state->quiet_checks);
    }
}

static inline void world_answer_update(world *state, const world_client *client)
{
    bool deletes = client->request.operation == KV_OP_DELETE;

    for (uint32_t i = 0; i < client->request.count; i++) {
        world_key *model = &state->keys[client->keys[i]];
        int32_t status = client->items[i].status;

        model->busy = false;
        if (status == KV_OK || (deletes && status == KV_NOT_FOUND)) {
            model->acked = client->updates[i];
        } else if (status == KV_NO_SPACE) {
            model->kinds[client->updates[i]] = UPDATE_VOID;
        } else {
            assert(state->quiet_checks);
        }
    }
}

static inline void world_answer_flush(world *state, const world_client *client)
{
    for (uint32_t key = 0; key < WORLD_KEYS; key++)
        if (state->keys[key].flushed < client->acked[key])
            state->keys[key].flushed = client->acked[key];
}

void world_answered(void *executor, kv_operation *operation)
{
    world *state = executor;
    world_client *client = kv_operation_owner(operation);

    client->answered = true;
    state->answered_count++;
    if (client->internal)
        return;
    switch (client->request.operation) {
    case KV_OP_GET:
        world_answer_read(state, client);
        break;
    case KV_OP_FLUSH:
        world_answer_flush(state, client);
        break;
    default:
        world_answer_update(state, client);
    }
}

/* Let everything that is out come to its end. False: the power was cut. */
static inline bool world_drain(world *state)
{
    while (state->out_count > 0 && !kv_sim_cut(state->sim))
        if (!world_step_any(state) && kv_sim_pump(state->sim, 1) == 0 && !kv_sim_cut(state->sim)) {
            fprintf(stderr, "seed %llu: %u operations wait for nothing\n",
                    (unsigned long long)state->seed, state->out_count);
            abort();
        }
    return !kv_sim_cut(state->sim);
}

static inline world *world_create(uint64_t seed, const kv_engine_options *options,
                                  const kv_sim_options *sim)
{
    world *state = calloc(1, sizeof(*state));

    assert(state);
    kv_random_init(&state->random, seed);
    state->seed = seed;
    state->now_ms = 1800000000000u;
    state->options = *options;
    kv_list_init(&state->ready);
    kv_list_init(&state->out);
    assert(posix_memalign((void **)&state->memory, 4096, WORLD_MEMORY) == 0);
    assert(kv_sim_open(sim, &state->sim) == 0);
    return state;
}

/* Begin a life: open the engine over what the device holds. */
static inline int world_open(world *state, char *message)
{
    kv_engine_options options = state->options;

    state->device = kv_sim_device(state->sim);
    options.device = state->device;
    options.memory = state->memory;
    options.memory_size = WORLD_MEMORY;
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
    if (state->engine)
        kv_engine_close(state->engine, false);
    state->engine = NULL;
    for (uint32_t key = 0; key < WORLD_KEYS; key++)
        state->keys[key].busy = false;
}

static inline void world_destroy(world *state)
{
    world_forget(state);
    kv_sim_close(state->sim);
    free(state->memory);
    free(state);
}

#endif
