/* Blocking calls to an engine over the simulated device, for tests of what single requests mean. They run in
 * a world (engine_world.h) whose model stays empty: each test says itself what it expects. */
#ifndef KV_ENGINE_CALLS_H
#define KV_ENGINE_CALLS_H

#include "engine_world.h"

#define CALLS_VALUE_MAX (3u << 20)
#define CALLS_LIST_SIZE (1u << 20) /* any segment of the index */

typedef enum calls_end { CALLS_CLOSE, CALLS_KILL, CALLS_POWER } calls_end;

static const kv_engine_options calls_options = {
    .capacity = 8u << 20,
    .slab_size = 256u << 10,
    .journal_size_max = 1u << 20,
    .journal_step = 64u << 10,
    .durability = KV_DURABILITY_DISK,
};

static inline int calls_try_open(world *state, char *message)
{
    int result = world_open(state, message);

    if (result < 0)
        state->engine = NULL;
    return result;
}

static inline world *calls_create(const kv_engine_options *options)
{
    kv_sim_options sim = {.seed = 7, .space_max = 256u << 20};
    char message[KV_MESSAGE_SIZE] = "";
    world *state = world_create(7, options, &sim);
    int result = calls_try_open(state, message);

    assert(result == 0);
    return state;
}

static inline void calls_stop(world *state, calls_end end)
{
    if (end == CALLS_CLOSE) {
        kv_engine_close(state->engine, true);
        state->device->operations->close(state->device);
        state->engine = NULL;
        return;
    }
    world_forget(state);
    if (end == CALLS_KILL)
        kv_sim_kill(state->sim);
    else
        kv_sim_power_cut(state->sim);
}

static inline void calls_reopen(world *state, calls_end end)
{
    char message[KV_MESSAGE_SIZE] = "";

    calls_stop(state, end);
    if (calls_try_open(state, message) < 0) {
        fprintf(stderr, "does not open: %s\n", message);
        abort();
    }
}

/* A request under way: stepped by calls_finish, or as the test likes. The caller frees it. */
static inline world_client *calls_begin(world *state, kv_request *request)
{
    world_client *client = world_client_create(state);
    int result = kv_operation_begin(state->engine, request, &client->operation);

    assert(result == 0);
    client->internal = true;
    kv_operation_set_owner(client->operation, client);
    kv_list_append(&state->ready, &client->link);
    state->out_count++;
    return client;
}

static inline void calls_finish(world *state, world_client *client)
{
    while (!client->finished) {
        bool moved = world_move(state);

        assert(moved);
    }
    world_client_free(client);
}

/* The same while nobody else gets a turn. */
static inline void calls_finish_alone(world *state, world_client *client)
{
    while (!client->finished) {
        kv_list *link = state->ready.next;

        while (link != &state->ready && link != &client->link)
            link = link->next;
        if (link == &client->link)
            world_step(state, client);
        else
            assert(kv_sim_pump(state->sim, 1) == 1);
    }
    world_client_free(client);
}

static inline void calls_run(world *state, kv_request *request)
{
    int result = world_run(state, request);

    assert(result == 0);
}

static inline kv_item calls_item(const char *key, const void *value, uint32_t size)
{
    return (kv_item){.key = (uint64_t)key,
                     .key_size = (uint32_t)strlen(key),
                     .value = (uint64_t)value,
                     .value_size = size,
                     .status = -1};
}

static inline int32_t calls_put(world *state, const char *key, const void *value, uint32_t size,
                                uint64_t ttl_ms, bool if_absent)
{
    kv_item item = calls_item(key, value, size);
    kv_request request = {.items = &item, .count = 1, .operation = KV_OP_SET, .ttl_ms = ttl_ms,
                          .if_absent = if_absent};

    calls_run(state, &request);
    return item.status;
}

/* Bytes that say which value they are. */
static inline const uint8_t *calls_value(uint32_t tag, uint32_t size)
{
    static uint8_t values[2][CALLS_VALUE_MAX + 8];
    static uint32_t turn;
    uint8_t *value = values[turn++ % 2];

    assert(size <= CALLS_VALUE_MAX);
    model_value_fill(tag, 1, value, size);
    return value;
}

static inline int32_t calls_set(world *state, const char *key, uint32_t tag, uint32_t size)
{
    return calls_put(state, key, calls_value(tag, size), size, 0, false);
}

static inline int32_t calls_get(world *state, const char *key, void *value, uint32_t room, uint32_t *size)
{
    kv_item item = calls_item(key, value, room);
    kv_request request = {.items = &item, .count = 1, .operation = KV_OP_GET};

    calls_run(state, &request);
    if (size)
        *size = item.result_size;
    return item.status;
}

static inline int32_t calls_status(world *state, const char *key)
{
    static uint8_t value[CALLS_VALUE_MAX];

    return calls_get(state, key, value, sizeof(value), NULL);
}

static inline bool calls_holds(world *state, const char *key, uint32_t tag, uint32_t size)
{
    static uint8_t value[CALLS_VALUE_MAX];
    uint32_t found = UINT32_MAX;

    return calls_get(state, key, value, sizeof(value), &found) == KV_OK && found == size &&
           memcmp(value, calls_value(tag, size), size) == 0;
}

/* EXISTS, DELETE, PIN, UNPIN. */
static inline int32_t calls_key(world *state, uint32_t operation, const char *key)
{
    kv_item item = calls_item(key, NULL, 0);
    kv_request request = {.items = &item, .count = 1, .operation = operation};

    calls_run(state, &request);
    return item.status;
}

static inline int32_t calls_stat(world *state, const char *key, kv_item_stat *stat, uint32_t *size)
{
    kv_item item = calls_item(key, NULL, 0);
    kv_request request = {.items = &item, .stats = stat, .count = 1, .operation = KV_OP_STAT};

    calls_run(state, &request);
    *size = item.result_size;
    return item.status;
}

static inline bool calls_flush(world *state)
{
    kv_request request = {.operation = KV_OP_FLUSH};

    calls_run(state, &request);
    return request.status == KV_OK;
}

static inline uint32_t calls_list(world *state, const char *prefix)
{
    static uint8_t buffer[CALLS_LIST_SIZE];
    uint64_t cursor = 0;
    uint32_t count = 0;

    while (cursor != UINT64_MAX) {
        int64_t used = kv_engine_list(state->engine, &cursor, prefix, (uint32_t)strlen(prefix), buffer,
                                      sizeof(buffer));

        assert(used >= 0);
        for (int64_t at = 0; at < used; count++) {
            uint16_t key_size;

            memcpy(&key_size, buffer + at, sizeof(key_size));
            at += 24 + key_size;
        }
    }
    return count;
}

/* How many values verification finds bad. */
static inline uint32_t calls_verify(world *state, uint64_t *objects)
{
    static uint8_t buffer[CALLS_LIST_SIZE];
    uint64_t cursor = 0;
    uint64_t bytes = 0;
    uint32_t count = 0;

    *objects = 0;
    while (cursor != UINT64_MAX) {
        int64_t used = kv_engine_verify(state->engine, &cursor, 1u << 20, buffer, sizeof(buffer), objects,
                                        &bytes, world_run, state);

        assert(used >= 0);
        for (int64_t at = 0; at < used; count++) {
            uint16_t key_size;

            memcpy(&key_size, buffer + at, sizeof(key_size));
            at += 24 + key_size;
        }
    }
    return count;
}

static inline kv_store_statistics calls_statistics(world *state)
{
    kv_store_statistics statistics;

    kv_engine_statistics(state->engine, &statistics);
    return statistics;
}

#endif
