/* Limits of connections: how long, how many, how much; and rights. Whoever exceeds one is cut or
 * refused with a reason, and what it held is free again. */

#include "node/node_state.h"
#include "node_client.h"

#define SHORT_MS 250u
#define CROWD 200u

static void a_flood_of_requests_is_cut(uint32_t driver)
{
    node_world world = node_world_on(driver);
    node_client client;
    node_batch batch = batch_make(64, 64u << 10);
    uint8_t *bytes;
    size_t size;

    world.options.requests_max = 4;
    world_open(&world);
    client = client_open(&world, 13);
    assert(client.grant.requests_max == 4);
    client_set(&client, &batch, "flood", UINT32_MAX);
    bytes = client_encode(&client, batch_prepare(&batch, KV_OP_GET, "flood", 1), &size);
    for (uint32_t i = 0; i < 64; i++)
        if (!client_write(&client, bytes, size))
            break;
    expect_cut(&world, &client, "than were granted");
    behaved_client_works(&world);
    free(bytes);
    batch_free(&batch);
    world_close(&world);
}

/* It holds up nobody else; after its time it is cut, and what it was lent is free again. */
static void who_never_reads_is_cut(uint32_t driver)
{
    node_world world = node_world_on(driver);
    node_client client;
    node_batch batch = batch_make(16, 1u << 20);

    world.options.stall_timeout_ms = SHORT_MS;
    world_open(&world);
    client = client_open(&world, 14);
    client_set(&client, &batch, "never", UINT32_MAX);
    batch_prepare(&batch, KV_OP_GET, "never", 1);
    for (uint32_t i = 0; i < 8; i++)
        client_send(&client, &batch.request);
    behaved_client_works(&world);
    world_event(&world, KV_EVENT_CUT_STALLED);
    world_wait_connections(&world, 0);
    while (world_statistics(&world).lent_memory > 0)
        sched_yield();
    assert(world_statistics(&world).requests_in_flight == 0);
    client_close(&client);
    behaved_client_works(&world);
    batch_free(&batch);
    world_close(&world);
}

static void a_slow_hello_and_a_stalled_message_are_cut(uint32_t driver)
{
    node_world world = node_world_on(driver);
    node_client client = client_plan(15);
    node_batch batch = batch_make(1, 100);
    kv_node_event event;
    uint8_t *bytes;
    size_t size;

    world.options.stall_timeout_ms = SHORT_MS;
    world.options.hello_timeout_ms = SHORT_MS;
    world_open(&world);
    client_connect(&client, &world);
    client_expect_end(&client);
    event = world_event(&world, KV_EVENT_CUT_STALLED);
    assert(strstr(event.text, "hello"));
    client_close(&client);

    client = client_open(&world, 15);
    bytes = client_encode(&client, batch_prepare(&batch, KV_OP_SET, "stalled", UINT32_MAX), &size);
    client_write(&client, bytes, size - 1);
    client_expect_end(&client);
    event = world_event(&world, KV_EVENT_CUT_STALLED);
    assert(strstr(event.text, "rest of a message"));
    client_close(&client);
    free(bytes);
    batch_free(&batch);
    world_close(&world);
}

static void an_idle_connection_is_closed(uint32_t driver)
{
    node_world world = node_world_on(driver);
    node_client client;

    world.options.idle_timeout_ms = SHORT_MS;
    world_open(&world);
    client = client_open(&world, 16);
    client_expect_end(&client);
    world_event(&world, KV_EVENT_CUT_IDLE);
    client_close(&client);
    world_close(&world);
}

static void one_connection_too_many_is_told_so(uint32_t driver)
{
    node_world world = node_world_on(driver);
    node_client clients[5];

    world.options.connections_max = 4;
    world_open(&world);
    for (uint32_t i = 0; i < 4; i++)
        clients[i] = client_open(&world, 17 + i);
    clients[4] = client_plan(30);
    client_connect(&clients[4], &world);
    assert(client_greet(&clients[4], NULL) < 0 && strstr(clients[4].reason, "too many"));
    client_expect_end(&clients[4]);
    client_close(&clients[4]);
    world_event(&world, KV_EVENT_REFUSED);
    client_close(&clients[0]);
    world_wait_connections(&world, 3);
    clients[0] = client_open(&world, 31);
    for (uint32_t i = 0; i < 4; i++)
        client_close(&clients[i]);
    world_close(&world);
}

static void a_crowd_of_connections_is_served(uint32_t driver)
{
    node_world world = node_world_on(driver);
    node_client *clients = calloc(CROWD, sizeof(*clients));
    node_batch batch = batch_make(2, 500);

    world.options.reactors = 2;
    world_open(&world);
    for (uint32_t i = 0; i < CROWD; i++)
        clients[i] = client_open(&world, 100 + i);
    for (uint32_t i = 0; i < CROWD; i++) {
        client_set(&clients[i], &batch, "crowd", i);
        client_get(&clients[i], &batch, "crowd", i);
    }
    assert(world_statistics(&world).connections == CROWD);
    for (uint32_t i = 0; i < CROWD; i++)
        client_close(&clients[i]);
    world_wait_connections(&world, 0);
    free(clients);
    batch_free(&batch);
    world_close(&world);
}

/* What hello granted is checked for each request. */
static void rights_are_checked(uint32_t driver)
{
    node_world world = node_world_on(driver);
    node_batch batch = batch_make(3, 100);
    node_client client;

    world_open(&world);
    world.node->settings.rights = KV_RIGHT_READ;
    client = client_open(&world, 1);
    client_run(&client, batch_prepare(&batch, KV_OP_SET, "right", 1));
    batch_expect(&batch, KV_DENIED);
    client_run(&client, batch_prepare(&batch, KV_OP_DELETE, "right", 1));
    batch_expect(&batch, KV_DENIED);
    client_run(&client, batch_prepare(&batch, KV_OP_GET, "right", 1));
    batch_expect(&batch, KV_NOT_FOUND);
    assert(client_control(&client, KV_CONTROL_COMPACT, 1, NULL, 0, NULL) == -EACCES);
    client_close(&client);
    world_wait_connections(&world, 0);
    world.node->settings.rights = KV_RIGHT_WRITE;
    client = client_open(&world, 2);
    client_set(&client, &batch, "right", 1);
    client_run(&client, batch_prepare(&batch, KV_OP_GET, "right", 1));
    batch_expect(&batch, KV_DENIED);
    client_close(&client);
    batch_free(&batch);
    world_close(&world);
}

static void all_of_it(uint32_t driver)
{
    a_flood_of_requests_is_cut(driver);
    who_never_reads_is_cut(driver);
    a_slow_hello_and_a_stalled_message_are_cut(driver);
    an_idle_connection_is_closed(driver);
    one_connection_too_many_is_told_so(driver);
    a_crowd_of_connections_is_served(driver);
    rights_are_checked(driver);
}

int main(void)
{
    all_of_it(KV_REACTOR_EPOLL);
    if (world_may_use_uring())
        all_of_it(KV_REACTOR_URING);
    return 0;
}
