/* The table from slots to places: checked, united, found by the slot of a key, counted. */

#include "client/route_table.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
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

static void slots_of_one_target_share_a_place(void)
{
    uint32_t nodes[8] = {0, 1, 0, 1, 0, 1, 0, 1}, targets[8] = {5, 5, 5, 5, 6, 5, 5, 5};
    kv_route_table *table;

    assert(kv_route_table_open(1, endpoints, 2, nodes, targets, 8, &table) == 0);
    assert(table->place_count == 3);
    for (uint32_t i = 0; i < 8; i++) {
        const kv_place *place = &table->places[table->slots[i]];

        assert(place->endpoint == endpoints[nodes[i]] && place->target == targets[i]);
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

int main(void)
{
    tables_that_make_no_sense_are_refused();
    slots_of_one_target_share_a_place();
    a_key_is_where_its_slot_is();
    a_held_table_outlives_its_release();
    return 0;
}
