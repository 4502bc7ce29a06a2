/* The storage node's operations over real sockets: each does what it promises, in any order and
 * number, on every driver. */

#include "node_client.h"

#define PIPELINE 40u

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

static void keys_are_asked_for_and_deleted(node_world *world)
{
    node_client client = client_open(world, 2);
    node_batch batch = batch_make(10, 100);
    kv_request *request;

    client_set(&client, &batch, "k", 3);
    client_run(&client, batch_prepare(&batch, KV_OP_EXISTS, "k", 0));
    batch_expect(&batch, KV_OK);
    client_run(&client, batch_prepare(&batch, KV_OP_STAT, "k", 0));
    batch_expect(&batch, KV_OK);
    for (uint32_t i = 0; i < 10; i++)
        assert(batch.items[i].result_size == batch_size_of(&batch, i, 3));

    client_run(&client, batch_prepare(&batch, KV_OP_PIN, "k", 0));
    batch_expect(&batch, KV_OK);
    client_run(&client, batch_prepare(&batch, KV_OP_STAT, "k", 0));
    assert(batch.stats[4].flags == KV_ITEM_PINNED);
    client_run(&client, batch_prepare(&batch, KV_OP_UNPIN, "k", 0));
    client_run(&client, batch_prepare(&batch, KV_OP_STAT, "k", 0));
    assert(batch.stats[4].flags == 0);

    request = batch_prepare(&batch, KV_OP_DELETE, "k", 0);
    request->count = 1;
    request->items = &batch.items[7];
    client_run(&client, request);
    assert(batch.items[7].status == KV_OK);
    client_run(&client, batch_prepare(&batch, KV_OP_MATCH_PREFIX, "k", 0)); /* batch_prepare keeps count 1 */
    assert(batch.request.matched == 1);
    batch.request.count = 10;
    client_run(&client, batch_prepare(&batch, KV_OP_MATCH_PREFIX, "k", 0));
    assert(batch.request.matched == 7 && batch.items[7].status == KV_NOT_FOUND);
    batch_free(&batch);
    client_close(&client);
}

static void a_present_key_is_not_set_if_absent(node_world *world)
{
    node_client client = client_open(world, 3);
    node_batch batch = batch_make(3, 500);

    client_set(&client, &batch, "absent", 1);
    batch_prepare(&batch, KV_OP_SET, "absent", 2)->if_absent = 1;
    client_run(&client, &batch.request);
    batch_expect(&batch, KV_EXISTS);
    client_get(&client, &batch, "absent", 1);
    batch_free(&batch);
    client_close(&client);
}

static void too_little_room_says_what_is_needed(node_world *world)
{
    node_client client = client_open(world, 4);
    node_batch batch = batch_make(2, 5000);

    client_set(&client, &batch, "room", UINT32_MAX);
    batch_prepare(&batch, KV_OP_GET, "room", 0);
    batch.items[0].value_size = 4999;
    client_run(&client, &batch.request);
    assert(batch.items[0].status == KV_BUFFER_TOO_SMALL && batch.items[0].result_size == 5000);
    assert(batch.items[1].status == KV_OK && batch.items[1].result_size == 5000);
    batch_free(&batch);
    client_close(&client);
}

static void empty_values_are_values(node_world *world)
{
    node_client client = client_open(world, 5);
    node_batch batch = batch_make(5, 0);

    client_set(&client, &batch, "empty", 0);
    client_get(&client, &batch, "empty", 0);
    batch_free(&batch);
    client_close(&client);
}

/* Nothing of a corrupt value is kept, and its neighbours are. */
static void a_value_that_does_not_match_its_checksum_is_not_set(node_world *world)
{
    node_client client = client_open(world, 6);
    node_batch batch = batch_make(3, 4000);
    uint8_t *bytes;
    size_t size;

    batch_prepare(&batch, KV_OP_SET, "damaged", UINT32_MAX);
    bytes = client_encode(&client, &batch.request, &size);
    bytes[size - 6000] ^= 1;
    assert(client_write(&client, bytes, size) && client_collect(&client, &batch.request) > 0);
    assert(batch.items[0].status == KV_OK && batch.items[1].status == KV_CORRUPT &&
           batch.items[2].status == KV_OK);
    client_run(&client, batch_prepare(&batch, KV_OP_EXISTS, "damaged", 0));
    assert(batch.items[1].status == KV_NOT_FOUND && batch.items[2].status == KV_OK);
    free(bytes);
    batch_free(&batch);
    client_close(&client);
}

static void tenants_and_namespaces_do_not_see_each_other(node_world *world)
{
    static const char *const names[][2] = {
        {"default", "default"}, {"default", "other"}, {"other", "default"}, {"other", "other"}};
    node_client clients[4];
    node_batch batch = batch_make(4, 100);

    for (uint32_t i = 0; i < 4; i++) {
        clients[i] = client_plan(10 + i);
        strcpy(clients[i].names.tenant, names[i][0]);
        strcpy(clients[i].names.name_space, names[i][1]);
        client_connect(&clients[i], world);
        assert(client_greet(&clients[i], NULL) == 0);
        client_run(&clients[i], batch_prepare(&batch, KV_OP_EXISTS, "shared", 0));
        batch_expect(&batch, KV_NOT_FOUND);
        client_set(&clients[i], &batch, "shared", i);
    }
    for (uint32_t i = 0; i < 4; i++) {
        client_get(&clients[i], &batch, "shared", i);
        client_close(&clients[i]);
    }
    batch_free(&batch);
}

/* Requests are sent without waiting; each reply says whose it is. */
static void pipelined_requests_are_all_answered(node_world *world)
{
    node_client client = client_open(world, 20);
    node_batch batches[PIPELINE];
    uint64_t first = client.request_last + 1;
    uint32_t left = PIPELINE;

    for (uint32_t i = 0; i < PIPELINE; i++) {
        char name[16];

        batches[i] = batch_make(1 + i % 7, 3000);
        snprintf(name, sizeof(name), "pipe%u", i);
        client_set(&client, &batches[i], name, i);
    }
    first = client.request_last + 1;
    for (uint32_t i = 0; i < PIPELINE; i++) {
        char name[16];

        snprintf(name, sizeof(name), "pipe%u", i);
        batch_prepare(&batches[i], KV_OP_GET, name, i);
        request_forget(&batches[i].request);
        client_send(&client, &batches[i].request);
    }
    while (left > 0) {
        node_message message;

        assert(client_receive(&client, &message));
        left -= client_apply(&message, &batches[message.head.request - first].request);
        free(message.bytes);
    }
    for (uint32_t i = 0; i < PIPELINE; i++) {
        batch_expect_values(&batches[i], i);
        batch_free(&batches[i]);
    }
    client_close(&client);
}

/* Large values come in several replies, so that device, node and socket work at the same time. */
static void large_values_come_in_parts(node_world *world)
{
    node_client client = client_open(world, 21);
    node_batch batch = batch_make(6, 3u << 20);
    uint32_t parts;

    client_set(&client, &batch, "large", UINT32_MAX);
    batch_prepare(&batch, KV_OP_GET, "large", 0);
    client_send(&client, &batch.request);
    parts = client_collect(&client, &batch.request);
    assert(parts >= 6);
    batch_expect_values(&batch, UINT32_MAX);
    batch_free(&batch);
    client_close(&client);
}

static void the_largest_value_fits(node_world *world)
{
    node_client client = client_open(world, 22);
    node_batch batch = batch_make(1, KV_VALUE_SIZE_LIMIT);

    client_set(&client, &batch, "largest", UINT32_MAX);
    client_get(&client, &batch, "largest", UINT32_MAX);
    client_run(&client, batch_prepare(&batch, KV_OP_DELETE, "largest", 0));
    batch_expect(&batch, KV_OK);
    batch_free(&batch);
    client_close(&client);
}

static void the_largest_batch_fits(node_world *world)
{
    node_client client = client_open(world, 23);
    node_batch batch = batch_make(KV_MESSAGE_COUNT_MAX, 16);

    client_set(&client, &batch, "many", 5);
    client_get(&client, &batch, "many", 5);
    client_run(&client, batch_prepare(&batch, KV_OP_STAT, "many", 0));
    batch_expect(&batch, KV_OK);
    client_run(&client, batch_prepare(&batch, KV_OP_DELETE, "many", 0));
    batch_expect(&batch, KV_OK);
    batch_free(&batch);
    client_close(&client);
}

static void keys_of_the_largest_size_fit(node_world *world)
{
    node_client client = client_plan(24);
    char key[KV_KEY_SIZE_LIMIT];
    uint8_t value[16] = "value";
    kv_item item = {.key = (uint64_t)(uintptr_t)key, .key_size = sizeof(key),
                    .value = (uint64_t)(uintptr_t)value, .value_size = sizeof(value)};
    kv_request request = {.items = &item, .count = 1, .operation = KV_OP_SET};

    memset(client.names.tenant, 't', KV_NAME_SIZE_MAX);
    memset(client.names.name_space, 'n', KV_NAME_SIZE_MAX);
    client.names.tenant[KV_NAME_SIZE_MAX] = client.names.name_space[KV_NAME_SIZE_MAX] = 0;
    memset(key, 'k', sizeof(key));
    client_connect(&client, world);
    assert(client_greet(&client, NULL) == 0);
    client_run(&client, &request);
    assert(item.status == KV_OK);
    request.operation = KV_OP_GET;
    client_run(&client, &request);
    assert(item.status == KV_OK && item.result_size == sizeof(value));
    client_close(&client);
}

static void targets_are_apart(node_world *world)
{
    node_client client = client_open(world, 25);
    node_batch batch = batch_make(8, 2000);

    client_set(&client, &batch, "t", 1);
    client.target = 2;
    client_run(&client, batch_prepare(&batch, KV_OP_EXISTS, "t", 0));
    batch_expect(&batch, KV_NOT_FOUND);
    client_set(&client, &batch, "t", 2);
    client_get(&client, &batch, "t", 2);
    client.target = 1;
    client_get(&client, &batch, "t", 1);
    client.target = 3;
    client_run(&client, batch_prepare(&batch, KV_OP_GET, "t", 0));
    batch_expect(&batch, KV_WRONG_TARGET);
    client_run(&client, batch_prepare(&batch, KV_OP_SET, "t", 0));
    batch_expect(&batch, KV_WRONG_TARGET);
    client.target = 1;
    client_get(&client, &batch, "t", 1);
    batch_free(&batch);
    client_close(&client);
}

/* The same update again, on another connection: answered from the record, and not applied. */
static void a_repeated_update_takes_effect_once(node_world *world)
{
    uint64_t before = world_statistics(world).updates_repeated;
    node_client client = client_open(world, 30);
    node_client other = client_open(world, 31);
    node_batch batch = batch_make(3, 100);
    node_client again;

    client_set(&client, &batch, "once", 1);
    client_run(&client, batch_prepare(&batch, KV_OP_DELETE, "once", 0));
    batch_expect(&batch, KV_OK);
    client_set(&other, &batch, "once", 2);
    again = client;
    again.repeated = true;
    client_connect(&again, world);
    assert(client_greet(&again, NULL) == 0);
    client_run(&again, batch_prepare(&batch, KV_OP_DELETE, "once", 0));
    batch_expect(&batch, KV_OK);
    client_get(&other, &batch, "once", 2);
    assert(world_statistics(world).updates_repeated == before + 1);

    /* A channel that was never heard of is new to a node that has forgotten none. */
    again.channel = 9;
    client_run(&again, batch_prepare(&batch, KV_OP_DELETE, "once", 0));
    batch_expect(&batch, KV_OK);
    client_run(&other, batch_prepare(&batch, KV_OP_GET, "once", 2));
    batch_expect(&batch, KV_NOT_FOUND);
    batch_free(&batch);
    client_close(&client);
    client_close(&other);
    client_close(&again);
}

static void a_new_start_keeps_what_was_set(node_world *world)
{
    node_client client = client_open(world, 40);
    node_batch batch = batch_make(20, 30000);
    uint64_t run = client.grant.run;

    client_set(&client, &batch, "kept", 3);
    client_close(&client);
    world_stop(world);
    world_start(world);
    client = client_open(world, 40);
    assert(client.grant.run != run && client.grant.node == 7);
    client_get(&client, &batch, "kept", 3);
    batch_free(&batch);
    client_close(&client);
}

static void operators_are_answered(node_world *world)
{
    static const char routing[] = "slots and targets";
    node_client client;
    node_batch batch = batch_make(5, 1000);
    uint8_t list[12 + 4] = {0};
    uint8_t verify[20] = {0};
    uint8_t *reply;
    int64_t size;

    world_wait_connections(world, 0);
    client = client_open(world, 50);
    client_set(&client, &batch, "list", 1);
    assert(client_control(&client, KV_CONTROL_ROUTING, 0, NULL, 0, NULL) == -ENODATA);
    assert(kv_node_publish_routing(world->node, routing, sizeof(routing)) == 0);
    assert(client_control(&client, KV_CONTROL_ROUTING, 0, NULL, 0, &reply) == sizeof(routing));
    assert(memcmp(reply, routing, sizeof(routing)) == 0);
    free(reply);
    assert(client_control(&client, KV_CONTROL_STATISTICS, 1, NULL, 0, &reply) ==
           sizeof(kv_node_statistics) + sizeof(kv_store_statistics));
    assert(kv_endian_load_u64(reply) == 1); /* connections */
    free(reply);
    kv_endian_store_u32(list + 8, 1u << 20);
    memcpy(list + 12, "list", 4);
    size = client_control(&client, KV_CONTROL_LIST, 1, list, sizeof(list), &reply);
    assert(size == 8 + 5 * (24 + 6) && kv_endian_load_u64(reply) == UINT64_MAX);
    assert(kv_endian_load_u16(reply + 8) == 6 && memcmp(reply + 8 + 24, "list-", 5) == 0);
    free(reply);
    kv_endian_store_u64(verify + 8, 1u << 30);
    kv_endian_store_u32(verify + 16, 65536);
    size = client_control(&client, KV_CONTROL_VERIFY, 1, verify, sizeof(verify), &reply);
    assert(size == 24 && kv_endian_load_u64(reply) == UINT64_MAX &&
           kv_endian_load_u64(reply + 8) > 5);
    free(reply);
    size = client_control(&client, KV_CONTROL_SLABS, 1, NULL, 0, NULL);
    assert(size > 0 && (size_t)size % sizeof(kv_slab_row) == 0);
    assert(client_control(&client, KV_CONTROL_COMPACT, 1, NULL, 0, NULL) == 4);
    assert(client_control(&client, KV_CONTROL_CHECKPOINT, 1, NULL, 0, NULL) == 0);
    assert(client_control(&client, KV_CONTROL_FLUSH, 1, NULL, 0, NULL) == 0);
    size = client_control(&client, KV_CONTROL_DESCRIBE, 1, NULL, 0, &reply);
    assert(size > 0 && memcmp(reply, "reactor=", 8) == 0);
    free(reply);
    assert(client_control(&client, KV_CONTROL_DESCRIBE, 99, NULL, 0, NULL) == -ENOENT);
    batch_free(&batch);
    client_close(&client);
}

static void everything_is_counted(node_world *world)
{
    node_batch batch = batch_make(7, 1000);
    kv_store_statistics store;
    kv_node_statistics before;
    kv_node_statistics after;
    uint64_t latencies = 0;
    node_client client;

    world_wait_connections(world, 0);
    before = world_statistics(world);
    client = client_open(world, 60);
    client_set(&client, &batch, "count", 1);
    client_get(&client, &batch, "count", 1);
    client_run(&client, batch_prepare(&batch, KV_OP_GET, "nothing", 1));
    after = world_statistics(world);
    assert(after.connections == before.connections + 1);
    assert(after.connections_total == before.connections_total + 1);
    assert(after.requests[KV_OP_SET] == before.requests[KV_OP_SET] + 1);
    assert(after.requests[KV_OP_GET] == before.requests[KV_OP_GET] + 2);
    assert(after.keys[KV_OP_GET] == before.keys[KV_OP_GET] + 14);
    assert(after.key_statuses[KV_OK] == before.key_statuses[KV_OK] + 14);
    assert(after.key_statuses[KV_NOT_FOUND] == before.key_statuses[KV_NOT_FOUND] + 7);
    assert(after.requests_in_flight == 0 && after.sent_bytes > before.sent_bytes);
    for (uint32_t i = 0; i < KV_NODE_LATENCY_COUNT; i++)
        latencies += after.latency[KV_OP_SET * KV_NODE_LATENCY_COUNT + i];
    assert(latencies <= after.requests[KV_OP_SET]);
    assert(kv_node_target_statistics(world->node, 1, &store) == 0 && store.objects > 0);
    assert(kv_node_target_statistics(world->node, 77, &store) == -ENOENT);
    batch_free(&batch);
    client_close(&client);
}

/* Reads that go to the device, and replies to them. */
static void values_come_from_the_device_too(node_world *world)
{
    node_client client = client_open(world, 70);
    node_batch batch = batch_make(40, 200000);

    client_set(&client, &batch, "device", 7);
    client_close(&client);
    world_stop(world);
    world_start(world);
    client = client_open(world, 70);
    client_get(&client, &batch, "device", 7);
    client_get(&client, &batch, "device", 7);
    batch_free(&batch);
    client_close(&client);
}

static void rules(uint32_t reactor_driver, uint32_t driver, uint32_t reactors, uint32_t durability)
{
    node_world world = world_plan(2);

    world.options.reactor_driver = reactor_driver;
    world.options.reactors = reactors;
    world.store.driver = driver;
    world.store.durability = durability;
    world_open(&world);
    values_are_set_and_got(&world);
    keys_are_asked_for_and_deleted(&world);
    a_present_key_is_not_set_if_absent(&world);
    too_little_room_says_what_is_needed(&world);
    empty_values_are_values(&world);
    a_value_that_does_not_match_its_checksum_is_not_set(&world);
    tenants_and_namespaces_do_not_see_each_other(&world);
    pipelined_requests_are_all_answered(&world);
    large_values_come_in_parts(&world);
    the_largest_value_fits(&world);
    the_largest_batch_fits(&world);
    keys_of_the_largest_size_fit(&world);
    targets_are_apart(&world);
    a_repeated_update_takes_effect_once(&world);
    a_new_start_keeps_what_was_set(&world);
    operators_are_answered(&world);
    everything_is_counted(&world);
    values_come_from_the_device_too(&world);
    world_close(&world);
}

int main(void)
{
    rules(KV_REACTOR_EPOLL, KV_DRIVER_THREADS, 1, KV_DURABILITY_MEMORY);
    rules(KV_REACTOR_EPOLL, KV_DRIVER_AUTO, 3, KV_DURABILITY_DISK);
    if (world_may_use_uring()) {
        rules(KV_REACTOR_URING, KV_DRIVER_AUTO, 1, KV_DURABILITY_MEMORY);
        rules(KV_REACTOR_URING, KV_DRIVER_THREADS, 2, KV_DURABILITY_SYNC);
    }
    return 0;
}
