/* Chains of real nodes: every target answers for what any client set, through changes of the
 * chain; values of all sizes; several loops; both reactors. */

#include "node_chains.h"

static const uint32_t order[] = {0, 1, 2};

static void values_are_at_every_target(chain_world *world)
{
    node_client head = client_open(&world->nodes[0], 1);
    node_batch batch = batch_make(64, 9000);
    node_batch large = batch_make(3, 4u << 20);

    client_set(&head, &batch, "a", 1);
    client_set(&head, &batch, "a", 2);
    client_set(&head, &large, "large", 3);
    client_set(&head, &large, "large", UINT32_MAX);
    for (uint32_t i = 0; i < world->count; i++) {
        node_client client = client_open(&world->nodes[i], 2);

        client_get(&client, &batch, "a", 2);
        client_get(&client, &large, "large", UINT32_MAX);
        client_run(&client, batch_prepare(&batch, KV_OP_EXISTS, "a", 0));
        batch_expect(&batch, KV_OK);
        client_run(&client, batch_prepare(&batch, KV_OP_GET, "b", 0));
        batch_expect(&batch, KV_NOT_FOUND);
        client_close(&client);
    }
    batch_free(&batch);
    batch_free(&large);
    client_close(&head);
}

static void what_is_said_of_keys_agrees(chain_world *world)
{
    node_client head = client_open(&world->nodes[0], 3);
    node_batch batch = batch_make(20, 300);
    kv_item_stat stats[20];

    batch_prepare(&batch, KV_OP_SET, "k", 1)->ttl_ms = 3600000;
    client_run(&head, &batch.request);
    client_run(&head, batch_prepare(&batch, KV_OP_PIN, "k", 0));
    batch_expect(&batch, KV_OK);
    batch.request.count = 5;
    client_run(&head, batch_prepare(&batch, KV_OP_DELETE, "k", 0));
    batch_expect(&batch, KV_OK);
    client_run(&head, batch_prepare(&batch, KV_OP_DELETE, "k", 0));
    batch_expect(&batch, KV_NOT_FOUND);
    client_run(&head, batch_prepare(&batch, KV_OP_PIN, "k", 0));
    batch_expect(&batch, KV_NOT_FOUND);
    batch.request.count = 20;
    batch_prepare(&batch, KV_OP_SET, "k", 2)->if_absent = 1;
    client_run(&head, &batch.request);
    for (uint32_t i = 0; i < 20; i++)
        assert(batch.items[i].status == (i < 5 ? KV_OK : KV_EXISTS));
    for (uint32_t i = 0; i < world->count; i++) {
        node_client client = client_open(&world->nodes[i], 4);

        client_run(&client, batch_prepare(&batch, KV_OP_STAT, "k", 0));
        batch_expect(&batch, KV_OK);
        assert(batch.stats[5].flags == KV_ITEM_PINNED && batch.stats[4].flags == 0);
        assert(batch.stats[5].expiry_ms > 0 && batch.stats[4].expiry_ms == 0);
        if (i == 0)
            memcpy(stats, batch.stats, sizeof(stats));
        assert(memcmp(stats, batch.stats, sizeof(stats)) == 0);
        client_close(&client);
    }
    batch_free(&batch);
    client_close(&head);
}

/* Many clients at once, over keys that they share. */
static void many_updates_of_the_same_keys_agree(chain_world *world)
{
    enum { CLIENTS = 6, ROUNDS = 15 };
    node_client clients[CLIENTS];
    node_batch batches[CLIENTS];
    node_batch seen = batch_make(16, 2000);
    uint64_t versions[16] = {0};

    for (uint32_t i = 0; i < CLIENTS; i++) {
        clients[i] = client_open(&world->nodes[0], 10 + i);
        batches[i] = batch_make(16, 2000);
    }
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < CLIENTS; i++)
            client_send(&clients[i], batch_prepare(&batches[i],
                                                   (round + i) % 5 == 4 ? KV_OP_DELETE : KV_OP_SET,
                                                   "shared", round * 10 + i));
        for (uint32_t i = 0; i < CLIENTS; i++)
            assert(client_collect(&clients[i], &batches[i].request) > 0);
    }
    client_set(&clients[0], &batches[0], "shared", 99);
    for (uint32_t i = 0; i < world->count; i++) {
        node_client client = client_open(&world->nodes[i], 40);

        client_get(&client, &seen, "shared", 99);
        client_run(&client, batch_prepare(&seen, KV_OP_STAT, "shared", 0));
        for (uint32_t k = 0; k < 16; k++) {
            assert(i == 0 || versions[k] == seen.stats[k].version);
            versions[k] = seen.stats[k].version;
        }
        client_close(&client);
    }
    for (uint32_t i = 0; i < CLIENTS; i++) {
        client_close(&clients[i]);
        batch_free(&batches[i]);
    }
    batch_free(&seen);
}

/* Heads lose their nodes one after the other; what was acknowledged stays, and who repeats an
 * update to the next head hears what became of it. */
static void the_next_head_knows_what_the_last_one_did(chain_world *world)
{
    node_batch batch = batch_make(30, 5000);
    uint32_t first = 0;

    for (; first + 1 < world->count; first++) {
        node_client client = client_open(&world->nodes[first], 50);
        node_client next;

        client.sequence = first * 10;
        batch_prepare(&batch, KV_OP_SET, "failover", first)->if_absent = first == 0;
        client_run(&client, &batch.request);
        batch_expect(&batch, KV_OK);
        next = client_open(&world->nodes[first + 1], 50);
        next.sequence = client.sequence;
        client_close(&client);
        world_stop(&world->nodes[first]);
        chain_draw(world, order + first + 1, world->count - first - 1, false);
        next.repeated = true;
        batch_prepare(&batch, KV_OP_SET, "failover", first)->if_absent = 1;
        client_run(&next, &batch.request);
        batch_expect(&batch, KV_OK); /* as it was recorded: none exists already */
        next.repeated = false;
        client_get(&next, &batch, "failover", first);
        client_close(&next);
    }
    for (uint32_t i = 0; i < first; i++)
        world_directories_remove(&world->nodes[i]);
    batch_free(&batch);
}

/* What a chain cannot be is refused before anything of it is set. */
static void impossible_chains_are_refused(void)
{
    const char *address = "127.0.0.1:1";
    kv_chain_place place = {.chain_version = 1, .target = 1, .flags = KV_CHAIN_SERVES,
                            .successor_node = KV_NO_SUCCESSOR};
    char message[KV_MESSAGE_SIZE] = "";
    node_world world = world_plan(1);
    kv_node *node;

    world_open(&world);
    node = world.node;
    place.target = 9;
    assert(kv_node_set_chains(node, 1, &place, 1, &address, 1, message) == -EINVAL);
    assert(strstr(message, "not on this node"));
    place.target = 1;
    place.chain_version = KV_CHAIN_VERSION_LIMIT + 1;
    place.flags = 0;
    assert(kv_node_set_chains(node, 1, &place, 1, &address, 1, message) == -EINVAL);
    place.chain_version = 1;
    place.successor_node = 1;
    assert(kv_node_set_chains(node, 1, &place, 1, &address, 1, message) == -EINVAL);
    place.successor_node = 0;
    place.flags = KV_CHAIN_SYNCS;
    assert(kv_node_set_chains(node, 1, &place, 1, &address, 1, message) == -EINVAL);
    assert(kv_node_set_chains(node, 1, &place, 2, &address, 1, message) == -EINVAL);
    world_close(&world);
}

/* A request that is not answered when its target leaves the chain, here because nobody reads the
 * first of its values: nobody is to wait for a device that may never answer. */
static void what_waits_at_a_target_that_left_is_cut(chain_world *world)
{
    static const uint32_t elsewhere[] = {1};
    node_client client = client_open(&world->nodes[0], 8);
    node_batch batch = batch_make(10, 4u << 20);
    kv_node_event event;
    uint8_t begun; /* of the reply: the request is under way */

    client_set(&client, &batch, "large", UINT32_MAX);
    client_send(&client, batch_prepare(&batch, KV_OP_GET, "large", 0));
    assert(recv(client.descriptor, &begun, sizeof(begun), MSG_PEEK) == sizeof(begun));
    world->routing_version++;
    world->chain_version++;
    chain_tell(world, 0, elsewhere, 1, false);
    event = world_event(&world->nodes[0], KV_EVENT_CUT_STALLED);
    assert(strstr(event.text, "target 1 left its chain"));
    client_expect_end(&client);
    client_close(&client);
    batch_free(&batch);
}

static void with_chain(uint32_t count, const node_world *plan, void (*test)(chain_world *world))
{
    chain_world world;

    chain_open(&world, count, plan);
    chain_draw(&world, order, count, false);
    test(&world);
    chain_close(&world);
}

static void everything(chain_world *world)
{
    values_are_at_every_target(world);
    what_is_said_of_keys_agrees(world);
    many_updates_of_the_same_keys_agree(world);
    if (world->count > 1)
        the_next_head_knows_what_the_last_one_did(world);
}

int main(void)
{
    node_world plan = world_plan(1);

    impossible_chains_are_refused();
    for (uint32_t count = 1; count <= 3; count++)
        with_chain(count, &plan, everything);
    with_chain(1, &plan, what_waits_at_a_target_that_left_is_cut);
    plan.options.reactors = 2;
    plan.store.capacity = 400u << 20; /* enough not to be careful */
    plan.store.durability = KV_DURABILITY_DISK;
    with_chain(3, &plan, everything);
    if (world_may_use_uring()) {
        plan.options.reactor_driver = KV_REACTOR_URING;
        with_chain(2, &plan, everything);
    }
    return 0;
}
