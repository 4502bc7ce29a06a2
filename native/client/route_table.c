/* See route_table.h. */

#include "client/route_table.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

static int place_compare(const void *left, const void *right)
{
    const kv_place *a = left;
    const kv_place *b = right;

    if (a->endpoint != b->endpoint)
        return a->endpoint < b->endpoint ? -1 : 1;
    return a->target == b->target ? 0 : a->target < b->target ? -1 : 1;
}

static bool slots_legal(uint32_t node_count, const uint32_t *slot_nodes, uint32_t slot_count)
{
    if (slot_count == 0 || slot_count > KV_SLOT_COUNT_MAX || (slot_count & (slot_count - 1)) != 0)
        return false;
    for (uint32_t i = 0; i < slot_count; i++)
        if (slot_nodes[i] >= node_count)
            return false;
    return true;
}

/* Sort the places of all slots and keep each of them once. */
static void places_unite(kv_route_table *routing)
{
    uint32_t count = 0;

    qsort(routing->places, routing->slot_count, sizeof(kv_place), place_compare);
    for (uint32_t i = 0; i < routing->slot_count; i++)
        if (count == 0 || place_compare(&routing->places[count - 1], &routing->places[i]) != 0)
            routing->places[count++] = routing->places[i];
    routing->place_count = count;
}

int kv_route_table_open(uint64_t version, const uint32_t *endpoints, uint32_t node_count,
                        const uint32_t *slot_nodes, const uint32_t *slot_targets,
                        uint32_t slot_count, kv_route_table **result)
{
    kv_route_table *routing;

    if (!slots_legal(node_count, slot_nodes, slot_count))
        return -EINVAL;
    routing = malloc(sizeof(*routing) + slot_count * (sizeof(kv_place) + sizeof(uint32_t)));
    if (!routing)
        return -ENOMEM;
    *routing = (kv_route_table){.version = version, .slot_count = slot_count};
    atomic_init(&routing->references, 1);
    routing->places = (kv_place *)(routing + 1);
    routing->slots = (uint32_t *)(routing->places + slot_count);
    for (uint32_t i = 0; i < slot_count; i++)
        routing->places[i] = (kv_place){endpoints[slot_nodes[i]], slot_targets[i]};
    places_unite(routing);
    for (uint32_t i = 0; i < slot_count; i++) {
        kv_place place = {endpoints[slot_nodes[i]], slot_targets[i]};
        const kv_place *found =
            bsearch(&place, routing->places, routing->place_count, sizeof(kv_place), place_compare);

        assert(found);
        routing->slots[i] = (uint32_t)(found - routing->places);
    }
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
    if (routing->place_count == 1)
        return 0;
    return routing->slots[kv_placement_slot(kv_placement_of(tenant, name_space, key, key_size),
                                            routing->slot_count)];
}
