/* The predecessor of a chain's target as a test plays it: forwards with sets or deletes of some
 * keys, and what is answered to them. */
#ifndef NODE_PREDECESSOR_H
#define NODE_PREDECESSOR_H

#include "node_chains.h"
#include "protocol/forward.h"

/* A forward to be sent; items from a batch. */
typedef struct chain_push {
    kv_wire_forward wire;
    const node_batch *batch;
    uint32_t seed;
    uint32_t place;
    uint64_t version;
    char keys[64][64];
} chain_push;

static inline void push_item(void *context, uint32_t i, kv_forward_item *item)
{
    chain_push *push = context;
    const kv_item *from = &push->batch->items[i];

    /* Stored keys: tenant and namespace by default, each of size 0. */
    memset(push->keys[i], 0, 2);
    memcpy(push->keys[i] + 2, (const void *)(uintptr_t)from->key, from->key_size);
    *item = (kv_forward_item){.key = (const uint8_t *)push->keys[i],
                              .key_size = from->key_size + 2,
                              .version = push->version ? push->version + i : 0};
    if (push->wire.operation != KV_OP_SET)
        return;
    item->value_size = from->value_size;
    item->checksum = kv_checksum(0, (const void *)(uintptr_t)from->value, from->value_size);
}

/* Whole, in memory that the caller frees. */
static inline uint8_t *push_encode(node_client *client, chain_push *push, size_t *size)
{
    uint8_t *bytes = malloc(KV_MESSAGE_HEAD_SIZE + KV_MESSAGE_FORWARD_SIZE_MAX + (8u << 20));
    kv_message_head head = {.version = KV_PROTOCOL_VERSION_MAX,
                            .kind = KV_MESSAGE_FORWARD,
                            .flags = (uint16_t)push->place,
                            .count = push->wire.count,
                            .request = ++client->request_last};
    uint8_t *at;

    assert(bytes && push->wire.count <= 64);
    head.columns_size =
        kv_forward_encode(&push->wire, push_item, push, bytes + KV_MESSAGE_HEAD_SIZE);
    at = bytes + KV_MESSAGE_HEAD_SIZE + head.columns_size;
    for (uint32_t i = 0; push->wire.operation == KV_OP_SET && i < push->wire.count; i++) {
        memcpy(at, (const void *)(uintptr_t)push->batch->items[i].value,
               push->batch->items[i].value_size);
        at += push->batch->items[i].value_size;
        head.values_size += push->batch->items[i].value_size;
    }
    kv_message_encode(&head, bytes);
    *size = (size_t)(at - bytes);
    return bytes;
}

static inline void push_send(node_client *client, chain_push *push)
{
    size_t size;
    uint8_t *bytes = push_encode(client, push, &size);

    assert(client_write(client, bytes, size));
    free(bytes);
}

/* The answer to the last forward: its status as a whole; of each item in `statuses`. */
static inline kv_status push_answer(node_client *client, uint32_t count, uint8_t *statuses)
{
    kv_wire_forwarded answer;
    node_message message;

    assert(client_receive(client, &message));
    assert(message.head.kind == KV_MESSAGE_FORWARDED);
    assert(message.head.request == client->request_last);
    assert(kv_forwarded_decode(&message.head, message_columns(&message), count, &answer) == 0);
    if (answer.status == KV_OK && statuses)
        memcpy(statuses, answer.statuses, count);
    free(message.bytes);
    return (kv_status)answer.status;
}

static inline chain_push push_plan(const chain_world *world, uint32_t kind, uint32_t operation,
                                   node_batch *batch)
{
    return (chain_push){.wire = {.forward = kind,
                                 .operation = operation,
                                 .target = 1,
                                 .chain_version = world->chain_version,
                                 .count = batch->request.count},
                        .batch = batch,
                        .place = 1,
                        .version = (world->chain_version << 40) + 1};
}

static inline kv_status push_run(node_client *client, chain_push *push, uint8_t *statuses)
{
    push_send(client, push);
    return push_answer(client, push->wire.count, statuses);
}

#endif
