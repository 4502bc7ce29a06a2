/* The storage node's operations over real sockets: each does what it promises, in any order and number. */

#include "node_client.h"

static void values_are_set_and_got(node_world *world)
{
    node_client client = client_open(world, 1);
    node_batch batch = batch_make(64, 9000);

    client_set(&client, &batch, "a", 1);
    client_get(&client, &batch, "a", 1);
    client_set(&client, &batch, "a", 2);
    client_get(&client, &batch, "a", 2);
    client_run(&client, batch_prepare(&batch, KV_OP_GET, "b", 0));
    batch_expect(&batch, KV_NOT_FOUND);
    batch_free(&batch);
    client_close(&client);
}

int main(void)
{
    node_world world = world_plan(1);

    world_open(&world);
    values_are_set_and_got(&world);
    world_close(&world);
    return 0;
}
