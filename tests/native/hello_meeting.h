/* A client and a node that meet: both ends of a hello, and the one message that is on its way. */
#ifndef KV_TEST_HELLO_MEETING_H
#define KV_TEST_HELLO_MEETING_H

#include "protocol/hello.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define SECRET ((const uint8_t *)"correct horse")
#define OTHER_SECRET ((const uint8_t *)"wrong donkey!")
#define SECRET_SIZE 13u
#define OUT_SIZE KV_HELLO_MESSAGE_SIZE_MAX

static const kv_hello_grant grant = {
    .rights = KV_RIGHT_READ | KV_RIGHT_WRITE,
    .requests_max = 64,
    .count_max = 4096,
    .columns_size_max = 65536,
    .values_size_max = 1 << 20,
    .stall_timeout_ms = 10000,
    .node = 7,
    .run = 0x1122334455667788,
};

/* Both ends, and the message that is on its way. */
typedef struct meeting {
    kv_hello client;
    kv_hello node;
    uint8_t message[OUT_SIZE];
    int size;
} meeting;

static meeting met;

static inline kv_hello_names names_of(const char *tenant, const char *name_space,
                                      uint32_t token_size)
{
    static kv_hello_names names;

    memset(&names, 0, sizeof(names));
    memcpy(names.tenant, tenant, strlen(tenant) + 1);
    memcpy(names.name_space, name_space, strlen(name_space) + 1);
    memset(names.client, 0xc1, sizeof(names.client));
    memset(names.token, 0x70, token_size);
    names.token_size = token_size;
    return names;
}

static inline void meeting_begin(meeting *all, const uint8_t *client_secret, const uint8_t *node_secret,
                          uint8_t nonce)
{
    kv_hello_names names = names_of("acme", "kv-cache", 5);
    uint8_t client_nonce[KV_NONCE_SIZE], node_nonce[KV_NONCE_SIZE];

    memset(client_nonce, nonce, sizeof(client_nonce));
    memset(node_nonce, nonce + 1, sizeof(node_nonce));
    kv_hello_begin_node(&all->node, &grant, node_secret, node_secret ? SECRET_SIZE : 0, node_nonce);
    all->size = kv_hello_begin_client(&all->client, &names, client_secret,
                                      client_secret ? SECRET_SIZE : 0, client_nonce, all->message);
    assert(all->size > 0);
}

/* As a connection would: the head is decoded, the message lies in memory of exactly its size. */
static inline int hello_give(kv_hello *hello, const uint8_t *message, int size, uint8_t *out)
{
    kv_message_head head;
    uint8_t *copy = malloc((size_t)size);
    int result;

    assert(copy != NULL);
    memcpy(copy, message, (size_t)size);
    assert(kv_message_decode(copy, &head) == 0);
    assert((uint32_t)size == KV_MESSAGE_HEAD_SIZE + head.columns_size);
    result = kv_hello_step(hello, &head, copy, out);
    free(copy);
    return result;
}

/* Message number n (0: HELLO) goes to its reader, whose answer is on its way then. */
static inline void meeting_step(meeting *all, int n)
{
    static uint8_t out[OUT_SIZE];
    int size = hello_give(n % 2 == 0 ? &all->node : &all->client, all->message, all->size, out);

    memcpy(all->message, out, (size_t)size);
    all->size = size;
}

static inline void meeting_run(meeting *all, int steps)
{
    for (int n = 0; n < steps; n++) {
        assert(all->size > 0);
        meeting_step(all, n);
    }
}

/* After a change of columns on the way. */
static inline void message_resign(uint8_t *message, int size)
{
    kv_message_seal(message + KV_MESSAGE_HEAD_SIZE, (uint32_t)size - KV_MESSAGE_HEAD_SIZE);
}

static inline void message_resize(meeting *all, int size)
{
    kv_message_head head;

    assert(kv_message_decode(all->message, &head) == 0);
    head.columns_size = (uint32_t)size - KV_MESSAGE_HEAD_SIZE;
    kv_message_encode(&head, all->message);
    all->size = size;
    message_resign(all->message, size);
}

static inline void expect_failed(const kv_hello *hello, int error, const char *words)
{
    assert(hello->state == KV_HELLO_FAILED);
    assert(hello->error == error);
    assert(strstr(hello->reason, words) != NULL);
}

#endif
