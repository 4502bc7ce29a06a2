/* Where keys are: an immutable, counted table from slots to places, a place being a target of a
 * node. A new version replaces the table as a whole; who holds the old one goes on with it. */
#ifndef KV_ROUTE_TABLE_H
#define KV_ROUTE_TABLE_H

#include "protocol/placement.h"

#include <stdatomic.h>

typedef struct kv_place {
    uint32_t endpoint; /* of the client: see addresses.h */
    uint32_t target;
} kv_place;

typedef struct kv_route_table {
    atomic_uint references;
    uint64_t version;
    uint32_t slot_count;  /* a power of two */
    uint32_t place_count; /* each of them once */
    kv_place *places;
    uint32_t *slots; /* index of its place, for each slot */
} kv_route_table;

/* Slot i belongs to target slot_targets[i] of endpoints[slot_nodes[i]]. One reference is the
 * caller's. -EINVAL: no power of two, or a node beyond node_count. -ENOMEM. */
int kv_route_table_open(uint64_t version, const uint32_t *endpoints, uint32_t node_count,
                        const uint32_t *slot_nodes, const uint32_t *slot_targets,
                        uint32_t slot_count, kv_route_table **routing);
kv_route_table *kv_route_table_hold(kv_route_table *routing);
void kv_route_table_release(kv_route_table *routing);
/* The index of the place of a key. */
uint32_t kv_route_table_find(const kv_route_table *routing, const char *tenant,
                             const char *name_space, const void *key, uint32_t key_size);

#endif
