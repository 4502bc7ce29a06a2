/* Sending to another node: hello, then messages, several small ones in one system call; values go
 * from where they lie. See peer.h.
 *
 * Only the first of peer->sending may be sent in part. */

#include "node/chain.h"
#include "node/gather.h"

#include <assert.h>
#include <errno.h>

static uint64_t values_size(kv_peer_message *message)
{
    uint64_t size = 0;

    for (uint32_t i = 0; message->sender->value_size && i < message->count; i++)
        size += message->sender->value_size(message, i);
    return size;
}

/* False: no memory. */
static bool message_encode(kv_peer *peer, kv_peer_message *message)
{
    kv_message_head head = {.version = peer->version,
                            .kind = (uint8_t)message->kind,
                            .flags = (uint16_t)peer->aim.pool,
                            .request = ++peer->request_last};
    uint32_t columns_size = message->sender->columns_size(message);
    uint64_t size = values_size(message);

    assert(columns_size <= KV_MESSAGE_FORWARD_SIZE_MAX && size <= KV_MESSAGE_VALUES_SIZE_MAX);
    message->bytes_capacity = KV_MESSAGE_HEAD_SIZE + columns_size;
    message->bytes = kv_blocks_take(&peer->loop->blocks, message->bytes_capacity);
    if (!message->bytes)
        return false;
    head.columns_size =
        message->sender->encode(message, &head, message->bytes + KV_MESSAGE_HEAD_SIZE);
    head.values_size = (uint32_t)size;
    kv_message_encode(&head, message->bytes);
    message->bytes_size = KV_MESSAGE_HEAD_SIZE + head.columns_size;
    message->bytes_sent = 0;
    message->item = 0;
    message->item_sent = 0;
    message->request = head.request;
    assert(message->bytes_size <= message->bytes_capacity);
    return true;
}

void kv_peer_message_rest(kv_peer *peer, kv_peer_message *message)
{
    if (message->bytes)
        kv_blocks_give(&peer->loop->blocks, message->bytes, message->bytes_capacity);
    message->bytes = NULL;
    kv_list_remove(&message->link);
}

/* Messages that the other end would not know are not sent. */
static void unspoken_end(kv_peer *peer)
{
    while (!kv_list_empty(&peer->waiting)) {
        kv_peer_message *message = KV_CONTAINER(peer->waiting.next, kv_peer_message, link);

        if (message->sender->version_min <= peer->version)
            return;
        kv_list_remove(&message->link);
        message->state = KV_PEER_IDLE;
        message->sender->unspoken(message);
    }
}

/* The next message that may be sent now; NULL: none. */
static kv_peer_message *message_next(kv_peer *peer)
{
    uint32_t limit = peer->grant.requests_max < KV_NODE_PEER_IN_FLIGHT ? peer->grant.requests_max
                                                                       : KV_NODE_PEER_IN_FLIGHT;
    kv_peer_message *message;
    uint64_t now_ns;

    unspoken_end(peer);
    if (kv_list_empty(&peer->waiting) || peer->in_flight >= (peer->probing ? 1 : limit))
        return NULL;
    now_ns = kv_clock_ns();
    if (now_ns < peer->not_before_ns)
        return NULL;
    message = KV_CONTAINER(peer->waiting.next, kv_peer_message, link);
    if (!message_encode(peer, message)) {
        kv_peer_pause(peer);
        return NULL;
    }
    kv_list_remove(&message->link);
    kv_list_append(&peer->sending, &message->link);
    message->state = KV_PEER_SENDING;
    if (peer->in_flight++ == 0)
        peer->heard_ns = now_ns;
    return message;
}

static void ranges_add(kv_ranges *ranges, kv_peer_message *message)
{
    ranges->skip = message->bytes_sent;
    kv_ranges_add(ranges, message->bytes, message->bytes_size);
    if (!message->sender->value)
        return;
    ranges->skip = message->item_sent;
    for (uint32_t i = message->item; i < message->count && !kv_ranges_full(ranges); i++) {
        struct iovec value[KV_LENT_RANGES_MAX];
        uint32_t count;

        if (message->sender->value_size(message, i) == 0)
            continue;
        count = message->sender->value(message, i, value);
        assert(count > 0 && count <= KV_LENT_RANGES_MAX);
        for (uint32_t k = 0; k < count; k++)
            kv_ranges_add(ranges, value[k].iov_base, value[k].iov_len);
    }
    ranges->skip = 0;
}

static uint32_t ranges_build(kv_peer *peer)
{
    kv_ranges ranges = {.at = peer->ranges};
    kv_list *sending = &peer->sending;

    if (peer->own_sent < peer->own_size)
        kv_ranges_add(&ranges, peer->own + peer->own_sent, peer->own_size - peer->own_sent);
    for (kv_list *at = sending->next; at != sending && !kv_ranges_full(&ranges); at = at->next)
        ranges_add(&ranges, KV_CONTAINER(at, kv_peer_message, link));
    while (peer->state == KV_PEER_READY && !kv_ranges_full(&ranges) &&
           ranges.size < KV_NODE_PEER_SEND_SIZE) {
        kv_peer_message *message = message_next(peer);

        if (!message)
            break;
        ranges_add(&ranges, message);
    }
    return ranges.count;
}

/* Its last byte was sent. */
static void message_sent(kv_peer *peer, kv_peer_message *message)
{
    kv_peer_message_rest(peer, message);
    message->sent_ns = kv_clock_ns();
    if (message->dropped) {
        message->dropped = false;
        message->state = KV_PEER_IDLE;
        message->sender->freed(message);
    } else if (message->again) {
        message->again = false;
        message->state = KV_PEER_WAITS;
        kv_list_append(&peer->waiting, &message->link);
    } else {
        message->state = KV_PEER_SENT;
        kv_list_append(&peer->sent, &message->link);
    }
}

/* Returns how many bytes were the message's. */
static uint64_t message_advance(kv_peer_message *message, uint64_t size, bool *complete)
{
    uint64_t before = size;
    uint64_t left = message->bytes_size - message->bytes_sent;
    uint64_t step = size < left ? size : left;

    message->bytes_sent += (uint32_t)step;
    size -= step;
    *complete = message->bytes_sent == message->bytes_size;
    while (*complete && message->sender->value_size && message->item < message->count) {
        left = message->sender->value_size(message, message->item) - message->item_sent;
        step = size < left ? size : left;
        message->item_sent += step;
        size -= step;
        if (step < left) {
            *complete = false;
            break;
        }
        message->item++;
        message->item_sent = 0;
    }
    return before - size;
}

bool kv_peer_written(kv_peer *peer, int64_t result)
{
    uint64_t left = peer->own_size - peer->own_sent;
    uint64_t size = (uint64_t)result;
    uint64_t step;
    bool complete;

    if (result < 0) {
        kv_peer_break(peer, (int)result, NULL);
        return false;
    }
    peer->heard_ns = kv_clock_ns();
    step = size < left ? size : left;
    peer->own_sent += (uint32_t)step;
    size -= step;
    kv_counters_add(&peer->loop->counters, KV_COUNTER(sent_bytes), (uint64_t)result);
    while (size > 0) {
        kv_peer_message *message = KV_CONTAINER(peer->sending.next, kv_peer_message, link);

        assert(!kv_list_empty(&peer->sending));
        size -= message_advance(message, size, &complete);
        if (complete)
            message_sent(peer, message);
    }
    return true;
}

bool kv_peer_write(kv_peer *peer)
{
    while (!peer->sends) {
        uint32_t count = ranges_build(peer);
        int64_t result;

        if (count == 0)
            break;
        result = kv_socket_send(&peer->socket, peer->ranges, count);
        if (result == -EINPROGRESS)
            peer->sends = true;
        else if (!kv_peer_written(peer, result))
            return false;
    }
    return true;
}
