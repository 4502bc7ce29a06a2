/* The client against a real storage node, over both reactor drivers: every operation, values of
 * many sizes, threads, asynchronous batches, a restart of the node. */

#include "client_calls.h"
#include "node_world.h"

#include <pthread.h>

static node_world world_of(uint32_t driver)
{
    node_world world = {.options = {.node = 1, .reactors = 2, .reactor_driver = driver},
                        .store = {.memory = 128u << 20, .durability = KV_DURABILITY_MEMORY},
                        .target_count = 2};

    world_directories_make(&world);
    world_start(&world);
    return world;
}

static void world_end(node_world *world)
{
    world_stop(world);
    world_directories_remove(world);
}

/* Slots in turn over the targets 1 and 2. */
static kv_client *client_of(const node_world *world, kv_client_options options)
{
    static const uint32_t slot_nodes[4] = {0}, slot_targets[4] = {1, 2, 1, 2};
    char name[32], message[KV_MESSAGE_SIZE];
    const char *node = name;
    kv_client *client = client_open_with(options);

    snprintf(name, sizeof(name), "127.0.0.1:%d", world->port);
    assert(kv_client_route(client, 1, &node, 1, slot_nodes, slot_targets, 4, message) == 0);
    return client;
}

static void values_of_any_size_come_back(uint32_t driver)
{
    static const uint32_t sizes[] = {0, 1, 511, 4096, 4097, 65536, 1u << 20, (5u << 20) + 3};
    node_world world = world_of(driver);
    kv_client *client = client_of(&world, (kv_client_options){0});

    for (uint32_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        char prefix[8];

        snprintf(prefix, sizeof(prefix), "%c", 'a' + (int)i);
        client_set(client, prefix, 6, sizes[i]);
        client_get(client, prefix, 6, sizes[i]);
    }
    client_set(client, "many", 5000, 20);
    client_get(client, "many", 5000, 20);
    assert(kv_client_close(client, 5000) == 0);
    world_end(&world);
}

static void operations_on_keys_agree(uint32_t driver)
{
    node_world world = world_of(driver);
    kv_client *client = client_of(&world, (kv_client_options){0});
    kv_item_stat stats[12];
    client_batch batch;

    client_set(client, "k", 10, 100);
    client_run(client, &batch, KV_OP_MATCH_PREFIX, "k", 12, 0);
    assert(batch.request.matched == 10 && batch.request.status == KV_OK);
    client_batch_close(&batch);
    client_batch_open(&batch, KV_OP_STAT, "k", 12, 0);
    batch.request.stats = stats;
    assert(kv_client_run(client, &batch.request) == 0);
    assert(batch.items[9].status == KV_OK && batch.items[9].result_size == 100);
    assert(batch.items[10].status == KV_NOT_FOUND);
    client_batch_close(&batch);
    client_run(client, &batch, KV_OP_PIN, "k", 2, 0);
    client_expect_all(&batch, KV_OK);
    client_batch_close(&batch);
    client_run(client, &batch, KV_OP_DELETE, "k", 5, 0);
    client_expect_all(&batch, KV_OK);
    client_batch_close(&batch);
    client_run(client, &batch, KV_OP_EXISTS, "k", 10, 0);
    for (uint32_t i = 0; i < 10; i++)
        assert(batch.items[i].status == (i < 5 ? KV_NOT_FOUND : KV_OK));
    client_batch_close(&batch);
    assert(kv_client_run(client, &(kv_request){.operation = KV_OP_FLUSH, .timeout_ms = 20000}) ==
           0);
    assert(kv_client_close(client, 5000) == 0);
    world_end(&world);
}

typedef struct user {
    kv_client *client;
    char prefix[2];
} user;

static void *user_thread(void *argument)
{
    user *self = argument;

    for (uint32_t i = 0; i < 30; i++) {
        client_set(self->client, self->prefix, 8, 100 + i * 4000);
        client_get(self->client, self->prefix, 8, 100 + i * 4000);
    }
    return NULL;
}

static void threads_do_not_disturb_each_other(uint32_t driver)
{
    node_world world = world_of(driver);
    kv_client *client = client_of(&world, (kv_client_options){.connections_max = 6});
    pthread_t threads[6];
    user users[6] = {0};

    for (int i = 0; i < 6; i++) {
        users[i].client = client;
        users[i].prefix[0] = (char)('A' + i);
        assert(pthread_create(&threads[i], NULL, user_thread, &users[i]) == 0);
    }
    for (int i = 0; i < 6; i++)
        pthread_join(threads[i], NULL);
    assert(kv_client_close(client, 5000) == 0);
    world_end(&world);
}

static void many_batches_are_in_flight_at_once(uint32_t driver)
{
    enum {
        BATCHES = 60
    };
    node_world world = world_of(driver);
    kv_client *client = client_of(&world, (kv_client_options){.reactor_driver = driver});
    client_batch batches[BATCHES];
    kv_queue *queue;
    int descriptor;
    uint32_t reaped = 0;

    assert(kv_queue_open(&queue, &descriptor) == 0);
    client_set(client, "m", 40, 9000);
    for (uint32_t i = 0; i < BATCHES; i++) {
        client_batch_open(&batches[i], i % 4 == 3 ? KV_OP_SET : KV_OP_GET, "m", 40, 9000);
        assert(kv_client_submit(client, queue, &batches[i].request) == 0);
    }
    while (reaped < BATCHES) {
        struct pollfd poll_descriptor = {.fd = descriptor, .events = POLLIN};
        uint64_t tags[16];

        assert(poll(&poll_descriptor, 1, -1) == 1);
        reaped += (uint32_t)kv_queue_reap(queue, tags, 16);
    }
    for (uint32_t i = 0; i < BATCHES; i++) {
        if (i % 4 == 3)
            client_expect_all(&batches[i], KV_OK);
        else
            client_expect_values(&batches[i]);
        client_batch_close(&batches[i]);
    }
    assert(kv_client_close(client, 5000) == 0);
    kv_queue_close(queue);
    world_end(&world);
}

static void a_restarted_node_is_found_again(uint32_t driver)
{
    node_world world = world_of(driver);
    kv_client *client = client_of(&world, (kv_client_options){0});
    char name[32], message[KV_MESSAGE_SIZE];
    const char *node = name;
    uint32_t zero = 0, target = 1;

    client_set(client, "r", 10, 2000);
    assert(kv_client_run(client, &(kv_request){.operation = KV_OP_FLUSH}) == 0);
    world_stop(&world);
    world_start(&world); /* at another port: routing info says where */
    snprintf(name, sizeof(name), "127.0.0.1:%d", world.port);
    assert(kv_client_route(client, 2, &node, 1, &zero, &target, 1, message) == 0);
    client_set(client, "r", 10, 2000);
    client_get(client, "r", 10, 2000);
    assert(kv_client_close(client, 5000) == 0);
    world_end(&world);
}

int main(void)
{
    static const uint32_t drivers[] = {KV_REACTOR_EPOLL, KV_REACTOR_AUTO};

    for (uint32_t i = 0; i < sizeof(drivers) / sizeof(drivers[0]); i++) {
        values_of_any_size_come_back(drivers[i]);
        operations_on_keys_agree(drivers[i]);
        threads_do_not_disturb_each_other(drivers[i]);
        many_batches_are_in_flight_at_once(drivers[i]);
        a_restarted_node_is_found_again(drivers[i]);
    }
    return 0;
}
