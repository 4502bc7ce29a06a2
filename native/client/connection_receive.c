/* Receiving: heads and columns into the connection's buffer, values straight into the caller's
 * buffers, with the next head along in the same system call.
 *
 *   buffer:  │ taken │ head │ columns │ unread ... │ free ...                  │
 *                    ^begin (a head is awaited)    ^filled                     ^size
 *   in_values: head and columns stay where they are; values come from the unread bytes first, then
 *   from the socket: ranges = [rest of this value, next value, ..., ahead: free bytes of the
  * buffer]
 *
 * Invariants: in_values says that values_left > 0, and then nothing is unread while ranges are out;
 * the columns of the current reply do not move while its values come. */

#include "client/client_state.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define VALUE_RANGES_MAX (KV_REACTOR_IOVEC_MAX - 1)

int kv_receiving_open(kv_receiving *receiving)
{
    receiving->buffer = malloc(KV_CLIENT_BUFFER_SIZE);
    receiving->size = KV_CLIENT_BUFFER_SIZE;
    return receiving->buffer ? 0 : -ENOMEM;
}

void kv_receiving_close(kv_receiving *receiving)
{
    free(receiving->buffer);
}

void kv_receiving_reset(kv_receiving *receiving)
{
    receiving->begin = receiving->filled = 0;
    receiving->head_known = receiving->in_values = receiving->out = false;
    receiving->part = NULL;
}

/* ---- taking what is in the buffer ---- */

/* Move what is unread to the front, and see to it that a message of `size` bytes without its values
 * fits, with something ahead. -ENOMEM. */
static int make_room(kv_receiving *receiving, uint32_t size)
{
    uint32_t unread = receiving->filled - receiving->begin;
    uint32_t wanted = size + KV_CLIENT_AHEAD_SIZE;

    assert(wanted <= KV_CLIENT_BUFFER_SIZE_MAX);
    if (receiving->begin > 0)
        memmove(receiving->buffer, receiving->buffer + receiving->begin, unread);
    receiving->begin = 0;
    receiving->filled = unread;
    if (wanted > receiving->size) {
        uint8_t *buffer = realloc(receiving->buffer, wanted);

        if (!buffer)
            return -ENOMEM;
        receiving->buffer = buffer;
        receiving->size = wanted;
    }
    return 0;
}

static bool kind_expected(const kv_connection *connection, uint8_t kind)
{
    if (connection->state == KV_CONNECTION_HELLO)
        return kind <= KV_MESSAGE_REFUSAL;
    return kind == KV_MESSAGE_REPLY || kind == KV_MESSAGE_CONTROL_REPLY;
}

/* 1: there is a head; 0: not yet; a negative errno: it is none. */
static int head_take(kv_connection *connection)
{
    kv_receiving *receiving = &connection->receiving;
    int error;

    if (receiving->head_known)
        return 1;
    if (receiving->filled - receiving->begin < KV_MESSAGE_HEAD_SIZE)
        return receiving->size - receiving->begin < 2 * KV_CLIENT_AHEAD_SIZE
                   ? make_room(receiving, KV_MESSAGE_HEAD_SIZE)
                   : 0;
    error = kv_message_decode(receiving->buffer + receiving->begin, &receiving->head);
    if (error < 0)
        return error;
    if (!kind_expected(connection, receiving->head.kind))
        return -EPROTO;
    receiving->head_known = true;
    return 1;
}

/* The next message whose head and columns are there. 1: it was begun. */
static int message_take(kv_connection *connection)
{
    kv_receiving *receiving = &connection->receiving;
    int result = head_take(connection);
    const uint8_t *bytes;
    uint32_t size;

    if (result <= 0)
        return result;
    size = KV_MESSAGE_HEAD_SIZE + receiving->head.columns_size;
    if (receiving->filled - receiving->begin < size)
        return receiving->begin + size + KV_CLIENT_AHEAD_SIZE > receiving->size
                   ? make_room(receiving, size)
                   : 0;
    bytes = receiving->buffer + receiving->begin;
    result = kv_message_verify(bytes + KV_MESSAGE_HEAD_SIZE, receiving->head.columns_size);
    if (result < 0)
        return result;
    receiving->begin += size;
    receiving->values_begin = receiving->begin;
    receiving->values_left = receiving->head.values_size;
    receiving->in_values = receiving->values_left > 0;
    return kv_connection_message(connection, bytes) ? 1 : 0;
}

/* Bytes of values that came along with a head are copied once. */
static void values_from_buffer(kv_connection *connection)
{
    kv_receiving *receiving = &connection->receiving;

    while (receiving->values_left > 0 && receiving->begin < receiving->filled) {
        uint32_t unread = receiving->filled - receiving->begin;
        uint32_t size;
        uint8_t *target = kv_connection_value_target(connection, receiving->position, &size);

        if (size > unread)
            size = unread;
        if (target)
            memcpy(target, receiving->buffer + receiving->begin, size);
        receiving->begin += size;
        kv_connection_value_arrived(connection, size);
    }
    if (receiving->begin == receiving->filled) /* only the columns are still wanted */
        receiving->begin = receiving->filled = receiving->values_begin;
}

static bool message_end(kv_connection *connection)
{
    kv_receiving *receiving = &connection->receiving;

    receiving->in_values = false;
    receiving->head_known = false;
    if (!kv_connection_message_end(connection))
        return false;
    if (receiving->begin == receiving->filled)
        receiving->begin = receiving->filled = 0;
    return true;
}

/* Take all that is there. False: the connection broke. */
static bool buffer_take(kv_connection *connection)
{
    kv_receiving *receiving = &connection->receiving;

    for (;;) {
        if (!receiving->in_values) {
            int result = message_take(connection);

            if (connection->state == KV_CONNECTION_CLOSING)
                return false;
            if (result < 0) {
                kv_connection_break(connection, result, "the node broke the protocol");
                return false;
            }
            if (result == 0)
                return true;
        }
        if (receiving->in_values)
            values_from_buffer(connection);
        if (receiving->in_values && receiving->values_left > 0)
            return true;
        if (!message_end(connection))
            return false;
    }
}

/* ---- from the socket ---- */

/* A range for what is left of a value, or for as much of it as `max`. */
static struct iovec value_range(const kv_connection *connection, uint8_t *target, uint64_t size,
                                uint64_t max)
{
    if (!target && max > KV_CLIENT_SCRATCH_SIZE)
        max = KV_CLIENT_SCRATCH_SIZE;
    return (struct iovec){target ? target : connection->lane->scratch, size < max ? size : max};
}

/* Ranges of values that are still to come; returns how many, and sets direct_size. */
static uint32_t value_ranges(kv_connection *connection)
{
    kv_receiving *receiving = &connection->receiving;
    uint32_t position = receiving->position;
    uint32_t count = 0;

    receiving->direct_size = 0;
    while (receiving->direct_size < receiving->values_left && count < VALUE_RANGES_MAX &&
           receiving->direct_size < KV_CLIENT_RECEIVE_SIZE) {
        uint32_t size;
        uint8_t *target = kv_connection_value_target(connection, position++, &size);

        if (size == 0)
            continue;
        receiving->ranges[count] =
            value_range(connection, target, size, KV_CLIENT_RECEIVE_SIZE - receiving->direct_size);
        receiving->direct_size += receiving->ranges[count].iov_len;
        if (receiving->ranges[count++].iov_len < size)
            break;
    }
    return count;
}

/* How much is worth taking into the buffer: all there is room for when replies are small, little
 * when values come that belong elsewhere. */
static uint32_t ahead_size(const kv_connection *connection)
{
    const kv_receiving *receiving = &connection->receiving;
    uint32_t room = receiving->size - receiving->filled;
    uint32_t unread = receiving->filled - receiving->begin;
    uint32_t wanted = KV_CLIENT_AHEAD_SIZE;

    if (!receiving->in_values && connection->large_count == 0)
        return room;
    if (!receiving->in_values && receiving->head_known &&
        KV_MESSAGE_HEAD_SIZE + receiving->head.columns_size > unread)
        wanted = KV_MESSAGE_HEAD_SIZE + receiving->head.columns_size - unread;
    return wanted < room ? wanted : room;
}

static uint32_t ranges_build(kv_connection *connection)
{
    kv_receiving *receiving = &connection->receiving;
    uint32_t count = 0;
    uint32_t ahead;

    receiving->direct_size = 0;
    if (receiving->in_values) {
        assert(receiving->begin == receiving->filled);
        count = value_ranges(connection);
        if (receiving->direct_size < receiving->values_left)
            return count;
    }
    ahead = ahead_size(connection);
    if (ahead > 0)
        receiving->ranges[count++] = (struct iovec){receiving->buffer + receiving->filled, ahead};
    assert(count > 0);
    return count;
}

/* Values that were received where they belong, range by range while they are hot. */
static void direct_arrived(kv_connection *connection, uint64_t size)
{
    while (size > 0) {
        uint32_t rest;

        kv_connection_value_target(connection, connection->receiving.position, &rest);
        if (rest > size)
            rest = (uint32_t)size;
        kv_connection_value_arrived(connection, rest);
        size -= rest;
    }
}

bool kv_connection_received(kv_connection *connection, int64_t result)
{
    kv_receiving *receiving = &connection->receiving;
    uint64_t direct;

    if (result <= 0) {
        kv_connection_break(connection, result < 0 ? (int)result : -ECONNRESET,
                            result < 0 ? NULL : "the node closed the connection");
        return false;
    }
    connection->silent_since_ns = kv_reactor_now_ns(connection->lane->reactor);
    direct = (uint64_t)result < receiving->direct_size ? (uint64_t)result : receiving->direct_size;
    direct_arrived(connection, direct);
    receiving->filled += (uint32_t)((uint64_t)result - direct);
    assert(receiving->filled <= receiving->size);
    return buffer_take(connection);
}

/* A connection that nobody turns the reactor for is not listened to. */
bool kv_connection_listens(const kv_connection *connection)
{
    return connection->state == KV_CONNECTION_HELLO || connection->in_flight_count > 0 ||
           connection->lane->background;
}

bool kv_connection_receive(kv_connection *connection)
{
    kv_receiving *receiving = &connection->receiving;

    while (!receiving->out) {
        uint32_t count = ranges_build(connection);
        int64_t result = kv_socket_receive(&connection->socket, receiving->ranges, count);

        if (result == -EINPROGRESS)
            receiving->out = true;
        else if (!kv_connection_received(connection, result))
            return false;
        if (!kv_connection_listens(connection))
            break;
    }
    return true;
}
