/* The client and nodes that are busy, moved, silent or gone: everything gets a status, nothing
 * hangs. */

#include "client_script.h"

#include <poll.h>

static void serve_busy(scripted_node *node, int socket, uint32_t connection)
{
    scripted_message message;

    (void)connection;
    while (scripted_take_request(node, socket, &message)) {
        uint64_t visits = visit(node);

        if (visits == 0) {
            scripted_answer(socket, &message, true, KV_BUSY, NULL, 0, NULL, 0);
        } else if (visits == 1) {
            kv_reply_item items[3] = {{.index = 0, .status = KV_BUSY},
                                      {.index = 1, .status = KV_NOT_FOUND},
                                      {.index = 2, .status = KV_BUSY}};

            scripted_answer(socket, &message, true, KV_OK, items, 3, NULL, 0);
        } else {
            scripted_serve_one(node, socket, &message);
        }
        scripted_release(&message);
    }
}

static void what_was_busy_is_asked_for_again(void)
{
    scripted_node *node;
    kv_client *client = begin(&node, serve_busy);
    client_batch batch;

    client_run(client, &batch, KV_OP_GET, "x", 3, VALUE_SIZE);
    assert(batch.items[0].status == KV_OK && client_value_right(&batch, 0));
    assert(batch.items[1].status == KV_NOT_FOUND);
    assert(batch.items[2].status == KV_OK && client_value_right(&batch, 2));
    client_batch_close(&batch);
    assert(node->state == 3);
    finish(node, client);
}

static void serve_moved(scripted_node *node, int socket, uint32_t connection)
{
    scripted_message message;

    (void)connection;
    while (scripted_take_request(node, socket, &message)) {
        client_route(script.client, &script.other_node, 1, 1);
        scripted_answer(socket, &message, true, KV_WRONG_TARGET, NULL, 0, NULL, 0);
        scripted_release(&message);
    }
}

static void a_retry_goes_by_the_newest_routing_info(void)
{
    scripted_node *old_node, *new_node;
    kv_client *client = begin(&new_node, scripted_serve_store);

    assert(kv_client_close(client, 1000) == 0);
    client = begin(&old_node, serve_moved);
    script.client = client;
    script.other_node = new_node->name;
    client_get(client, "x", 3, VALUE_SIZE);
    client_route(client, (const char *[]){old_node->name}, 1, 1);
    client_set(client, "m", 3, 100);
    scripted_close(old_node);
    finish(new_node, client);
}

/* Answers one request, and then nothing. */
static void serve_silence(scripted_node *node, int socket, uint32_t connection)
{
    scripted_message message;

    (void)connection;
    if (scripted_take_request(node, socket, &message)) {
        scripted_serve_one(node, socket, &message);
        scripted_release(&message);
    }
    drain(socket);
}

static void a_node_that_never_answers_costs_the_deadline(void)
{
    static const uint32_t operations[] = {KV_OP_GET, KV_OP_SET, KV_OP_EXISTS};

    for (int i = 0; i < 3; i++) {
        scripted_node *node;
        kv_client *client = begin(&node, serve_silence);
        client_batch batch;

        client_get(client, "x", 3, VALUE_SIZE); /* so that the connection stands */
        client_batch_open(&batch, operations[i], "x", 3, VALUE_SIZE);
        batch.request.timeout_ms = 30;
        assert(kv_client_run(client, &batch.request) == 0);
        client_expect_all(&batch, KV_TIMEOUT);
        assert(batch.request.status == (operations[i] == KV_OP_EXISTS ? KV_TIMEOUT : KV_OK));
        client_batch_close(&batch);
        finish(node, client);
    }
}

static void a_dead_node_costs_its_own_keys_only(void)
{
    scripted_node *node = scripted_open(NULL);
    scripted_node *dead = scripted_open(NULL); /* its port is bound, and nobody listens */
    const char *names[2] = {node->name, dead->name};
    kv_client *client = client_open_with((kv_client_options){0});
    client_batch batch;
    uint32_t set = 0;

    scripted_start(node);
    client_route(client, names, 2, 2);
    client_batch_open(&batch, KV_OP_SET, "d", 100, 50);
    batch.request.timeout_ms = 500;
    assert(kv_client_run(client, &batch.request) == 0);
    for (uint32_t i = 0; i < 100; i++) {
        assert(batch.items[i].status == KV_OK || batch.items[i].status == KV_UNAVAILABLE);
        set += batch.items[i].status == KV_OK;
    }
    assert(set == node->object_count && set > 20 && set < 80);
    client_batch_close(&batch);
    client_batch_open(&batch, KV_OP_MATCH_PREFIX, "d", 100, 0);
    batch.request.timeout_ms = 500;
    assert(kv_client_run(client, &batch.request) == 0);
    assert(batch.request.matched == 0 && batch.request.status == KV_UNAVAILABLE);
    client_batch_close(&batch);
    assert(kv_client_run(client, &(kv_request){.operation = KV_OP_FLUSH, .timeout_ms = 30}) < 0);
    scripted_start(dead); /* back again: the same client reaches it */
    client_set(client, "d", 100, 50);
    finish(node, client);
    scripted_close(dead);
}

static void who_waits_for_a_dead_node_goes_where_newer_routing_info_says(void)
{
    scripted_node *dead = scripted_open(NULL);
    scripted_node *node = scripted_open(NULL);
    const char *dead_name = dead->name;
    const char *name = node->name;
    kv_client *client = client_open_with((kv_client_options){0});
    struct pollfd poller = {.events = POLLIN};
    client_batch batch;
    kv_queue *queue;
    uint64_t tag;

    scripted_start(node);
    client_route(client, &dead_name, 1, 1);
    assert(kv_queue_open(&queue, &poller.fd) == 0);
    client_batch_open(&batch, KV_OP_SET, "d", 10, 50);
    assert(kv_client_submit(client, queue, &batch.request) == 0);
    client_route(client, &name, 1, 1);

    assert(poll(&poller, 1, 20000) == 1);
    assert(kv_queue_reap(queue, &tag, 1) == 1);
    client_expect_all(&batch, KV_OK);
    client_batch_close(&batch);
    kv_queue_close(queue);
    finish(node, client);
    scripted_start(dead);
    scripted_close(dead);
}

int main(void)
{
    what_was_busy_is_asked_for_again();
    a_retry_goes_by_the_newest_routing_info();
    a_node_that_never_answers_costs_the_deadline();
    a_dead_node_costs_its_own_keys_only();
    who_waits_for_a_dead_node_goes_where_newer_routing_info_says();
    return 0;
}
