/* A storage node for tests of the client: blocking sockets, one thread for each connection, and a
 * function that decides what each connection gets to hear. Without one it is a small honest store.
  * */
#ifndef SCRIPTED_NODE_H
#define SCRIPTED_NODE_H

#include "bytes/endian.h"
#include "protocol/hello.h"
#include "protocol/reply.h"
#include "protocol/request.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SCRIPTED_CONNECTIONS_MAX 4096u
#define SCRIPTED_OBJECTS_MAX 8192u

typedef struct scripted_object {
    uint8_t *key;
    uint32_t key_size;
    uint8_t *value;
    uint32_t size;
} scripted_object;

typedef struct scripted_node scripted_node;

/* Serves connection number `connection` (from 0) after its hello; returns when it is to be closed.
 * */
typedef void scripted_serve(scripted_node *node, int socket, uint32_t connection);

struct scripted_node {
    int listener;
    char name[32];
    scripted_serve *serve;
    kv_hello_grant grant;
    const char *secret;
    pthread_t thread;
    pthread_mutex_t mutex;
    int sockets[SCRIPTED_CONNECTIONS_MAX];
    pthread_t threads[SCRIPTED_CONNECTIONS_MAX];
    atomic_uint connections;
    atomic_uint requests; /* that were taken */
    atomic_uint applied;  /* updates of the honest store */
    atomic_uint cancels;
    uint64_t state; /* the script's, under its mutex */
    scripted_object objects[SCRIPTED_OBJECTS_MAX];
    uint32_t object_count;
    bool stopping;
};

/* A message as it came. */
typedef struct scripted_message {
    kv_message_head head;
    uint8_t *bytes; /* head and columns */
    uint8_t *columns;
    uint8_t *values;
    kv_wire_request request;
} scripted_message;

typedef struct scripted_connection {
    scripted_node *node;
    uint32_t number;
} scripted_connection;

/* False: the client has gone. */
static inline bool scripted_read(int socket, void *target, size_t size)
{
    uint8_t *at = target;

    while (size > 0) {
        ssize_t count = recv(socket, at, size, 0);

        if (count <= 0)
            return false;
        at += count;
        size -= (size_t)count;
    }
    return true;
}

static inline bool scripted_write(int socket, const void *source, size_t size)
{
    const uint8_t *at = source;

    while (size > 0) {
        ssize_t count = send(socket, at, size, MSG_NOSIGNAL);

        if (count <= 0)
            return false;
        at += count;
        size -= (size_t)count;
    }
    return true;
}

static inline void scripted_release(scripted_message *message)
{
    free(message->bytes);
    free(message->values);
    *message = (scripted_message){0};
}

/* The next message whole, decoded if it is a request. What the client sends has to be legal. */
static inline bool scripted_take(scripted_node *node, int socket, scripted_message *message)
{
    uint8_t head[KV_MESSAGE_HEAD_SIZE];

    *message = (scripted_message){0};
    if (!scripted_read(socket, head, sizeof(head)))
        return false;
    assert(kv_message_decode(head, &message->head) == 0);
    message->bytes = malloc(sizeof(head) + message->head.columns_size + 1);
    message->values = malloc(message->head.values_size + 1);
    assert(message->bytes && message->values);
    memcpy(message->bytes, head, sizeof(head));
    message->columns = message->bytes + sizeof(head);
    if (!scripted_read(socket, message->columns, message->head.columns_size) ||
        !scripted_read(socket, message->values, message->head.values_size)) {
        scripted_release(message);
        return false;
    }
    assert(kv_message_verify(message->columns, message->head.columns_size) == 0);
    if (message->head.kind == KV_MESSAGE_REQUEST)
        assert(kv_request_decode(&message->head, message->columns, &message->request, NULL) == 0);
    if (message->head.kind == KV_MESSAGE_CANCEL)
        atomic_fetch_add(&node->cancels, 1);
    else
        atomic_fetch_add(&node->requests, 1);
    return true;
}

/* As scripted_take, passing over cancels. */
static inline bool scripted_take_request(scripted_node *node, int socket, scripted_message *message)
{
    while (scripted_take(node, socket, message)) {
        if (message->head.kind != KV_MESSAGE_CANCEL)
            return true;
        scripted_release(message);
    }
    return false;
}

/* A reply as bytes, to be sent whole or not; the caller frees them. */
static inline uint8_t *scripted_reply(const scripted_message *message, bool last, int32_t status,
                                      const kv_reply_item *items, uint32_t count,
                                      const void *values, uint32_t values_size, size_t *size)
{
    kv_wire_reply reply = {
        .operation = message->request.operation, .status = status, .count = count};
    kv_message_head head = {.version = KV_PROTOCOL_VERSION_MAX,
                            .kind = KV_MESSAGE_REPLY,
                            .flags = last ? KV_REPLY_LAST : 0,
                            .count = count,
                            .request = message->head.request,
                            .values_size = values_size};
    uint8_t *bytes;

    head.columns_size = kv_reply_columns_size(reply.operation, count);
    *size = KV_MESSAGE_HEAD_SIZE + head.columns_size + values_size;
    bytes = malloc(*size);
    assert(bytes);
    kv_reply_encode(&reply, items, bytes + KV_MESSAGE_HEAD_SIZE);
    kv_message_encode(&head, bytes);
    if (values_size > 0)
        memcpy(bytes + KV_MESSAGE_HEAD_SIZE + head.columns_size, values, values_size);
    return bytes;
}

static inline bool scripted_answer(int socket, const scripted_message *message, bool last,
                                   int32_t status, const kv_reply_item *items, uint32_t count,
                                   const void *values, uint32_t values_size)
{
    size_t size;
    uint8_t *bytes =
        scripted_reply(message, last, status, items, count, values, values_size, &size);
    bool sent = scripted_write(socket, bytes, size);

    free(bytes);
    return sent;
}

/* ---- the honest store ---- */

/* Locked. */
static inline scripted_object *scripted_find(scripted_node *node, const uint8_t *key, uint32_t size)
{
    for (uint32_t i = 0; i < node->object_count; i++) {
        scripted_object *object = &node->objects[i];

        if (object->key_size == size && memcmp(object->key, key, size) == 0)
            return object;
    }
    return NULL;
}

/* Locked. */
static inline void scripted_set(scripted_node *node, const uint8_t *key, uint32_t key_size,
                                const uint8_t *value, uint32_t size)
{
    scripted_object *object = scripted_find(node, key, key_size);

    if (!object) {
        assert(node->object_count < SCRIPTED_OBJECTS_MAX);
        object = &node->objects[node->object_count++];
        *object = (scripted_object){.key = malloc(key_size), .key_size = key_size};
        assert(object->key);
        memcpy(object->key, key, key_size);
    }
    free(object->value);
    object->value = malloc(size + 1);
    assert(object->value);
    memcpy(object->value, value, size);
    object->size = size;
}

/* Locked: what becomes of one item; its value is appended to `values`. */
static inline void scripted_item(scripted_node *node, const kv_wire_request *request,
                                 const uint8_t *key, uint32_t key_size, uint32_t room,
                                 kv_reply_item *item, uint8_t **values, size_t *values_size)
{
    scripted_object *object = scripted_find(node, key, key_size);

    if (!object) {
        item->status = KV_NOT_FOUND;
        return;
    }
    item->size = object->size;
    if (request->operation == KV_OP_GET && object->size > room) {
        item->status = KV_BUFFER_TOO_SMALL;
        return;
    }
    item->checksum = kv_checksum(0, object->value, object->size);
    item->version = 7;
    if (request->operation == KV_OP_GET) {
        *values = realloc(*values, *values_size + object->size + 1);
        assert(*values);
        memcpy(*values + *values_size, object->value, object->size);
        *values_size += object->size;
    }
    if (request->operation == KV_OP_DELETE) {
        free(object->key);
        free(object->value);
        *object = node->objects[--node->object_count];
    }
}

/* Everything a request comes to: items (request->count of them), and values; the caller frees both.
 * `matched` as for MATCH_PREFIX. */
static inline kv_reply_item *scripted_execute(scripted_node *node, const scripted_message *message,
                                              uint8_t **values, size_t *values_size,
                                              uint32_t *matched)
{
    const kv_wire_request *request = &message->request;
    kv_reply_item *items = calloc(request->count + 1, sizeof(*items));
    const uint8_t *key = request->keys;
    const uint8_t *value = message->values;
    bool missed = false;

    assert(items);
    *values = NULL;
    *values_size = 0;
    *matched = 0;
    pthread_mutex_lock(&node->mutex);
    if (kv_request_updates(request->operation))
        atomic_fetch_add(&node->applied, 1);
    for (uint32_t i = 0; i < request->count; i++) {
        uint32_t key_size = kv_endian_load_u16(request->key_sizes + (size_t)i * 2);
        uint32_t size =
            request->value_sizes ? kv_endian_load_u32(request->value_sizes + (size_t)i * 4) : 0;

        items[i].index = i;
        if (request->operation == KV_OP_SET) {
            uint32_t checksum = kv_endian_load_u32(request->checksums + (size_t)i * 4);

            items[i].status = kv_checksum(0, value, size) == checksum ? KV_OK : KV_CORRUPT;
            if (items[i].status == KV_OK)
                scripted_set(node, key, key_size, value, size);
            value += size;
        } else {
            scripted_item(node, request, key, key_size, size, &items[i], values, values_size);
        }
        missed |= items[i].status != KV_OK;
        *matched += !missed;
        key += key_size;
    }
    pthread_mutex_unlock(&node->mutex);
    return items;
}

/* One control request: describe, flush, or one that says -EACCES. */
static inline bool scripted_control(int socket, const scripted_message *message)
{
    static const char text[] = "reactor=scripted";
    kv_message_head head = {.version = KV_PROTOCOL_VERSION_MAX,
                            .kind = KV_MESSAGE_CONTROL_REPLY,
                            .request = message->head.request};
    uint8_t bytes[KV_MESSAGE_HEAD_SIZE];

    if (message->head.flags == KV_CONTROL_DESCRIBE)
        head.values_size = sizeof(text) - 1;
    else if (message->head.flags != KV_CONTROL_FLUSH)
        head.count = EACCES;
    kv_message_encode(&head, bytes);
    return scripted_write(socket, bytes, sizeof(bytes)) &&
           scripted_write(socket, text, head.values_size);
}

static inline bool scripted_serve_one(scripted_node *node, int socket,
                                      const scripted_message *message)
{
    uint8_t *values;
    size_t values_size;
    uint32_t matched;
    kv_reply_item *items;
    bool sent;

    if (message->head.kind == KV_MESSAGE_CONTROL)
        return scripted_control(socket, message);
    items = scripted_execute(node, message, &values, &values_size, &matched);
    if (message->request.operation == KV_OP_MATCH_PREFIX) {
        kv_wire_reply reply = {.operation = KV_OP_MATCH_PREFIX, .matched = matched};
        kv_message_head head = {.version = KV_PROTOCOL_VERSION_MAX,
                                .kind = KV_MESSAGE_REPLY,
                                .flags = KV_REPLY_LAST,
                                .request = message->head.request};
        uint8_t bytes[KV_MESSAGE_HEAD_SIZE + 64];

        head.columns_size = kv_reply_encode(&reply, NULL, bytes + KV_MESSAGE_HEAD_SIZE);
        kv_message_encode(&head, bytes);
        sent = scripted_write(socket, bytes, KV_MESSAGE_HEAD_SIZE + head.columns_size);
    } else {
        sent = scripted_answer(socket, message, true, KV_OK, items, message->request.count, values,
                               (uint32_t)values_size);
    }
    free(items);
    free(values);
    return sent;
}

/* Serve honestly until the client goes. */
static inline void scripted_serve_store(scripted_node *node, int socket, uint32_t connection)
{
    scripted_message message;
    bool going = true;

    (void)connection;
    while (going && scripted_take_request(node, socket, &message)) {
        going = scripted_serve_one(node, socket, &message);
        scripted_release(&message);
    }
}

/* ---- life ---- */

/* False: the hello failed, or the client went. */
static inline bool scripted_hello(scripted_node *node, int socket)
{
    kv_hello *hello = malloc(sizeof(*hello));
    uint8_t *out = malloc(KV_HELLO_MESSAGE_SIZE_MAX);
    uint8_t nonce[KV_NONCE_SIZE] = {1, 2, 3};
    const uint8_t *secret = (const uint8_t *)node->secret;
    bool going = true;

    assert(hello && out);
    pthread_mutex_lock(&node->mutex);
    kv_hello_begin_node(hello, &node->grant, secret, secret ? (uint32_t)strlen(node->secret) : 0,
                        nonce);
    pthread_mutex_unlock(&node->mutex);
    while (going && hello->state < KV_HELLO_DONE) {
        uint8_t *bytes = malloc(KV_HELLO_MESSAGE_SIZE_MAX);
        kv_message_head head;
        int size;

        assert(bytes);
        going = scripted_read(socket, bytes, KV_MESSAGE_HEAD_SIZE);
        if (going) {
            assert(kv_message_decode(bytes, &head) == 0);
            going = scripted_read(socket, bytes + KV_MESSAGE_HEAD_SIZE, head.columns_size);
        }
        if (going) {
            size = kv_hello_step(hello, &head, bytes, out);
            assert(size >= 0);
            going = scripted_write(socket, out, (size_t)size);
        }
        free(bytes);
    }
    going = going && hello->state == KV_HELLO_DONE;
    free(out);
    free(hello);
    return going;
}

static inline void *scripted_connection_thread(void *argument)
{
    scripted_connection *connection = argument;
    scripted_node *node = connection->node;
    int socket = node->sockets[connection->number];

    if (scripted_hello(node, socket))
        node->serve(node, socket, connection->number);
    shutdown(socket, SHUT_RDWR);
    free(connection);
    return NULL;
}

static inline void *scripted_thread(void *argument)
{
    scripted_node *node = argument;

    for (;;) {
        int socket = accept(node->listener, NULL, NULL);
        scripted_connection *connection = malloc(sizeof(*connection));
        uint32_t number = atomic_load(&node->connections);
        int one = 1;

        assert(connection && number < SCRIPTED_CONNECTIONS_MAX);
        if (socket < 0) {
            free(connection);
            return NULL;
        }
        setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        *connection = (scripted_connection){node, number};
        pthread_mutex_lock(&node->mutex);
        node->sockets[number] = socket;
        if (node->stopping)
            shutdown(socket, SHUT_RDWR);
        atomic_store(&node->connections, number + 1);
        assert(pthread_create(&node->threads[number], NULL, scripted_connection_thread,
                              connection) == 0);
        pthread_mutex_unlock(&node->mutex);
    }
}

static inline scripted_node *scripted_open(scripted_serve *serve)
{
    scripted_node *node = calloc(1, sizeof(*node));
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);

    assert(node);
    node->serve = serve ? serve : scripted_serve_store;
    node->grant = (kv_hello_grant){.rights = KV_RIGHT_READ | KV_RIGHT_WRITE | KV_RIGHT_ADMINISTER,
                                   .requests_max = 16,
                                   .count_max = KV_MESSAGE_COUNT_MAX,
                                   .columns_size_max = KV_MESSAGE_COLUMNS_SIZE_MAX,
                                   .values_size_max = KV_MESSAGE_VALUES_SIZE_MAX,
                                   .stall_timeout_ms = 10000,
                                   .node = 1,
                                   .run = 11};
    pthread_mutex_init(&node->mutex, NULL);
    node->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert(node->listener >= 0);
    assert(bind(node->listener, (struct sockaddr *)&address, sizeof(address)) == 0);
    assert(getsockname(node->listener, (struct sockaddr *)&address, &size) == 0);
    snprintf(node->name, sizeof(node->name), "127.0.0.1:%u", ntohs(address.sin_port));
    return node;
}

static inline void scripted_start(scripted_node *node)
{
    assert(listen(node->listener, 256) == 0);
    assert(pthread_create(&node->thread, NULL, scripted_thread, node) == 0);
}

static inline void scripted_close(scripted_node *node)
{
    pthread_mutex_lock(&node->mutex);
    node->stopping = true;
    for (uint32_t i = 0; i < atomic_load(&node->connections); i++)
        shutdown(node->sockets[i], SHUT_RDWR);
    pthread_mutex_unlock(&node->mutex);
    shutdown(node->listener, SHUT_RDWR);
    pthread_join(node->thread, NULL);
    for (uint32_t i = 0; i < atomic_load(&node->connections); i++) {
        pthread_join(node->threads[i], NULL);
        close(node->sockets[i]);
    }
    close(node->listener);
    for (uint32_t i = 0; i < node->object_count; i++) {
        free(node->objects[i].key);
        free(node->objects[i].value);
    }
    pthread_mutex_destroy(&node->mutex);
    free(node);
}

#endif
