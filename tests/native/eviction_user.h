/* A user of the eviction policy for its tests: it keeps the nodes and holds what it is told to. */
#ifndef EVICTION_USER_H
#define EVICTION_USER_H

#include <assert.h>
#include <stdlib.h>

#include "bytes/random.h"
#include "engine/eviction.h"

/* A key is the number of its first handle. */
typedef struct fixture {
    kv_eviction *eviction;
    kv_eviction_node *nodes;
    uint64_t *keys;
    bool *held; /* pinned or busy */
    uint64_t questions;
} fixture;

static inline uint64_t hash_of(uint64_t key)
{
    kv_random random;

    kv_random_init(&random, key);
    return kv_random_next(&random);
}

static inline void node_load(void *context, uint32_t handle, kv_eviction_node *node)
{
    *node = ((fixture *)context)->nodes[handle];
}

static inline void node_store(void *context, uint32_t handle, const kv_eviction_node *node)
{
    ((fixture *)context)->nodes[handle] = *node;
}

static inline bool node_may_go(void *context, uint32_t handle, uint64_t *hash)
{
    fixture *user = context;

    user->questions++;
    *hash = hash_of(user->keys[handle]);
    return !user->held[handle];
}

static inline void user_open(fixture *user, uint32_t handle_count, uint64_t expected_count)
{
    user->nodes = calloc(handle_count + 1, sizeof(*user->nodes));
    user->keys = calloc(handle_count + 1, sizeof(*user->keys));
    user->held = calloc(handle_count + 1, sizeof(*user->held));
    user->questions = 0;
    assert(user->nodes && user->keys && user->held);
    for (uint32_t handle = 1; handle <= handle_count; handle++)
        user->keys[handle] = handle;
    assert(kv_eviction_open(expected_count, node_load, node_store, user, &user->eviction) == 0);
}

static inline void user_close(fixture *user)
{
    kv_eviction_close(user->eviction);
    free(user->nodes);
    free(user->keys);
    free(user->held);
}

static inline void insert(fixture *user, uint32_t handle, uint32_t rank)
{
    kv_eviction_insert(user->eviction, handle, hash_of(user->keys[handle]), rank);
}

static inline uint32_t pick(fixture *user)
{
    return kv_eviction_pick(user->eviction, node_may_go);
}

#endif
