/* A node under load from several threads: every client reads what it wrote, whatever the others
 * do; little memory makes them wait, not fail; deadlines, cancellation and draining end what
 * they should. Meant for the thread sanitizer too. */

#include "bytes/random.h"
#include "node_client.h"

#include <pthread.h>
#include <stdatomic.h>

#define THREADS 4u
#define ROUNDS 12u
#define COUNT 12u
#define VALUE_MAX 60000u

typedef struct worker {
    node_world *world;
    pthread_t thread;
    uint32_t number;
    uint32_t value_max;
    atomic_bool *stop;
} worker;

static void *reads_what_it_wrote(void *argument)
{
    worker *self = argument;
    node_client client = client_open(self->world, self->number);
    node_batch batch = batch_make(COUNT, self->value_max);
    kv_random random;
    char name[16];

    client.target = 1 + self->number % self->world->target_count;
    kv_random_init(&random, self->number);
    snprintf(name, sizeof(name), "w%u", self->number);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        client_set(&client, &batch, name, round);
        client_get(&client, &batch, name, round);
        if (kv_random_one_in(&random, 5)) {
            client_run(&client, batch_prepare(&batch, KV_OP_DELETE, name, round));
            batch_expect(&batch, KV_OK);
            client_run(&client, batch_prepare(&batch, KV_OP_MATCH_PREFIX, name, round));
            assert(batch.request.matched == 0);
        }
        if (kv_random_one_in(&random, 7)) {
            client_close(&client);
            client_connect(&client, self->world);
            assert(client_greet(&client, NULL) == 0);
        }
    }
    batch_free(&batch);
    client_close(&client);
    return NULL;
}

/* Sends requests and goes away, at any point. */
static void *comes_and_goes(void *argument)
{
    worker *self = argument;
    node_batch batch = batch_make(COUNT, self->value_max);
    kv_random random;

    kv_random_init(&random, self->number);
    for (uint32_t round = 0; round < 2 * ROUNDS; round++) {
        node_client client = client_open(self->world, 1000 * self->number + round);
        size_t size;
        uint8_t *bytes;

        bytes = client_encode(&client, batch_prepare(&batch, round % 2 ? KV_OP_GET : KV_OP_SET,
                                                     "gone", round),
                              &size);
        client_write(&client, bytes, kv_random_one_in(&random, 2) ? size : kv_random_below(&random,
                                                                                           size));
        free(bytes);
        client_close(&client);
    }
    batch_free(&batch);
    return NULL;
}

static void *looks_on(void *argument)
{
    worker *self = argument;
    node_client client = client_open(self->world, self->number);
    uint8_t list[12] = {0};

    kv_endian_store_u32(list + 8, 65536);
    while (!atomic_load_explicit(self->stop, memory_order_relaxed)) { /* set by the main thread */
        kv_node_event events[16];

        assert(client_control(&client, KV_CONTROL_STATISTICS, 1, NULL, 0, NULL) > 0);
        assert(client_control(&client, KV_CONTROL_LIST, 1, list, sizeof(list), NULL) >= 8);
        assert(client_control(&client, KV_CONTROL_FLUSH, 1, NULL, 0, NULL) == 0);
        assert(kv_node_take_events(self->world->node, events, 16) >= 0);
        assert(kv_node_publish_routing(self->world->node, "routing", 7) == 0);
        assert(client_control(&client, KV_CONTROL_ROUTING, 1, NULL, 0, NULL) == 7);
    }
    client_close(&client);
    return NULL;
}

static void crowd_run(node_world *world, uint32_t value_max)
{
    static void *(*const bodies[])(void *) = {reads_what_it_wrote, reads_what_it_wrote,
                                              comes_and_goes,
                                              reads_what_it_wrote, looks_on};
    atomic_bool stop = false;
    worker workers[THREADS + 1];

    for (uint32_t i = 0; i <= THREADS; i++) {
        workers[i] = (worker){.world = world, .number = i + 1, .value_max = value_max,
                              .stop = &stop};
        assert(pthread_create(&workers[i].thread, NULL, bodies[i], &workers[i]) == 0);
    }
    for (uint32_t i = 0; i <= THREADS; i++) {
        if (i == THREADS)
            atomic_store_explicit(&stop, true, memory_order_relaxed); /* read by looks_on */
        assert(pthread_join(workers[i].thread, NULL) == 0);
    }
    world_wait_connections(world, 0);
}

static void everybody_reads_what_they_wrote(uint32_t reactor_driver, uint32_t driver,
                                            uint32_t durability)
{
    node_world world = world_plan(2);

    world.options.reactors = 3;
    world.options.reactor_driver = reactor_driver;
    world.store.driver = driver;
    world.store.durability = durability;
    world_open(&world);
    crowd_run(&world, VALUE_MAX);
    world_close(&world);
}

/* Batches that are larger than what a node may take for them at a time, and than a share of the
 * DRAM tier. */
static void little_memory_makes_clients_wait(uint32_t reactor_driver)
{
    node_world world = world_plan(1);

    world.options.reactor_driver = reactor_driver;
    world.options.memory_max = 1;
    world_open(&world);
    crowd_run(&world, 300000);
    while (world_statistics(&world).request_memory > 0) /* what still writes holds some */
        sched_yield();
    world_close(&world);
}

/* What is in flight is answered, who is idle is let go, who comes is told. */
static void draining_answers_what_is_in_flight(uint32_t reactor_driver)
{
    node_world world = world_plan(1);
    node_batch batch = batch_make(8, 2u << 20);
    node_client clients[3];
    node_client late = client_plan(9);

    world.options.reactor_driver = reactor_driver;
    world.options.reactors = 2;
    world_open(&world);
    for (uint32_t i = 0; i < 3; i++)
        clients[i] = client_open(&world, i + 1);
    client_set(&clients[0], &batch, "drain", UINT32_MAX);
    batch_prepare(&batch, KV_OP_GET, "drain", 0);
    client_send(&clients[0], &batch.request);
    while (world_statistics(&world).requests[KV_OP_GET] == 0)
        sched_yield();
    assert(kv_node_drain(world.node, 0) == -ETIMEDOUT);
    client_expect_end(&clients[1]);
    client_expect_end(&clients[2]);
    client_connect(&late, &world);
    assert(client_greet(&late, NULL) < 0 && strstr(late.reason, "shutting down"));
    client_close(&late);
    assert(client_collect(&clients[0], &batch.request) > 0);
    batch_expect_values(&batch, UINT32_MAX);
    client_expect_end(&clients[0]);
    for (uint32_t i = 0; i < 3; i++)
        client_close(&clients[i]);
    assert(kv_node_drain(world.node, WORLD_CLOSE_MS) == 0);
    batch_free(&batch);
    world_close(&world);
}

/* With clients that never close, and with values half come. */
static void closing_cuts_whoever_is_left(uint32_t reactor_driver)
{
    node_world world = world_plan(1);
    node_batch batch = batch_make(8, 1u << 20);
    node_client clients[3];
    uint8_t *bytes;
    size_t size;

    world.options.reactor_driver = reactor_driver;
    world.options.reactors = 2;
    world_open(&world);
    for (uint32_t i = 0; i < 3; i++)
        clients[i] = client_open(&world, i + 1);
    client_set(&clients[0], &batch, "left", UINT32_MAX);
    bytes = client_encode(&clients[1], batch_prepare(&batch, KV_OP_SET, "half", UINT32_MAX), &size);
    assert(client_write(&clients[1], bytes, size / 2));
    for (uint32_t i = 0; i < 4; i++)
        client_send(&clients[2], batch_prepare(&batch, KV_OP_GET, "left", 0));
    world_stop(&world);
    for (uint32_t i = 0; i < 3; i++) {
        client_expect_end(&clients[i]);
        client_close(&clients[i]);
    }
    free(bytes);
    batch_free(&batch);
    world_directories_remove(&world);
}

/* The DRAM tier is held by those who do not read; who wants to write waits until its deadline,
 * and is told. */
static void a_deadline_ends_what_cannot_end_otherwise(uint32_t reactor_driver)
{
    node_world world = world_plan(1);
    node_batch batch = batch_make(16, 1u << 20);
    node_client client;

    world.options.reactor_driver = reactor_driver;
    world_open(&world);
    client = client_open(&world, 1);
    for (uint32_t round = 0; round < 8; round++) {
        client.timeout_ms = 1;
        client_run(&client, batch_prepare(&batch, KV_OP_SET, "late", UINT32_MAX));
        for (uint32_t i = 0; i < 16; i++)
            assert(batch.items[i].status == KV_OK || batch.items[i].status == KV_TIMEOUT);
        client_run(&client, batch_prepare(&batch, KV_OP_GET, "late", UINT32_MAX));
        for (uint32_t i = 0; i < 16; i++)
            assert(batch.items[i].status == KV_OK || batch.items[i].status == KV_TIMEOUT ||
                   batch.items[i].status == KV_NOT_FOUND);
    }
    client_close(&client);
    batch_free(&batch);
    world_close(&world);
}

/* A cancelled request is replied to all the same, each item with a status of its own. */
static void what_is_cancelled_is_answered(uint32_t reactor_driver)
{
    node_world world = world_plan(1);
    node_batch batch = batch_make(16, 1u << 20);
    node_client client;

    world.options.reactor_driver = reactor_driver;
    world_open(&world);
    client = client_open(&world, 1);
    client_set(&client, &batch, "cancel", UINT32_MAX);
    for (uint32_t round = 0; round < 10; round++) {
        uint8_t bytes[KV_MESSAGE_HEAD_SIZE];
        kv_message_head head = {.version = client.version, .kind = KV_MESSAGE_CANCEL};

        client_send(&client, batch_prepare(&batch, KV_OP_GET, "cancel", 0));
        head.request = client.request_last;
        kv_message_encode(&head, bytes);
        assert(client_write(&client, bytes, sizeof(bytes)));
        assert(client_collect(&client, &batch.request) > 0);
        for (uint32_t i = 0; i < 16; i++)
            assert(batch.items[i].status == KV_OK || batch.items[i].status == KV_CANCELLED);
    }
    client_close(&client);
    batch_free(&batch);
    world_close(&world);
}

static void all_of_it(uint32_t driver)
{
    everybody_reads_what_they_wrote(driver, KV_DRIVER_THREADS, KV_DURABILITY_MEMORY);
    everybody_reads_what_they_wrote(driver, KV_DRIVER_AUTO, KV_DURABILITY_DISK);
    little_memory_makes_clients_wait(driver);
    draining_answers_what_is_in_flight(driver);
    closing_cuts_whoever_is_left(driver);
    a_deadline_ends_what_cannot_end_otherwise(driver);
    what_is_cancelled_is_answered(driver);
}

int main(void)
{
    all_of_it(KV_REACTOR_EPOLL);
    if (world_may_use_uring())
        all_of_it(KV_REACTOR_URING);
    return 0;
}
