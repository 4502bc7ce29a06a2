/* A client of a node for tests: one blocking socket, messages made and read by the codec. It
 * waits by poll, with a deadline that only a hanging node reaches. */
#ifndef NODE_CLIENT_H
#define NODE_CLIENT_H

#include "bytes/endian.h"
#include "node_world.h"
#include "protocol/hello.h"
#include "protocol/reply.h"
#include "protocol/request.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

typedef struct node_client {
    int descriptor;
    uint64_t request_last;
    uint64_t sequence;
    uint32_t channel;
    uint32_t target;
    uint32_t timeout_ms;
    uint64_t chain_version; /* that requests name; 0: any */
    bool repeated;
    uint8_t version;        /* agreed */
    kv_hello_names names;
    kv_hello_grant grant;
    char reason[KV_MESSAGE_SIZE];
} node_client;

typedef struct node_message {
    kv_message_head head;
    uint8_t *bytes; /* head, columns, values */
} node_message;

static inline const uint8_t *message_columns(const node_message *message)
{
    return message->bytes + KV_MESSAGE_HEAD_SIZE;
}

static inline const uint8_t *message_values(const node_message *message)
{
    return message->bytes + KV_MESSAGE_HEAD_SIZE + message->head.columns_size;
}

static inline void client_connect(node_client *client, const node_world *world)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)world->port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;

    client->descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert(client->descriptor >= 0);
    assert(connect(client->descriptor, (struct sockaddr *)&address, sizeof(address)) == 0);
    setsockopt(client->descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

/* False: the connection is gone. */
static inline bool client_write(node_client *client, const void *bytes, size_t size)
{
    const uint8_t *at = bytes;

    while (size > 0) {
        struct pollfd waited = {.fd = client->descriptor, .events = POLLOUT};
        ssize_t sent;

        assert(poll(&waited, 1, WORLD_WAIT_MS) == 1);
        sent = send(client->descriptor, at, size, MSG_NOSIGNAL);
        if (sent < 0)
            return false;
        at += sent;
        size -= (size_t)sent;
    }
    return true;
}

/* False: the connection is gone. */
static inline bool client_read(node_client *client, void *bytes, size_t size)
{
    uint8_t *at = bytes;

    while (size > 0) {
        struct pollfd waited = {.fd = client->descriptor, .events = POLLIN};
        ssize_t got;

        assert(poll(&waited, 1, WORLD_WAIT_MS) == 1);
        got = recv(client->descriptor, at, size, 0);
        if (got <= 0)
            return false;
        at += got;
        size -= (size_t)got;
    }
    return true;
}

/* The node has closed the connection, perhaps after some more bytes. */
static inline void client_expect_end(node_client *client)
{
    struct pollfd waited = {.fd = client->descriptor, .events = POLLIN};
    static uint8_t bytes[65536];

    do
        assert(poll(&waited, 1, WORLD_WAIT_MS) == 1);
    while (recv(client->descriptor, bytes, sizeof(bytes), 0) > 0);
}

/* False: the connection is gone. The caller frees message->bytes. */
static inline bool client_receive(node_client *client, node_message *message)
{
    uint8_t head[KV_MESSAGE_HEAD_SIZE];
    size_t size;

    if (!client_read(client, head, sizeof(head)))
        return false;
    assert(kv_message_decode(head, &message->head) == 0);
    size = (size_t)message->head.columns_size + message->head.values_size;
    message->bytes = malloc(sizeof(head) + size);
    assert(message->bytes);
    memcpy(message->bytes, head, sizeof(head));
    if (!client_read(client, message->bytes + sizeof(head), size)) {
        free(message->bytes);
        return false;
    }
    assert(kv_message_verify(message_columns(message), message->head.columns_size) == 0);
    return true;
}

/* Hello from begin to end: 0, or the error of a refusal, with client->reason. */
static inline int client_greet(node_client *client, const char *secret)
{
    static const uint8_t nonce[KV_NONCE_SIZE] = {1, 2, 3};
    uint8_t out[KV_HELLO_MESSAGE_SIZE_MAX];
    kv_hello *hello = calloc(1, sizeof(*hello));
    int size;
    int error;

    assert(hello);
    size = kv_hello_begin_client(hello, &client->names, (const uint8_t *)secret,
                                 secret ? (uint32_t)strlen(secret) : 0, nonce, out);
    assert(size > 0);
    while (size > 0 || hello->state == KV_HELLO_WAITS) {
        node_message message;

        if (size > 0)
            client_write(client, out, (size_t)size);
        if (!client_receive(client, &message)) {
            hello->error = -ECONNRESET;
            break;
        }
        size = kv_hello_step(hello, &message.head, message.bytes, out);
        free(message.bytes);
        if (hello->state == KV_HELLO_FAILED)
            break;
    }
    error = hello->state == KV_HELLO_DONE ? 0 : hello->error;
    client->grant = hello->grant;
    client->version = (uint8_t)hello->version;
    memcpy(client->reason, hello->reason, sizeof(client->reason));
    free(hello);
    return error;
}

/* The number tells clients apart for update channels. */
static inline node_client client_plan(uint32_t number)
{
    node_client client = {.target = 1, .channel = 1};

    strcpy(client.names.tenant, "default");
    strcpy(client.names.name_space, "default");
    kv_endian_store_u32(client.names.client, number);
    return client;
}

static inline node_client client_open(const node_world *world, uint32_t number)
{
    node_client client = client_plan(number);

    client_connect(&client, world);
    if (client_greet(&client, NULL) < 0) {
        kv_node_event events[64];
        int count = kv_node_take_events(world->node, events, 64);

        fprintf(stderr, "hello failed: %s\n", client.reason);
        for (int i = 0; i < count; i++)
            fprintf(stderr, "%s\n", events[i].text);
        abort();
    }
    return client;
}

static inline void client_close(node_client *client)
{
    close(client->descriptor);
}

/* A whole request, which the caller frees. SET: values are taken from item.value. */
static inline uint8_t *client_encode(node_client *client, const kv_request *request, size_t *size)
{
    static const uint32_t steps = KV_MESSAGE_COUNT_MAX;
    bool updates = kv_request_updates(request->operation);
    bool sets = request->operation == KV_OP_SET;
    kv_wire_request wire = {.operation = request->operation,
                            .target = client->target,
                            .chain_version = client->chain_version,
                            .ttl_ms = request->ttl_ms,
                            .timeout_ms = client->timeout_ms,
                            .if_absent = request->if_absent,
                            .repeated = updates && client->repeated,
                            .channel = client->channel,
                            .count = request->count};
    uint32_t *indices = calloc(2 * (size_t)steps, sizeof(*indices));
    uint32_t *checksums = indices + steps;
    kv_message_head head = {.version = client->version,
                            .kind = KV_MESSAGE_REQUEST,
                            .count = request->count,
                            .request = ++client->request_last};
    uint8_t *bytes;
    uint8_t *at;

    assert(indices && request->count <= steps);
    if (updates)
        wire.sequence = client->repeated ? client->sequence : ++client->sequence;
    for (uint32_t i = 0; i < request->count; i++) {
        const kv_item *item = &request->items[i];

        indices[i] = i;
        if (sets) {
            checksums[i] = kv_checksum(0, (const void *)(uintptr_t)item->value, item->value_size);
            head.values_size += item->value_size;
        }
    }
    bytes = malloc(KV_MESSAGE_HEAD_SIZE + KV_MESSAGE_COLUMNS_SIZE_MAX + (size_t)head.values_size);
    assert(bytes);
    head.columns_size = kv_request_encode(&wire, request->items, indices, sets ? checksums : NULL,
                                          bytes + KV_MESSAGE_HEAD_SIZE);
    kv_message_encode(&head, bytes);
    at = bytes + KV_MESSAGE_HEAD_SIZE + head.columns_size;
    for (uint32_t i = 0; sets && i < request->count; i++) {
        memcpy(at, (const void *)(uintptr_t)request->items[i].value, request->items[i].value_size);
        at += request->items[i].value_size;
    }
    *size = (size_t)(at - bytes);
    free(indices);
    return bytes;
}

static inline void client_send(node_client *client, const kv_request *request)
{
    size_t size;
    uint8_t *bytes = client_encode(client, request, &size);

    assert(client_write(client, bytes, size));
    free(bytes);
}

/* What a reply says goes into the request; the values of a get are verified. True: it was the
 * last one. */
static inline bool client_apply(const node_message *message, kv_request *request)
{
    const uint8_t *value = message_values(message);
    kv_wire_reply reply;

    assert(message->head.kind == KV_MESSAGE_REPLY);
    assert(kv_reply_decode(&message->head, message_columns(message), request->count, &reply) == 0);
    assert(reply.operation == request->operation);
    if (message->head.flags & KV_REPLY_LAST) {
        request->status = reply.status;
        request->matched = reply.matched;
    }
    for (uint32_t k = 0; k < reply.count; k++) {
        kv_reply_item got;
        kv_item *item;

        kv_reply_item_at(&reply, k, &got);
        item = &request->items[got.index];
        assert(item->status == -1); /* each item once */
        item->status = got.status;
        item->result_size = got.size;
        if (request->stats)
            request->stats[got.index] = (kv_item_stat){.version = got.version,
                                                       .expiry_ms = got.expiry_ms,
                                                       .checksum = got.checksum,
                                                       .flags = got.flags};
        if (request->operation != KV_OP_GET || got.status != KV_OK)
            continue;
        assert(got.size <= item->value_size && kv_checksum(0, value, got.size) == got.checksum);
        memcpy((void *)(uintptr_t)item->value, value, got.size);
        value += got.size;
    }
    return (message->head.flags & KV_REPLY_LAST) != 0;
}

static inline void request_forget(kv_request *request)
{
    for (uint32_t i = 0; i < request->count; i++)
        request->items[i].status = -1;
}

/* Replies to the only request in flight. Returns how many there were; 0: the connection is gone. */
static inline uint32_t client_collect(node_client *client, kv_request *request)
{
    node_message message;
    uint32_t count = 0;
    bool last = false;

    request_forget(request);
    while (!last) {
        if (!client_receive(client, &message))
            return 0;
        assert(message.head.request == client->request_last);
        last = client_apply(&message, request);
        free(message.bytes);
        count++;
    }
    for (uint32_t i = 0; i < request->count; i++)
        if (request->items[i].status == -1)
            request->items[i].status = request->status;
    return count;
}

static inline void client_run(node_client *client, kv_request *request)
{
    client_send(client, request);
    assert(client_collect(client, request) > 0);
}

/* A batch with memory of its own: keys "<name>-<i>", values of a size and a content that `seed`
 * tells. */
typedef struct node_batch {
    kv_request request;
    kv_item *items;
    kv_item_stat *stats;
    char (*keys)[48];
    uint8_t *values;
    uint8_t *expected; /* of one value */
    uint32_t size_max;
} node_batch;

static inline node_batch batch_make(uint32_t count, uint32_t size_max)
{
    node_batch batch = {.items = calloc(count, sizeof(kv_item)),
                        .stats = calloc(count, sizeof(kv_item_stat)),
                        .keys = calloc(count, sizeof(*batch.keys)),
                        .values = malloc((size_t)count * size_max + 1),
                        .expected = malloc((size_t)size_max + 1),
                        .size_max = size_max};

    assert(batch.items && batch.stats && batch.keys && batch.values && batch.expected);
    batch.request.count = count;
    return batch;
}

static inline void batch_free(node_batch *batch)
{
    free(batch->items);
    free(batch->stats);
    free(batch->keys);
    free(batch->values);
    free(batch->expected);
}

static inline uint32_t batch_size_of(const node_batch *batch, uint32_t i, uint32_t seed)
{
    return seed == UINT32_MAX ? batch->size_max : (i * 3511 + seed * 977) % (batch->size_max + 1);
}

/* Any two items, seeds and places differ somewhere; cheap enough for a sanitizer. */
static inline void batch_fill(uint8_t *value, uint32_t size, uint32_t i, uint32_t seed)
{
    memset(value, (int)(i * 7 + seed * 13), size);
    for (uint32_t at = 0; at + 4 <= size; at += 256)
        kv_endian_store_u32(value + at, at ^ (i * 0x9e3779b9u + seed));
}

static inline kv_request *batch_prepare(node_batch *batch, uint32_t operation, const char *name,
                                        uint32_t seed)
{
    batch->request = (kv_request){.items = batch->items,
                                  .stats = operation == KV_OP_STAT ? batch->stats : NULL,
                                  .count = batch->request.count,
                                  .operation = operation};
    for (uint32_t i = 0; i < batch->request.count; i++) {
        uint8_t *value = batch->values + (size_t)i * batch->size_max;
        uint32_t size = operation == KV_OP_SET ? batch_size_of(batch, i, seed) : batch->size_max;

        snprintf(batch->keys[i], sizeof(batch->keys[i]), "%s-%u", name, i);
        if (operation == KV_OP_SET)
            batch_fill(value, size, i, seed);
        else
            memset(value, 0xee, size);
        batch->items[i] = (kv_item){.key = (uint64_t)(uintptr_t)batch->keys[i],
                                    .key_size = (uint32_t)strlen(batch->keys[i]),
                                    .value = (uint64_t)(uintptr_t)value,
                                    .value_size = size};
    }
    return &batch->request;
}

static inline void batch_expect(const node_batch *batch, kv_status status)
{
    for (uint32_t i = 0; i < batch->request.count; i++)
        assert(batch->items[i].status == (int32_t)status);
}

static inline void batch_expect_values(const node_batch *batch, uint32_t seed)
{
    for (uint32_t i = 0; i < batch->request.count; i++) {
        const uint8_t *value = batch->values + (size_t)i * batch->size_max;

        assert(batch->items[i].status == KV_OK);
        assert(batch->items[i].result_size == batch_size_of(batch, i, seed));
        batch_fill(batch->expected, batch->items[i].result_size, i, seed);
        assert(memcmp(value, batch->expected, batch->items[i].result_size) == 0);
    }
}

static inline void client_set(node_client *client, node_batch *batch, const char *name,
                              uint32_t seed)
{
    client_run(client, batch_prepare(batch, KV_OP_SET, name, seed));
    batch_expect(batch, KV_OK);
}

static inline void client_get(node_client *client, node_batch *batch, const char *name,
                              uint32_t seed)
{
    client_run(client, batch_prepare(batch, KV_OP_GET, name, seed));
    batch_expect_values(batch, seed);
}

/* A control request and its reply: the bytes of the body, or a negative errno. The caller frees
 * *body. */
static inline int64_t client_control(node_client *client, uint32_t kind, uint32_t target,
                                     const void *body, uint32_t body_size, uint8_t **reply)
{
    kv_message_head head = {.version = client->version,
                            .kind = KV_MESSAGE_CONTROL,
                            .flags = (uint16_t)kind,
                            .count = target,
                            .request = ++client->request_last,
                            .columns_size = KV_MESSAGE_CRC_SIZE + body_size};
    uint8_t bytes[KV_MESSAGE_HEAD_SIZE + KV_MESSAGE_CRC_SIZE + 2048];
    node_message message;
    int64_t result;

    assert(body_size <= 2048);
    if (body_size > 0)
        memcpy(bytes + KV_MESSAGE_HEAD_SIZE + KV_MESSAGE_CRC_SIZE, body, body_size);
    kv_message_seal(bytes + KV_MESSAGE_HEAD_SIZE, head.columns_size);
    kv_message_encode(&head, bytes);
    assert(client_write(client, bytes, KV_MESSAGE_HEAD_SIZE + head.columns_size));
    assert(client_receive(client, &message));
    assert(message.head.kind == KV_MESSAGE_CONTROL_REPLY &&
           message.head.request == client->request_last);
    result = message.head.count ? -(int64_t)message.head.count : (int64_t)message.head.values_size;
    if (reply) {
        *reply = malloc(message.head.values_size + 1);
        memcpy(*reply, message_values(&message), message.head.values_size);
    }
    free(message.bytes);
    return result;
}

/* Somebody who does nothing wrong notices nothing. */
static inline void behaved_client_works(node_world *world)
{
    node_client client = client_open(world, 1);
    node_batch batch = batch_make(4, 3000);

    client_set(&client, &batch, "good", 1);
    client_get(&client, &batch, "good", 1);
    batch_free(&batch);
    client_close(&client);
}

static inline node_world node_world_on(uint32_t reactor_driver)
{
    node_world world = world_plan(1);

    world.options.reactor_driver = reactor_driver;
    return world;
}

/* The connection is cut, and the event says why. */
static inline void expect_cut(node_world *world, node_client *client, const char *text)
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

#endif
