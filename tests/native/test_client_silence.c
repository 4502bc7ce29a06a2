/* The client and members of a chain that say nothing: reads do not wait for them. */

#include "client_chain.h"

#include "bytes/clock.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>

#define PROMPT_MS 5000u /* far below the deadline, and far above what a repeated read takes */

static atomic_bool read_returned;

static void expect_prompt(uint64_t begin_ns)
{
    assert(kv_clock_ns() < begin_ns + (uint64_t)PROMPT_MS * 1000000u);
}

/* Whoever of two is asked, one of them never answers; the reads come back all the same. */
static void a_read_is_repeated_at_a_member_that_answers(void)
{
    uint64_t begin_ns = kv_clock_ns();

    chain_begin(2);
    chain.nodes[0]->serve = chain_serve_silence;
    chain_start();
    chain_route(7, 0, 2);
    for (int i = 0; i < 8; i++)
        client_get(chain.client, "x", 4, VALUE_SIZE);
    expect_prompt(begin_ns);
    chain_end();
}

static void every_kind_of_read_is(void)
{
    static const uint32_t operations[] = {KV_OP_EXISTS, KV_OP_MATCH_PREFIX};

    for (int i = 0; i < 2; i++) {
        uint64_t begin_ns = kv_clock_ns();

        chain_begin(2);
        chain.nodes[1]->serve = chain_serve_silence;
        chain_start();
        chain_route(7, 0, 2);
        for (int k = 0; k < 6; k++) {
            client_batch batch;

            client_run(chain.client, &batch, operations[i], "x", 4, VALUE_SIZE);
            client_expect_all(&batch, KV_OK);
            client_batch_close(&batch);
        }
        expect_prompt(begin_ns);
        chain_end();
    }
}

static void an_update_waits_for_a_silent_head(void)
{
    client_batch batch;

    chain_begin(2);
    chain.nodes[0]->serve = chain_serve_silence;
    chain_start();
    chain_route(7, 0, 2);
    client_batch_open(&batch, KV_OP_SET, "u", 4, VALUE_SIZE);
    batch.request.timeout_ms = 300;
    assert(kv_client_run(chain.client, &batch.request) == 0);
    client_expect_all(&batch, KV_TIMEOUT);
    client_batch_close(&batch);
    assert(atomic_load(&chain.nodes[1]->requests) == 0);
    chain_end();
}

/* Sends a reply with values of its own making, or so many bytes of it. */
static void answer_with(scripted_node *node, int socket, const scripted_message *message,
                        uint8_t byte, size_t bytes_max)
{
    uint8_t *values, *bytes;
    size_t values_size, size;
    uint32_t matched;
    kv_reply_item *items = scripted_execute(node, message, &values, &values_size, &matched);

    memset(values, byte, values_size);
    for (uint32_t i = 0; i < message->request.count; i++)
        items[i].checksum = kv_checksum(0, values, items[i].size);
    bytes = scripted_reply(message, true, KV_OK, items, message->request.count, values,
                           (uint32_t)values_size, &size);
    scripted_write(socket, bytes, bytes_max < size ? bytes_max : size);
    free(bytes);
    free(items);
    free(values);
}

/* Answers the first request wrongly, and only once the test says so; then honestly. */
static void serve_late(scripted_node *node, int socket, uint32_t connection)
{
    scripted_message message;

    (void)connection;
    while (scripted_take_request(node, socket, &message)) {
        if (chain_visit() == 0) {
            while (!atomic_load(&read_returned))
                sched_yield();
            answer_with(node, socket, &message, 0xEE, SIZE_MAX);
        } else {
            chain_serve_one(node, socket, &message);
        }
        scripted_release(&message);
    }
}

static uint32_t visits_now(void)
{
    uint32_t visits;

    pthread_mutex_lock(&chain.mutex);
    visits = chain.visits;
    pthread_mutex_unlock(&chain.mutex);
    return visits;
}

/* Its bytes come on the same connection as a later answer, and before it. */
static void a_late_answer_writes_into_nobodys_buffers(void)
{
    client_batch batch;

    chain_begin(2);
    chain.nodes[0]->serve = serve_late;
    atomic_store(&read_returned, false);
    chain_start();
    chain_route(7, 0, 2);
    while (visits_now() == 0) { /* until the late one is asked */
        client_batch_open(&batch, KV_OP_GET, "x", 4, VALUE_SIZE);
        assert(kv_client_run(chain.client, &batch.request) == 0);
        client_expect_values(&batch);
        if (visits_now() == 0)
            client_batch_close(&batch);
    }
    atomic_store(&read_returned, true);
    while (visits_now() < 2)
        client_get(chain.client, "x", 4, VALUE_SIZE);
    client_expect_values(&batch);
    client_batch_close(&batch);
    chain_end();
}

/* Stops in the middle of a value. */
static void serve_half(scripted_node *node, int socket, uint32_t connection)
{
    scripted_message message;

    (void)connection;
    if (scripted_take_request(node, socket, &message)) {
        answer_with(node, socket, &message, 0xEE, 200 + VALUE_SIZE);
        scripted_release(&message);
    }
    chain_drain(socket);
}

static void a_read_that_stops_halfway_is_repeated(void)
{
    uint64_t begin_ns = kv_clock_ns();

    chain_begin(2);
    chain.nodes[1]->serve = serve_half;
    chain_start();
    chain_route(7, 0, 2);
    for (int i = 0; i < 6; i++) {
        client_batch batch;

        client_run(chain.client, &batch, KV_OP_GET, "x", 4, VALUE_SIZE);
        for (uint32_t k = 1; k < 4; k++) /* the first may have come whole from the other one */
            assert(batch.items[k].status == KV_OK && client_value_right(&batch, k));
        client_batch_close(&batch);
    }
    expect_prompt(begin_ns);
    chain_end();
}

int main(void)
{
    a_read_is_repeated_at_a_member_that_answers();
    every_kind_of_read_is();
    an_update_waits_for_a_silent_head();
    a_late_answer_writes_into_nobodys_buffers();
    a_read_that_stops_halfway_is_repeated();
}
