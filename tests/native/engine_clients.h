/* The world of engine tests, its parts: a simulated device, an engine over it, a model of what every key may hold,
 * and clients, each with one operation. What they do is in engine_network.h and engine_world.h. */
#ifndef KV_ENGINE_CLIENTS_H
#define KV_ENGINE_CLIENTS_H

#include "drivers/device_sim.h"
#include "engine/engine.h"
#include "engine_model.h"

#include <errno.h>

#define WORLD_BATCH 8u
#define WORLD_OUT_MAX 12u
#define WORLD_MEMORY_MAX (4u << 20)
#define WORLD_START_MS 1800000000000u
#define WORLD_KEPT_SHARE 2u /* of the DRAM tier: what sets that keep their values may take, as a node limits it */

typedef struct world_client {
    kv_list link;
    struct world *world;
    kv_operation *operation;
    kv_request request;
    kv_item items[WORLD_BATCH];
    kv_item_stat stats[WORLD_BATCH];
    uint32_t keys[WORLD_BATCH];
    uint32_t updates[WORLD_BATCH];
    uint32_t acked[MODEL_KEYS];     /* the model when it began: by item (get), by key (flush) */
    uint32_t pin_acked[MODEL_KEYS];
    char names[WORLD_BATCH][MODEL_NAME_SIZE];
    uint8_t *values[WORLD_BATCH];   /* of a get (also of a lending one, copied when it was named) or a set */
    bool lent[WORLD_BATCH];         /* lend: named and not returned yet */
    uint32_t lent_count;
    uint32_t pushing;               /* receive: the item and the byte that come next */
    uint32_t pushed_size;
    bool corrupted[WORLD_BATCH];    /* receive: its bytes do not match the checksum */
    bool came[WORLD_BATCH];         /* receive: its last byte came before the answer */
    bool declined[WORLD_BATCH];     /* held: it is settled so that it is not set */
    bool stepped;
    bool held;                      /* receive: not settled yet */
    bool retained;                  /* receive: not released yet */
    uint64_t kept_size;
    uint64_t begun_ms;
    bool answered;
    bool finished;
    bool aborted;
    bool internal;
} world_client;

typedef struct world {
    kv_random random;
    kv_sim *sim;
    kv_device *device;
    kv_engine *engine;
    kv_engine_options options;
    uint32_t sim_index; /* in world_sims */
    uint8_t *memory;
    model model;
    kv_list ready; /* clients whose operation wants a step */
    kv_list out;   /* all others */
    uint32_t out_count;
    bool maintain_wanted;
    bool maintaining;
    uint64_t now_ms;
    uint64_t answered_count;
    uint64_t ttl_share; /* of sets that expire, in percent */
    uint64_t version;   /* the last one given */
    uint64_t kept_size; /* of all clients */
    bool offline_expected; /* faults are armed: the store may answer UNAVAILABLE and IO_ERROR */
} world;

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
    ((world *)executor)->maintain_wanted = true;
}

static inline world_client *world_client_create(world *state)
{
    world_client *client = calloc(1, sizeof(*client));

    assert(client);
    client->world = state;
    client->begun_ms = state->now_ms;
    client->request.items = client->items;
    client->request.stats = client->stats;
    kv_list_init(&client->link);
    return client;
}

static inline void world_client_free(world_client *client)
{
    kv_list_remove(&client->link);
    client->world->kept_size -= client->kept_size;
    for (uint32_t i = 0; i < WORLD_BATCH; i++)
        free(client->values[i]);
    free(client);
}

/* Add an item for the key; its place. */
static inline uint32_t world_client_add(world_client *client, uint32_t key)
{
    uint32_t i = client->request.count++;

    model_name(key, client->names[i]);
    client->keys[i] = key;
    client->items[i].key = (uint64_t)client->names[i];
    client->items[i].key_size = (uint32_t)strlen(client->names[i]);
    return i;
}

#endif
