/* Hostile and unlucky clients against a real node: each is cut, counted and named, the node
 * stays up, and a client that behaves notices nothing. */

#include "node_client.h"

static void a_wrong_secret_is_refused_with_a_reason(uint32_t driver)
{
    node_world world = node_world_on(driver);
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
    node_world world = node_world_on(driver);
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
    hello_size = kv_hello_begin_client(hello, &client.names, (const uint8_t *)secret, 6, nonce,
                                       hello_bytes);
    assert(client_write(&client, hello_bytes, (size_t)hello_size) && client_receive(&client,
                                                                                    &message));
    proof_size = kv_hello_step(hello, &message.head, message.bytes, proof_bytes);
    free(message.bytes);
    assert(client_write(&client, proof_bytes, (size_t)proof_size) && client_receive(&client,
                                                                                    &message));
    assert(message.head.kind == KV_MESSAGE_WELCOME);
    free(message.bytes);
    client_close(&client);

    client_connect(&client, &world);
    assert(client_write(&client, hello_bytes, (size_t)hello_size) && client_receive(&client,
                                                                                    &message));
    free(message.bytes);
    assert(client_write(&client, proof_bytes, (size_t)proof_size) && client_receive(&client,
                                                                                    &message));
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

/* A whole request with one byte changed, for each byte of head and columns: never a reply, never
 * harm. */
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

/* Limits are checked on the head, before anything is read or taken for the rest. */
static void oversize_is_cut_at_the_head(node_world *world)
{
    static const uint32_t sizes[][3] = {{KV_MESSAGE_COUNT_MAX + 1, 100, 0},
                                        {1, KV_MESSAGE_COLUMNS_SIZE_MAX + 1, 0},
                                        {1, 100, KV_MESSAGE_VALUES_SIZE_MAX + 1},
                                        {1, 3, 0}};

    for (uint32_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        node_client client = client_open(world, 4);
        kv_message_head head = {.version = client.version,
                                .kind = KV_MESSAGE_REQUEST,
                                .columns_size = 100};
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
    kv_message_head head = {.version = KV_PROTOCOL_VERSION_MAX, .kind = KV_MESSAGE_REPLY,
                            .columns_size = sizeof(columns)};
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

/* Whatever point of a request the connection breaks at, nobody else notices, and what was not
 * complete is not set. */
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
        uint8_t *bytes = client_encode(&client, batch_prepare(&batch, KV_OP_SET, "parts", 2),
                                       &size);

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

static void all_of_it(uint32_t driver)
{
    node_world world = node_world_on(driver);

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
}

int main(void)
{
    all_of_it(KV_REACTOR_EPOLL);
    if (world_may_use_uring())
        all_of_it(KV_REACTOR_URING);
    return 0;
}
