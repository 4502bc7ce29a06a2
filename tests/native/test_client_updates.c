/* The client and updates whose requests or replies are lost: each takes effect once. */

#include "client_script.h"

/* Remembers the last update, as nodes do; the first connection goes after script.cut bytes of the
 * request, or (script.damage) after it was applied. */
static void serve_update(scripted_node *node, int socket, uint32_t connection)
{
    static atomic_ullong sequence_applied;
    scripted_message message;

    (void)connection;
    if (visit(node) == 0) {
        atomic_store(&sequence_applied, 0);
        if (!script.damage) {
            uint8_t *bytes = malloc(script.cut + 1);

            assert(bytes);
            scripted_read(socket, bytes, script.cut);
            free(bytes);
            return;
        }
    }
    while (scripted_take_request(node, socket, &message)) {
        kv_reply_item items[8] = {0};

        if (message.request.sequence > atomic_load(&sequence_applied)) {
            atomic_fetch_add(&node->applied, 1);
            atomic_store(&sequence_applied, message.request.sequence);
            if (script.damage) {
                script.damage = 0;
                scripted_release(&message);
                return;
            }
        } else {
            assert(message.request.repeated);
        }
        for (uint32_t i = 0; i < message.request.count; i++)
            items[i].index = i;
        scripted_answer(socket, &message, true, KV_OK, items, message.request.count, NULL, 0);
        scripted_release(&message);
    }
}

static void an_update_takes_effect_once_when_its_request_is_cut(void)
{
    for (script.cut = 0; script.cut < 569; script.cut += script.cut < 160 ? 1 : 13) {
        scripted_node *node;
        kv_client *client = begin(&node, serve_update);

        script.damage = 0;
        client_set(client, "u", 3, 150);
        assert(atomic_load(&node->applied) == 1);
        finish(node, client);
    }
}

static void an_update_takes_effect_once_when_its_reply_is_lost(void)
{
    scripted_node *node;
    kv_client *client = begin(&node, serve_update);

    script.damage = 1;
    client_set(client, "u", 3, 100);
    assert(atomic_load(&node->applied) == 1);
    finish(node, client);
}

/* The first connection breaks with the update under way; it is still running when it comes again,
 * twice, and done the third time. */
static void serve_running(scripted_node *node, int socket, uint32_t connection)
{
    static atomic_ullong sequence_running;
    scripted_message message;
    uint32_t busy = 2;

    (void)connection;
    if (visit(node) == 0) {
        assert(scripted_take_request(node, socket, &message));
        assert(!message.request.repeated);
        atomic_store(&sequence_running, message.request.sequence);
        atomic_fetch_add(&node->applied, 1);
        scripted_release(&message);
        return;
    }
    while (scripted_take_request(node, socket, &message)) {
        kv_reply_item items[8] = {0};

        assert(message.request.repeated);
        assert(message.request.sequence == atomic_load(&sequence_running));
        for (uint32_t i = 0; i < message.request.count; i++)
            items[i].index = i;
        if (busy > 0)
            scripted_answer(socket, &message, true, KV_BUSY, NULL, 0, NULL, 0);
        else
            scripted_answer(socket, &message, true, KV_OK, items, message.request.count, NULL, 0);
        busy -= busy > 0;
        scripted_release(&message);
    }
}

static void an_update_that_still_runs_is_asked_for_until_it_is_known(void)
{
    scripted_node *node;
    kv_client *client = begin(&node, serve_running);

    client_set(client, "u", 3, 150);
    assert(atomic_load(&node->applied) == 1);
    finish(node, client);
}

static void serve_restart(scripted_node *node, int socket, uint32_t connection)
{
    scripted_message message;

    if (visit(node) > 0) {
        scripted_serve_store(node, socket, connection);
        return;
    }
    if (scripted_take_request(node, socket, &message))
        scripted_release(&message);
    pthread_mutex_lock(&node->mutex);
    node->grant.run++;
    pthread_mutex_unlock(&node->mutex);
}

static void an_update_is_not_repeated_to_a_node_that_restarted(void)
{
    scripted_node *node;
    kv_client *client = begin(&node, serve_restart);
    client_batch batch;

    client_run(client, &batch, KV_OP_SET, "u", 3, 100);
    client_expect_all(&batch, KV_OUTCOME_UNKNOWN);
    assert(atomic_load(&node->applied) == 0);
    client_batch_close(&batch);
    client_set(client, "u", 3, 100);
    finish(node, client);
}

/* Answers the request before its values have come. */
static void serve_early(scripted_node *node, int socket, uint32_t connection)
{
    uint8_t head[KV_MESSAGE_HEAD_SIZE];
    scripted_message message = {0};
    kv_reply_item item = {.status = KV_NO_SPACE};

    (void)connection;
    if (!scripted_read(socket, head, sizeof(head)))
        return;
    assert(kv_message_decode(head, &message.head) == 0);
    message.request.operation = KV_OP_SET;
    scripted_answer(socket, &message, true, KV_OK, &item, 1, NULL, 0);
    message.values = malloc(message.head.columns_size + message.head.values_size);
    assert(message.values);
    assert(scripted_read(socket, message.values,
                         message.head.columns_size + message.head.values_size));
    free(message.values);
    scripted_serve_store(node, socket, connection);
}

static void an_answer_may_come_before_the_request_is_sent_whole(void)
{
    scripted_node *node;
    kv_client *client = begin(&node, serve_early);
    client_batch batch;

    client_run(client, &batch, KV_OP_SET, "e", 1, 16u << 20);
    client_expect_all(&batch, KV_NO_SPACE);
    client_batch_close(&batch);
    client_get(client, "x", 3, VALUE_SIZE);
    finish(node, client);
}

int main(void)
{
    an_update_takes_effect_once_when_its_request_is_cut();
    an_update_takes_effect_once_when_its_reply_is_lost();
    an_update_that_still_runs_is_asked_for_until_it_is_known();
    an_update_is_not_repeated_to_a_node_that_restarted();
    an_answer_may_come_before_the_request_is_sent_whole();
    return 0;
}
