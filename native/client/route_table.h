/* Where keys are: an immutable, counted table from slots to chains, a chain being the targets that
 * hold the same keys, its head first and its tail last. A new version replaces the table as a
 * whole; who holds the old one goes on with it.
 *
 *   slots ──► chains ──► members (a target, and the endpoint of its node)
 *
 * Without chains in the routing info each target is a chain of itself, with chain version 0. */
#ifndef KV_ROUTE_TABLE_H
#define KV_ROUTE_TABLE_H

#include "kvcore.h"
#include "protocol/placement.h"

#include <stdatomic.h>
#include <stdbool.h>

typedef struct kv_member {
    uint32_t endpoint; /* of the client: see addresses.h */
    uint32_t target;
} kv_member;

typedef struct kv_route_chain {
    uint64_t version;
    uint32_t member_first;
    uint32_t member_count; /* 0: nobody serves now */
    uint32_t slot_count;
} kv_route_chain;

typedef struct kv_route_table {
    atomic_uint references;
    uint64_t version;
    uint64_t generation; /* grows with each table of a client: the versions may not */
    uint32_t slot_count; /* a power of two */
    uint32_t chain_count;
    uint32_t member_count;
    bool spreads; /* some chain has several members to read from */
    kv_route_chain *chains;
    kv_member *members;
    uint32_t *slots; /* index of its chain, for each slot */
} kv_route_table;

/* What a table with chains is made of: nodes of members are indices of `endpoints`. */
typedef struct kv_route_chains {
    const uint32_t *endpoints;
    const kv_chain_member *members;
    const kv_chain_route *chains;
    const uint32_t *slot_chains;
    uint32_t node_count;
    uint32_t member_count;
    uint32_t chain_count;
    uint32_t slot_count;
} kv_route_chains;

/* Slot i belongs to target slot_targets[i] of endpoints[slot_nodes[i]]. One reference is the
 * caller's. -EINVAL: no power of two, or a node beyond node_count. -ENOMEM. */
int kv_route_table_open(uint64_t version, const uint32_t *endpoints, uint32_t node_count,
                        const uint32_t *slot_nodes, const uint32_t *slot_targets,
                        uint32_t slot_count, kv_route_table **routing);
/* The same with chains. -EINVAL also: an index beyond its count, a chain version of 0 or beyond
 * KV_CHAIN_VERSION_LIMIT, more than KV_CHAIN_TARGETS_LIMIT members, more chains than slots can be.
 * Members of no chain are left out. */
int kv_route_table_open_chains(uint64_t version, const kv_route_chains *chains,
                               kv_route_table **routing);
kv_route_table *kv_route_table_hold(kv_route_table *routing);
void kv_route_table_release(kv_route_table *routing);
/* The index of the chain of a key. */
uint32_t kv_route_table_find(const kv_route_table *routing, const char *tenant,
                             const char *name_space, const void *key, uint32_t key_size);
/* The members of all chains in an order in which they are found fast; the caller frees them. */
int kv_route_table_sort(const kv_route_table *routing, kv_member **sorted);
bool kv_member_is_among(const kv_member *sorted, uint32_t count, kv_member member);
/* Whether of some chain that has slots nobody serves. */
bool kv_route_table_lacks(const kv_route_table *routing);
/* Whether some chain has this member. */
bool kv_route_table_has(const kv_route_table *routing, kv_member member);

/* The members of a chain, member_count of them. */
static inline const kv_member *kv_route_table_members(const kv_route_table *routing,
                                                      const kv_route_chain *chain)
{
    return routing->members + chain->member_first;
}

#endif
