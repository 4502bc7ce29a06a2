/* Clients as a storage node's: values that are lent and returned later, values that are pushed in pieces. */
#ifndef KV_ENGINE_NETWORK_H
#define KV_ENGINE_NETWORK_H

#include "engine_clients.h"

#include "bytes/checksum.h"

#define NETWORK_PIECE_MAX 30000u

/* The bytes of a lent value are these. */
static inline bool world_lent_is(const kv_operation *operation, uint32_t i, const uint8_t *value,
                                 uint32_t size)
{
    struct iovec ranges[KV_LENT_RANGES_MAX];
    uint32_t count = kv_operation_lent(operation, i, ranges);
    uint32_t position = 0;

    for (uint32_t n = 0; n < count; n++) {
        assert(ranges[n].iov_len > 0 && ranges[n].iov_len <= size - position);
        if (memcmp(ranges[n].iov_base, value + position, ranges[n].iov_len) != 0)
            return false;
        position += (uint32_t)ranges[n].iov_len;
    }
    return position == size;
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
    client->pushing++;
    client->pushed_size = 0;
    if (kv_random_below(&state->random, 4) > 0 || client->pushing == client->request.count)
        if (kv_operation_claim(client->operation))
            world_step(state, client);
    return true;
}

static inline bool world_network_client(world *state, world_client *client)
{
    if (client->internal)
        return false;
    if (client->lent_count > 0) {
        world_return(client);
        return true;
    }
    return client->request.operation == KV_OP_RECEIVE && client->pushing < client->request.count &&
           world_push(state, client);
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
