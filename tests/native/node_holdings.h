/* What the targets of a chain hold, entry by entry, for tests that compare them. */
#ifndef NODE_HOLDINGS_H
#define NODE_HOLDINGS_H

#include "node_chains.h"

/* Everything that a target holds, as KV_CONTROL_LIST_STORED says it, in the order of its keys. */
typedef struct holding {
    uint8_t *entries[4096];
    uint32_t count;
} holding;

#define ENTRY_SIZE 28u

static inline int entry_compare(const void *a, const void *b)
{
    const uint8_t *one = *(uint8_t *const *)a, *other = *(uint8_t *const *)b;
    uint32_t size = kv_endian_load_u16(one), other_size = kv_endian_load_u16(other);
    int order_of = memcmp(one + ENTRY_SIZE, other + ENTRY_SIZE,
                          size < other_size ? size : other_size);

    return order_of ? order_of : (int)size - (int)other_size;
}

static inline holding *holding_take(chain_world *world, uint32_t node)
{
    node_client client = client_open(&world->nodes[node], 77);
    holding *held = calloc(1, sizeof(*held));
    uint64_t cursor = 0;

    assert(held);
    while (cursor != UINT64_MAX) {
        uint8_t body[12], *reply;
        int64_t size;

        kv_endian_store_u64(body, cursor);
        kv_endian_store_u32(body + 8, 16384);
        size = client_control(&client, KV_CONTROL_LIST_STORED, 1, body, sizeof(body), &reply);
        assert(size >= 8);
        cursor = kv_endian_load_u64(reply);
        for (int64_t at = 8; at < size;) {
            uint32_t entry = ENTRY_SIZE + kv_endian_load_u16(reply + at);

            assert(held->count < 4096);
            held->entries[held->count] = malloc(entry);
            memcpy(held->entries[held->count++], reply + at, entry);
            at += entry;
        }
        free(reply);
    }
    qsort(held->entries, held->count, sizeof(held->entries[0]), entry_compare);
    client_close(&client);
    return held;
}

static inline void holding_free(holding *held)
{
    for (uint32_t i = 0; i < held->count; i++)
        free(held->entries[i]);
    free(held);
}

static inline void holding_same(const holding *a, const holding *b)
{
    assert(a->count == b->count);
    for (uint32_t i = 0; i < a->count; i++) {
        uint32_t size = ENTRY_SIZE + kv_endian_load_u16(a->entries[i]);

        assert(memcmp(a->entries[i], b->entries[i], size) == 0);
    }
}

/* How many objects both have. */
static inline uint32_t holdings_compare(chain_world *world, uint32_t one, uint32_t other)
{
    holding *a = holding_take(world, one), *b = holding_take(world, other);
    uint32_t count = a->count;

    holding_same(a, b);
    holding_free(a);
    holding_free(b);
    return count;
}

static inline void holdings_agree(chain_world *world, uint32_t one, uint32_t other, uint32_t count)
{
    assert(holdings_compare(world, one, other) == count);
}

#endif
