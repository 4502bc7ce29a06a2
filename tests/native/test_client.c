/* The client against an honest node: every operation, sizes, several nodes, threads, both ways of
 * calling, and its life from open to close. */

#include "client_calls.h"
#include "scripted_node.h"

#include <errno.h>
#include <poll.h>
#include <sys/wait.h>

static void values_come_back_as_they_were_set(void)
{
    static const uint32_t sizes[] = {0, 1, 100, 4096, 65536, 300000, (3u << 20) + 17};
    scripted_node *node = scripted_open(NULL);
    kv_client *client = client_open(node->name);

    scripted_start(node);
    for (uint32_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        client_set(client, "v", 5, sizes[i]);
        client_get(client, "v", 5, sizes[i]);
    }
    assert(kv_client_close(client, 1000) == 0);
    scripted_close(node);
}

static void every_operation_says_what_the_node_says(void)
{
    scripted_node *node = scripted_open(NULL);
    kv_client *client = client_open(node->name);
    kv_item_stat stats[4];
    client_batch batch;

    scripted_start(node);
    client_set(client, "a", 3, 10);
    client_run(client, &batch, KV_OP_EXISTS, "a", 4, 0);
    assert(batch.items[2].status == KV_OK && batch.items[3].status == KV_NOT_FOUND);
    assert(batch.request.status == KV_OK);
    client_batch_close(&batch);
    client_run(client, &batch, KV_OP_MATCH_PREFIX, "a", 4, 0);
    assert(batch.request.matched == 3 && batch.request.status == KV_OK);
    client_batch_close(&batch);
    client_batch_open(&batch, KV_OP_STAT, "a", 4, 0);
    batch.request.stats = stats;
    assert(kv_client_run(client, &batch.request) == 0);
    assert(batch.items[0].status == KV_OK && batch.items[0].result_size == 10);
    assert(stats[0].version == 7 && batch.items[3].status == KV_NOT_FOUND);
    client_batch_close(&batch);
    client_run(client, &batch, KV_OP_PIN, "a", 1, 0);
    client_expect_all(&batch, KV_OK);
    client_batch_close(&batch);
    client_run(client, &batch, KV_OP_GET, "a", 1, 4);
    assert(batch.items[0].status == KV_BUFFER_TOO_SMALL && batch.items[0].result_size == 10);
    client_batch_close(&batch);
    client_run(client, &batch, KV_OP_DELETE, "a", 4, 0);
    assert(batch.items[0].status == KV_OK && batch.items[3].status == KV_NOT_FOUND);
    client_batch_close(&batch);
    client_run(client, &batch, KV_OP_GET, "a", 1, 10);
    client_expect_all(&batch, KV_NOT_FOUND);
    client_batch_close(&batch);
    assert(kv_client_run(client, &(kv_request){.operation = KV_OP_FLUSH}) == 0);
    assert(kv_client_close(client, 1000) == 0);
    scripted_close(node);
}

static void malformed_requests_are_refused(void)
{
    kv_client *client = client_open_with((kv_client_options){0});
    kv_item item = {.key = 0, .key_size = 1};

    assert(kv_client_run(client, &(kv_request){.operation = 99}) == -EINVAL);
    assert(
        kv_client_run(client, &(kv_request){.operation = KV_OP_GET, .items = &item, .count = 1}) ==
        -EINVAL);
    assert(kv_client_run(client, &(kv_request){.operation = KV_OP_FLUSH}) == -ENOTCONN);
    assert(kv_client_close(client, 0) == 0);
}

static void options_and_routing_info_are_checked(void)
{
    const char *bad = "nonsense";
    char message[KV_MESSAGE_SIZE];
    kv_client *client;
    uint32_t zero = 0;

    assert(kv_client_open(&(kv_client_options){.tenant = "a b"}, &client, message) == -EINVAL);
    assert(kv_client_open(&(kv_client_options){.connections_max = 1}, &client, message) == -EINVAL);
    client = client_open_with((kv_client_options){.tenant = "t", .name_space = "n"});
    assert(kv_client_route(client, 1, &bad, 1, &zero, &zero, 1, message) == -EINVAL);
    assert(strstr(message, "nonsense"));
    assert(kv_client_close(client, 0) == 0);
}

static void an_empty_batch_is_done_at_once(void)
{
    kv_client *client = client_open("127.0.0.1:1");
    kv_request request = {.operation = KV_OP_GET};

    assert(kv_client_run(client, &request) == 0);
    assert(kv_client_close(client, 0) == 0);
}

static void a_batch_is_spread_over_nodes_and_targets(void)
{
    scripted_node *nodes[3];
    const char *names[3];
    kv_client *client = client_open_with((kv_client_options){0});
    client_batch batch;
    uint32_t objects = 0;

    for (int i = 0; i < 3; i++) {
        nodes[i] = scripted_open(NULL);
        names[i] = nodes[i]->name;
        scripted_start(nodes[i]);
    }
    client_route(client, names, 3, 8);
    client_set(client, "s", 500, 64);
    client_get(client, "s", 500, 64);
    for (int i = 0; i < 3; i++) {
        assert(nodes[i]->object_count > 0);
        objects += nodes[i]->object_count;
    }
    assert(objects == 500);
    client_run(client, &batch, KV_OP_MATCH_PREFIX, "s", 600, 0);
    assert(batch.request.matched == 500 && batch.request.status == KV_OK);
    client_batch_close(&batch);
    assert(kv_client_close(client, 1000) == 0);
    for (int i = 0; i < 3; i++)
        scripted_close(nodes[i]);
}

static void batches_beyond_what_the_node_grants_are_cut(void)
{
    scripted_node *node = scripted_open(NULL);
    kv_client *client = client_open(node->name);

    node->grant.count_max = 7;
    node->grant.columns_size_max = 2048;
    node->grant.values_size_max = 5000;
    node->grant.requests_max = 2;
    scripted_start(node);
    client_set(client, "g", 50, 900);
    client_get(client, "g", 50, 900);
    assert(atomic_load(&node->requests) >= 16);
    assert(kv_client_close(client, 1000) == 0);
    scripted_close(node);
}

static void values_beyond_a_limit_are_too_large(void)
{
    scripted_node *node = scripted_open(NULL);
    kv_client *client = client_open(node->name);
    uint8_t value[6000] = {1};
    kv_item items[2] = {
        {.key = (uintptr_t)"k",
         .key_size = 1,
         .value = (uintptr_t)value,
         .value_size = sizeof(value)},
        {.key = (uintptr_t)"l",
         .key_size = 1,
         .value = (uintptr_t)value,
         .value_size = KV_VALUE_SIZE_LIMIT + 1},
    };
    kv_request request = {.items = items, .count = 2, .operation = KV_OP_SET};

    node->grant.values_size_max = 5000;
    scripted_start(node);
    assert(kv_client_run(client, &request) == 0);
    assert(items[0].status == KV_TOO_LARGE && items[1].status == KV_TOO_LARGE);
    assert(kv_client_close(client, 1000) == 0);
    scripted_close(node);
}

typedef struct user {
    kv_client *client;
    uint32_t number;
} user;

static void *user_thread(void *argument)
{
    user *self = argument;
    char prefix[8];

    snprintf(prefix, sizeof(prefix), "%c%u", 'A' + (int)self->number, self->number);
    for (int i = 0; i < 20; i++) {
        client_set(self->client, prefix, 4, 3000);
        client_get(self->client, prefix, 4, 3000);
    }
    return NULL;
}

static void threads_share_a_client_within_its_connections(void)
{
    scripted_node *node = scripted_open(NULL);
    kv_client *client = client_open_with((kv_client_options){.connections_max = 3, .lanes = 1});
    const char *name = node->name;
    pthread_t threads[8];
    user users[8];

    client_route(client, &name, 1, 1);
    scripted_start(node);
    for (uint32_t i = 0; i < 8; i++) {
        users[i] = (user){client, i};
        assert(pthread_create(&threads[i], NULL, user_thread, &users[i]) == 0);
    }
    for (uint32_t i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    assert(atomic_load(&node->connections) <= 2);
    assert(kv_client_close(client, 1000) == 0);
    scripted_close(node);
}

/* Reap until `count` tags came. */
static void reap(kv_queue *queue, int descriptor, uint32_t count, uint64_t *sum)
{
    while (count > 0) {
        struct pollfd poll_descriptor = {.fd = descriptor, .events = POLLIN};
        uint64_t tags[16];
        int taken;

        assert(poll(&poll_descriptor, 1, -1) == 1);
        taken = kv_queue_reap(queue, tags, 16);
        for (int i = 0; i < taken; i++)
            *sum += tags[i];
        count -= (uint32_t)taken;
    }
}

static void asynchronous_batches_are_reported(uint32_t driver)
{
    scripted_node *node = scripted_open(NULL);
    kv_client *client = client_open_with((kv_client_options){.reactor_driver = driver});
    const char *name = node->name;
    client_batch batches[40];
    kv_queue *queue;
    int descriptor;
    uint64_t sum = 0;

    client_route(client, &name, 1, 4);
    scripted_start(node);
    assert(kv_queue_open(&queue, &descriptor) == 0);
    client_set(client, "q", 30, 20000);
    for (uint32_t i = 0; i < 40; i++) {
        client_batch_open(&batches[i], KV_OP_GET, "q", 30, 20000);
        batches[i].request.tag = i;
        assert(kv_client_submit(client, queue, &batches[i].request) == 0);
    }
    reap(queue, descriptor, 40, &sum);
    assert(sum == 39 * 40 / 2);
    for (uint32_t i = 0; i < 40; i++) {
        client_expect_values(&batches[i]);
        client_batch_close(&batches[i]);
    }
    assert(kv_client_close(client, 1000) == 0);
    kv_queue_close(queue);
    scripted_close(node);
}

static void close_cancels_what_is_in_flight(void)
{
    kv_client *client = client_open("127.0.0.1:1"); /* nobody listens there */
    client_batch batch;
    kv_queue *queue;
    int descriptor;
    uint64_t sum = 0;

    assert(kv_queue_open(&queue, &descriptor) == 0);
    client_batch_open(&batch, KV_OP_GET, "c", 3, 10);
    batch.request.tag = 5;
    assert(kv_client_submit(client, queue, &batch.request) == 0);
    assert(kv_client_close(client, 0) == 0);
    reap(queue, descriptor, 1, &sum);
    assert(sum == 5);
    client_expect_all(&batch, KV_CANCELLED);
    client_batch_close(&batch);
    kv_queue_close(queue);
}

static void controls_reach_a_node(void)
{
    scripted_node *node = scripted_open(NULL);
    kv_client *client = client_open_with((kv_client_options){0});
    char reply[64] = "", message[KV_MESSAGE_SIZE];

    scripted_start(node);
    assert(kv_client_control(client, node->name, 0, KV_CONTROL_DESCRIBE, NULL, 0, reply,
                             sizeof(reply), 5000, message) == 16);
    assert(strcmp(reply, "reactor=scripted") == 0);
    assert(kv_client_control(client, node->name, 0, KV_CONTROL_DESCRIBE, NULL, 0, reply, 3, 5000,
                             message) == -EMSGSIZE);
    assert(kv_client_control(client, node->name, 0, KV_CONTROL_SLABS, "x", 1, reply, sizeof(reply),
                             5000, message) == -EACCES);
    assert(kv_client_control(client, "nonsense", 0, KV_CONTROL_FLUSH, NULL, 0, NULL, 0, 5000,
                             message) == -EINVAL);
    assert(kv_client_control(client, "127.0.0.1:1", 0, KV_CONTROL_FLUSH, NULL, 0, NULL, 0, 5000,
                             message) == -ECONNREFUSED);
    assert(strstr(message, "127.0.0.1:1: "));
    assert(kv_client_close(client, 1000) == 0);
    scripted_close(node);
}

static void a_secret_is_proven_both_ways(void)
{
    scripted_node *node = scripted_open(NULL);
    kv_client *right =
        client_open_with((kv_client_options){.secret = (const uint8_t *)"open", .secret_size = 4});
    kv_client *wrong =
        client_open_with((kv_client_options){.secret = (const uint8_t *)"shut", .secret_size = 4});
    char message[KV_MESSAGE_SIZE];
    const char *name = node->name;
    client_batch batch;

    node->secret = "open";
    scripted_start(node);
    client_route(right, &name, 1, 1);
    client_route(wrong, &name, 1, 1);
    client_set(right, "p", 2, 100);
    client_run(wrong, &batch, KV_OP_GET, "p", 2, 100);
    client_expect_all(&batch, KV_DENIED);
    kv_client_explain(wrong, message);
    assert(strncmp(message, name, strlen(name)) == 0 && strstr(message, "secret"));
    client_batch_close(&batch);
    assert(kv_client_close(right, 1000) == 0);
    assert(kv_client_close(wrong, 1000) == 0);
    scripted_close(node);
}

static void names_are_looked_up(void)
{
    scripted_node *node = scripted_open(NULL);
    char name[64];
    kv_client *client;

    scripted_start(node);
    snprintf(name, sizeof(name), "localhost%s", strchr(node->name, ':'));
    client = client_open(name);
    client_set(client, "n", 1, 10);
    assert(kv_client_close(client, 1000) == 0);
    scripted_close(node);
}

static void a_forked_child_abandons_the_client(void)
{
    scripted_node *node = scripted_open(NULL);
    kv_client *client = client_open(node->name);
    int status;
    pid_t child;

    scripted_start(node);
    client_set(client, "f", 2, 100);
    child = fork();
    assert(child >= 0);
    if (child == 0) {
        kv_client_abandon(client);
        _exit(0);
    }
    assert(waitpid(child, &status, 0) == child && status == 0);
    client_get(client, "f", 2, 100);
    assert(atomic_load(&node->connections) == 1);
    assert(kv_client_close(client, 1000) == 0);
    scripted_close(node);
}

static void counters_say_what_happened(void)
{
    scripted_node *node = scripted_open(NULL);
    kv_client *client = client_open(node->name);
    kv_client_statistics statistics;

    scripted_start(node);
    client_set(client, "t", 4, 100);
    client_get(client, "t", 4, 100);
    kv_client_statistics_read(client, &statistics);
    assert(statistics.batches == 2 && statistics.parts == 2 && statistics.connects == 1);
    assert(statistics.connections == 1 && statistics.in_flight == 0 && statistics.retries == 0);
    assert(kv_client_close(client, 1000) == 0);
    scripted_close(node);
}

int main(void)
{
    values_come_back_as_they_were_set();
    every_operation_says_what_the_node_says();
    malformed_requests_are_refused();
    options_and_routing_info_are_checked();
    an_empty_batch_is_done_at_once();
    a_batch_is_spread_over_nodes_and_targets();
    batches_beyond_what_the_node_grants_are_cut();
    values_beyond_a_limit_are_too_large();
    threads_share_a_client_within_its_connections();
    asynchronous_batches_are_reported(KV_REACTOR_EPOLL);
    asynchronous_batches_are_reported(KV_REACTOR_AUTO);
    close_cancels_what_is_in_flight();
    controls_reach_a_node();
    a_secret_is_proven_both_ways();
    names_are_looked_up();
    a_forked_child_abandons_the_client();
    counters_say_what_happened();
    return 0;
}
