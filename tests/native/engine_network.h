/* Clients as a storage node's: values that are lent and returned later, values that are pushed in pieces. */
#ifndef KV_ENGINE_NETWORK_H
#define KV_ENGINE_NETWORK_H

#include "engine_clients.h"

#include "bytes/checksum.h"

#define NETWORK_PIECE_MAX 30000u

/* The bytes of a value that is lent, or was received, are these. */
static inline bool world_ranges_are(const struct iovec *ranges, uint32_t count, const uint8_t *value,
                                    uint32_t size)
{
    uint32_t position = 0;

    for (uint32_t n = 0; n < count; n++) {
        assert(ranges[n].iov_len > 0 && ranges[n].iov_len <= size - position);
        if (memcmp(ranges[n].iov_base, value + position, ranges[n].iov_len) != 0)
            return false;
        position += (uint32_t)ranges[n].iov_len;
    }
    return position == size;
}

static inline bool world_lent_is(const kv_operation *operation, uint32_t i, const uint8_t *value,
                                 uint32_t size)
{
    struct iovec ranges[KV_LENT_RANGES_MAX];
    uint32_t count = kv_operation_lent(operation, i, ranges);

    return world_ranges_are(ranges, count, value, size);
}

static inline void world_copy_lent(const kv_operation *operation, uint32_t i, uint8_t *value)
{
    struct iovec ranges[KV_LENT_RANGES_MAX];
    uint32_t count = kv_operation_lent(operation, i, ranges);

    for (uint32_t n = 0; n < count; n++) {
        memcpy(value, ranges[n].iov_base, ranges[n].iov_len);
        value += ranges[n].iov_len;
    }
}

/* Take what the last step has got. */
static inline void world_take_lent(world_client *client)
{
    int64_t next;

    if (client->internal)
        return;
    while ((next = kv_operation_next(client->operation)) >= 0) {
        uint32_t i = (uint32_t)next;
        const kv_item *item = &client->items[i];

        if (item->status != KV_OK)
            continue;
        if (item->result_size > 0) {
            world_copy_lent(client->operation, i, client->values[i]);
            client->lent[i] = true;
            client->lent_count++;
        }
        if (kv_checksum(0, client->values[i], item->result_size) != client->stats[i].checksum)
            model_fail(&client->world->model, client->keys[i], "is lent with a wrong checksum; item", i);
    }
}

/* Return one of the values, which nobody has touched. */
static inline void world_return(world_client *client)
{
    uint32_t i = (uint32_t)kv_random_below(&client->world->random, WORLD_BATCH);

    while (!client->lent[i])
        i = (i + 1) % WORLD_BATCH;
    if (!world_lent_is(client->operation, i, client->values[i], client->items[i].result_size))
        model_fail(&client->world->model, client->keys[i], "changed while it was lent; item", i);
    client->lent[i] = false;
    client->lent_count--;
    kv_operation_return(client->operation, i);
}

/* One step of a client whose turn it is. */
static inline void world_step(world *state, world_client *client)
{
    kv_list_remove(&client->link);
    kv_list_append(&state->out, &client->link);
    client->stepped = true;
    if (kv_operation_step(client->operation)) {
        client->finished = true;
        kv_operation_end(client->operation);
        state->out_count--;
        if (client->internal)
            kv_list_remove(&client->link);
        else
            world_client_free(client);
        return;
    }
    if (client->request.operation == KV_OP_LEND)
        world_take_lent(client);
}

/* Push some bytes; a step when a value is complete. False: there is no memory for them now. */
static inline bool world_push(world *state, world_client *client)
{
    uint32_t i = client->pushing;
    uint32_t size = (uint32_t)kv_random_below(&state->random, NETWORK_PIECE_MAX);
    uint32_t left = client->items[i].value_size - client->pushed_size;

    if (size > left)
        size = left;
    if (kv_operation_push(client->operation, i, client->values[i] + client->pushed_size, size) < size)
        return false;
    client->pushed_size += size;
    if (client->pushed_size < client->items[i].value_size)
        return true;
    client->came[i] = !client->answered;
    client->pushing++;
    client->pushed_size = 0;
    if (kv_random_below(&state->random, 4) > 0 || client->pushing == client->request.count)
        if (kv_operation_claim(client->operation))
            world_step(state, client);
    return true;
}

/* All values of a held set have come: decide, and give the versions. */
static inline void world_settle(world *state, world_client *client)
{
    uint8_t statuses[WORLD_BATCH];

    for (uint32_t i = 0; i < client->request.count; i++) {
        bool refused = kv_operation_refusal(client->operation, i) != KV_OK;

        if (client->corrupted[i] && !refused)
            model_fail(&state->model, client->keys[i], "came damaged, and is not refused; item", i);
        client->declined[i] = !refused && kv_random_below(&state->random, 16) == 0;
        statuses[i] = client->declined[i] ? KV_EXISTS : KV_OK;
    }
    client->held = false;
    kv_operation_settle(client->operation, statuses);
    if (kv_operation_claim(client->operation))
        world_step(state, client);
}

/* Values that were received are where they were, whatever the set has come to. */
static inline void world_release(world *state, world_client *client)
{
    for (uint32_t i = 0; i < client->pushing; i++) {
        kv_status refusal = kv_operation_refusal(client->operation, i);
        struct iovec ranges[KV_LENT_RANGES_MAX];
        uint32_t count = kv_operation_received(client->operation, i, ranges);

        if (!client->came[i] || (count == 0 && refusal != KV_OK))
            continue; /* refused before it had memory */
        if (!world_ranges_are(ranges, count, client->values[i], client->items[i].value_size))
            model_fail(&state->model, client->keys[i], "changed while it was retained; item", i);
    }
    client->retained = false;
    kv_operation_release(client->operation);
}

static inline bool world_network_client(world *state, world_client *client)
{
    if (client->internal)
        return false;
    if (client->lent_count > 0) {
        world_return(client);
        return true;
    }
    if (client->request.operation != KV_OP_RECEIVE)
        return false;
    if (client->pushing < client->request.count)
        return world_push(state, client);
    if (client->held && !client->answered && client->stepped) {
        world_settle(state, client);
        return true;
    }
    if (!client->retained || (client->held && !client->answered))
        return false;
    world_release(state, client);
    return true;
}

/* Let a value be returned, or bytes come, at random; false: nobody waits for that. */
static inline bool world_network_any(world *state)
{
    kv_list *lists[2] = {&state->ready, &state->out};

    for (uint32_t pass = 0; pass < 2; pass++)
        for (uint32_t n = 0; n < 2; n++)
            for (kv_list *link = lists[n]->next, *next; link != lists[n]; link = next) {
                next = link->next; /* a client that wants a step changes lists */
                if (pass == 0 && kv_random_below(&state->random, 2) == 0)
                    continue;
                if (world_network_client(state, KV_CONTAINER(link, world_client, link)))
                    return true;
            }
    return !kv_list_empty(&state->ready); /* refused bytes bring about a step */
}

#endif
