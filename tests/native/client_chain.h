/* What the tests of the client with chains share: scripted nodes as members of one chain, and what
 * their scripts and the test tell each other. */
#ifndef CLIENT_CHAIN_H
#define CLIENT_CHAIN_H

#include "client_calls.h"
#include "scripted_node.h"

#include <poll.h>

#define VALUE_SIZE 500u
#define CHAIN_MEMBERS_MAX 4u

/* One test at a time; scripts write under `mutex`. */
static struct {
    pthread_mutex_t mutex;
    kv_client *client;
    scripted_node *nodes[CHAIN_MEMBERS_MAX];
    uint32_t count;
    uint64_t chain_version; /* that every node of chain_serve goes by */
    uint64_t sequence;      /* of the update that is to be repeated; 0: none was seen */
    uint32_t channel;
    uint32_t visits;
    uint32_t repeats;
} chain = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* Route slot 0 to a chain of so many nodes, beginning with node `first`; node i has target i. */
static inline void chain_route(uint64_t chain_version, uint32_t first, uint32_t count)
{
    char message[KV_MESSAGE_SIZE] = "";
    const char *names[CHAIN_MEMBERS_MAX];
    kv_chain_member members[CHAIN_MEMBERS_MAX];
    kv_chain_route route = {chain_version, first, count};
    const uint32_t slot = 0;

    for (uint32_t i = 0; i < chain.count; i++) {
        names[i] = chain.nodes[i]->name;
        members[i] = (kv_chain_member){i, i};
    }
    pthread_mutex_lock(&chain.mutex);
    chain.chain_version = chain_version;
    pthread_mutex_unlock(&chain.mutex);
    assert(kv_client_route_chains(chain.client, chain_version, names, chain.count, members,
                                  chain.count, &route, 1, &slot, 1, message) == 0);
}

static inline uint64_t chain_version_now(void)
{
    uint64_t version;

    pthread_mutex_lock(&chain.mutex);
    version = chain.chain_version;
    pthread_mutex_unlock(&chain.mutex);
    return version;
}

/* Counts how often scripts came to some place. */
static inline uint32_t chain_visit(void)
{
    uint32_t before;

    pthread_mutex_lock(&chain.mutex);
    before = chain.visits++;
    pthread_mutex_unlock(&chain.mutex);
    return before;
}

/* Remember the first update that is seen; any other must be the same again. */
static inline void chain_same_update(const scripted_message *message)
{
    pthread_mutex_lock(&chain.mutex);
    if (chain.sequence == 0) {
        assert(!message->request.repeated);
        chain.channel = message->request.channel;
        chain.sequence = message->request.sequence;
    } else {
        assert(message->request.repeated);
        assert(message->request.channel == chain.channel);
        assert(message->request.sequence == chain.sequence);
        chain.repeats++;
    }
    pthread_mutex_unlock(&chain.mutex);
}

/* Serves as a member of the chain: honestly, but nobody who names another chain version. */
static inline void chain_serve_one(scripted_node *node, int socket, const scripted_message *message)
{
    if (message->head.kind == KV_MESSAGE_REQUEST &&
        message->request.chain_version != chain_version_now())
        scripted_answer(socket, message, true, KV_WRONG_TARGET, NULL, 0, NULL, 0);
    else
        scripted_serve_one(node, socket, message);
}

static inline void chain_serve(scripted_node *node, int socket, uint32_t connection)
{
    scripted_message message;

    (void)connection;
    while (scripted_take_request(node, socket, &message)) {
        chain_serve_one(node, socket, &message);
        scripted_release(&message);
    }
}

/* Wait until the client closes the connection. */
static inline void chain_drain(int socket)
{
    uint8_t bytes[65536];

    while (recv(socket, bytes, sizeof(bytes), 0) > 0) {
    }
}

/* Takes what comes and never answers. */
static inline void chain_serve_silence(scripted_node *node, int socket, uint32_t connection)
{
    scripted_message message;

    (void)connection;
    if (scripted_take_request(node, socket, &message))
        scripted_release(&message);
    chain_drain(socket);
}

/* Nodes with objects "x-0" ... "x-3" that are not started, and a client without routing info. */
static inline void chain_begin(uint32_t count)
{
    chain.client = client_open_with((kv_client_options){0});
    chain.count = count;
    chain.sequence = 0;
    chain.visits = chain.repeats = 0;
    for (uint32_t i = 0; i < count; i++) {
        client_batch batch;

        chain.nodes[i] = scripted_open(chain_serve);
        client_batch_open(&batch, KV_OP_SET, "x", 4, VALUE_SIZE);
        for (uint32_t j = 0; j < 4; j++)
            scripted_set(chain.nodes[i], (const uint8_t *)batch.keys[j], batch.items[j].key_size,
                         batch.values + (size_t)j * VALUE_SIZE, VALUE_SIZE);
        client_batch_close(&batch);
    }
}

static inline void chain_start(void)
{
    for (uint32_t i = 0; i < chain.count; i++)
        scripted_start(chain.nodes[i]);
}

static inline void chain_end(void)
{
    assert(kv_client_close(chain.client, 5000) == 0);
    for (uint32_t i = 0; i < chain.count; i++)
        scripted_close(chain.nodes[i]);
}

/* Wait for an asynchronous batch. */
static inline void chain_reap(kv_queue *queue, int descriptor)
{
    struct pollfd poller = {.fd = descriptor, .events = POLLIN};
    uint64_t tag;

    assert(poll(&poller, 1, 20000) == 1);
    assert(kv_queue_reap(queue, &tag, 1) == 1);
}

/* Wait until the client has trouble; returns the count, and who is unreachable in `text`. */
static inline int64_t chain_wait_trouble(char *text, uint32_t size)
{
    struct pollfd poller = {.events = POLLIN};

    assert(kv_client_trouble(chain.client, NULL, 0, &poller.fd) >= 0);
    assert(poll(&poller, 1, 20000) == 1);
    return kv_client_trouble(chain.client, text, size, NULL);
}

#endif
