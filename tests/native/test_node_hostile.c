/* Hostile and unlucky clients against a real node: each is cut, counted and named, the node stays up, and a client
 * that behaves notices nothing. */

#include "node_client.h"

#define SHORT_MS 100u
#define CROWD 200u

static void behaved_client_works(node_world *world)
{
    node_client client = client_open(world, 1);
    node_batch batch = batch_make(4, 3000);

    client_set(&client, &batch, "good", 1);
    client_get(&client, &batch, "good", 1);
    batch_free(&batch);
    client_close(&client);
}

static node_world hostile_world(uint32_t reactor_driver)
{
    node_world world = world_plan(1);

    world.options.reactor_driver = reactor_driver;
    return world;
}

static void a_wrong_secret_is_refused_with_a_reason(uint32_t driver)
{
    node_world world = hostile_world(driver);
    node_client client;
    kv_node_event event;

    world.options.secret = (const uint8_t *)"right";
    world.options.secret_size = 5;
    world_open(&world);
    client = client_plan(1);
    client_connect(&client, &world);
    assert(client_greet(&client, "wrong") < 0 && client.reason[0]);
    event = world_event(&world, KV_EVENT_REFUSED);
    assert(strstr(event.text, "127.0.0.1:"));
    client_expect_end(&client);
    client_close(&client);

    client = client_plan(1);
    client_connect(&client, &world);
    assert(client_greet(&client, NULL) < 0);
    client_close(&client);
    client = client_plan(1);
    client_connect(&client, &world);
    assert(client_greet(&client, "right") == 0);

    /* From now on another one; those that are in stay. */
    assert(kv_node_set_secret(world.node, (const uint8_t *)"newer", 5) == 0);
    {
        node_batch batch = batch_make(2, 10);
        node_client late = client_plan(2);

        client_set(&client, &batch, "s", 1);
        client_connect(&late, &world);
        assert(client_greet(&late, "right") < 0);
        client_close(&late);
        late = client_plan(2);
        client_connect(&late, &world);
        assert(client_greet(&late, "newer") == 0);
        client_close(&late);
        batch_free(&batch);
    }
    client_close(&client);
    world_close(&world);
}

/* What a proven client sent is worth nothing on another connection. */
static void a_replayed_proof_is_refused(uint32_t driver)
{
    static const uint8_t nonce[KV_NONCE_SIZE] = {1, 2, 3};
    static const char secret[] = "secret";
    node_world world = hostile_world(driver);
    uint8_t hello_bytes[KV_HELLO_MESSAGE_SIZE_MAX];
    uint8_t proof_bytes[KV_HELLO_MESSAGE_SIZE_MAX];
    kv_hello *hello = calloc(1, sizeof(*hello));
    node_client client = client_plan(1);
    node_message message;
    int hello_size;
    int proof_size;

    world.options.secret = (const uint8_t *)secret;
    world.options.secret_size = 6;
    world_open(&world);
    client_connect(&client, &world);
    hello_size = kv_hello_begin_client(hello, &client.names, (const uint8_t *)secret, 6, nonce, hello_bytes);
    assert(client_write(&client, hello_bytes, (size_t)hello_size) && client_receive(&client, &message));
    proof_size = kv_hello_step(hello, &message.head, message.bytes, proof_bytes);
    free(message.bytes);
    assert(client_write(&client, proof_bytes, (size_t)proof_size) && client_receive(&client, &message));
    assert(message.head.kind == KV_MESSAGE_WELCOME);
    free(message.bytes);
    client_close(&client);

    client_connect(&client, &world);
    assert(client_write(&client, hello_bytes, (size_t)hello_size) && client_receive(&client, &message));
    free(message.bytes);
    assert(client_write(&client, proof_bytes, (size_t)proof_size) && client_receive(&client, &message));
    assert(message.head.kind == KV_MESSAGE_REFUSAL);
    free(message.bytes);
    client_expect_end(&client);
    client_close(&client);
    world_event(&world, KV_EVENT_REFUSED);
    free(hello);
    world_close(&world);
}

static void garbage_is_cut(node_world *world)
{
    static const char garbage[] = "GET / HTTP/1.1\r\nHost: somewhere\r\nAccept: everything\r\n\r\n";
    node_client client = client_plan(2);
    kv_node_event event;

    client_connect(&client, world);
    client_write(&client, garbage, sizeof(garbage));
    client_expect_end(&client);
    event = world_event(world, KV_EVENT_CUT_PROTOCOL);
    assert(strstr(event.text, "127.0.0.1:") && strstr(event.text, "no message"));
    client_close(&client);
    behaved_client_works(world);
}

/* A whole request with one byte changed, for each byte of head and columns: never a reply, never harm. */
static void a_request_with_any_byte_changed_is_cut(node_world *world)
{
    node_client client = client_open(world, 3);
    node_batch batch = batch_make(1, 10);
    size_t size;
    uint8_t *bytes = client_encode(&client, batch_prepare(&batch, KV_OP_GET, "x", 1), &size);

    client_close(&client);
    for (size_t at = 0; at < size; at++) {
        client = client_open(world, 3);
        bytes[at] ^= 0x40;
        client_write(&client, bytes, size);
        bytes[at] ^= 0x40;
        client_expect_end(&client);
        client_close(&client);
        world_event(world, KV_EVENT_CUT_PROTOCOL);
    }
    free(bytes);
    batch_free(&batch);
    behaved_client_works(world);
}

static void expect_cut(node_world *world, node_client *client, const char *text)
{
    kv_node_event event;

    client_expect_end(client);
    event = world_event(world, KV_EVENT_CUT_PROTOCOL);
    if (!strstr(event.text, text)) {
        fprintf(stderr, "%s lacks %s\n", event.text, text);
        abort();
    }
    client_close(client);
}

/* Limits are checked on the head, before anything is read or taken for the rest. */
static void oversize_is_cut_at_the_head(node_world *world)
{
    static const uint32_t sizes[][3] = {{KV_MESSAGE_COUNT_MAX + 1, 100, 0},
                                        {1, KV_MESSAGE_COLUMNS_SIZE_MAX + 1, 0},
                                        {1, 100, KV_MESSAGE_VALUES_SIZE_MAX + 1},
                                        {1, 3, 0}};

    for (uint32_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        node_client client = client_open(world, 4);
        kv_message_head head = {.version = 1, .kind = KV_MESSAGE_REQUEST, .columns_size = 100};
        uint8_t bytes[KV_MESSAGE_HEAD_SIZE];

        kv_message_encode(&head, bytes);
        kv_endian_store_u32(bytes + 16, sizes[i][0]);
        kv_endian_store_u32(bytes + 20, sizes[i][1]);
        kv_endian_store_u32(bytes + 24, sizes[i][2]);
        kv_endian_store_u32(bytes + 28, kv_checksum(0, bytes, 28));
        client_write(&client, bytes, sizeof(bytes));
        expect_cut(world, &client, "exceeds the limits");
    }
    behaved_client_works(world);
}

static void an_unknown_operation_is_cut(node_world *world)
{
    node_client client = client_open(world, 5);
    node_batch batch = batch_make(1, 10);
    size_t size;
    uint8_t *bytes = client_encode(&client, batch_prepare(&batch, KV_OP_EXISTS, "x", 1), &size);

    bytes[KV_MESSAGE_HEAD_SIZE + 4] = 77;
    kv_message_seal(bytes + KV_MESSAGE_HEAD_SIZE, (uint32_t)size - KV_MESSAGE_HEAD_SIZE);
    client_write(&client, bytes, size);
    expect_cut(world, &client, "operation 77");
    free(bytes);
    batch_free(&batch);
}

static void a_message_for_clients_is_cut(node_world *world)
{
    node_client client = client_open(world, 6);
    uint8_t columns[64] = {0};
    kv_message_head head = {.version = 1, .kind = KV_MESSAGE_REPLY, .columns_size = sizeof(columns)};
    uint8_t bytes[KV_MESSAGE_HEAD_SIZE];

    kv_message_seal(columns, sizeof(columns));
    kv_message_encode(&head, bytes);
    client_write(&client, bytes, sizeof(bytes));
    client_write(&client, columns, sizeof(columns));
    expect_cut(world, &client, "not for a node");

    client = client_plan(6);
    head.kind = KV_MESSAGE_REQUEST;
    kv_message_encode(&head, bytes);
    client_connect(&client, world);
    client_write(&client, bytes, sizeof(bytes));
    expect_cut(world, &client, "before hello");
}

static void an_older_sequence_is_cut(node_world *world)
{
    node_client client = client_open(world, 7);
    node_batch batch = batch_make(1, 10);

    client_set(&client, &batch, "seq", 1);
    client_set(&client, &batch, "seq", 1);
    client.sequence = 0;
    client_send(&client, batch_prepare(&batch, KV_OP_SET, "seq", 1));
    expect_cut(world, &client, "older");
    batch_free(&batch);
}

/* Whatever point of a request the connection breaks at, nobody else notices, and what was not complete is not set. */
static void a_disconnect_at_every_byte_harms_nobody(node_world *world)
{
    node_client client = client_open(world, 8);
    node_batch batch = batch_make(2, 40);
    uint8_t *bytes;
    size_t size;

    bytes = client_encode(&client, batch_prepare(&batch, KV_OP_SET, "broken", UINT32_MAX), &size);
    client_close(&client);
    for (size_t at = 0; at < size; at++) {
        client = client_open(world, 1000 + (uint32_t)at);
        client_write(&client, bytes, at);
        client_close(&client);
    }
    world_wait_connections(world, 0);
    client = client_open(world, 9);
    client_run(&client, batch_prepare(&batch, KV_OP_EXISTS, "broken", 0));
    assert(batch.items[1].status == KV_NOT_FOUND);
    client_close(&client);
    free(bytes);
    batch_free(&batch);
    behaved_client_works(world);
}

/* At the end of hello, too. */
static void a_disconnect_during_hello_harms_nobody(node_world *world)
{
    static const uint8_t nonce[KV_NONCE_SIZE] = {9};
    uint8_t out[KV_HELLO_MESSAGE_SIZE_MAX];
    kv_hello *hello = calloc(1, sizeof(*hello));
    node_client client = client_plan(10);
    int size = kv_hello_begin_client(hello, &client.names, NULL, 0, nonce, out);

    for (int at = 0; at <= size; at++) {
        client_connect(&client, world);
        client_write(&client, out, (size_t)at);
        client_close(&client);
    }
    free(hello);
    world_wait_connections(world, 0);
    world_events_drop(world);
    behaved_client_works(world);
}

/* Each byte by itself: every point of a request is a place where a receive may end. */
static void a_request_may_come_byte_by_byte(node_world *world)
{
    node_client client = client_open(world, 11);
    node_batch batch = batch_make(3, 200);
    size_t size;
    uint8_t *bytes = client_encode(&client, batch_prepare(&batch, KV_OP_SET, "slowly", 2), &size);

    for (size_t at = 0; at < size; at++)
        assert(client_write(&client, bytes + at, 1));
    assert(client_collect(&client, &batch.request) > 0);
    batch_expect(&batch, KV_OK);
    free(bytes);
    bytes = client_encode(&client, batch_prepare(&batch, KV_OP_GET, "slowly", 2), &size);
    for (size_t at = 0; at < size; at++)
        assert(client_write(&client, bytes + at, 1));
    assert(client_collect(&client, &batch.request) > 0);
    batch_expect_values(&batch, 2);
    free(bytes);
    batch_free(&batch);
    client_close(&client);
}

/* In two parts, cut at every byte, while another request is in flight. */
static void a_request_may_come_in_two_parts(node_world *world)
{
    node_client client = client_open(world, 12);
    node_batch batch = batch_make(2, 30);
    size_t size;

    for (size_t at = 1;; at++) {
        uint8_t *bytes = client_encode(&client, batch_prepare(&batch, KV_OP_SET, "parts", 2), &size);

        if (at == size) {
            free(bytes);
            break;
        }
        assert(client_write(&client, bytes, at));
        assert(client_write(&client, bytes + at, size - at));
        assert(client_collect(&client, &batch.request) > 0);
        batch_expect(&batch, KV_OK);
        free(bytes);
    }
    client.sequence--; /* the last one was not sent */
    client_get(&client, &batch, "parts", 2);
    batch_free(&batch);
    client_close(&client);
}

static void a_flood_of_requests_is_cut(uint32_t driver)
{
    node_world world = hostile_world(driver);
    node_client client;
    node_batch batch = batch_make(64, 64u << 10);
    uint8_t *bytes;
    size_t size;

    world.options.requests_max = 4;
    world_open(&world);
    client = client_open(&world, 13);
    assert(client.grant.requests_max == 4);
    client_set(&client, &batch, "flood", UINT32_MAX);
    bytes = client_encode(&client, batch_prepare(&batch, KV_OP_GET, "flood", 1), &size);
    for (uint32_t i = 0; i < 64; i++)
        if (!client_write(&client, bytes, size))
            break;
    expect_cut(&world, &client, "than were granted");
    behaved_client_works(&world);
    free(bytes);
    batch_free(&batch);
    world_close(&world);
}

/* It holds up nobody else; after its time it is cut, and what it was lent is free again. */
static void who_never_reads_is_cut(uint32_t driver)
{
    node_world world = hostile_world(driver);
    node_client client;
    node_batch batch = batch_make(16, 1u << 20);

    world.options.stall_timeout_ms = SHORT_MS;
    world_open(&world);
    client = client_open(&world, 14);
    client_set(&client, &batch, "never", UINT32_MAX);
    batch_prepare(&batch, KV_OP_GET, "never", 1);
    for (uint32_t i = 0; i < 8; i++)
        client_send(&client, &batch.request);
    behaved_client_works(&world);
    world_event(&world, KV_EVENT_CUT_STALLED);
    world_wait_connections(&world, 0);
    while (world_statistics(&world).lent_memory > 0)
        sched_yield();
    assert(world_statistics(&world).requests_in_flight == 0);
    client_close(&client);
    behaved_client_works(&world);
    batch_free(&batch);
    world_close(&world);
}

static void a_slow_hello_and_a_stalled_message_are_cut(uint32_t driver)
{
    node_world world = hostile_world(driver);
    node_client client = client_plan(15);
    node_batch batch = batch_make(1, 100);
    kv_node_event event;
    uint8_t *bytes;
    size_t size;

    world.options.stall_timeout_ms = SHORT_MS;
    world.options.hello_timeout_ms = SHORT_MS;
    world_open(&world);
    client_connect(&client, &world);
    client_expect_end(&client);
    event = world_event(&world, KV_EVENT_CUT_STALLED);
    assert(strstr(event.text, "hello"));
    client_close(&client);

    client = client_open(&world, 15);
    bytes = client_encode(&client, batch_prepare(&batch, KV_OP_SET, "stalled", UINT32_MAX), &size);
    client_write(&client, bytes, size - 1);
    client_expect_end(&client);
    event = world_event(&world, KV_EVENT_CUT_STALLED);
    assert(strstr(event.text, "rest of a message"));
    client_close(&client);
    free(bytes);
    batch_free(&batch);
    world_close(&world);
}

static void an_idle_connection_is_closed(uint32_t driver)
{
    node_world world = hostile_world(driver);
    node_client client;

    world.options.idle_timeout_ms = SHORT_MS;
    world_open(&world);
    client = client_open(&world, 16);
    client_expect_end(&client);
    world_event(&world, KV_EVENT_CUT_IDLE);
    client_close(&client);
    world_close(&world);
}

static void one_connection_too_many_is_told_so(uint32_t driver)
{
    node_world world = hostile_world(driver);
    node_client clients[5];

    world.options.connections_max = 4;
    world_open(&world);
    for (uint32_t i = 0; i < 4; i++)
        clients[i] = client_open(&world, 17 + i);
    clients[4] = client_plan(30);
    client_connect(&clients[4], &world);
    assert(client_greet(&clients[4], NULL) < 0 && strstr(clients[4].reason, "too many"));
    client_expect_end(&clients[4]);
    client_close(&clients[4]);
    world_event(&world, KV_EVENT_REFUSED);
    client_close(&clients[0]);
    world_wait_connections(&world, 3);
    clients[0] = client_open(&world, 31);
    for (uint32_t i = 0; i < 4; i++)
        client_close(&clients[i]);
    world_close(&world);
}

static void a_crowd_of_connections_is_served(uint32_t driver)
{
    node_world world = hostile_world(driver);
    node_client *clients = calloc(CROWD, sizeof(*clients));
    node_batch batch = batch_make(2, 500);

    world.options.reactors = 2;
    world_open(&world);
    for (uint32_t i = 0; i < CROWD; i++)
        clients[i] = client_open(&world, 100 + i);
    for (uint32_t i = 0; i < CROWD; i++) {
        client_set(&clients[i], &batch, "crowd", i);
        client_get(&clients[i], &batch, "crowd", i);
    }
    assert(world_statistics(&world).connections == CROWD);
    for (uint32_t i = 0; i < CROWD; i++)
        client_close(&clients[i]);
    world_wait_connections(&world, 0);
    free(clients);
    batch_free(&batch);
    world_close(&world);
}

static void all_of_it(uint32_t driver)
{
    node_world world = hostile_world(driver);

    world_open(&world);
    garbage_is_cut(&world);
    a_request_with_any_byte_changed_is_cut(&world);
    oversize_is_cut_at_the_head(&world);
    an_unknown_operation_is_cut(&world);
    a_message_for_clients_is_cut(&world);
    an_older_sequence_is_cut(&world);
    a_disconnect_at_every_byte_harms_nobody(&world);
    a_disconnect_during_hello_harms_nobody(&world);
    a_request_may_come_byte_by_byte(&world);
    a_request_may_come_in_two_parts(&world);
    world_close(&world);
    a_wrong_secret_is_refused_with_a_reason(driver);
    a_replayed_proof_is_refused(driver);
    a_flood_of_requests_is_cut(driver);
    who_never_reads_is_cut(driver);
    a_slow_hello_and_a_stalled_message_are_cut(driver);
    an_idle_connection_is_closed(driver);
    one_connection_too_many_is_told_so(driver);
    a_crowd_of_connections_is_served(driver);
}

int main(void)
{
    all_of_it(KV_REACTOR_EPOLL);
    if (world_may_use_uring())
        all_of_it(KV_REACTOR_URING);
    return 0;
}
