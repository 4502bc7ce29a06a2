/* The client and chains that are well: updates go to the head, reads to any member, what is dirty
 * to the tail, and who is refused for a chain version waits for newer routing info. */

#include "client_chain.h"

static void updates_go_to_the_head(void)
{
    chain_begin(3);
    chain_start();
    chain_route(7, 0, 3);
    client_set(chain.client, "u", 20, VALUE_SIZE);
    assert(atomic_load(&chain.nodes[0]->applied) > 0);
    assert(atomic_load(&chain.nodes[1]->applied) == 0);
    assert(atomic_load(&chain.nodes[2]->applied) == 0);
    chain_route(8, 1, 2);
    client_set(chain.client, "v", 20, VALUE_SIZE);
    assert(atomic_load(&chain.nodes[1]->applied) > 0);
    assert(atomic_load(&chain.nodes[2]->applied) == 0);
    chain_end();
}

static void reads_go_to_every_member(void)
{
    chain_begin(3);
    chain_start();
    chain_route(7, 0, 3);
    for (int i = 0; i < 300; i++)
        client_get(chain.client, "x", 4, VALUE_SIZE);
    for (uint32_t i = 0; i < 3; i++)
        assert(atomic_load(&chain.nodes[i]->requests) > 0);
    chain_end();
}

/* A target that has moved on by itself serves under another number. */
static void serve_own_target(scripted_node *node, int socket, uint32_t connection)
{
    scripted_message message;

    (void)connection;
    while (scripted_take_request(node, socket, &message)) {
        assert(chain.nodes[message.request.target] == node);
        scripted_serve_one(node, socket, &message);
        scripted_release(&message);
    }
}

static void each_member_is_asked_for_its_own_target(void)
{
    chain_begin(3);
    for (uint32_t i = 0; i < 3; i++)
        chain.nodes[i]->serve = serve_own_target;
    chain_start();
    chain_route(7, 0, 3);
    for (int i = 0; i < 50; i++)
        client_get(chain.client, "x", 4, VALUE_SIZE);
    chain_end();
}

static void a_batch_is_cut_by_chain(void)
{
    static const kv_chain_member members[] = {{0, 0}, {1, 1}, {2, 2}};
    static const kv_chain_route routes[] = {{3, 0, 1}, {3, 1, 1}, {3, 2, 1}};
    static const uint32_t slots[] = {0, 1, 2, 0, 1, 2, 0, 1};
    const char *names[3];
    char message[KV_MESSAGE_SIZE];
    uint32_t objects = 0;

    chain_begin(3);
    chain_start();
    chain_route(3, 0, 1);
    for (uint32_t i = 0; i < 3; i++)
        names[i] = chain.nodes[i]->name;
    assert(kv_client_route_chains(chain.client, 4, names, 3, members, 3, routes, 3, slots, 8,
                                  message) == 0);
    client_set(chain.client, "c", 200, 30);
    client_get(chain.client, "c", 200, 30);
    for (uint32_t i = 0; i < 3; i++) {
        assert(chain.nodes[i]->object_count > 20);
        objects += chain.nodes[i]->object_count;
    }
    assert(objects == 200 + 3 * 4);
    chain_end();
}

/* Every second item is dirty. */
static void serve_dirty(scripted_node *node, int socket, uint32_t connection)
{
    scripted_message message;

    (void)connection;
    while (scripted_take_request(node, socket, &message)) {
        kv_reply_item *items;
        uint8_t *values;
        size_t values_size;
        uint32_t matched, kept = 0;

        assert(message.request.count == 4); /* what was dirty does not come here again */
        items = scripted_execute(node, &message, &values, &values_size, &matched);
        for (uint32_t i = 0; i < message.request.count; i++) {
            if (i % 2 == 1) {
                items[i] = (kv_reply_item){.index = i, .status = KV_DIRTY};
                continue;
            }
            memmove(values + (size_t)kept * VALUE_SIZE, values + (size_t)i * VALUE_SIZE,
                    VALUE_SIZE);
            kept++;
        }
        scripted_answer(socket, &message, true, KV_OK, items, message.request.count, values,
                        kept * VALUE_SIZE);
        free(items);
        free(values);
        scripted_release(&message);
    }
}

static void what_is_dirty_is_asked_of_the_tail_in_one_message(void)
{
    chain_begin(3);
    chain.nodes[0]->serve = chain.nodes[1]->serve = serve_dirty;
    chain_start();
    chain_route(7, 0, 3);
    for (int i = 0; i < 200; i++)
        client_get(chain.client, "x", 4, VALUE_SIZE);
    assert(atomic_load(&chain.nodes[0]->requests) > 0);
    assert(atomic_load(&chain.nodes[1]->requests) > 0);
    assert(atomic_load(&chain.nodes[2]->requests) == 200);
    chain_end();
}

/* A prefix of which something is dirty is not told at all. */
static void serve_dirty_prefix(scripted_node *node, int socket, uint32_t connection)
{
    scripted_message message;

    (void)node;
    (void)connection;
    while (scripted_take_request(node, socket, &message)) {
        scripted_answer(socket, &message, true, KV_DIRTY, NULL, 0, NULL, 0);
        scripted_release(&message);
    }
}

static void a_dirty_prefix_is_asked_of_the_tail(void)
{
    client_batch batch;

    chain_begin(2);
    chain.nodes[0]->serve = serve_dirty_prefix;
    chain_start();
    chain_route(7, 0, 2);
    for (int i = 0; i < 20; i++) {
        client_run(chain.client, &batch, KV_OP_MATCH_PREFIX, "x", 6, 0);
        assert(batch.request.status == KV_OK && batch.request.matched == 4);
        client_batch_close(&batch);
    }
    chain_end();
}

/* Dirty for the first five times. */
static void serve_dirty_for_a_while(scripted_node *node, int socket, uint32_t connection)
{
    scripted_message message;

    (void)connection;
    while (scripted_take_request(node, socket, &message)) {
        if (chain_visit() < 5)
            scripted_answer(socket, &message, true, KV_DIRTY, NULL, 0, NULL, 0);
        else
            scripted_serve_one(node, socket, &message);
        scripted_release(&message);
    }
}

static void a_dirty_tail_is_asked_again(void)
{
    chain_begin(1);
    chain.nodes[0]->serve = serve_dirty_for_a_while;
    chain_start();
    chain_route(7, 0, 1);
    client_get(chain.client, "x", 4, VALUE_SIZE);
    assert(atomic_load(&chain.nodes[0]->requests) == 6);
    chain_end();
}

static void a_tail_that_stays_dirty_costs_the_deadline(void)
{
    client_batch batch;

    chain_begin(1);
    chain.nodes[0]->serve = serve_dirty_prefix;
    chain_start();
    chain_route(7, 0, 1);
    client_batch_open(&batch, KV_OP_GET, "x", 4, VALUE_SIZE);
    batch.request.timeout_ms = 30;
    assert(kv_client_run(chain.client, &batch.request) == 0);
    client_expect_all(&batch, KV_TIMEOUT);
    client_batch_close(&batch);
    chain_end();
}

/* The target goes by version 9 already; the client hears of it when it was refused for the third
 * time. */
static void serve_newer(scripted_node *node, int socket, uint32_t connection)
{
    scripted_message message;

    (void)connection;
    while (scripted_take_request(node, socket, &message)) {
        if (message.request.chain_version == 9) {
            scripted_serve_one(node, socket, &message);
        } else {
            if (chain_visit() == 2)
                chain_route(9, 0, 1);
            scripted_answer(socket, &message, true, KV_WRONG_TARGET, NULL, 0, NULL, 0);
        }
        scripted_release(&message);
    }
}

static void who_is_refused_for_its_chain_version_goes_on_by_newer_routing_info(void)
{
    static const uint32_t operations[] = {KV_OP_GET, KV_OP_SET, KV_OP_DELETE};

    for (int i = 0; i < 3; i++) {
        client_batch batch;

        chain_begin(1);
        chain.nodes[0]->serve = serve_newer;
        chain_start();
        chain_route(8, 0, 1);
        client_run(chain.client, &batch, operations[i], "x", 4, VALUE_SIZE);
        client_expect_all(&batch, KV_OK);
        assert(atomic_load(&chain.nodes[0]->applied) == (operations[i] != KV_OP_GET));
        assert(atomic_load(&chain.nodes[0]->requests) == 4);
        assert(kv_client_trouble(chain.client, NULL, 0, NULL) == 3);
        client_batch_close(&batch);
        chain_end();
    }
}

static void a_node_that_lags_behind_is_asked_again(void)
{
    chain_begin(1);
    chain.nodes[0]->serve = serve_dirty_for_a_while;
    chain_start();
    chain_route(7, 0, 1);
    client_set(chain.client, "x", 4, VALUE_SIZE); /* whatever refuses an update pauses it */
    chain_end();
}

/* One of several members cannot read its objects. */
static void serve_unreadable(scripted_node *node, int socket, uint32_t connection)
{
    scripted_message message;

    (void)connection;
    while (scripted_take_request(node, socket, &message)) {
        kv_reply_item items[4] = {{.index = 0, .status = KV_IO_ERROR},
                                  {.index = 1, .status = KV_CORRUPT},
                                  {.index = 2, .status = KV_UNAVAILABLE},
                                  {.index = 3, .status = KV_NOT_FOUND}};

        chain_visit();
        scripted_answer(socket, &message, true, KV_OK, items, message.request.count, NULL, 0);
        scripted_release(&message);
    }
}

static void what_one_member_cannot_read_another_can(void)
{
    client_batch batch;

    chain_begin(2);
    chain.nodes[1]->serve = serve_unreadable;
    chain_start();
    chain_route(7, 0, 2);
    for (int i = 0; i < 200 && chain.visits == 0; i++) {
        client_run(chain.client, &batch, KV_OP_GET, "x", 4, VALUE_SIZE);
        for (uint32_t j = 0; j < 3; j++)
            assert(batch.items[j].status == KV_OK && client_value_right(&batch, j));
        client_batch_close(&batch);
    }
    assert(chain.visits > 0);
    chain_end();
}

static void what_no_member_can_read_says_why(void)
{
    client_batch batch;

    chain_begin(2);
    chain.nodes[0]->serve = chain.nodes[1]->serve = serve_unreadable;
    chain_start();
    chain_route(7, 0, 2);
    client_run(chain.client, &batch, KV_OP_EXISTS, "x", 4, 0);
    assert(batch.items[0].status == KV_IO_ERROR || batch.items[0].status == KV_OUTCOME_UNKNOWN);
    assert(batch.items[3].status == KV_NOT_FOUND);
    client_batch_close(&batch);
    chain_end();
}

static void a_flush_goes_to_every_member(void)
{
    chain_begin(3);
    chain_start();
    chain_route(7, 0, 3);
    assert(kv_client_run(chain.client,
                         &(kv_request){.operation = KV_OP_FLUSH, .timeout_ms = 20000}) == 0);
    for (uint32_t i = 0; i < 3; i++)
        assert(atomic_load(&chain.nodes[i]->requests) == 1);
    chain_end();
}

static void routes_that_make_no_sense_are_refused(void)
{
    static const kv_chain_member member = {1, 0};
    static const kv_chain_route route = {1, 0, 1};
    static const uint32_t slot = 0;
    char message[KV_MESSAGE_SIZE] = "";
    const char *name = "127.0.0.1:1";
    kv_client *client = client_open_with((kv_client_options){0});

    assert(kv_client_route_chains(client, 1, &name, 1, &member, 1, &route, 1, &slot, 1, message) ==
           -EINVAL);
    assert(strstr(message, "chain"));
    assert(kv_client_close(client, 1000) == 0);
}

int main(void)
{
    updates_go_to_the_head();
    reads_go_to_every_member();
    each_member_is_asked_for_its_own_target();
    a_batch_is_cut_by_chain();
    what_is_dirty_is_asked_of_the_tail_in_one_message();
    a_dirty_prefix_is_asked_of_the_tail();
    a_dirty_tail_is_asked_again();
    a_tail_that_stays_dirty_costs_the_deadline();
    who_is_refused_for_its_chain_version_goes_on_by_newer_routing_info();
    a_node_that_lags_behind_is_asked_again();
    what_one_member_cannot_read_another_can();
    what_no_member_can_read_says_why();
    a_flush_goes_to_every_member();
    routes_that_make_no_sense_are_refused();
    return 0;
}
