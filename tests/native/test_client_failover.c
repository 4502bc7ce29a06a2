/* The client and chains that lose members: updates are repeated to whoever is head now, reads go
 * to somebody else, and what nobody serves waits for routing info. */

#include "client_chain.h"

/* Takes an update and is gone with it; by then the chain goes on with the next node. */
static void serve_last_update(scripted_node *node, int socket, uint32_t connection)
{
    scripted_message message;

    (void)connection;
    assert(scripted_take_request(node, socket, &message));
    chain_same_update(&message);
    scripted_release(&message);
    chain_route(8, 1, 2);
}

/* Sees the update that its predecessor was given. */
static void serve_repeated(scripted_node *node, int socket, uint32_t connection)
{
    scripted_message message;

    while (scripted_take_request(node, socket, &message)) {
        if (chain_visit() == 0) {
            chain_same_update(&message);
            assert(message.request.chain_version == 8);
            assert(message.request.target == 1);
        }
        chain_serve_one(node, socket, &message);
        scripted_release(&message);
        (void)connection;
    }
}

static void an_update_is_repeated_to_the_new_head(void)
{
    static const uint32_t operations[] = {KV_OP_SET, KV_OP_DELETE, KV_OP_PIN};

    for (int i = 0; i < 3; i++) {
        client_batch batch;

        chain_begin(3);
        chain.nodes[0]->serve = serve_last_update;
        chain.nodes[1]->serve = serve_repeated;
        chain.nodes[1]->grant.run = 99; /* another run, of another node */
        chain_start();
        chain_route(7, 0, 3);
        client_run(chain.client, &batch, operations[i], "x", 4, VALUE_SIZE);
        client_expect_all(&batch, KV_OK);
        assert(chain.repeats == 1 && atomic_load(&chain.nodes[1]->applied) == 1);
        client_batch_close(&batch);
        client_set(chain.client, "later", 4, VALUE_SIZE);
        chain_end();
    }
}

/* Takes an update and is gone; another run of it, with another number, knows what became of it. */
static void serve_restart(scripted_node *node, int socket, uint32_t connection)
{
    scripted_message message;

    (void)connection;
    while (scripted_take_request(node, socket, &message)) {
        bool first = chain_visit() == 0;

        chain_same_update(&message);
        pthread_mutex_lock(&node->mutex);
        node->grant.run++;
        pthread_mutex_unlock(&node->mutex);
        if (!first)
            chain_serve_one(node, socket, &message);
        scripted_release(&message);
        if (first)
            return;
    }
}

static void an_update_is_repeated_to_another_run_of_the_head(void)
{
    chain_begin(1);
    chain.nodes[0]->serve = serve_restart;
    chain_start();
    chain_route(7, 0, 1);
    client_set(chain.client, "u", 4, VALUE_SIZE);
    assert(chain.repeats == 1 && atomic_load(&chain.nodes[0]->applied) == 1);
    chain_end();
}

/* Refuses in several ways, hears of the next version of the chain, and serves. */
static void serve_reluctant(scripted_node *node, int socket, uint32_t connection)
{
    static const kv_status refusals[] = {KV_WRONG_TARGET, KV_UNAVAILABLE, KV_BUSY, KV_WRONG_TARGET};
    scripted_message message;

    (void)connection;
    while (scripted_take_request(node, socket, &message)) {
        uint32_t visits = chain_visit();

        chain_same_update(&message);
        if (visits == 3)
            chain_route(9, 1, 2);
        if (visits < 4)
            scripted_answer(socket, &message, true, refusals[visits], NULL, 0, NULL, 0);
        else
            chain_serve_one(node, socket, &message);
        scripted_release(&message);
    }
}

static void a_repeated_update_stays_the_same_whoever_refuses_it(void)
{
    chain_begin(3);
    chain.nodes[0]->serve = serve_last_update;
    chain.nodes[1]->serve = serve_reluctant;
    chain_start();
    chain_route(7, 0, 3);
    client_set(chain.client, "u", 4, VALUE_SIZE);
    assert(chain.repeats == 5 && atomic_load(&chain.nodes[1]->applied) == 1);
    chain_end();
}

/* Refuses an update that nobody was given before: the next sending is a new one. */
static void serve_refused_once(scripted_node *node, int socket, uint32_t connection)
{
    scripted_message message;

    (void)connection;
    while (scripted_take_request(node, socket, &message)) {
        assert(!message.request.repeated);
        if (chain_visit() == 0)
            scripted_answer(socket, &message, true, KV_WRONG_TARGET, NULL, 0, NULL, 0);
        else
            chain_serve_one(node, socket, &message);
        scripted_release(&message);
    }
}

static void an_update_that_was_refused_at_once_is_a_new_one(void)
{
    chain_begin(1);
    chain.nodes[0]->serve = serve_refused_once;
    chain_start();
    chain_route(7, 0, 1);
    client_set(chain.client, "u", 4, VALUE_SIZE);
    chain_end();
}

/* Takes an update and is gone; by then its slot belongs to another chain. */
static void serve_moved_slot(scripted_node *node, int socket, uint32_t connection)
{
    static const kv_chain_member members[] = {{0, 0}, {1, 1}};
    static const kv_chain_route routes[] = {{8, 0, 1}, {8, 1, 1}};
    const char *names[] = {chain.nodes[0]->name, chain.nodes[1]->name};
    const uint32_t slot = 1;
    scripted_message message;
    char text[KV_MESSAGE_SIZE];

    (void)connection;
    assert(scripted_take_request(node, socket, &message));
    scripted_release(&message);
    assert(kv_client_route_chains(chain.client, 8, names, 2, members, 2, routes, 2, &slot, 1,
                                  text) == 0);
}

static void an_update_is_not_repeated_to_another_chain(void)
{
    client_batch batch;

    chain_begin(2);
    chain.nodes[0]->serve = serve_moved_slot;
    chain_start();
    chain_route(7, 0, 1);
    client_run(chain.client, &batch, KV_OP_SET, "u", 4, VALUE_SIZE);
    client_expect_all(&batch, KV_OUTCOME_UNKNOWN);
    assert(atomic_load(&chain.nodes[0]->requests) == 1);
    assert(atomic_load(&chain.nodes[1]->requests) == 0);
    client_batch_close(&batch);
    chain_end();
}

/* Takes one update, which is never answered, and then serves: each later one in another channel. */
static void serve_after_silence(scripted_node *node, int socket, uint32_t connection)
{
    scripted_message message;

    (void)connection;
    while (scripted_take_request(node, socket, &message)) {
        if (chain_visit() == 0) {
            chain_same_update(&message);
        } else {
            assert(message.request.channel != chain.channel);
            scripted_serve_one(node, socket, &message);
        }
        scripted_release(&message);
    }
}

static void a_channel_of_which_the_outcome_is_unknown_is_not_used_again(void)
{
    client_batch batch;

    chain_begin(1);
    chain.nodes[0]->serve = serve_after_silence;
    chain_start();
    chain_route(7, 0, 1);
    client_batch_open(&batch, KV_OP_SET, "u", 4, VALUE_SIZE);
    batch.request.timeout_ms = 30;
    assert(kv_client_run(chain.client, &batch.request) == 0);
    client_expect_all(&batch, KV_TIMEOUT);
    client_batch_close(&batch);
    for (int i = 0; i < 5; i++)
        client_set(chain.client, "v", 4, VALUE_SIZE);
    chain_end();
}

/* Takes a request and is gone with it. */
static void serve_cut(scripted_node *node, int socket, uint32_t connection)
{
    scripted_message message;

    (void)connection;
    if (scripted_take_request(node, socket, &message))
        scripted_release(&message);
}

static void a_read_goes_to_another_member_when_its_connection_is_lost(void)
{
    chain_begin(3);
    chain.nodes[0]->serve = chain.nodes[1]->serve = serve_cut;
    chain_start();
    chain_route(7, 0, 3);
    for (int i = 0; i < 30; i++)
        client_get(chain.client, "x", 4, VALUE_SIZE);
    assert(atomic_load(&chain.nodes[2]->requests) == 30);
    chain_end();
}

static void an_unreachable_member_is_avoided_but_not_for_ever(void)
{
    kv_client_statistics statistics;
    char text[256];

    chain_begin(3);
    scripted_start(chain.nodes[1]);
    scripted_start(chain.nodes[2]);
    chain_route(7, 0, 3);
    for (int i = 0; i < 50; i++)
        client_get(chain.client, "x", 4, VALUE_SIZE);
    kv_client_statistics_read(chain.client, &statistics);
    assert(statistics.connect_failures < 25);
    if (statistics.connect_failures > 0) {
        char expected[64];

        snprintf(expected, sizeof(expected), "%s\n", chain.nodes[0]->name);
        assert(chain_wait_trouble(text, sizeof(text)) == 0);
        assert(strcmp(text, expected) == 0);
    }
    scripted_start(chain.nodes[0]);
    while (atomic_load(&chain.nodes[0]->requests) == 0)
        client_get(chain.client, "x", 4, VALUE_SIZE);
    chain_end();
}

/* The kernel accepts connections of this node, but nobody says hello. */
static void a_read_does_not_wait_for_a_slow_connection(void)
{
    chain_begin(2);
    assert(kv_client_close(chain.client, 1000) == 0);
    chain.client = client_open_with((kv_client_options){.connect_timeout_ms = 60000});
    assert(listen(chain.nodes[0]->listener, 16) == 0);
    scripted_start(chain.nodes[1]);
    chain_route(7, 0, 2);
    for (int i = 0; i < 50; i++)
        client_get(chain.client, "x", 4, VALUE_SIZE);
    chain_route(8, 1, 1);
    client_get(chain.client, "x", 4, VALUE_SIZE);
    assert(kv_client_close(chain.client, 5000) == 0);
    scripted_start(chain.nodes[0]);
    scripted_close(chain.nodes[0]);
    scripted_close(chain.nodes[1]);
}

static void a_chain_of_nobody_is_waited_for(uint32_t operation)
{
    client_batch batch;
    kv_queue *queue;
    int descriptor;
    char text[64];

    chain_begin(1);
    chain_start();
    chain_route(7, 0, 0);
    assert(kv_queue_open(&queue, &descriptor) == 0);
    client_batch_open(&batch, operation, "x", 4, VALUE_SIZE);
    assert(kv_client_submit(chain.client, queue, &batch.request) == 0);
    assert(chain_wait_trouble(text, sizeof(text)) > 0 && text[0] == '\0');
    chain_route(8, 0, 1);
    chain_reap(queue, descriptor);
    client_expect_all(&batch, KV_OK);
    client_batch_close(&batch);
    kv_queue_close(queue);
    chain_end();
}

static void *blocking_thread(void *argument)
{
    client_get(argument, "x", 4, VALUE_SIZE);
    return NULL;
}

static void a_blocking_call_is_woken_by_newer_routing_info(void)
{
    pthread_t thread;
    char text[64];

    chain_begin(1);
    chain_start();
    chain_route(7, 0, 0);
    assert(pthread_create(&thread, NULL, blocking_thread, chain.client) == 0);
    chain_wait_trouble(text, sizeof(text));
    chain_route(8, 0, 1);
    pthread_join(thread, NULL);
    chain_end();
}

static void a_chain_of_nobody_costs_the_deadline(void)
{
    client_batch batch;

    chain_begin(1);
    chain_start();
    chain_route(7, 0, 0);
    client_batch_open(&batch, KV_OP_GET, "x", 4, VALUE_SIZE);
    batch.request.timeout_ms = 30;
    assert(kv_client_run(chain.client, &batch.request) == 0);
    client_expect_all(&batch, KV_UNAVAILABLE);
    client_batch_close(&batch);
    assert(kv_client_run(chain.client, &(kv_request){.operation = KV_OP_FLUSH}) < 0);
    chain_end();
}

/* Takes what comes, never answers, and tells that it is out of the chain. */
static void serve_departed(scripted_node *node, int socket, uint32_t connection)
{
    scripted_message message;

    (void)connection;
    if (scripted_take_request(node, socket, &message)) {
        if (!message.request.sequence)
            chain_visit();
        else
            chain_same_update(&message);
        scripted_release(&message);
        chain_route(8, 1, 1);
    }
    chain_drain(socket);
}

static void a_silent_node_that_left_its_chain_is_not_waited_for(void)
{
    chain_begin(2);
    chain.nodes[0]->serve = serve_departed;
    chain.nodes[1]->serve = serve_repeated;
    chain_start();
    chain_route(7, 0, 2);
    client_set(chain.client, "u", 4, VALUE_SIZE);
    assert(chain.repeats == 1);
    chain_end();
}

static void nor_does_an_asynchronous_read_wait_for_it(void)
{
    client_batch batch;
    kv_queue *queue;
    int descriptor;

    chain_begin(2);
    chain.nodes[0]->serve = serve_departed;
    chain_start();
    chain_route(7, 0, 1);
    assert(kv_queue_open(&queue, &descriptor) == 0);
    client_batch_open(&batch, KV_OP_GET, "x", 4, VALUE_SIZE);
    assert(kv_client_submit(chain.client, queue, &batch.request) == 0);
    chain_reap(queue, descriptor);
    client_expect_values(&batch);
    assert(chain.visits == 1);
    client_batch_close(&batch);
    kv_queue_close(queue);
    chain_end();
}

static void who_waits_for_a_dead_head_goes_to_the_next_one(void)
{
    client_batch batch;
    kv_queue *queue;
    int descriptor;
    char text[64];

    chain_begin(2); /* nobody listens at the head */
    scripted_start(chain.nodes[1]);
    chain_route(7, 0, 2);
    assert(kv_queue_open(&queue, &descriptor) == 0);
    client_batch_open(&batch, KV_OP_SET, "u", 4, VALUE_SIZE);
    assert(kv_client_submit(chain.client, queue, &batch.request) == 0);
    chain_wait_trouble(text, sizeof(text));
    assert(strncmp(text, chain.nodes[0]->name, strlen(chain.nodes[0]->name)) == 0);
    chain_route(8, 1, 1);
    chain_reap(queue, descriptor);
    client_expect_all(&batch, KV_OK);
    client_batch_close(&batch);
    kv_queue_close(queue);
    scripted_start(chain.nodes[0]);
    chain_end();
}

static void a_flush_goes_to_who_came_and_not_to_who_left(void)
{
    kv_request request = {.operation = KV_OP_FLUSH, .timeout_ms = 20000};
    kv_queue *queue;
    int descriptor;
    char text[64];

    chain_begin(3); /* nobody listens at the head */
    scripted_start(chain.nodes[1]);
    scripted_start(chain.nodes[2]);
    chain_route(7, 0, 2);
    assert(kv_queue_open(&queue, &descriptor) == 0);
    assert(kv_client_submit(chain.client, queue, &request) == 0);
    chain_wait_trouble(text, sizeof(text));
    chain_route(8, 1, 2);
    chain_reap(queue, descriptor);
    assert(request.status == KV_OK);
    assert(atomic_load(&chain.nodes[2]->requests) > 0);
    kv_queue_close(queue);
    scripted_start(chain.nodes[0]);
    chain_end();
}

int main(void)
{
    an_update_is_repeated_to_the_new_head();
    an_update_is_repeated_to_another_run_of_the_head();
    a_repeated_update_stays_the_same_whoever_refuses_it();
    an_update_that_was_refused_at_once_is_a_new_one();
    an_update_is_not_repeated_to_another_chain();
    a_channel_of_which_the_outcome_is_unknown_is_not_used_again();
    a_read_goes_to_another_member_when_its_connection_is_lost();
    an_unreachable_member_is_avoided_but_not_for_ever();
    a_read_does_not_wait_for_a_slow_connection();
    a_chain_of_nobody_is_waited_for(KV_OP_GET);
    a_chain_of_nobody_is_waited_for(KV_OP_SET);
    a_blocking_call_is_woken_by_newer_routing_info();
    a_chain_of_nobody_costs_the_deadline();
    a_silent_node_that_left_its_chain_is_not_waited_for();
    nor_does_an_asynchronous_read_wait_for_it();
    who_waits_for_a_dead_head_goes_to_the_next_one();
    a_flush_goes_to_who_came_and_not_to_who_left();
    return 0;
}
