/* A connection: its life, and the way from the socket to whole messages.
 *
 *   GREETS ──hello done──► SERVES ──────────────┐
 *     │ hello failed, or refused at the door    │ the other end is gone, breaks the protocol, stalls;
 *     ▼                                         │ or nothing is under way while draining
 *   LINGERS ──the reason was read──► CLOSED ◄───┘──the last request has ended──► freed
 *
 * Receiving goes through one buffer: a head, its columns, then values, which are pushed on as they come.
 *
 * 1. A receive is out only without a hold, and then the buffer does not move.
 * 2. Memory for a message is reserved when its head is known, before anything is taken for it; a
 *    connection that waits for memory holds none but its buffer of 4 KiB, or what an earlier message left.
 * 3. A connection that is closed sends and receives nothing; it is freed when its socket is closed and
 *    its last request and control have ended.
 * 4. What a peer does wrong cuts this connection alone, is counted, and is said in one event. */

#include "node/node_state.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef enum advance {
    ADVANCE_MORE = 0, /* look again */
    ADVANCE_BYTES = 1,/* more bytes are needed */
    ADVANCE_STOP = 2  /* held or closed */
} advance;

const char *kv_connection_address(const kv_connection *connection, char text[KV_ADDRESS_TEXT_SIZE])
{
    const struct sockaddr_in *four = (const void *)&connection->address;
    const struct sockaddr_in6 *six = (const void *)&connection->address;
    char name[INET6_ADDRSTRLEN] = "?";

    if (connection->address.ss_family == AF_INET6) {
        inet_ntop(AF_INET6, &six->sin6_addr, name, sizeof(name));
        snprintf(text, KV_ADDRESS_TEXT_SIZE, "[%s]:%u", name, ntohs(six->sin6_port));
    } else {
        inet_ntop(AF_INET, &four->sin_addr, name, sizeof(name));
        snprintf(text, KV_ADDRESS_TEXT_SIZE, "%s:%u", name, ntohs(four->sin_port));
    }
    return text;
}

static bool is_live(const kv_connection *connection)
{
    return connection->state != KV_CONNECTION_CLOSED;
}

/* Back to the small buffer; what is in the larger one is given up or fits. */
static void buffer_shrink(kv_connection *connection)
{
    kv_loop *loop = connection->loop;
    uint32_t size = connection->end - connection->begin;

    if (connection->buffer == connection->bytes_small)
        return;
    assert(size <= sizeof(connection->bytes_small));
    memcpy(connection->bytes_small, connection->buffer + connection->begin, size);
    kv_pool_give(&loop->pool, connection->buffer, connection->capacity);
    kv_pool_release(&loop->pool, connection->buffer_reserved);
    kv_counters_subtract(&loop->counters, KV_COUNTER(request_memory), connection->buffer_reserved);
    loop->memory_came = true;
    connection->buffer = connection->bytes_small;
    connection->capacity = sizeof(connection->bytes_small);
    connection->buffer_reserved = 0;
    connection->begin = 0;
    connection->end = size;
}

void kv_connection_release(kv_connection *connection)
{
    kv_loop *loop = connection->loop;
    kv_node *node = loop->node;

    assert(connection->references > 0);
    if (--connection->references > 0)
        return;
    assert(connection->state == KV_CONNECTION_CLOSED && kv_list_empty(&connection->requests));
    assert(connection->lent == 0 && connection->message_reserved == 0 && !connection->window);
    kv_list_remove(&connection->link);
    kv_list_remove(&connection->speaking_link);
    kv_list_remove(&connection->eager_link);
    kv_list_remove(&connection->waiting_link);
    if (connection->refused)
        atomic_fetch_sub_explicit(&node->refused_count, 1, memory_order_relaxed);
    /* Relaxed: read by `accepted`, which wants any recent number. */
    atomic_fetch_sub_explicit(&loop->load, 1, memory_order_relaxed);
    free(connection);
    pthread_mutex_lock(&node->mutex);
    atomic_fetch_sub_explicit(&node->connection_count, 1, memory_order_relaxed); /* read under the mutex by drain */
    pthread_cond_broadcast(&node->quiet);
    pthread_mutex_unlock(&node->mutex);
}

static void socket_closed(kv_socket *socket)
{
    kv_connection *connection = KV_CONTAINER(socket, kv_connection, socket);
    kv_loop *loop = connection->loop;

    assert(connection->state == KV_CONNECTION_CLOSED);
    connection->gone = true;
    /* Until now the system may have read from, or written to, what the connection gave it. */
    kv_outgoing_close(connection);
    kv_incoming_abandon(connection, loop->stopping);
    connection->begin = connection->end;
    buffer_shrink(connection);
    kv_greeting_end(connection);
    kv_counters_subtract(&loop->counters, KV_COUNTER(connections), 1);
    kv_connection_release(connection);
}

static void message_release(kv_connection *connection)
{
    kv_pool_release(&connection->loop->pool, connection->message_reserved);
    kv_counters_subtract(&connection->loop->counters, KV_COUNTER(request_memory),
                         connection->message_reserved);
    connection->message_reserved = 0;
    connection->loop->memory_came = true;
}

void kv_connection_cut(kv_connection *connection, kv_node_event_kind kind, int error, const char *format, ...)
{
    char address[KV_ADDRESS_TEXT_SIZE];
    char text[KV_NODE_EVENT_TEXT_SIZE];
    va_list arguments;

    if (!is_live(connection))
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (connection->state != KV_CONNECTION_LINGERS)
        kv_events_report(&connection->loop->node->events, kind, error, connection->id, "%s: %.160s",
                         kv_connection_address(connection, address), text);
    connection->state = KV_CONNECTION_CLOSED;
    connection->hold = KV_HOLD_NONE;
    kv_list_remove(&connection->speaking_link);
    kv_list_remove(&connection->eager_link);
    kv_list_remove(&connection->waiting_link);
    message_release(connection);
    kv_socket_close(&connection->socket);
}

/* The other end is gone: in good order when nothing was under way. */
static void peer_gone(kv_connection *connection, int error)
{
    bool midst = connection->begin < connection->end || connection->incoming ||
                 connection->in_flight > 0 || connection->state == KV_CONNECTION_GREETS;

    if (error == 0 && !midst)
        kv_connection_cut(connection, KV_EVENT_DISCONNECTED, 0, "the client closed the connection");
    else if (connection->state == KV_CONNECTION_GREETS)
        kv_connection_cut(connection, KV_EVENT_CUT_RESET, error, "the connection ended during hello");
    else
        kv_connection_cut(connection, KV_EVENT_CUT_RESET, error,
                          "the connection broke with %u requests under way%s%s", connection->in_flight,
                          error ? ": " : "", error ? strerror(error) : "");
}

/* The buffer that the message in `head` needs: all of head and columns at a time, and for values that do not
 * fit the small one, large pieces. */
static uint32_t capacity_wanted(const kv_message_head *head)
{
    uint64_t start = KV_MESSAGE_HEAD_SIZE + (uint64_t)head->columns_size;

    if (start + head->values_size <= KV_NODE_BUFFER_SMALL_SIZE)
        return KV_NODE_BUFFER_SMALL_SIZE;
    if (start <= KV_NODE_BUFFER_LARGE_SIZE)
        return KV_NODE_BUFFER_LARGE_SIZE;
    return (uint32_t)start;
}

/* Reserved already. -ENOMEM. */
static int buffer_grow(kv_connection *connection, uint32_t capacity, uint64_t reserved)
{
    uint32_t size = connection->end - connection->begin;
    uint8_t *buffer = kv_pool_take(&connection->loop->pool, capacity);
    uint64_t before = connection->buffer_reserved;

    if (!buffer)
        return -ENOMEM;
    assert(size <= capacity && !connection->receiving);
    memcpy(buffer, connection->buffer + connection->begin, size);
    if (connection->buffer != connection->bytes_small)
        kv_pool_give(&connection->loop->pool, connection->buffer, connection->capacity);
    connection->buffer = buffer;
    connection->capacity = capacity;
    connection->buffer_reserved = before + reserved;
    connection->begin = 0;
    connection->end = size;
    return 0;
}

static void hold(kv_connection *connection, kv_hold why)
{
    connection->hold = why;
    if (why == KV_HOLD_MEMORY && kv_list_empty(&connection->waiting_link))
        kv_list_append(&connection->loop->waiting, &connection->waiting_link);
}

/* Reserve what the message needs, once. False: held, or cut. */
static bool admit(kv_connection *connection)
{
    kv_loop *loop = connection->loop;
    const kv_message_head *head = &connection->head;
    uint32_t capacity = capacity_wanted(head);
    bool grows = capacity > connection->capacity;
    uint64_t buffer_size = grows ? capacity - (connection->buffer_reserved ? connection->capacity : 0) : 0;
    uint64_t size = head->kind == KV_MESSAGE_REQUEST ? kv_incoming_bound(connection, head) : 0;

    if (head->kind == KV_MESSAGE_REQUEST && !kv_incoming_may_lend(connection)) {
        hold(connection, KV_HOLD_LENT);
        return false;
    }
    if (size + buffer_size > 0 && !kv_pool_reserve(&loop->pool, size + buffer_size)) {
        hold(connection, KV_HOLD_MEMORY);
        return false;
    }
    kv_list_remove(&connection->waiting_link);
    kv_counters_add(&loop->counters, KV_COUNTER(request_memory), size + buffer_size);
    connection->message_reserved = size;
    connection->admitted = true;
    if (grows && buffer_grow(connection, capacity, buffer_size) < 0) {
        kv_pool_release(&loop->pool, buffer_size);
        kv_counters_subtract(&loop->counters, KV_COUNTER(request_memory), buffer_size);
        kv_connection_cut(connection, KV_EVENT_CUT_RESET, ENOMEM, "no memory for a message");
        return false;
    }
    return true;
}

static const char *head_error(int error)
{
    switch (error) {
    case -EPROTO:
        return "what came is no message of this protocol";
    case -EBADMSG:
        return "the head of a message does not match its checksum";
    case -EPROTONOSUPPORT:
        return "a message has an unknown version";
    default:
        return "a message exceeds the limits of its kind";
    }
}

/* What a client may say now. NULL: this. */
static const char *misplaced(const kv_connection *connection, const kv_message_head *head)
{
    bool hello = head->kind == KV_MESSAGE_HELLO || head->kind == KV_MESSAGE_PROOF;

    if (connection->state == KV_CONNECTION_GREETS)
        return hello ? NULL : "a message came before hello was over";
    if (head->kind == KV_MESSAGE_REQUEST)
        return connection->in_flight < connection->loop->node->settings.requests_max
                   ? NULL
                   : "more requests are in flight than were granted";
    return head->kind == KV_MESSAGE_CANCEL || head->kind == KV_MESSAGE_CONTROL
               ? NULL
               : "a message of this kind is not for a node";
}

/* False: cut. */
static bool head_take(kv_connection *connection)
{
    int error = kv_message_decode(connection->buffer + connection->begin, &connection->head);
    const char *wrong = error < 0 ? head_error(error) : misplaced(connection, &connection->head);

    if (wrong && error == -EMSGSIZE)
        kv_connection_cut(connection, KV_EVENT_CUT_PROTOCOL, EMSGSIZE,
                          "%s: kind %u, %u items, %u bytes of columns, %u of values", wrong,
                          connection->head.kind, connection->head.count, connection->head.columns_size,
                          connection->head.values_size);
    else if (wrong)
        kv_connection_cut(connection, KV_EVENT_CUT_PROTOCOL, error < 0 ? -error : EPROTO, "%s", wrong);
    connection->head_known = !wrong;
    connection->admitted = false;
    return !wrong;
}

static void message_take(kv_connection *connection, const uint8_t *bytes)
{
    const kv_message_head *head = &connection->head;

    switch (head->kind) {
    case KV_MESSAGE_REQUEST:
        kv_incoming_begin(connection, head, bytes + KV_MESSAGE_HEAD_SIZE);
        break;
    case KV_MESSAGE_CANCEL:
        kv_incoming_cancel(connection, head->request);
        break;
    case KV_MESSAGE_CONTROL:
        kv_control_begin(connection, head, bytes + KV_MESSAGE_HEAD_SIZE);
        break;
    default:
        kv_greeting_step(connection, head, bytes);
    }
}

static advance values_advance(kv_connection *connection)
{
    uint32_t size = connection->end - connection->begin;

    connection->begin += kv_incoming_push(connection, connection->buffer + connection->begin, size);
    if (!is_live(connection))
        return ADVANCE_STOP;
    if (!connection->incoming)
        return ADVANCE_MORE;
    if (connection->begin < connection->end) {
        hold(connection, KV_HOLD_VALUES);
        return ADVANCE_STOP;
    }
    return ADVANCE_BYTES;
}

static advance message_advance(kv_connection *connection)
{
    uint32_t size = connection->end - connection->begin;
    uint32_t wanted;
    uint8_t *bytes;

    if (connection->state == KV_CONNECTION_LINGERS)
        connection->begin = connection->end;
    if (connection->state >= KV_CONNECTION_LINGERS)
        return is_live(connection) ? ADVANCE_BYTES : ADVANCE_STOP;
    if (connection->incoming)
        return values_advance(connection);
    if (size < KV_MESSAGE_HEAD_SIZE)
        return ADVANCE_BYTES;
    if (!connection->head_known && !head_take(connection))
        return ADVANCE_STOP;
    if (!connection->admitted && !admit(connection))
        return ADVANCE_STOP;
    wanted = KV_MESSAGE_HEAD_SIZE + connection->head.columns_size;
    if (size < wanted)
        return ADVANCE_BYTES;
    bytes = connection->buffer + connection->begin;
    if (kv_message_verify(bytes + KV_MESSAGE_HEAD_SIZE, connection->head.columns_size) < 0) {
        kv_connection_cut(connection, KV_EVENT_CUT_PROTOCOL, EBADMSG,
                          "the columns of a message do not match their checksum");
        return ADVANCE_STOP;
    }
    connection->begin += wanted;
    connection->head_known = false;
    message_take(connection, bytes);
    return is_live(connection) ? ADVANCE_MORE : ADVANCE_STOP;
}

/* Take what is in the buffer. False: held or closed. */
static bool advance_all(kv_connection *connection)
{
    advance result;

    do
        result = message_advance(connection);
    while (result == ADVANCE_MORE);
    return result == ADVANCE_BYTES;
}

static void buffer_prepare(kv_connection *connection)
{
    uint32_t size = connection->end - connection->begin;

    /* With requests in flight more of the same is likely to come. */
    if (!connection->incoming && !connection->head_known && connection->in_flight == 0)
        buffer_shrink(connection);
    if (connection->begin > 0) {
        memmove(connection->buffer, connection->buffer + connection->begin, size);
        connection->begin = 0;
        connection->end = size;
    }
    assert(connection->end < connection->capacity);
    connection->range = (struct iovec){.iov_base = connection->buffer + connection->end,
                                       .iov_len = connection->capacity - connection->end};
}

/* The clock of a stalled message runs from its first byte, and anew whenever a good part of it has come. */
static void note_arrival(kv_connection *connection, bool first, uint32_t size)
{
    connection->arrived += size;
    if (first || connection->arrived >= KV_NODE_PROGRESS_SIZE) {
        connection->receive_mark_ns = kv_reactor_now_ns(connection->loop->reactor);
        connection->arrived = 0;
    }
}

static bool is_between_messages(const kv_connection *connection)
{
    return !connection->incoming && connection->begin == connection->end;
}

/* The result of a receive. False: no further one now. */
static bool received(kv_connection *connection, int64_t result)
{
    bool first = is_between_messages(connection);

    if (result <= 0) {
        peer_gone(connection, (int)-result);
        return false;
    }
    assert(result <= connection->capacity - connection->end);
    connection->end += (uint32_t)result;
    kv_counters_add(&connection->loop->counters, KV_COUNTER(received_bytes), (uint64_t)result);
    note_arrival(connection, first, (uint32_t)result);
    return advance_all(connection);
}

static void receive(kv_connection *connection)
{
    assert(!connection->receiving && connection->hold == KV_HOLD_NONE);
    for (uint32_t round = 0; round < KV_NODE_ROUNDS_MAX; round++) {
        int64_t result;

        buffer_prepare(connection);
        result = kv_socket_receive(&connection->socket, &connection->range, 1);
        if (result == -EINPROGRESS) {
            connection->receiving = true;
            return;
        }
        if (!received(connection, result))
            return;
    }
    if (kv_list_empty(&connection->eager_link))
        kv_list_append(&connection->loop->eager, &connection->eager_link);
}

static void socket_received(kv_socket *socket, int64_t result)
{
    kv_connection *connection = KV_CONTAINER(socket, kv_connection, socket);

    connection->receiving = false;
    if (is_live(connection) && received(connection, result))
        receive(connection);
}

static void socket_sent(kv_socket *socket, int64_t result)
{
    kv_outgoing_sent(KV_CONTAINER(socket, kv_connection, socket), result);
}

static const kv_socket_events socket_events = {
    .received = socket_received,
    .sent = socket_sent,
    .closed = socket_closed,
};

void kv_connection_resume(kv_connection *connection)
{
    bool held = connection->hold != KV_HOLD_NONE;

    if (!is_live(connection) || connection->receiving)
        return;
    connection->hold = KV_HOLD_NONE;
    if (held) /* it was this node that kept it waiting */
        connection->receive_mark_ns = kv_reactor_now_ns(connection->loop->reactor);
    if (advance_all(connection))
        receive(connection);
}

void kv_connection_linger(kv_connection *connection)
{
    assert(connection->state == KV_CONNECTION_LINGERS);
    shutdown(connection->socket.descriptor, SHUT_WR);
}

void kv_connection_rest(kv_connection *connection)
{
    bool quiet = connection->in_flight == 0 && !connection->control && !connection->window &&
                 is_between_messages(connection) && connection->state == KV_CONNECTION_SERVES;

    if (connection->loop->draining && quiet)
        kv_connection_cut(connection, KV_EVENT_DISCONNECTED, 0, "the node drains");
}

/* Everything but a hold, which is this node's own doing, has its time. */
void kv_connection_watch(kv_connection *connection, uint64_t now_ns)
{
    const kv_node_settings *settings = &connection->loop->node->settings;
    uint64_t received_ns = now_ns - connection->receive_mark_ns;

    if (!is_live(connection))
        return;
    if (connection->state != KV_CONNECTION_SERVES) {
        if (now_ns - connection->active_ns > settings->hello_ns)
            kv_connection_cut(connection, KV_EVENT_CUT_STALLED, ETIMEDOUT,
                              "hello was not over after %llu ms",
                              (unsigned long long)(settings->hello_ns / 1000000));
        return;
    }
    if (connection->sending && now_ns - connection->send_mark_ns > settings->stall_ns)
        kv_connection_cut(connection, KV_EVENT_CUT_STALLED, ETIMEDOUT,
                          "no reply was taken for %llu ms",
                          (unsigned long long)(settings->stall_ns / 1000000));
    else if (connection->hold == KV_HOLD_NONE && !is_between_messages(connection) &&
             received_ns > settings->stall_ns)
        kv_connection_cut(connection, KV_EVENT_CUT_STALLED, ETIMEDOUT,
                          "the rest of a message did not come for %llu ms",
                          (unsigned long long)(settings->stall_ns / 1000000));
    else if (connection->in_flight == 0 && !connection->control && !connection->window &&
             now_ns - connection->active_ns > settings->idle_ns)
        kv_connection_cut(connection, KV_EVENT_CUT_IDLE, 0, "no request for %llu ms",
                          (unsigned long long)(settings->idle_ns / 1000000));
}

static void arrive(kv_mail *mail)
{
    kv_connection *connection = KV_CONTAINER(mail, kv_connection, mail);
    kv_loop *loop = connection->loop;

    kv_list_append(&loop->connections, &connection->link);
    kv_counters_add(&loop->counters, KV_COUNTER(connections), 1);
    kv_counters_add(&loop->counters, KV_COUNTER(connections_total), 1);
    connection->active_ns = kv_loop_clock_ns();
    connection->receive_mark_ns = connection->active_ns;
    kv_socket_open(&connection->socket, loop->reactor, connection->socket.descriptor, &socket_events);
    if (loop->stopping) {
        kv_connection_cut(connection, KV_EVENT_REFUSED, 0, "the node stops");
        return;
    }
    if (loop->draining && !connection->refused) {
        connection->refused = true;
        atomic_fetch_add_explicit(&loop->node->refused_count, 1, memory_order_relaxed);
    }
    if (connection->refused)
        kv_greeting_refuse(connection);
    else if (kv_greeting_begin(connection) < 0)
        kv_connection_cut(connection, KV_EVENT_CUT_RESET, ENOMEM, "no memory for hello");
    if (is_live(connection))
        receive(connection);
}

int kv_connection_open(kv_loop *loop, int descriptor, const struct sockaddr_storage *address, bool refused)
{
    kv_node *node = loop->node;
    kv_connection *connection = calloc(1, sizeof(*connection));

    if (!connection)
        return -ENOMEM;
    connection->loop = loop;
    connection->socket.descriptor = descriptor;
    connection->address = *address;
    connection->refused = refused;
    connection->references = 1;
    connection->buffer = connection->bytes_small;
    connection->capacity = sizeof(connection->bytes_small);
    kv_list_init(&connection->link);
    kv_list_init(&connection->speaking_link);
    kv_list_init(&connection->eager_link);
    kv_list_init(&connection->waiting_link);
    kv_list_init(&connection->requests);
    kv_list_init(&connection->answers);
    /* Relaxed: counts; the mail orders everything else. */
    connection->id = atomic_fetch_add_explicit(&node->connection_last, 1, memory_order_relaxed) + 1;
    atomic_fetch_add_explicit(&node->connection_count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&node->refused_count, refused, memory_order_relaxed);
    atomic_fetch_add_explicit(&loop->load, 1, memory_order_relaxed);
    connection->mail.deliver = arrive;
    kv_reactor_post(loop->reactor, &connection->mail);
    return 0;
}
