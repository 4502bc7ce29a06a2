/* Hello on a connection: the state machine of protocol/hello.h with this node's secret, nonce
 * and limits, and what a connection is allowed once it is over. */

#include "node/node_state.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

kv_secret *kv_secret_hold(kv_node *node)
{
    kv_secret *secret;

    pthread_mutex_lock(&node->mutex);
    secret = node->secret;
    if (secret)
        secret->references++;
    pthread_mutex_unlock(&node->mutex);
    return secret;
}

void kv_secret_release(kv_node *node, kv_secret *secret)
{
    bool last = false;

    if (!secret)
        return;
    pthread_mutex_lock(&node->mutex);
    assert(secret->references > 0);
    last = --secret->references == 0;
    pthread_mutex_unlock(&node->mutex);
    if (last) {
        explicit_bzero(secret->bytes, secret->size);
        free(secret);
    }
}

int kv_greeting_begin(kv_session *session)
{
    kv_node *node = session->loop->node;
    const kv_node_settings *settings = &node->settings;
    kv_hello_grant grant = {
        .rights = settings->rights,
        .requests_max = settings->requests_max,
        .count_max = KV_MESSAGE_COUNT_MAX,
        .columns_size_max = KV_MESSAGE_COLUMNS_SIZE_MAX,
        .values_size_max = KV_MESSAGE_VALUES_SIZE_MAX,
        .stall_timeout_ms = (uint32_t)(settings->stall_ns / 1000000),
        .node = settings->node,
        .run = settings->run,
        .version_max = settings->version_max,
    };
    uint8_t nonce[KV_NONCE_SIZE];
    kv_greeting *greeting = malloc(sizeof(*greeting));

    if (!greeting)
        return -ENOMEM;
    if (getrandom(nonce, sizeof(nonce), 0) != sizeof(nonce)) {
        free(greeting);
        return -EIO; /* without randomness a proof could be replayed */
    }
    greeting->secret = kv_secret_hold(node);
    kv_hello_begin_node(&greeting->hello, &grant, greeting->secret ? greeting->secret->bytes : NULL,
                        greeting->secret ? greeting->secret->size : 0, nonce);
    session->greeting = greeting;
    return 0;
}

void kv_greeting_end(kv_session *session)
{
    if (!session->greeting)
        return;
    kv_secret_release(session->loop->node, session->greeting->secret);
    free(session->greeting);
    session->greeting = NULL;
}

/* A name with its size before it; the default is written as none, so that keys do not grow by
 * it. */
static uint32_t put_name(uint8_t *bytes, const char *name)
{
    size_t size = strcmp(name, "default") == 0 ? 0 : strlen(name);

    assert(size <= KV_NAME_SIZE_MAX);
    bytes[0] = (uint8_t)size;
    memcpy(bytes + 1, name, size);
    return (uint32_t)size + 1;
}

static void greeting_done(kv_session *session)
{
    kv_loop *loop = session->loop;
    const kv_hello *hello = &session->greeting->hello;
    char text[KV_ADDRESS_TEXT_SIZE];

    session->rights = hello->grant.rights;
    session->version = (uint8_t)hello->version;
    session->prefix_size = put_name(session->prefix, hello->names.tenant);
    session->prefix_size +=
        put_name(session->prefix + session->prefix_size, hello->names.name_space);
    memcpy(session->client, hello->names.client, KV_CLIENT_ID_SIZE);
    session->state = KV_SESSION_SERVES;
    kv_events_report(&loop->node->events, KV_EVENT_CONNECTED, 0, session->id,
                     "%s: tenant %s, namespace %s, version %u", kv_session_address(session, text),
                     hello->names.tenant, hello->names.name_space, hello->version);
    kv_greeting_end(session);
}

static void greeting_failed(kv_session *session)
{
    const kv_hello *hello = &session->greeting->hello;
    char text[KV_ADDRESS_TEXT_SIZE];

    kv_events_report(&session->loop->node->events, KV_EVENT_REFUSED, -hello->error, session->id,
                     "%s: %.150s", kv_session_address(session, text), hello->reason);
    session->state = KV_SESSION_LINGERS;
    kv_greeting_end(session);
}

void kv_greeting_step(kv_session *session, const kv_message_head *head, const uint8_t *bytes)
{
    kv_hello *hello = &session->greeting->hello;
    uint8_t *room = kv_outgoing_room(session);
    int size;

    if (!room) {
        kv_session_cut(session, KV_EVENT_CUT_RESET, ENOMEM, "no memory for hello");
        return;
    }
    size = kv_hello_step(hello, head, bytes, room);
    assert(size >= 0 && hello->state != KV_HELLO_NEW);
    kv_outgoing_add(session, (uint32_t)size);
    if (hello->state == KV_HELLO_DONE)
        greeting_done(session);
    else if (hello->state == KV_HELLO_FAILED)
        greeting_failed(session);
}

void kv_greeting_refuse(kv_session *session)
{
    kv_node *node = session->loop->node;
    bool draining = atomic_load_explicit(&node->draining, memory_order_relaxed); /* for the text only */
    const char *reason = draining ? "the node is shutting down" : "the node has too many connections";
    uint8_t *room = kv_outgoing_room(session);
    char text[KV_ADDRESS_TEXT_SIZE];

    kv_events_report(&node->events, KV_EVENT_REFUSED, 0, session->id, "%s: %s",
                     kv_session_address(session, text), reason);
    session->state = KV_SESSION_LINGERS;
    if (room)
        kv_outgoing_add(session, (uint32_t)kv_hello_refuse(reason, room));
    else
        kv_session_cut(session, KV_EVENT_REFUSED, ENOMEM, "no memory for a refusal");
}
