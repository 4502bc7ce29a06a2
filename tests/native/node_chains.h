/* Several real nodes in this process, each with one target, and the chains that a test draws
 * through them. */
#ifndef NODE_CHAINS_H
#define NODE_CHAINS_H

#include "bytes/clock.h"
#include "node_client.h"

#define CHAIN_NODES_MAX 4u

typedef struct chain_world {
    node_world nodes[CHAIN_NODES_MAX];
    char addresses[CHAIN_NODES_MAX][32];
    uint32_t count;
    uint64_t routing_version;
    uint64_t chain_version;
    char message[KV_MESSAGE_SIZE];
} chain_world;

static inline void chain_lease(chain_world *world, uint32_t node)
{
    assert(kv_node_set_lease(world->nodes[node].node, kv_clock_ns() + 3600000000000ull) == 0);
}

static inline void chain_address(chain_world *world, uint32_t i)
{
    snprintf(world->addresses[i], sizeof(world->addresses[i]), "127.0.0.1:%d",
             world->nodes[i].port);
}

static inline void chain_open(chain_world *world, uint32_t count, const node_world *plan)
{
    *world = (chain_world){.count = count};
    for (uint32_t i = 0; i < count; i++) {
        world->nodes[i] = *plan;
        world->nodes[i].options.node = i + 1;
        world_open(&world->nodes[i]);
        chain_address(world, i);
    }
}

static inline void chain_close(chain_world *world)
{
    for (uint32_t i = 0; i < world->count; i++)
        if (world->nodes[i].node)
            world_close(&world->nodes[i]);
}

/* What a node is told of a chain through `order`: nodes that serve, head first, and then one that
 * syncs, if `syncing`. Target 1 of each. */
static inline void chain_tell(chain_world *world, uint32_t node, const uint32_t *order,
                              uint32_t serving, bool syncing)
{
    const char *addresses[CHAIN_NODES_MAX];
    kv_chain_place place = {.chain_version = world->chain_version, .target = 1, .chain = 1,
                            .successor_node = KV_NO_SUCCESSOR};
    uint32_t total = serving + syncing;
    uint32_t places = 0;
    int result;

    for (uint32_t i = 0; i < world->count; i++)
        addresses[i] = world->addresses[i];
    for (uint32_t k = 0; k < total; k++) {
        if (order[k] != node)
            continue;
        places = 1;
        place.position = k;
        place.flags = k < serving ? KV_CHAIN_SERVES : KV_CHAIN_SYNCS;
        place.flags |= k == 0 ? KV_CHAIN_HEAD : 0;
        place.flags |= k + 1 == serving ? KV_CHAIN_TAIL : 0;
        if (k + 1 < total) {
            place.successor = 1;
            place.successor_node = order[k + 1];
            place.successor_flags = k + 1 < serving ? KV_CHAIN_SERVES : KV_CHAIN_SYNCS;
        }
    }
    result = kv_node_set_chains(world->nodes[node].node, world->routing_version, &place, places,
                                addresses, world->count, world->message);
    if (result < 0) {
        fprintf(stderr, "%s\n", world->message);
        abort();
    }
    chain_lease(world, node);
}

/* The next version of the chain, told to every node that runs. */
static inline void chain_draw(chain_world *world, const uint32_t *order, uint32_t serving,
                              bool syncing)
{
    world->routing_version++;
    world->chain_version++;
    for (uint32_t i = 0; i < world->count; i++)
        if (world->nodes[i].node)
            chain_tell(world, i, order, serving, syncing);
}

static inline kv_chain_state chain_state_of(chain_world *world, uint32_t node)
{
    kv_chain_state state = {0};

    assert(kv_node_chain_states(world->nodes[node].node, &state, 1) == 1);
    return state;
}

#endif
