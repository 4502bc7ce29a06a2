/* See route_table.h. */

#include "client/route_table.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int member_compare(const void *left, const void *right)
{
    const kv_member *a = left;
    const kv_member *b = right;

    if (a->endpoint != b->endpoint)
        return a->endpoint < b->endpoint ? -1 : 1;
    return a->target == b->target ? 0 : a->target < b->target ? -1 : 1;
}

static bool slots_legal(const uint32_t *slots, uint32_t slot_count, uint32_t limit)
{
    if (slot_count == 0 || slot_count > KV_SLOT_COUNT_MAX || (slot_count & (slot_count - 1)) != 0)
        return false;
    for (uint32_t i = 0; i < slot_count; i++)
        if (slots[i] >= limit)
            return false;
    return true;
}

static kv_route_table *table_allocate(uint64_t version, uint32_t chain_count,
                                      uint32_t member_count, uint32_t slot_count)
{
    size_t size = sizeof(kv_route_table) + (size_t)chain_count * sizeof(kv_route_chain) +
                  (size_t)member_count * sizeof(kv_member) + (size_t)slot_count * sizeof(uint32_t);
    kv_route_table *routing = malloc(size);

    if (!routing)
        return NULL;
    *routing = (kv_route_table){.version = version,
                                .slot_count = slot_count,
                                .chain_count = chain_count,
                                .member_count = member_count};
    atomic_init(&routing->references, 1);
    routing->chains = (kv_route_chain *)(routing + 1);
    routing->members = (kv_member *)(routing->chains + chain_count);
    routing->slots = (uint32_t *)(routing->members + member_count);
    return routing;
}

static void slot_set(kv_route_table *routing, uint32_t slot, uint32_t chain)
{
    assert(chain < routing->chain_count);
    routing->slots[slot] = chain;
    routing->chains[chain].slot_count++;
}

/* ---- without chains ---- */

/* Sort the targets of all slots, keep each of them once, and make each a chain. */
static void targets_unite(kv_route_table *routing)
{
    uint32_t count = 0;

    qsort(routing->members, routing->slot_count, sizeof(kv_member), member_compare);
    for (uint32_t i = 0; i < routing->slot_count; i++)
        if (count == 0 || member_compare(&routing->members[count - 1], &routing->members[i]) != 0)
            routing->members[count++] = routing->members[i];
    routing->chain_count = routing->member_count = count;
    for (uint32_t i = 0; i < count; i++)
        routing->chains[i] = (kv_route_chain){.member_first = i, .member_count = 1};
}

int kv_route_table_open(uint64_t version, const uint32_t *endpoints, uint32_t node_count,
                        const uint32_t *slot_nodes, const uint32_t *slot_targets,
                        uint32_t slot_count, kv_route_table **result)
{
    kv_route_table *routing;

    if (!slots_legal(slot_nodes, slot_count, node_count))
        return -EINVAL;
    routing = table_allocate(version, slot_count, slot_count, slot_count);
    if (!routing)
        return -ENOMEM;
    for (uint32_t i = 0; i < slot_count; i++)
        routing->members[i] = (kv_member){endpoints[slot_nodes[i]], slot_targets[i]};
    targets_unite(routing);
    for (uint32_t i = 0; i < slot_count; i++) {
        kv_member member = {endpoints[slot_nodes[i]], slot_targets[i]};
        const kv_member *found = bsearch(&member, routing->members, routing->member_count,
                                         sizeof(kv_member), member_compare);

        assert(found);
        slot_set(routing, i, (uint32_t)(found - routing->members));
    }
    *result = routing;
    return 0;
}

/* ---- with chains ---- */

static bool chains_legal(const kv_route_chains *from)
{
    if (from->chain_count > KV_SLOT_COUNT_MAX)
        return false;
    for (uint32_t i = 0; i < from->member_count; i++)
        if (from->members[i].node >= from->node_count)
            return false;
    for (uint32_t i = 0; i < from->chain_count; i++) {
        const kv_chain_route *chain = &from->chains[i];

        if (chain->chain_version == 0 || chain->chain_version > KV_CHAIN_VERSION_LIMIT ||
            chain->member_count > KV_CHAIN_TARGETS_LIMIT ||
            chain->member_count > from->member_count ||
            chain->member_first > from->member_count - chain->member_count)
            return false;
    }
    return slots_legal(from->slot_chains, from->slot_count, from->chain_count);
}

/* A chain behind those that are there, with its members. */
static void chain_add(kv_route_table *routing, const kv_route_chains *from,
                      const kv_chain_route *chain)
{
    uint32_t first = routing->member_count;

    routing->chains[routing->chain_count++] =
        (kv_route_chain){chain->chain_version, first, chain->member_count, 0};
    for (uint32_t i = 0; i < chain->member_count; i++) {
        const kv_chain_member *member = &from->members[chain->member_first + i];

        routing->members[first + i] = (kv_member){from->endpoints[member->node], member->target};
    }
    routing->member_count += chain->member_count;
    routing->spreads |= chain->member_count > 1;
}

int kv_route_table_open_chains(uint64_t version, const kv_route_chains *from,
                               kv_route_table **result)
{
    uint32_t member_count = 0; /* at most KV_CHAIN_TARGETS_LIMIT for each of KV_SLOT_COUNT_MAX */
    kv_route_table *routing;

    if (!chains_legal(from))
        return -EINVAL;
    for (uint32_t i = 0; i < from->chain_count; i++)
        member_count += from->chains[i].member_count;
    routing = table_allocate(version, from->chain_count, member_count, from->slot_count);
    if (!routing)
        return -ENOMEM;
    routing->chain_count = routing->member_count = 0;
    for (uint32_t i = 0; i < from->chain_count; i++)
        chain_add(routing, from, &from->chains[i]);
    assert(routing->member_count == member_count);
    for (uint32_t i = 0; i < from->slot_count; i++)
        slot_set(routing, i, from->slot_chains[i]);
    *result = routing;
    return 0;
}

kv_route_table *kv_route_table_hold(kv_route_table *routing)
{
    /* Relaxed: whoever holds one reference may hand out another. */
    atomic_fetch_add_explicit(&routing->references, 1, memory_order_relaxed);
    return routing;
}

void kv_route_table_release(kv_route_table *routing)
{
    /* The partner is every other release: the last one sees what the others did before. */
    if (atomic_fetch_sub_explicit(&routing->references, 1, memory_order_acq_rel) == 1)
        free(routing);
}

uint32_t kv_route_table_find(const kv_route_table *routing, const char *tenant,
                             const char *name_space, const void *key, uint32_t key_size)
{
    if (routing->chain_count == 1)
        return 0;
    return routing->slots[kv_placement_slot(kv_placement_of(tenant, name_space, key, key_size),
                                            routing->slot_count)];
}

int kv_route_table_sort(const kv_route_table *routing, kv_member **sorted)
{
    size_t size = routing->member_count * sizeof(kv_member);

    *sorted = malloc(size > 0 ? size : 1);
    if (!*sorted)
        return -ENOMEM;
    memcpy(*sorted, routing->members, size);
    qsort(*sorted, routing->member_count, sizeof(kv_member), member_compare);
    return 0;
}

bool kv_member_is_among(const kv_member *sorted, uint32_t count, kv_member member)
{
    return count > 0 && bsearch(&member, sorted, count, sizeof(kv_member), member_compare) != NULL;
}

bool kv_route_table_lacks(const kv_route_table *routing)
{
    for (uint32_t i = 0; i < routing->chain_count; i++)
        if (routing->chains[i].member_count == 0 && routing->chains[i].slot_count > 0)
            return true;
    return false;
}

bool kv_route_table_has(const kv_route_table *routing, kv_member member)
{
    for (uint32_t i = 0; i < routing->member_count; i++)
        if (member_compare(&routing->members[i], &member) == 0)
            return true;
    return false;
}
