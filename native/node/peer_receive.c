/* What another node answers: hello, then answers to messages, found by their request. See
 * peer.h. */

#include "node/chain.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool broken(kv_peer *peer, int error, const char *reason)
{
    kv_peer_break(peer, error, reason);
    return false;
}

static bool welcome(kv_peer *peer)
{
    if (!(peer->hello->grant.rights & KV_RIGHT_PEER) || peer->hello->grant.requests_max == 0)
        return broken(peer, -EACCES, "it grants no right to forward updates");
    peer->grant = peer->hello->grant;
    peer->version = (uint8_t)peer->hello->version;
    peer->state = KV_PEER_READY;
    peer->heard_ns = kv_clock_ns();
    peer->not_before_ns = 0;
    kv_timer_stop(peer->loop->reactor, &peer->timer);
    kv_secret_release(peer->loop->node, peer->secret);
    peer->secret = NULL;
    free(peer->hello);
    peer->hello = NULL;
    if (!peer->mover)
        kv_chain_tell_found(peer->chain);
    kv_peer_touch(peer);
    return true;
}

static bool hello_take(kv_peer *peer, const uint8_t *bytes)
{
    kv_hello *hello = peer->hello;
    int size;

    if (peer->sends || peer->own_sent < peer->own_size)
        return broken(peer, -EPROTO, "it answered before it was asked");
    size = kv_hello_step(hello, &peer->head, bytes, peer->own);
    peer->own_sent = 0;
    peer->own_size = size > 0 ? (uint32_t)size : 0;
    if (hello->state == KV_HELLO_FAILED)
        return broken(peer, hello->error, hello->reason);
    kv_peer_touch(peer);
    return hello->state == KV_HELLO_DONE ? welcome(peer) : true;
}

/* NULL: nobody waits for it any more. */
static kv_peer_message *message_find(kv_peer *peer, uint64_t request)
{
    for (kv_list *at = peer->sent.next; at != &peer->sent; at = at->next) {
        kv_peer_message *message = KV_CONTAINER(at, kv_peer_message, link);

        if (message->request == request)
            return message;
    }
    return NULL;
}

static bool message_answered(kv_peer *peer, kv_peer_message *message, const uint8_t *columns)
{
    int error = 0;

    peer->in_flight--;
    peer->attempts = 0;
    peer->silence_told = false;
    if (message) {
        kv_list_remove(&message->link);
        message->state = KV_PEER_IDLE;
        error = message->sender->answered(message, &peer->head, columns);
    }
    if (error < 0) {
        kv_peer_send(peer, message); /* by the next connection */
        return broken(peer, error, NULL);
    }
    if (!kv_list_empty(&peer->waiting))
        kv_peer_touch(peer);
    return peer->state == KV_PEER_READY;
}

static bool answer_take(kv_peer *peer, const uint8_t *bytes)
{
    kv_peer_message *message = message_find(peer, peer->head.request);

    if (peer->in_flight == 0)
        return broken(peer, -EPROTO, "it answered what was not asked");
    if (message && (message->kind == KV_MESSAGE_FORWARD) !=
                       (peer->head.kind == KV_MESSAGE_FORWARDED))
        return broken(peer, -EPROTO, "its answer is of another kind");
    if (peer->head.values_size == 0)
        return message_answered(peer, message, bytes + KV_MESSAGE_HEAD_SIZE);
    peer->control = message;
    peer->body_left = peer->head.values_size;
    return true;
}

static bool message_take(kv_peer *peer, const uint8_t *bytes)
{
    if (peer->state == KV_PEER_HELLO)
        return peer->head.kind <= KV_MESSAGE_REFUSAL ? hello_take(peer, bytes)
                                                     : broken(peer, -EPROTO, NULL);
    if (peer->head.kind != KV_MESSAGE_FORWARDED && peer->head.kind != KV_MESSAGE_CONTROL_REPLY)
        return broken(peer, -EPROTO, NULL);
    return answer_take(peer, bytes);
}

static bool body_take(kv_peer *peer)
{
    uint32_t unread = peer->end - peer->begin;
    uint32_t size = unread < peer->body_left ? unread : peer->body_left;

    if (peer->control && peer->control->sender->body)
        peer->control->sender->body(peer->control, peer->buffer + peer->begin, size);
    peer->begin += size;
    peer->body_left -= size;
    if (peer->body_left > 0)
        return true;
    kv_peer_message *message = peer->control;
    peer->control = NULL;
    return message_answered(peer, message, NULL);
}

/* 1: one was taken; 0: more bytes are needed; -1: the connection broke. */
static int take(kv_peer *peer)
{
    uint32_t unread = peer->end - peer->begin;
    const uint8_t *bytes = peer->buffer + peer->begin;
    uint32_t size;
    int error;

    if (peer->body_left > 0) {
        if (unread == 0)
            return 0;
        return body_take(peer) ? 1 : -1;
    }
    if (unread < KV_MESSAGE_HEAD_SIZE)
        return 0;
    if (!peer->head_known) {
        error = kv_message_decode(bytes, &peer->head);
        if (error < 0 || peer->head.columns_size > sizeof(peer->buffer) - KV_MESSAGE_HEAD_SIZE)
            return broken(peer, error < 0 ? error : -EMSGSIZE, NULL) ? 1 : -1;
        if (peer->state == KV_PEER_READY && peer->head.version != peer->version)
            return broken(peer, -EPROTONOSUPPORT, NULL) ? 1 : -1;
        peer->head_known = true;
    }
    size = KV_MESSAGE_HEAD_SIZE + peer->head.columns_size;
    if (unread < size)
        return 0;
    if (kv_message_verify(bytes + KV_MESSAGE_HEAD_SIZE, peer->head.columns_size) < 0)
        return broken(peer, -EBADMSG, NULL) ? 1 : -1;
    peer->begin += size;
    peer->head_known = false;
    return message_take(peer, bytes) ? 1 : -1;
}

bool kv_peer_came(kv_peer *peer, int64_t result)
{
    int taken;

    if (result <= 0)
        return broken(peer, result < 0 ? (int)result : -ECONNRESET,
                      result < 0 ? NULL : "it closed the connection");
    peer->heard_ns = kv_clock_ns();
    peer->end += (uint32_t)result;
    kv_counters_add(&peer->loop->counters, KV_COUNTER(received_bytes), (uint64_t)result);
    do
        taken = take(peer);
    while (taken > 0);
    return taken == 0;
}

bool kv_peer_read(kv_peer *peer)
{
    while (!peer->receiving) {
        uint32_t unread = peer->end - peer->begin;
        int64_t result;

        memmove(peer->buffer, peer->buffer + peer->begin, unread);
        peer->begin = 0;
        peer->end = unread;
        assert(peer->end < sizeof(peer->buffer));
        peer->range = (struct iovec){peer->buffer + peer->end, sizeof(peer->buffer) - peer->end};
        result = kv_socket_receive(&peer->socket, &peer->range, 1);
        if (result == -EINPROGRESS)
            peer->receiving = true;
        else if (!kv_peer_came(peer, result))
            return false;
    }
    return true;
}
