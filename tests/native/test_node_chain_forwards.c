/* A target whose predecessor the test plays: what it takes in, what it refuses, and whom it cuts. */

#include "node/node_limits.h"
#include "node_predecessor.h"

static const uint32_t order[] = {1, 0};

/* Node 0 is real, and the tail of a chain whose head is the test. */
static void world_begin(chain_world *world, const node_world *plan)
{
    chain_open(world, 1, plan);
    world->count = 2;
    snprintf(world->addresses[1], sizeof(world->addresses[1]), "127.0.0.1:1");
    chain_draw(world, order, 2, false);
}

static void statuses_expect(const uint8_t *statuses, uint32_t count, kv_status status)
{
    for (uint32_t i = 0; i < count; i++)
        assert(statuses[i] == status);
}

static void a_forward_is_applied(chain_world *world)
{
    node_client peer = client_open(&world->nodes[0], 1), client = client_open(&world->nodes[0], 2);
    node_batch batch = batch_make(20, 3000);
    uint8_t statuses[20];
    chain_push push;

    batch_prepare(&batch, KV_OP_SET, "f", 1);
    push = push_plan(world, KV_FORWARD_UPDATE, KV_OP_SET, &batch);
    assert(push_run(&peer, &push, statuses) == KV_OK);
    statuses_expect(statuses, 20, KV_OK);
    assert(push_run(&peer, &push, statuses) == KV_OK); /* once more: nothing changes */
    client_get(&client, &batch, "f", 1);
    client_run(&client, batch_prepare(&batch, KV_OP_STAT, "f", 0));
    assert(batch.stats[3].version == push.version + 3);
    push = push_plan(world, KV_FORWARD_UPDATE, KV_OP_DELETE, &batch);
    assert(push_run(&peer, &push, statuses) == KV_OK);
    assert(push_run(&peer, &push, statuses) == KV_OK); /* what is not there need not be removed */
    statuses_expect(statuses, 20, KV_OK);
    client_run(&client, batch_prepare(&batch, KV_OP_EXISTS, "f", 0));
    batch_expect(&batch, KV_NOT_FOUND);
    client_run(&client, batch_prepare(&batch, KV_OP_SET, "f", 1)); /* it is no head */
    batch_expect(&batch, KV_WRONG_TARGET);
    batch_free(&batch);
    client_close(&peer);
    client_close(&client);
}

static void what_is_not_for_it_is_refused(chain_world *world)
{
    node_client peer = client_open(&world->nodes[0], 3);
    node_batch batch = batch_make(4, 3000);
    chain_push push;

    batch_prepare(&batch, KV_OP_SET, "r", 1);
    push = push_plan(world, KV_FORWARD_UPDATE, KV_OP_SET, &batch);
    push.wire.chain_version++;
    assert(push_run(&peer, &push, NULL) == KV_WRONG_TARGET);
    push.wire.chain_version--;
    push.wire.target = 5;
    assert(push_run(&peer, &push, NULL) == KV_WRONG_TARGET);
    push.wire.target = 1;
    push.wire.attempt = 3;
    assert(push_run(&peer, &push, NULL) == KV_OK);
    push.wire.attempt = 2; /* overtaken */
    assert(push_run(&peer, &push, NULL) == KV_WRONG_TARGET);
    push.wire.attempt = 3;
    kv_node_set_lease(world->nodes[0].node, 0);
    assert(push_run(&peer, &push, NULL) == KV_WRONG_TARGET);
    chain_lease(world, 0);
    assert(push_run(&peer, &push, NULL) == KV_OK);
    batch_free(&batch);
    client_close(&peer);
}

/* Bytes that were damaged between two nodes come again. */
static void a_damaged_value_is_asked_for_again(chain_world *world)
{
    node_client peer = client_open(&world->nodes[0], 4), client = client_open(&world->nodes[0], 5);
    node_batch batch = batch_make(4, 3000);
    chain_push push;
    uint8_t *bytes;
    size_t size;

    batch_prepare(&batch, KV_OP_SET, "damaged", UINT32_MAX);
    push = push_plan(world, KV_FORWARD_UPDATE, KV_OP_SET, &batch);
    push.wire.attempt = 3;
    bytes = push_encode(&peer, &push, &size);
    bytes[size - 3] ^= 1;
    assert(client_write(&peer, bytes, size));
    free(bytes);
    assert(push_answer(&peer, 4, NULL) == KV_BUSY);
    client_run(&client, batch_prepare(&batch, KV_OP_EXISTS, "damaged", 0));
    batch_expect(&batch, KV_NOT_FOUND);
    batch_prepare(&batch, KV_OP_SET, "damaged", UINT32_MAX);
    assert(push_run(&peer, &push, NULL) == KV_OK);
    client_get(&client, &batch, "damaged", UINT32_MAX);
    batch_free(&batch);
    client_close(&peer);
    client_close(&client);
}

static void versions_are_compared(chain_world *world)
{
    node_client peer = client_open(&world->nodes[0], 6);
    node_batch batch = batch_make(3, 100);
    uint8_t statuses[3];
    chain_push push;

    batch_prepare(&batch, KV_OP_SET, "c", 1);
    push = push_plan(world, KV_FORWARD_UPDATE, KV_OP_SET, &batch);
    push.wire.attempt = 3;
    assert(push_run(&peer, &push, NULL) == KV_OK);
    push = push_plan(world, KV_FORWARD_COMPARE, 0, &batch);
    assert(push_run(&peer, &push, statuses) == KV_OK);
    statuses_expect(statuses, 3, KV_OK);
    push.version++;
    assert(push_run(&peer, &push, statuses) == KV_OK);
    statuses_expect(statuses, 3, KV_EXISTS);
    push.version = 0; /* of no chain: nobody can tell */
    assert(push_run(&peer, &push, statuses) == KV_OK);
    statuses_expect(statuses, 3, KV_EXISTS);
    batch_prepare(&batch, KV_OP_GET, "nothing", 0);
    assert(push_run(&peer, &push, statuses) == KV_OK);
    statuses_expect(statuses, 3, KV_NOT_FOUND);
    batch_free(&batch);
    client_close(&peer);
}

/* A forward that the connection does not bring whole changes nothing. */
static void half_a_forward_is_none(chain_world *world)
{
    node_client peer = client_open(&world->nodes[0], 7), client = client_open(&world->nodes[0], 8);
    node_batch batch = batch_make(4, 30000);
    chain_push push;
    uint8_t *bytes;
    size_t size;

    batch_prepare(&batch, KV_OP_SET, "half", UINT32_MAX);
    push = push_plan(world, KV_FORWARD_UPDATE, KV_OP_SET, &batch);
    push.wire.attempt = 3;
    bytes = push_encode(&peer, &push, &size);
    assert(client_write(&peer, bytes, size - 10));
    free(bytes);
    client_close(&peer);
    world_event(&world->nodes[0], KV_EVENT_CUT_RESET);
    client_run(&client, batch_prepare(&batch, KV_OP_EXISTS, "half", 0));
    batch_expect(&batch, KV_NOT_FOUND);
    assert(chain_state_of(world, 0).updates_in_flight == 0);
    batch_free(&batch);
    client_close(&client);
}

static void cut_for(chain_world *world, chain_push *push, uint32_t place, uint32_t next)
{
    node_client peer = client_open(&world->nodes[0], 9);
    size_t size;
    uint8_t *bytes;

    push->place = place;
    if (next) {
        assert(push_run(&peer, push, NULL) == KV_OK);
        push->place = next;
    }
    bytes = push_encode(&peer, push, &size);
    client_write(&peer, bytes, size);
    free(bytes);
    client_expect_end(&peer);
    world_event(&world->nodes[0], KV_EVENT_CUT_PROTOCOL);
    client_close(&peer);
}

static void places_are_checked(chain_world *world)
{
    node_batch batch = batch_make(4, 100);
    chain_push push;

    batch_prepare(&batch, KV_OP_SET, "place", 1);
    push = push_plan(world, KV_FORWARD_UPDATE, KV_OP_SET, &batch);
    push.wire.attempt = 3;
    cut_for(world, &push, 0, 0);
    cut_for(world, &push, KV_NODE_POOLS, 0);
    cut_for(world, &push, 1, 2);
    batch_free(&batch);
}

/* The client of a forward finds its record here after the head was lost. */
static void a_forward_leaves_a_record(chain_world *world)
{
    const uint32_t alone[] = {0};
    node_client peer = client_open(&world->nodes[0], 10);
    node_client client = client_open(&world->nodes[0], 11);
    node_batch batch = batch_make(4, 100);
    chain_push push;

    batch_prepare(&batch, KV_OP_SET, "record", 1);
    push = push_plan(world, KV_FORWARD_UPDATE, KV_OP_SET, &batch);
    push.wire.attempt = 3;
    memcpy(push.wire.client, client.names.client, KV_CLIENT_ID_SIZE);
    push.wire.channel = client.channel;
    push.wire.sequence = 41;
    assert(push_run(&peer, &push, NULL) == KV_OK);
    chain_draw(world, alone, 1, false);
    client.sequence = 41;
    client.repeated = true;
    batch_prepare(&batch, KV_OP_SET, "record", 1)->if_absent = 1;
    client_run(&client, &batch.request);
    batch_expect(&batch, KV_OK);
    client.repeated = false;
    batch_prepare(&batch, KV_OP_SET, "record", 1)->if_absent = 1;
    client_run(&client, &batch.request);
    batch_expect(&batch, KV_EXISTS);
    batch_free(&batch);
    client_close(&peer);
    client_close(&client);
}

static void everything(uint32_t driver)
{
    node_world plan = world_plan(1);
    chain_world world;

    plan.options.reactor_driver = driver;
    world_begin(&world, &plan);
    a_forward_is_applied(&world);
    what_is_not_for_it_is_refused(&world);
    a_damaged_value_is_asked_for_again(&world);
    versions_are_compared(&world);
    half_a_forward_is_none(&world);
    places_are_checked(&world);
    a_forward_leaves_a_record(&world);
    chain_close(&world);
}

/* It cannot keep what its predecessor counts on, and leaves its chain; careful updates it may
 * refuse, and what it has it never does. */
static void a_full_target_leaves_its_chain(void)
{
    node_world plan = world_plan(1);
    node_batch batch = batch_make(1, 4u << 20);
    uint8_t status;
    node_client peer;
    chain_world world;
    chain_push push;
    uint32_t count = 0;

    plan.store.capacity = 32u << 20;
    world_begin(&world, &plan);
    peer = client_open(&world.nodes[0], 1);
    do {
        char name[16];

        snprintf(name, sizeof(name), "n%u", count++);
        batch_prepare(&batch, KV_OP_SET, name, UINT32_MAX);
        push = push_plan(&world, KV_FORWARD_UPDATE, KV_OP_SET, &batch);
        push.wire.flags = KV_FORWARD_CAREFUL;
        push.version += count;
        assert(push_run(&peer, &push, &status) == KV_OK);
    } while (status == KV_OK);
    assert(status == KV_NO_SPACE && count > 3);
    batch_prepare(&batch, KV_OP_SET, "n0", UINT32_MAX);
    push.wire.flags = 0;
    push.version = (world.chain_version << 40) + 2;
    assert(push_run(&peer, &push, &status) == KV_OK && status == KV_OK);
    push.version = (world.chain_version << 40) + 99;
    batch_prepare(&batch, KV_OP_SET, "new", UINT32_MAX);
    assert(push_run(&peer, &push, &status) == KV_WRONG_TARGET);
    assert(chain_state_of(&world, 0).local == KV_LOCAL_OFFLINE);
    assert(chain_state_of(&world, 0).error == ENOSPC);
    world_event(&world.nodes[0], KV_EVENT_TARGET_OFFLINE);
    batch_free(&batch);
    client_close(&peer);
    chain_close(&world);
}

int main(void)
{
    everything(KV_REACTOR_EPOLL);
    if (world_may_use_uring())
        everything(KV_REACTOR_URING);
    a_full_target_leaves_its_chain();
    return 0;
}
