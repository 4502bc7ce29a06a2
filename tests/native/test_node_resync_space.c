/* Resync where the successor has little room, and nothing may be evicted. */

#include "node_holdings.h"

#define MIB (UINT64_C(1) << 20)
#define COUNT 200u
#define VALUE_SIZE_MAX 48000u

static const uint32_t order[] = {0, 1};

static void stores_open(chain_world *world, uint64_t capacity, uint64_t capacity_of_second)
{
    *world = (chain_world){.count = 2};
    for (uint32_t i = 0; i < 2; i++) {
        world->nodes[i] = world_plan(1);
        world->nodes[i].options.node = i + 1;
        world->nodes[i].store.capacity = i == 0 ? capacity : capacity_of_second;
        world_open(&world->nodes[i]);
        chain_address(world, i);
    }
}

static void remove_all(node_client *head, node_batch *batch, const char *key)
{
    client_run(head, batch_prepare(batch, KV_OP_DELETE, key, 0));
    batch_expect(batch, KV_OK);
}

/* What it holds of before, and what replaced that, do not fit together. */
static void a_target_full_of_the_past_returns(void)
{
    node_batch batch = batch_make(COUNT, VALUE_SIZE_MAX);
    chain_world world;
    node_client head;

    stores_open(&world, 16 * MIB, 16 * MIB);
    chain_draw(&world, order, 2, false);
    head = client_open(&world.nodes[0], 1);
    client_set(&head, &batch, "old", 1);
    chain_draw(&world, order, 1, false);
    remove_all(&head, &batch, "old");
    client_set(&head, &batch, "new", 2);
    chain_draw(&world, order, 1, true);
    world_event(&world.nodes[1], KV_EVENT_SYNCED);
    assert(chain_state_of(&world, 1).local == KV_LOCAL_UPTODATE);
    holdings_agree(&world, 0, 1, COUNT);
    client_close(&head);
    batch_free(&batch);
    chain_close(&world);
}

/* It does not fail for that, but waits until there is room. */
static void a_target_that_is_too_small_waits(void)
{
    node_batch batch = batch_make(COUNT, VALUE_SIZE_MAX);
    chain_world world;
    node_client head;

    stores_open(&world, 32 * MIB, 12 * MIB);
    chain_draw(&world, order, 1, false);
    head = client_open(&world.nodes[0], 1);
    client_set(&head, &batch, "some", 1);
    client_set(&head, &batch, "more", 2);
    client_set(&head, &batch, "most", 3);
    chain_draw(&world, order, 1, true);
    while (chain_state_of(&world, 0).resync_vain_ms == 0)
        sched_yield();
    assert(chain_state_of(&world, 1).local == KV_LOCAL_ONLINE);
    remove_all(&head, &batch, "some");
    remove_all(&head, &batch, "most");
    world_event(&world.nodes[1], KV_EVENT_SYNCED);
    holdings_agree(&world, 0, 1, COUNT);
    client_close(&head);
    batch_free(&batch);
    chain_close(&world);
}

int main(void)
{
    a_target_full_of_the_past_returns();
    a_target_that_is_too_small_waits();
    return 0;
}
