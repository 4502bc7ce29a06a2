/* Sending: own bytes (hello, cancels) and then parts, as ranges of messages and of the caller's
 * values, several small parts in one system call.
 *
 * Invariants: only the first part of sending_parts may be sent in part; own bytes go between
 * messages, never into one. */

#include "client/client_state.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define TIMEOUT_MS_MIN 1u

/* Tell the node which requests nobody waits for any more. */
static void block_fill(kv_connection *connection)
{
    kv_sending *sending = &connection->sending;

    sending->block_size = sending->block_sent = 0;
    while (connection->cancels != 0) {
        uint32_t slot = (uint32_t)__builtin_ctzll(connection->cancels);
        const kv_part *part = connection->in_flight[slot];
        kv_message_head head = {
            .version = connection->version, .kind = KV_MESSAGE_CANCEL, .request = part->request};

        connection->cancels &= connection->cancels - 1;
        if (part->operation == 0)
            continue;
        kv_message_encode(&head, sending->block + sending->block_size);
        sending->block_size += KV_MESSAGE_HEAD_SIZE;
    }
}

_Static_assert(KV_CLIENT_IN_FLIGHT_MAX *KV_MESSAGE_HEAD_SIZE <= KV_HELLO_MESSAGE_SIZE_MAX,
               "cancels of all requests in flight fit the block");

static const kv_request *request_of(const kv_part *part)
{
    return part->call ? part->call->batch.request : NULL;
}

static uint32_t slot_find(const kv_connection *connection)
{
    uint32_t slot = 0;

    while (connection->in_flight[slot])
        slot++;
    assert(slot < KV_CLIENT_IN_FLIGHT_MAX);
    return slot;
}

static uint32_t timeout_of(const kv_call *call)
{
    uint64_t now_ns = kv_clock_ns();
    uint64_t left_ns = call->deadline_ns > now_ns ? call->deadline_ns - now_ns : 0;
    uint64_t left_ms = left_ns / KV_NS_PER_MS;

    return left_ms < TIMEOUT_MS_MIN ? TIMEOUT_MS_MIN : (uint32_t)left_ms;
}

/* Whether the node takes a message of this size. */
static bool fits_grant(const kv_connection *connection, const kv_part *part)
{
    const kv_hello_grant *grant = &connection->grant;

    return part->count <= grant->count_max && part->values_size <= grant->values_size_max &&
           part->message_size - KV_MESSAGE_HEAD_SIZE <= grant->columns_size_max;
}

/* Whether the node knows nothing of an update that its earlier run was given. Members of a chain
 * share what they know. */
static bool is_of_another_run(const kv_connection *connection, const kv_part *part)
{
    return part->chain_version == 0 && part->run != connection->grant.run;
}

/* Parts that this connection cannot send as they are: cut smaller, or failed. True: it was one. */
static bool part_unfit(kv_connection *connection, kv_part *part)
{
    bool again = part->sequence != 0;

    if (again && (is_of_another_run(connection, part) || !fits_grant(connection, part))) {
        kv_list_remove(&part->link);
        kv_call_end_channel(part, false);
        kv_call_fail_part(part, KV_OUTCOME_UNKNOWN);
        return true;
    }
    if (part->operation == 0 || again || fits_grant(connection, part))
        return false;
    kv_list_remove(&part->link);
    if (part->count > 1)
        kv_call_retry(part);
    else
        kv_call_fail_part(part, KV_TOO_LARGE);
    return true;
}

/* The first part that waits and may be sent: one control request goes at a time, and new updates
 * want a channel. NULL: none. */
static kv_part *part_waiting(const kv_connection *connection)
{
    const kv_list *waiting = &connection->waiting;

    for (kv_list *at = waiting->next; at != waiting; at = at->next) {
        kv_part *part = KV_CONTAINER(at, kv_part, link);

        if (part->operation == 0 && connection->control_count > 0)
            continue;
        if (!part->idempotent && part->sequence == 0 && kv_timer_is_set(&connection->channel_pause))
            continue;
        return part;
    }
    return NULL;
}

static void channel_pause_ends(kv_timer *timer)
{
    kv_connection *connection = KV_CONTAINER(timer, kv_connection, channel_pause);

    kv_connection_touch(connection);
    kv_lane_work(connection->lane);
}

/* True: the part needs no channel, or has one. Otherwise updates of this connection rest a while:
 * whoever gives a channel back does not know who wants it. */
static bool channel_take(kv_connection *connection, kv_part *part)
{
    kv_lane *lane = connection->lane;
    kv_client *client = lane->client;

    if (part->idempotent || part->sequence != 0)
        return true;
    if (kv_sequences_take(&client->sequences, &client->loads[connection->endpoint].channels,
                          &part->channel, &part->sequence))
        return true;
    connection->channel_pause.expire = channel_pause_ends;
    kv_timer_set(lane->reactor, &connection->channel_pause,
                 kv_clock_ns() + (uint64_t)KV_CLIENT_CHANNEL_PAUSE_MS * KV_NS_PER_MS);
    return false;
}

/* The next part that waits, made ready to be sent; NULL: none may be sent now. */
static kv_part *part_next(kv_connection *connection)
{
    uint32_t limit = connection->grant.requests_max;
    kv_part_envelope envelope = {.version = connection->version};
    kv_part *part;

    if (limit > KV_CLIENT_IN_FLIGHT_MAX)
        limit = KV_CLIENT_IN_FLIGHT_MAX;
    do {
        part = connection->in_flight_count < limit ? part_waiting(connection) : NULL;
        if (!part)
            return NULL;
    } while (part_unfit(connection, part) || !channel_take(connection, part));
    envelope.repeated = part->repeated;
    kv_list_remove(&part->link);
    kv_list_append(&connection->sending_parts, &part->link);
    if (connection->in_flight_count == 0)
        connection->silent_since_ns = kv_clock_ns();
    part->slot = slot_find(connection);
    part->state = KV_PART_SENDING;
    part->run = connection->grant.run;
    part->sent_ns = kv_clock_ns();
    part->ended = false;
    connection->in_flight[part->slot] = part;
    connection->in_flight_count++;
    connection->large_count += part->room > KV_CLIENT_BUFFER_SIZE / 2;
    connection->control_count += part->operation == 0;
    envelope.request = ++connection->request * KV_CLIENT_IN_FLIGHT_MAX + part->slot;
    envelope.timeout_ms = timeout_of(part->call);
    kv_part_encode(part, request_of(part), &envelope);
    kv_connection_watch(connection, part);
    return part;
}

/* Add what is left of a part. False: not all of it fitted. */
static bool ranges_add(kv_sending *sending, const kv_part *part, uint32_t *count, uint64_t *total)
{
    uint64_t size;

    *count += kv_part_ranges(part, request_of(part), sending->ranges + *count,
                             KV_REACTOR_IOVEC_MAX - *count, &size);
    *total += size;
    return size == kv_part_size(part) - part->sent_size;
}

/* What is to be sent next, in one system call. Returns the count of ranges. */
static uint32_t ranges_build(kv_connection *connection)
{
    kv_sending *sending = &connection->sending;
    kv_list *parts = &connection->sending_parts;
    uint64_t total = 0;
    uint32_t count = 0;
    bool between = kv_list_empty(parts) || KV_CONTAINER(parts->next, kv_part, link)->sent_size == 0;

    if (connection->state == KV_CONNECTION_READY && between &&
        sending->block_sent == sending->block_size)
        block_fill(connection);
    if (sending->block_sent < sending->block_size) {
        total = sending->block_size - sending->block_sent;
        sending->ranges[count++] =
            (struct iovec){sending->block + sending->block_sent, (size_t)total};
    }
    for (kv_list *at = parts->next; at != parts; at = at->next)
        if (count == KV_REACTOR_IOVEC_MAX ||
            !ranges_add(sending, KV_CONTAINER(at, kv_part, link), &count, &total))
            return count;
    while (connection->state == KV_CONNECTION_READY && total < KV_CLIENT_SEND_SIZE &&
           count < KV_REACTOR_IOVEC_MAX) {
        const kv_part *part = part_next(connection);

        if (!part || !ranges_add(sending, part, &count, &total))
            break;
    }
    return count;
}

/* The reactor may be reading any of them from now on. */
static void parts_touch(kv_connection *connection)
{
    kv_list *parts = &connection->sending_parts;

    for (kv_list *at = parts->next; at != parts; at = at->next)
        KV_CONTAINER(at, kv_part, link)->touched = true;
}

/* A part's last byte was sent. */
static void part_sent(kv_connection *connection, kv_part *part)
{
    kv_list_remove(&part->link);
    part->state = KV_PART_SENT;
    if (!part->ended)
        return;
    part->ended = false;
    kv_connection_end(connection, part);
}

static void advance(kv_connection *connection, uint64_t size)
{
    kv_sending *sending = &connection->sending;
    uint64_t block_left = sending->block_size - sending->block_sent;
    uint64_t step = size < block_left ? size : block_left;

    sending->block_sent += (uint32_t)step;
    size -= step;
    while (size > 0) {
        kv_part *part = KV_CONTAINER(connection->sending_parts.next, kv_part, link);
        uint64_t left = kv_part_size(part) - part->sent_size;

        assert(!kv_list_empty(&connection->sending_parts));
        step = size < left ? size : left;
        kv_part_advance(part, request_of(part), step);
        part->touched = true;
        size -= step;
        if (step == left)
            part_sent(connection, part);
    }
}

bool kv_connection_sent(kv_connection *connection, int64_t result)
{
    if (result < 0) {
        kv_connection_break(connection, (int)result, NULL);
        return false;
    }
    advance(connection, (uint64_t)result);
    return connection->state != KV_CONNECTION_CLOSING;
}

bool kv_connection_send(kv_connection *connection)
{
    kv_sending *sending = &connection->sending;

    while (!sending->out) {
        uint32_t count = ranges_build(connection);
        int64_t result;

        if (connection->state == KV_CONNECTION_CLOSING)
            return false;
        if (count == 0)
            break;
        result = kv_socket_send(&connection->socket, sending->ranges, count);
        if (result == -EINPROGRESS) {
            sending->out = true;
            parts_touch(connection);
        } else if (!kv_connection_sent(connection, result)) {
            return false;
        }
    }
    return true;
}
