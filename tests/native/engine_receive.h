/* A receiving set for tests: its values are pushed in pieces as the test likes. */
#ifndef KV_ENGINE_RECEIVE_H
#define KV_ENGINE_RECEIVE_H

#include "engine_calls.h"

#define RECEIVING_BATCH 24u
#define RECEIVING_TIER_SMALL (1u << 20)
#define RECEIVING_CHAIN (KV_REQUEST_VERSIONED | KV_REQUEST_HELD | KV_REQUEST_RETAINED)

/* A receiving set; the value of item i is calls_value(tags[i], its size). */
typedef struct receiving {
    kv_item items[RECEIVING_BATCH];
    kv_item_stat stats[RECEIVING_BATCH];
    kv_request request;
    char names[RECEIVING_BATCH][16];
    uint32_t tags[RECEIVING_BATCH];
    uint8_t *values[RECEIVING_BATCH];
    uint32_t pushing;
    uint32_t pushed_size;
    world *state;
    world_client *client;
} receiving;

static const uint32_t receiving_sizes[] = {60, 100, 0, 3000, 4096, 9000, 40000, 100, 131072, 300000};

static inline uint32_t receiving_size(uint32_t i)
{
    return receiving_sizes[i % (sizeof(receiving_sizes) / sizeof(receiving_sizes[0]))];
}

/* Another value for item i, before it begins. */
static inline void receiving_resize(receiving *batch, uint32_t i, uint32_t size)
{
    free(batch->values[i]);
    batch->values[i] = malloc(size + 8);
    assert(batch->values[i]);
    model_value_fill(batch->tags[i], 1, batch->values[i], size);
    batch->items[i].value_size = size;
    batch->stats[i].checksum = kv_checksum(0, batch->values[i], size);
}

/* Sizes and checksums may still be changed before it begins. */
static inline receiving *receiving_create(world *state, uint32_t count, uint32_t tag)
{
    receiving *batch = calloc(1, sizeof(*batch));

    assert(batch && count <= RECEIVING_BATCH);
    batch->state = state;
    for (uint32_t i = 0; i < count; i++) {
        batch->stats[i].version = kv_version(7, tag + i + 1);
        snprintf(batch->names[i], sizeof(batch->names[i]), "k%u", i);
        batch->tags[i] = tag + i;
        batch->items[i] = calls_item(batch->names[i], NULL, 0);
        receiving_resize(batch, i, receiving_size(i));
    }
    batch->request = (kv_request){.items = batch->items, .stats = batch->stats, .count = count,
                                  .operation = KV_OP_RECEIVE};
    return batch;
}

static inline void receiving_begin(receiving *batch)
{
    batch->client = calls_begin(batch->state, &batch->request);
    world_step(batch->state, batch->client);
}

static inline receiving *receiving_start(world *state, uint32_t count, uint32_t tag)
{
    receiving *batch = receiving_create(state, count, tag);

    receiving_begin(batch);
    return batch;
}

/* In the world of chains: with flags, and where memory may be short. */
static inline world *receiving_world(uint32_t durability, uint64_t memory_size)
{
    kv_engine_options options = calls_options;

    options.durability = durability;
    options.memory_size = memory_size;
    return calls_create(&options);
}

static inline receiving *receiving_create_as(world *state, uint32_t count, uint32_t tag, uint32_t flags)
{
    receiving *batch = receiving_create(state, count, tag);

    batch->request.flags = flags;
    return batch;
}

static inline receiving *receiving_start_as(world *state, uint32_t count, uint32_t tag, uint32_t flags)
{
    receiving *batch = receiving_create_as(state, count, tag, flags);

    receiving_begin(batch);
    return batch;
}

static inline bool receiving_came(const receiving *batch)
{
    return batch->client->finished || batch->pushing == batch->request.count;
}

/* Push at most `size` bytes of what comes next; false: not now. */
static inline bool receiving_push(receiving *batch, uint32_t size)
{
    uint32_t i = batch->pushing;
    uint32_t left = batch->items[i].value_size - batch->pushed_size;

    if (size > left)
        size = left;
    if (kv_operation_push(batch->client->operation, i, batch->values[i] + batch->pushed_size, size) < size)
        return false;
    batch->pushed_size += size;
    if (batch->pushed_size == batch->items[i].value_size) {
        batch->pushing++;
        batch->pushed_size = 0;
        if (kv_operation_claim(batch->client->operation))
            world_step(batch->state, batch->client);
    }
    return true;
}

/* A held one, whose values have all come: give its versions, decide, and make the step that does it. */
static inline void receiving_settle(receiving *batch, const uint8_t *statuses)
{
    kv_operation_settle(batch->client->operation, statuses);
    if (kv_operation_claim(batch->client->operation))
        world_step(batch->state, batch->client);
}

/* Let everything happen that can. */
static inline void receiving_rest(world *state)
{
    while (world_move(state))
        continue;
}

static inline void receiving_finish(receiving *batch)
{
    while (!batch->client->finished) {
        bool moved = world_move(batch->state);

        assert(moved);
    }
}

/* The value that was received is at hand. */
static inline bool receiving_keeps(const receiving *batch, uint32_t i)
{
    struct iovec ranges[KV_LENT_RANGES_MAX];
    uint32_t count = kv_operation_received(batch->client->operation, i, ranges);
    uint32_t position = 0;

    for (uint32_t n = 0; n < count; n++) {
        assert(position + ranges[n].iov_len <= batch->items[i].value_size);
        if (memcmp(ranges[n].iov_base, batch->values[i] + position, ranges[n].iov_len) != 0)
            return false;
        position += (uint32_t)ranges[n].iov_len;
    }
    return position == batch->items[i].value_size;
}

/* Push everything, in pieces of at most `size`, while others go on only when there is no memory. */
static inline void receiving_push_all(receiving *batch, uint32_t size)
{
    while (!receiving_came(batch))
        if (!receiving_push(batch, size)) {
            bool moved = world_move(batch->state);

            assert(moved);
        }
}

static inline void receiving_end(receiving *batch)
{
    while (!batch->client->finished) {
        bool moved = world_move(batch->state);

        assert(moved);
    }
    assert(batch->client->answered);
    world_client_free(batch->client);
    for (uint32_t i = 0; i < RECEIVING_BATCH; i++)
        free(batch->values[i]);
    free(batch);
}

static inline bool receiving_holds(receiving *batch, uint32_t i)
{
    return calls_holds(batch->state, batch->names[i], batch->tags[i], batch->items[i].value_size);
}

/* Without keys the store holds no space, and no memory. */
static inline void receiving_nothing_leaks(world *state, uint32_t count)
{
    char name[16];

    for (uint32_t i = 0; i < count; i++) {
        snprintf(name, sizeof(name), "k%u", i);
        calls_key(state, KV_OP_DELETE, name);
    }
    assert(calls_flush(state));
    assert(calls_statistics(state).memory_used == 0 && calls_statistics(state).space_used == 0);
    assert(calls_statistics(state).objects == 0);
}

#endif
