/* The table from slots to chains: checked, united, found by the slot of a key, counted. */

#include "client/route_table.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint32_t endpoints[] = {40, 20};

static void tables_that_make_no_sense_are_refused(void)
{
    uint32_t nodes[4] = {0, 1, 0, 2}, targets[4] = {0};
    kv_route_table *table;

    assert(kv_route_table_open(1, endpoints, 2, nodes, targets, 4, &table) == -EINVAL);
    assert(kv_route_table_open(1, endpoints, 2, nodes, targets, 3, &table) == -EINVAL);
    assert(kv_route_table_open(1, endpoints, 2, nodes, targets, 0, &table) == -EINVAL);
    assert(kv_route_table_open(1, endpoints, 0, nodes, targets, 1, &table) == -EINVAL);
}

static void slots_of_one_target_share_a_chain_of_it(void)
{
    uint32_t nodes[8] = {0, 1, 0, 1, 0, 1, 0, 1}, targets[8] = {5, 5, 5, 5, 6, 5, 5, 5};
    kv_route_table *table;

    assert(kv_route_table_open(1, endpoints, 2, nodes, targets, 8, &table) == 0);
    assert(table->chain_count == 3 && !table->spreads);
    for (uint32_t i = 0; i < 8; i++) {
        const kv_route_chain *chain = &table->chains[table->slots[i]];
        const kv_member *member = kv_route_table_members(table, chain);

        assert(chain->version == 0 && chain->member_count == 1);
        assert(member->endpoint == endpoints[nodes[i]] && member->target == targets[i]);
    }
    kv_route_table_release(table);
}

static void a_key_is_where_its_slot_is(void)
{
    uint32_t nodes[8] = {0, 1, 0, 1, 0, 1, 0, 1}, targets[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    kv_route_table *table;

    assert(kv_route_table_open(1, endpoints, 2, nodes, targets, 8, &table) == 0);
    for (uint32_t i = 0; i < 1000; i++) {
        char key[16];
        uint32_t size = (uint32_t)snprintf(key, sizeof(key), "%u", i);
        uint32_t slot = kv_placement_slot(kv_placement_of("t", "n", key, size), 8);

        assert(kv_route_table_find(table, "t", "n", key, size) == table->slots[slot]);
    }
    kv_route_table_release(table);
}

static void a_held_table_outlives_its_release(void)
{
    uint32_t zero = 0;
    kv_route_table *table;

    assert(kv_route_table_open(9, endpoints, 2, &zero, &zero, 1, &table) == 0);
    assert(kv_route_table_hold(table) == table);
    kv_route_table_release(table);
    assert(table->version == 9 && kv_route_table_find(table, "t", "n", "k", 1) == 0);
    kv_route_table_release(table);
}

static const kv_chain_member members[] = {{0, 7}, {1, 8}, {1, 9}, {0, 9}};
static const kv_chain_route chains[] = {{12, 0, 2}, {3, 2, 1}, {4, 3, 0}};
static const uint32_t slot_chains[] = {0, 1, 2, 0};

static kv_route_chains chains_of(void)
{
    return (kv_route_chains){endpoints, members, chains, slot_chains, 2, 4, 3, 4};
}

static void a_chain_has_its_members_in_their_order(void)
{
    kv_route_chains from = chains_of();
    const kv_member *found;
    kv_member *sorted;
    kv_route_table *table;

    assert(kv_route_table_open_chains(5, &from, &table) == 0);
    assert(table->version == 5 && table->chain_count == 3 && table->spreads);
    assert(table->member_count == 3); /* one is in no chain */
    for (uint32_t i = 0; i < 4; i++)
        assert(table->slots[i] == slot_chains[i]);
    found = kv_route_table_members(table, &table->chains[0]);
    assert(table->chains[0].version == 12 && table->chains[0].member_count == 2);
    assert(found[0].endpoint == 40 && found[0].target == 7);
    assert(found[1].endpoint == 20 && found[1].target == 8);
    assert(table->chains[2].member_count == 0 && table->chains[2].slot_count == 1);
    assert(kv_route_table_lacks(table));
    assert(kv_route_table_has(table, (kv_member){20, 9}));
    assert(!kv_route_table_has(table, (kv_member){40, 9}));
    assert(kv_route_table_sort(table, &sorted) == 0);
    assert(kv_member_is_among(sorted, 3, (kv_member){20, 9}));
    assert(!kv_member_is_among(sorted, 3, (kv_member){40, 9}));
    free(sorted);
    kv_route_table_release(table);
}

static void a_chain_without_slots_needs_no_members(void)
{
    static const uint32_t slots[4] = {0, 1, 1, 0};
    kv_route_chains from = chains_of();
    kv_route_table *table;

    from.slot_chains = slots;
    assert(kv_route_table_open_chains(5, &from, &table) == 0);
    assert(!kv_route_table_lacks(table));
    kv_route_table_release(table);
}

/* One change to a table that makes sense. */
static void refuse(kv_route_chains from)
{
    kv_route_table *table;

    assert(kv_route_table_open_chains(1, &from, &table) == -EINVAL);
}

static void chains_that_make_no_sense_are_refused(void)
{
    static const kv_chain_route beyond[] = {{1, 3, 2}}, wrapping[] = {{1, UINT32_MAX, 2}};
    static const kv_chain_route unversioned[] = {{0, 0, 1}};
    static const kv_chain_route too_new[] = {{(uint64_t)KV_CHAIN_VERSION_LIMIT + 1, 0, 1}};
    static const kv_chain_route *const wrong[] = {beyond, wrapping, unversioned, too_new};
    static const uint32_t zeros[4] = {0};

    for (uint32_t i = 0; i < 4; i++) {
        kv_route_chains from = chains_of();

        from.chains = wrong[i];
        from.chain_count = 1;
        from.slot_chains = zeros;
        refuse(from);
    }
    for (uint32_t i = 0; i < 3; i++) {
        kv_route_chains from = chains_of();

        from.node_count -= i == 0;
        from.chain_count -= i == 1;
        from.slot_count -= i == 2;
        refuse(from);
    }
}

int main(void)
{
    a_chain_has_its_members_in_their_order();
    a_chain_without_slots_needs_no_members();
    chains_that_make_no_sense_are_refused();
    tables_that_make_no_sense_are_refused();
    slots_of_one_target_share_a_chain_of_it();
    a_key_is_where_its_slot_is();
    a_held_table_outlives_its_release();
    return 0;
}
