/* What the tests of the client against unlucky nodes share: a node that has three objects, and what
 * its script and the test tell each other. */
#ifndef CLIENT_SCRIPT_H
#define CLIENT_SCRIPT_H

#include "client_calls.h"
#include "scripted_node.h"

#define VALUE_SIZE 5000u

/* What scripts share with the test that set them; one test at a time. */
static struct {
    kv_client *client;
    kv_request *request;
    const char *other_node;
    size_t cut; /* bytes */
    uint32_t damage;
} script;

static inline void finish(scripted_node *node, kv_client *client)
{
    assert(kv_client_close(client, 5000) == 0);
    scripted_close(node);
}

/* A node whose script serves one object for each of three keys "x-0" ..., and a client of it. */
static inline kv_client *begin(scripted_node **node, scripted_serve *serve)
{
    scripted_node *made = scripted_open(NULL);
    kv_client *client;

    scripted_start(made);
    client = client_open(made->name);
    client_set(client, "x", 3, VALUE_SIZE);
    assert(kv_client_close(client, 1000) == 0);
    made->serve = serve;
    atomic_store(&made->applied, 0);
    pthread_mutex_lock(&made->mutex);
    made->state = 0;
    pthread_mutex_unlock(&made->mutex);
    *node = made;
    return client_open(made->name);
}

/* Counts how often a script came to some place. */
static inline uint64_t visit(scripted_node *node)
{
    uint64_t before;

    pthread_mutex_lock(&node->mutex);
    before = node->state++;
    pthread_mutex_unlock(&node->mutex);
    return before;
}

/* Wait until the client closes the connection. */
static inline void drain(int socket)
{
    uint8_t bytes[65536];

    while (recv(socket, bytes, sizeof(bytes), 0) > 0) {
    }
}

/* The first reply ends after script.cut bytes, and the connection with it. */
static inline void serve_cut_reply(scripted_node *node, int socket, uint32_t connection)
{
    scripted_message message;

    if (visit(node) > 0) {
        scripted_serve_store(node, socket, connection);
        return;
    }
    if (scripted_take_request(node, socket, &message)) {
        uint8_t *values, *bytes;
        size_t values_size, size;
        uint32_t matched;
        kv_reply_item *items = scripted_execute(node, &message, &values, &values_size, &matched);

        bytes = scripted_reply(&message, true, KV_OK, items, message.request.count, values,
                               (uint32_t)values_size, &size);
        scripted_write(socket, bytes, script.cut < size ? script.cut : size);
        free(bytes);
        free(items);
        free(values);
        scripted_release(&message);
    }
}

#endif
