/* Calls to a client, for its tests: batches with keys and values of their own. */
#ifndef CLIENT_CALLS_H
#define CLIENT_CALLS_H

#include "bytes/random.h"
#include "kvcore.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CALL_KEY_SIZE 24u

/* A batch with its memory: key i is "prefix-i", value i has bytes that follow from prefix and i. */
typedef struct client_batch {
    kv_request request;
    kv_item *items;
    char (*keys)[CALL_KEY_SIZE];
    uint8_t *values;
    uint32_t size; /* of each value */
} client_batch;

static inline void client_batch_open(client_batch *batch, uint32_t operation, const char *prefix,
                                     uint32_t count, uint32_t size)
{
    *batch = (client_batch){.size = size};
    batch->items = calloc(count + 1, sizeof(kv_item));
    batch->keys = calloc(count + 1, CALL_KEY_SIZE);
    batch->values = calloc((size_t)count * size + 1, 1);
    assert(batch->items && batch->keys && batch->values);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *value = batch->values + (size_t)i * size;

        snprintf(batch->keys[i], CALL_KEY_SIZE, "%s-%u", prefix, i);
        if (operation == KV_OP_SET) {
            kv_random random;

            kv_random_init(&random, (uint8_t)prefix[0] + ((uint64_t)i << 8));
            kv_random_fill(&random, value, size);
        }
        batch->items[i] = (kv_item){.key = (uintptr_t)batch->keys[i],
                                    .key_size = (uint32_t)strlen(batch->keys[i]),
                                    .value = (uintptr_t)value,
                                    .value_size = size,
                                    .status = -1};
    }
    batch->request = (kv_request){
        .items = batch->items, .count = count, .operation = operation, .timeout_ms = 20000};
}

static inline void client_batch_close(client_batch *batch)
{
    free(batch->items);
    free(batch->keys);
    free(batch->values);
}

/* Whether value i is what a set of the same prefix wrote. */
static inline bool client_value_right(const client_batch *batch, uint32_t i)
{
    uint8_t *expected = malloc(batch->size + 1);
    kv_random random;
    bool right;

    assert(expected);
    kv_random_init(&random, (uint8_t)batch->keys[i][0] + ((uint64_t)i << 8));
    kv_random_fill(&random, expected, batch->size);
    right = memcmp(expected, batch->values + (size_t)i * batch->size, batch->size) == 0;
    free(expected);
    return right;
}

static inline void client_expect_all(const client_batch *batch, int32_t status)
{
    for (uint32_t i = 0; i < batch->request.count; i++)
        assert(batch->items[i].status == status);
}

static inline void client_expect_values(const client_batch *batch)
{
    client_expect_all(batch, KV_OK);
    for (uint32_t i = 0; i < batch->request.count; i++) {
        assert(batch->items[i].result_size == batch->size);
        assert(client_value_right(batch, i));
    }
}

static inline kv_client *client_open_with(kv_client_options options)
{
    char message[KV_MESSAGE_SIZE] = "";
    kv_client *client;

    assert(kv_client_open(&options, &client, message) == 0);
    return client;
}

/* Slots in turn over the nodes, target numbers equal to the slot's. */
static inline void client_route(kv_client *client, const char *const *nodes, uint32_t node_count,
                                uint32_t slot_count)
{
    char message[KV_MESSAGE_SIZE] = "";
    uint32_t slot_nodes[64], slot_targets[64];

    assert(slot_count <= 64);
    for (uint32_t i = 0; i < slot_count; i++) {
        slot_nodes[i] = i % node_count;
        slot_targets[i] = i;
    }
    assert(kv_client_route(client, 1, nodes, node_count, slot_nodes, slot_targets, slot_count,
                           message) == 0);
}

static inline kv_client *client_open(const char *node)
{
    kv_client *client = client_open_with((kv_client_options){0});

    client_route(client, &node, 1, 1);
    return client;
}

/* Run a batch of its own; the caller closes it. */
static inline void client_run(kv_client *client, client_batch *batch, uint32_t operation,
                              const char *prefix, uint32_t count, uint32_t size)
{
    client_batch_open(batch, operation, prefix, count, size);
    assert(kv_client_run(client, &batch->request) == 0);
}

static inline void client_set(kv_client *client, const char *prefix, uint32_t count, uint32_t size)
{
    client_batch batch;

    client_run(client, &batch, KV_OP_SET, prefix, count, size);
    client_expect_all(&batch, KV_OK);
    client_batch_close(&batch);
}

static inline void client_get(kv_client *client, const char *prefix, uint32_t count, uint32_t size)
{
    client_batch batch;

    client_run(client, &batch, KV_OP_GET, prefix, count, size);
    client_expect_values(&batch);
    client_batch_close(&batch);
}

#endif
