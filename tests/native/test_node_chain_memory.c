/* Chains whose targets have little memory: updates wait for each other's values, never in a
 * circle; and a node closes whatever waits. */

#include "node_successor.h"

#define NODES 3u
#define CLIENTS 5u
#define VALUE_SIZE (8u << 20)

/* Two chains through the same nodes, in opposite directions: target 1 of each node, and target
 * 2. */
static void draw_both(chain_world *world)
{
    const char *addresses[CHAIN_NODES_MAX];

    world->chain_version++;
    world->routing_version++;
    for (uint32_t i = 0; i < NODES; i++)
        addresses[i] = world->addresses[i];
    for (uint32_t node = 0; node < NODES; node++) {
        kv_chain_place places[2];

        for (uint32_t t = 0; t < 2; t++) {
            uint32_t position = t == 0 ? node : NODES - 1 - node;
            bool last = position == NODES - 1;

            places[t] = (kv_chain_place){.chain_version = world->chain_version,
                                         .target = t + 1,
                                         .chain = t + 1,
                                         .flags = KV_CHAIN_SERVES |
                                                  (position == 0 ? KV_CHAIN_HEAD : 0) |
                                                  (last ? KV_CHAIN_TAIL : 0),
                                         .position = position,
                                         .successor = t + 1,
                                         .successor_node = last     ? KV_NO_SUCCESSOR
                                                           : t == 0 ? node + 1
                                                                    : node - 1,
                                         .successor_flags = last ? 0 : KV_CHAIN_SERVES};
        }
        assert(kv_node_set_chains(world->nodes[node].node, world->routing_version, places, 2,
                                  addresses, NODES, world->message) == 0);
        chain_lease(world, node);
    }
}

static void chains_do_not_wait_for_each_other_in_a_circle(uint32_t reactors)
{
    node_world plan = world_plan(2);
    node_client clients[2 * CLIENTS];
    node_batch batches[2 * CLIENTS];
    chain_world world;
    char name[16];

    plan.options.reactors = reactors;
    plan.store.capacity = 400u << 20;
    chain_open(&world, NODES, &plan);
    draw_both(&world);
    for (uint32_t i = 0; i < 2 * CLIENTS; i++) {
        clients[i] = client_open(&world.nodes[i % 2 == 0 ? 0 : NODES - 1], i + 1);
        clients[i].target = i % 2 + 1;
        batches[i] = batch_make(2, VALUE_SIZE);
    }
    for (uint32_t round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < 2 * CLIENTS; i++) {
            snprintf(name, sizeof(name), "c%u", i / 4); /* shared by two of a chain */
            client_send(&clients[i], batch_prepare(&batches[i], KV_OP_SET, name, UINT32_MAX));
        }
        for (uint32_t i = 0; i < 2 * CLIENTS; i++) {
            assert(client_collect(&clients[i], &batches[i].request) > 0);
            batch_expect(&batches[i], KV_OK);
        }
    }
    for (uint32_t i = 0; i < 2 * CLIENTS; i++) {
        node_client reader = client_open(&world.nodes[1], 90 + i);

        reader.target = i % 2 + 1;
        snprintf(name, sizeof(name), "c%u", i / 4);
        client_get(&reader, &batches[i], name, UINT32_MAX);
        client_close(&reader);
        client_close(&clients[i]);
        batch_free(&batches[i]);
    }
    chain_close(&world);
}

/* Updates at every stage of their way when the node closes. */
static void a_node_closes_whatever_waits(uint32_t driver)
{
    static const uint32_t order[] = {0, 1};
    node_world plan = world_plan(1);
    chain_successor successor = successor_open();
    node_client clients[8];
    node_batch batches[8];
    chain_forward forward;
    chain_world world;

    plan.options.reactor_driver = driver;
    plan.options.reactors = 2;
    plan.store.capacity = 400u << 20;
    chain_open(&world, 1, &plan);
    world.count = 2;
    snprintf(world.addresses[1], sizeof(world.addresses[1]), "127.0.0.1:%d", successor.port);
    chain_draw(&world, order, 2, false);
    for (uint32_t i = 0; i < 8; i++) {
        clients[i] = client_open(&world.nodes[0], i + 1);
        batches[i] = batch_make(2, 100000);
        client_send(&clients[i], batch_prepare(&batches[i], i == 7 ? KV_OP_DELETE : KV_OP_SET,
                                               i < 4 ? "one" : "other", i));
    }
    successor_accept(&successor);
    forward = successor_take(&successor);
    forward_free(&forward);
    while (chain_state_of(&world, 0).updates_in_flight < 8)
        sched_yield();
    world_stop(&world.nodes[0]);
    for (uint32_t i = 0; i < 8; i++) {
        client_close(&clients[i]);
        batch_free(&batches[i]);
    }
    successor_close(&successor);
    world_directories_remove(&world.nodes[0]);
}

int main(void)
{
    chains_do_not_wait_for_each_other_in_a_circle(1);
    chains_do_not_wait_for_each_other_in_a_circle(2);
    a_node_closes_whatever_waits(KV_REACTOR_EPOLL);
    if (world_may_use_uring())
        a_node_closes_whatever_waits(KV_REACTOR_URING);
    return 0;
}
