/* The client and replies: in parts, out of order, damaged, cut. No wrong byte is delivered. */

#include "client_script.h"

static void serve_in_pieces(scripted_node *node, int socket, uint32_t connection)
{
    scripted_message message;

    (void)connection;
    while (scripted_take_request(node, socket, &message)) {
        uint8_t *values;
        size_t values_size;
        uint32_t matched;
        kv_reply_item *items = scripted_execute(node, &message, &values, &values_size, &matched);
        size_t end = values_size;

        for (uint32_t i = message.request.count; i-- > 0;) {
            size_t size = items[i].status == KV_OK && message.request.operation == KV_OP_GET
                              ? items[i].size
                              : 0;

            end -= size;
            scripted_answer(socket, &message, false, KV_OK, &items[i], 1, values + end,
                            (uint32_t)size);
        }
        scripted_answer(socket, &message, true, KV_OK, NULL, 0, NULL, 0);
        free(items);
        free(values);
        scripted_release(&message);
    }
}

static void replies_come_in_parts_and_in_any_order(void)
{
    scripted_node *node;
    kv_client *client = begin(&node, serve_in_pieces);

    client_get(client, "x", 3, VALUE_SIZE);
    client_set(client, "y", 300, 400);
    client_get(client, "y", 300, 400);
    finish(node, client);
}

/* The first reply is damaged in the way that script.damage says; everything after that is right. */
static void serve_damaged(scripted_node *node, int socket, uint32_t connection)
{
    scripted_message message;

    while (scripted_take_request(node, socket, &message)) {
        uint8_t *values, *bytes;
        size_t values_size, size;
        uint32_t matched;
        kv_reply_item *items;

        if (visit(node) > 0) {
            scripted_serve_one(node, socket, &message);
            scripted_release(&message);
            continue;
        }
        items = scripted_execute(node, &message, &values, &values_size, &matched);
        if (script.damage == 0)
            message.head.request += KV_MESSAGE_COUNT_MAX; /* of no request */
        if (script.damage == 1)
            items[1].index = 0; /* twice the same */
        if (script.damage == 2)
            message.request.operation = KV_OP_EXISTS;
        bytes = scripted_reply(
            &message, script.damage != 3, KV_OK, items, script.damage == 4 ? 2 : 3, values,
            script.damage == 2 ? 0 : (uint32_t)(script.damage == 4 ? 2 * VALUE_SIZE : values_size),
            &size);
        if (script.damage >= 5)
            bytes[script.damage - 5] ^= 0x10;
        scripted_write(socket, bytes, size);
        if (script.damage == 3) /* the same reply again */
            scripted_write(socket, bytes, size);
        free(bytes);
        free(items);
        free(values);
        scripted_release(&message);
    }
    (void)connection;
}

static void a_reply_that_breaks_the_protocol_is_asked_for_again(void)
{
    /* Up to 4: lies; then one flipped bit in each byte of head and columns of three items. */
    for (script.damage = 0; script.damage < 5 + KV_MESSAGE_HEAD_SIZE + 55; script.damage++) {
        scripted_node *node;
        kv_client *client = begin(&node, serve_damaged);
        uint32_t before = atomic_load(&node->connections);

        client_get(client, "x", 3, VALUE_SIZE);
        /* What was answered before the lie (3: everything) is not asked for again. */
        assert(atomic_load(&node->connections) == before + (script.damage == 3 ? 1 : 2));
        finish(node, client);
    }
}

/* The value of x-1 is damaged in the first script.damage replies. */
static void serve_damaged_value(scripted_node *node, int socket, uint32_t connection)
{
    scripted_message message;

    (void)connection;
    while (scripted_take_request(node, socket, &message)) {
        uint8_t *values;
        size_t values_size;
        uint32_t matched;
        kv_reply_item *items = scripted_execute(node, &message, &values, &values_size, &matched);

        if (visit(node) < script.damage)
            values[message.request.count == 1 ? 0 : VALUE_SIZE] ^= 1;
        scripted_answer(socket, &message, true, KV_OK, items, message.request.count, values,
                        (uint32_t)values_size);
        free(items);
        free(values);
        scripted_release(&message);
    }
}

static void a_damaged_value_is_read_once_more(void)
{
    scripted_node *node;
    kv_client *client = begin(&node, serve_damaged_value);
    kv_client_statistics statistics;

    script.damage = 1;
    client_get(client, "x", 3, VALUE_SIZE);
    kv_client_statistics_read(client, &statistics);
    assert(statistics.corrupt_values == 1);
    finish(node, client);
}

static void a_value_that_stays_damaged_is_never_delivered_as_right(void)
{
    scripted_node *node;
    kv_client *client = begin(&node, serve_damaged_value);
    client_batch batch;

    script.damage = 2;
    client_run(client, &batch, KV_OP_GET, "x", 3, VALUE_SIZE);
    assert(batch.items[0].status == KV_OK && client_value_right(&batch, 0));
    assert(batch.items[1].status == KV_CORRUPT);
    assert(batch.items[2].status == KV_OK && client_value_right(&batch, 2));
    client_batch_close(&batch);
    finish(node, client);
}

static void unverified_values_are_taken_as_they_come(void)
{
    scripted_node *node;
    kv_client *verified = begin(&node, serve_damaged_value);
    kv_client *client = client_open_with((kv_client_options){.unverified = 1});
    const char *name = node->name;
    client_batch batch;

    script.damage = 1;
    client_route(client, &name, 1, 1);
    client_run(client, &batch, KV_OP_GET, "x", 3, VALUE_SIZE);
    client_expect_all(&batch, KV_OK);
    client_batch_close(&batch);
    assert(kv_client_close(verified, 1000) == 0);
    finish(node, client);
}

static void a_read_survives_a_reset_at_every_byte_of_its_reply(void)
{
    const size_t step = 61; /* of values; heads and columns byte by byte */

    for (script.cut = 0; script.cut < 120 + 3 * VALUE_SIZE;
         script.cut += script.cut < 120 ? 1 : step) {
        scripted_node *node;
        kv_client *client = begin(&node, serve_cut_reply);

        client_get(client, "x", 3, VALUE_SIZE);
        finish(node, client);
    }
}

int main(void)
{
    replies_come_in_parts_and_in_any_order();
    a_reply_that_breaks_the_protocol_is_asked_for_again();
    a_damaged_value_is_read_once_more();
    a_value_that_stays_damaged_is_never_delivered_as_right();
    unverified_values_are_taken_as_they_come();
    a_read_survives_a_reset_at_every_byte_of_its_reply();
    return 0;
}
