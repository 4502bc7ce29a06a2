/* Calls that are cancelled, expire or are closed at every stage: nothing touches the caller's
 * memory afterwards. */

#include "client_script.h"

#include <poll.h>

/* Cancels the batch at the stage that script.damage says, and then goes on as if nothing had been.
 * */
static void serve_cancelled(scripted_node *node, int socket, uint32_t connection)
{
    scripted_message message;
    uint8_t *values, *bytes;
    size_t values_size, size, first;
    uint32_t matched;
    kv_reply_item *items;

    if (visit(node) > 0) {
        scripted_serve_store(node, socket, connection);
        return;
    }
    if (script.damage == 0) { /* nothing of the request was taken yet */
        kv_client_cancel(script.client, script.request);
        scripted_serve_store(node, socket, connection);
        return;
    }
    if (!scripted_take_request(node, socket, &message))
        return;
    items = scripted_execute(node, &message, &values, &values_size, &matched);
    bytes = scripted_reply(&message, true, KV_OK, items, message.request.count, values,
                           (uint32_t)values_size, &size);
    first = script.damage == 1 ? 0 : script.damage == 2 ? 20 : script.damage == 3 ? 80 : size / 2;
    if (first > size)
        first = size;
    scripted_write(socket, bytes, first);
    kv_client_cancel(script.client, script.request);
    scripted_write(socket, bytes + first, size - first);
    free(bytes);
    free(items);
    free(values);
    scripted_release(&message);
    scripted_serve_store(node, socket, connection);
}

static void reap_one(kv_queue *queue, int descriptor, uint64_t expected)
{
    struct pollfd poll_descriptor = {.fd = descriptor, .events = POLLIN};
    uint64_t tag;

    assert(poll(&poll_descriptor, 1, -1) == 1);
    assert(kv_queue_reap(queue, &tag, 1) == 1);
    assert(tag == expected);
}

static void a_cancelled_batch_ends_at_every_stage(uint32_t operation)
{
    for (uint32_t stage = 0; stage < 5; stage++) {
        scripted_node *node;
        kv_client *client = begin(&node, serve_cancelled);
        const uint32_t size = VALUE_SIZE;
        client_batch batch;
        kv_queue *queue;
        int descriptor;
        bool cancelled = false;

        assert(kv_queue_open(&queue, &descriptor) == 0);
        client_batch_open(&batch, operation, "x", 3, size);
        batch.request.tag = stage;
        script.client = client;
        script.request = &batch.request;
        script.damage = stage;
        assert(kv_client_submit(client, queue, &batch.request) == 0);
        reap_one(queue, descriptor, stage);
        for (uint32_t i = 0; i < 3; i++) {
            assert(batch.items[i].status == KV_CANCELLED || batch.items[i].status == KV_OK);
            cancelled |= batch.items[i].status == KV_CANCELLED;
        }
        memset(batch.values, 0xEE, 3 * size);
        batch.request.operation = KV_OP_EXISTS;
        assert(kv_client_submit(client, queue, &batch.request) ==
               0); /* the same connection, or the next */
        reap_one(queue, descriptor, stage);
        /* A set that was cancelled before it was sent never was. What went by another connection than
         * the one that cancels left that to this one. */
        for (uint32_t i = 0; i < 3; i++)
            assert(batch.items[i].status == KV_OK ||
                   (batch.items[i].status == KV_NOT_FOUND && operation == KV_OP_SET && stage == 0) ||
                   (batch.items[i].status == KV_CANCELLED && !cancelled));
        for (uint32_t i = 0; i < 3 * size; i++)
            assert(batch.values[i] == 0xEE);
        client_batch_close(&batch);
        finish(node, client);
        kv_queue_close(queue);
    }
}

/* Takes half of what a large set sends, and cancels it. */
static void serve_half_request(scripted_node *node, int socket, uint32_t connection)
{
    uint8_t *bytes;

    if (visit(node) > 0) {
        scripted_serve_store(node, socket, connection);
        return;
    }
    bytes = malloc(8u << 20);
    assert(bytes && scripted_read(socket, bytes, 8u << 20));
    free(bytes);
    kv_client_cancel(script.client, script.request);
    drain(socket);
}

static void a_set_is_cancelled_in_the_middle_of_its_values(void)
{
    scripted_node *node;
    kv_client *client = begin(&node, serve_half_request);
    client_batch batch;
    kv_queue *queue;
    int descriptor;

    assert(kv_queue_open(&queue, &descriptor) == 0);
    client_batch_open(&batch, KV_OP_SET, "h", 1, 32u << 20);
    script.client = client;
    script.request = &batch.request;
    assert(kv_client_submit(client, queue, &batch.request) == 0);
    reap_one(queue, descriptor, 0);
    client_expect_all(&batch, KV_CANCELLED);
    client_batch_close(&batch);
    client_get(client, "x", 3, VALUE_SIZE);
    finish(node, client);
    kv_queue_close(queue);
}

static void serve_cancel_blocking(scripted_node *node, int socket, uint32_t connection)
{
    scripted_message message;

    (void)connection;
    if (scripted_take_request(node, socket, &message)) {
        scripted_release(&message);
        kv_client_cancel(script.client, script.request);
    }
    drain(socket);
}

static void a_blocking_call_can_be_cancelled_by_another_thread(void)
{
    scripted_node *node;
    kv_client *client = begin(&node, serve_cancel_blocking);
    client_batch batch;

    client_batch_open(&batch, KV_OP_GET, "x", 3, VALUE_SIZE);
    script.client = client;
    script.request = &batch.request;
    assert(kv_client_run(client, &batch.request) == 0);
    client_expect_all(&batch, KV_CANCELLED);
    client_batch_close(&batch);
    finish(node, client);
}

/* Sends half of a reply and no more. */
static void serve_stall(scripted_node *node, int socket, uint32_t connection)
{
    script.cut = 100 + VALUE_SIZE;
    serve_cut_reply(node, socket, connection);
    drain(socket);
}

static void a_reply_that_stalls_costs_the_deadline(void)
{
    scripted_node *node;
    kv_client *client = begin(&node, serve_stall);
    client_batch batch;

    client_batch_open(&batch, KV_OP_GET, "x", 3, VALUE_SIZE);
    batch.request.timeout_ms = 500;
    assert(kv_client_run(client, &batch.request) == 0);
    assert(batch.items[0].status == KV_OK && client_value_right(&batch, 0));
    assert(batch.items[1].status == KV_TIMEOUT && batch.items[2].status == KV_TIMEOUT);
    client_batch_close(&batch);
    client_get(client, "x", 3, VALUE_SIZE);
    finish(node, client);
}

static void *closer_thread(void *argument)
{
    assert(kv_client_close(argument, 0) == 0);
    return NULL;
}

static void serve_close_client(scripted_node *node, int socket, uint32_t connection)
{
    pthread_t thread;
    scripted_message message;

    (void)connection;
    if (scripted_take_request(node, socket, &message)) {
        scripted_release(&message);
        assert(pthread_create(&thread, NULL, closer_thread, script.client) == 0);
        drain(socket);
        pthread_join(thread, NULL);
    }
}

static void a_blocking_call_ends_when_the_client_is_closed(void)
{
    scripted_node *node;
    client_batch batch;

    script.client = begin(&node, serve_close_client);
    client_batch_open(&batch, KV_OP_GET, "x", 3, VALUE_SIZE);
    assert(kv_client_run(script.client, &batch.request) == 0);
    client_expect_all(&batch, KV_CANCELLED);
    client_batch_close(&batch);
    scripted_close(node);
}

int main(void)
{
    a_cancelled_batch_ends_at_every_stage(KV_OP_GET);
    a_cancelled_batch_ends_at_every_stage(KV_OP_SET);
    a_set_is_cancelled_in_the_middle_of_its_values();
    a_blocking_call_can_be_cancelled_by_another_thread();
    a_reply_that_stalls_costs_the_deadline();
    a_blocking_call_ends_when_the_client_is_closed();
    return 0;
}
