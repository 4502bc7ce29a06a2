/* Chains of real nodes: every target answers for what any client set, and versions agree. */

#include "chain_world.h"

static const uint32_t order[] = {0, 1, 2};

static void values_are_at_every_target(chain_world *world)
{
    node_client head = client_open(&world->nodes[0], 1);
    node_batch batch = batch_make(64, 9000);

    client_set(&head, &batch, "a", 1);
    client_set(&head, &batch, "a", 2);
    for (uint32_t i = 0; i < world->count; i++) {
        node_client client = client_open(&world->nodes[i], 2);

        client_get(&client, &batch, "a", 2);
        client_run(&client, batch_prepare(&batch, KV_OP_EXISTS, "a", 0));
        batch_expect(&batch, KV_OK);
        client_run(&client, batch_prepare(&batch, KV_OP_GET, "b", 0));
        batch_expect(&batch, KV_NOT_FOUND);
        client_close(&client);
    }
    batch_free(&batch);
    client_close(&head);
}

static void with_chain(uint32_t count, uint32_t reactors, uint64_t capacity,
                       void (*test)(chain_world *world))
{
    node_world plan = world_plan(1);
    chain_world world;

    plan.options.reactors = reactors;
    plan.store.capacity = capacity;
    chain_open(&world, count, &plan);
    chain_draw(&world, order, count, false);
    test(&world);
    chain_close(&world);
}

int main(void)
{
    for (uint32_t count = 1; count <= 3; count++) {
        fprintf(stderr, "chain of %u\n", count);
        with_chain(count, 1, 192u << 20, values_are_at_every_target);
    }
    return 0;
}
