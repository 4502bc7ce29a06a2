/* Resync between real nodes: a target that joins a chain lacks nothing once it says so. */

#include "node_holdings.h"

static const uint32_t order[] = {0, 1, 2};

static void wait_synced(chain_world *world, uint32_t node)
{
    world_event(&world->nodes[node], KV_EVENT_SYNCED);
    assert(chain_state_of(world, node).local == KV_LOCAL_UPTODATE);
}

static void a_new_target_gets_everything(chain_world *world)
{
    node_client head = client_open(&world->nodes[0], 1);
    node_batch batch = batch_make(300, 9000);
    node_batch large = batch_make(3, 2u << 20);
    node_client client;

    chain_draw(world, order, 1, false);
    client_set(&head, &batch, "a", 1);
    client_set(&head, &large, "large", 2);
    batch.request.count = 7;
    client_run(&head, batch_prepare(&batch, KV_OP_PIN, "a", 0));
    batch.request.count = 300;
    chain_draw(world, order, 1, true);
    assert(chain_state_of(world, 1).local == KV_LOCAL_ONLINE);
    wait_synced(world, 1);
    holdings_agree(world, 0, 1, 303);
    chain_draw(world, order, 2, false);
    client = client_open(&world->nodes[1], 2);
    client_get(&client, &batch, "a", 1);
    client_get(&client, &large, "large", 2);
    batch_free(&batch);
    batch_free(&large);
    client_close(&client);
    client_close(&head);
}

/* What it held before is brought in line: changed, pinned and deleted meanwhile. */
static void a_returned_target_is_brought_in_line(chain_world *world)
{
    node_client head = client_open(&world->nodes[0], 3);
    node_batch batch = batch_make(200, 5000);

    client_set(&head, &batch, "b", 1);
    chain_draw(world, order, 1, false);
    batch.request.count = 50;
    client_run(&head, batch_prepare(&batch, KV_OP_DELETE, "b", 0));
    batch_expect(&batch, KV_OK);
    batch.request.count = 70;
    client_set(&head, &batch, "b", 2);
    batch.request.count = 5;
    client_run(&head, batch_prepare(&batch, KV_OP_DELETE, "b", 0));
    client_run(&head, batch_prepare(&batch, KV_OP_UNPIN, "a", 0));
    batch_expect(&batch, KV_OK);
    chain_draw(world, order, 1, true);
    wait_synced(world, 1);
    holdings_agree(world, 0, 1, 303 + 195);
    batch.request.count = 200;
    batch_free(&batch);
    client_close(&head);
}

/* Updates go on while it syncs; what they change is at both ends the same. */
static void updates_go_on_meanwhile(chain_world *world)
{
    node_client head = client_open(&world->nodes[0], 4);
    node_batch batch = batch_make(100, 3000);

    client_set(&head, &batch, "live", 1);
    kv_node_set_resync_rate(world->nodes[0].node, 4u << 20);
    chain_draw(world, order, 1, false);
    chain_draw(world, order + 2, 0, false);
    {
        const uint32_t pair[] = {0, 2};

        chain_draw(world, pair, 1, true);
        for (uint32_t seed = 2; seed < 40; seed++) {
            client_set(&head, &batch, "live", seed);
            batch.request.count = 30;
            client_run(&head, batch_prepare(&batch, KV_OP_DELETE, "live", 0));
            batch.request.count = 100;
        }
        wait_synced(world, 2);
        holdings_agree(world, 0, 2, 303 + 195 + 70);
        assert(chain_state_of(world, 0).resync_sent > 0);
        /* The successor knows first: its word to the feeder is on its way yet. */
        while (chain_state_of(world, 0).resyncing)
            sched_yield();
    }
    batch_free(&batch);
    client_close(&head);
}

static uint64_t moved_by(chain_world *world, uint32_t node)
{
    node_world *place = &world->nodes[node];

    return world_statistics(place).received_bytes + world_statistics(place).sent_bytes;
}

/* A list of some of 1 << bits parts: bytes of its reply. */
static int64_t list_parts(chain_world *world, uint32_t bits, int set, uint32_t set_size)
{
    node_client client = client_open(&world->nodes[0], 76);
    uint8_t body[12 + 12 + 64] = {0}, *reply = NULL;
    int64_t size;

    kv_endian_store_u32(body + 8, 1u << 20);
    kv_endian_store_u64(body + 12, 5); /* seed */
    kv_endian_store_u32(body + 20, bits);
    memset(body + 24, set, set_size);
    size = client_control(&client, KV_CONTROL_LIST_STORED, 1, body, 24 + set_size, &reply);
    free(reply);
    client_close(&client);
    return size;
}

static void parts_of_the_keys_are_listed(chain_world *world)
{
    int64_t whole = list_parts(world, 6, 0xff, 8);
    int64_t one = list_parts(world, 6, 0x0f, 8), other = list_parts(world, 6, 0xf0, 8);

    assert(list_parts(world, 6, 0, 8) == 8); /* the cursor */
    assert(one > whole / 4 && other > whole / 4);
    assert(one - 8 + other - 8 == whole - 8);
    assert(list_parts(world, 9, 0xff, 64) == whole);
    assert(list_parts(world, 6, 0xff, 7) == -EINVAL);
    assert(list_parts(world, 6, 0xff, 9) == -EINVAL);
    assert(list_parts(world, 5, 0xff, 4) == -EINVAL);
    assert(list_parts(world, 38, 0xff, 8) == -EINVAL);
}

/* Sums of parts tell where two targets differ: keys of the other parts are not said. */
static void what_is_alike_is_not_named(void)
{
    enum { COUNT = 4000, CHANGED = 20 };
    node_world plan = world_plan(1);
    node_batch batch = batch_make(COUNT, 100);
    chain_world world;
    node_client head;
    uint64_t moved;

    chain_open(&world, 2, &plan);
    chain_draw(&world, order, 2, false);
    head = client_open(&world.nodes[0], 5);
    client_set(&head, &batch, "many", 1);
    chain_draw(&world, order, 1, false);
    batch.request.count = CHANGED;
    client_set(&head, &batch, "many", 2);
    moved = moved_by(&world, 1);
    chain_draw(&world, order, 1, true);
    wait_synced(&world, 1);
    moved = moved_by(&world, 1) - moved;
    assert(chain_state_of(&world, 0).resync_compared == COUNT);
    assert(chain_state_of(&world, 0).resync_sent == CHANGED);
    assert(moved < COUNT * 10); /* to name a key takes ten times as much, and twice */
    holdings_agree(&world, 0, 1, COUNT);
    parts_of_the_keys_are_listed(&world);
    client_close(&head);
    batch.request.count = COUNT;
    batch_free(&batch);
    chain_close(&world);
}

/* One end that speaks version 1 has no digests: every key is named, and all is as it should be. */
static void without_digests_every_key_is_named(uint32_t older)
{
    enum { COUNT = 1000, CHANGED = 20, REMOVED = 5 };
    node_world plan = world_plan(1);
    node_batch batch = batch_make(COUNT, 100);
    chain_world world;
    node_client head;
    uint64_t moved;

    plan.options.protocol_version_max = older == 2 ? 1 : 0;
    chain_open(&world, 2, &plan);
    if (older < 2) {
        world_stop(&world.nodes[older]);
        world.nodes[older].options.protocol_version_max = 1;
        world_start(&world.nodes[older]);
        chain_address(&world, older);
    }
    chain_draw(&world, order, 2, false);
    head = client_open(&world.nodes[0], 5);
    client_set(&head, &batch, "many", 1);
    chain_draw(&world, order, 1, false);
    batch.request.count = CHANGED;
    client_set(&head, &batch, "many", 2);
    batch.request.count = REMOVED;
    client_run(&head, batch_prepare(&batch, KV_OP_DELETE, "many", 0));
    moved = moved_by(&world, 1);
    chain_draw(&world, order, 1, true);
    wait_synced(&world, 1);
    moved = moved_by(&world, 1) - moved;
    assert(chain_state_of(&world, 0).resync_compared == COUNT - REMOVED);
    assert(moved > COUNT * 50);
    holdings_agree(&world, 0, 1, COUNT - REMOVED);
    client_close(&head);
    batch.request.count = COUNT;
    batch_free(&batch);
    chain_close(&world);
}

static void run(uint32_t reactors)
{
    node_world plan = world_plan(1);
    chain_world world;

    plan.options.reactors = reactors;
    chain_open(&world, 3, &plan);
    a_new_target_gets_everything(&world);
    a_returned_target_is_brought_in_line(&world);
    updates_go_on_meanwhile(&world);
    chain_close(&world);
}

int main(void)
{
    run(1);
    run(2);
    what_is_alike_is_not_named();
    for (uint32_t older = 0; older < 3; older++)
        without_digests_every_key_is_named(older);
    return 0;
}
