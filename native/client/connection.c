/* One lane's connection to one node, across all its sockets: connects, says hello, carries parts,
 * breaks, and hands what was under way to the next socket.
 *
 *            a part waits            resolved             connected         WELCOME
 *   DOWN ───────────────► RESOLVING ─────────► CONNECTING ─────────► HELLO ─────────► READY
 *    ▲                        │                     │                  │                │
 *    │        closed          └─────────────────────┴──── error ───────┴────────────────┤
 *    └─────────────────────────────────── CLOSING ◄─────────────────────────────────────┘
 *
 * Invariants
 *  1. Parts are in flight in READY and CLOSING only; what CLOSING has in flight stays untouched
  * until
 *     the reactor says that the socket is closed, since until then memory may still be written.
 *  2. in_flight_count is the number of slots that are taken; a part in SENDING or SENT has one.
 *  3. A touched update keeps its channel until its outcome is known or nobody asks for it.
 *  4. Between attempts lies a pause that grows until a reply comes. */

#include "client/client_state.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

_Static_assert(KV_CLIENT_IN_FLIGHT_MAX <= 64, "slots fit the bits of `cancels`");

static const kv_socket_events connection_events;

kv_connection *kv_connection_open(kv_lane *lane, uint32_t endpoint)
{
    kv_connection *connection = calloc(1, sizeof(*connection));

    if (!connection)
        return NULL;
    if (kv_receiving_open(&connection->receiving) < 0) {
        free(connection);
        return NULL;
    }
    connection->lane = lane;
    connection->endpoint = endpoint;
    kv_list_init(&connection->dirty);
    kv_list_init(&connection->waiting);
    kv_list_init(&connection->sending_parts);
    return connection;
}

static void timers_stop(kv_connection *connection)
{
    kv_reactor *reactor = connection->lane->reactor;

    kv_timer_stop(reactor, &connection->timer);
    kv_timer_stop(reactor, &connection->channel_pause);
    kv_timer_stop(reactor, &connection->departure);
    kv_timer_stop(reactor, &connection->silence);
}

void kv_connection_close(kv_connection *connection)
{
    assert(connection->state == KV_CONNECTION_DOWN && connection->in_flight_count == 0);
    assert(kv_list_empty(&connection->waiting));
    timers_stop(connection);
    kv_list_remove(&connection->dirty);
    kv_receiving_close(&connection->receiving);
    free(connection->hello);
    free(connection);
}

void kv_connection_touch(kv_connection *connection)
{
    if (kv_list_empty(&connection->dirty))
        kv_list_append(&connection->lane->dirty, &connection->dirty);
}

void kv_connection_add(kv_connection *connection, kv_part *part)
{
    part->state = KV_PART_WAITING;
    kv_part_charge(part, &connection->lane->client->loads[connection->endpoint],
                   kv_clock_ns());
    kv_list_append(&connection->waiting, &part->link);
    kv_connection_touch(connection);
}

/* ---- giving up sockets ---- */

static const char *name_of(const kv_connection *connection)
{
    return kv_addresses_name(connection->lane->client->addresses, connection->endpoint);
}

/* Its node could not be reached, or was lost with something under way: others are asked first. */
static void unreachable(kv_connection *connection)
{
    kv_lane *lane = connection->lane;
    kv_client *client = lane->client;

    lane->restless = true;
    kv_trouble_unreachable(&client->trouble, connection->endpoint);
    kv_load_avoid(&client->loads[connection->endpoint], kv_clock_ns(), &lane->random);
}

void kv_connection_break(kv_connection *connection, int error, const char *reason)
{
    kv_lane *lane = connection->lane;

    assert(connection->state >= KV_CONNECTION_CONNECTING);
    if (connection->state == KV_CONNECTION_CLOSING)
        return;
    if (error != -ECANCELED)
        kv_client_set_failure(lane->client, name_of(connection),
                              reason ? reason : strerror(-error));
    if (error != -ECANCELED && !kv_connection_is_refusal(error) &&
        (connection->state < KV_CONNECTION_READY || connection->in_flight_count > 0))
        unreachable(connection);
    if (connection->state == KV_CONNECTION_READY)
        kv_lane_count(&lane->counters.connections, (unsigned long long)-1);
    else
        kv_lane_count(&lane->counters.connect_failures, 1);
    connection->error = connection->state == KV_CONNECTION_READY ? 0 : error;
    connection->state = KV_CONNECTION_CLOSING;
    timers_stop(connection);
    kv_socket_close(&connection->socket);
}

void kv_connection_remove(kv_connection *connection, kv_part *part)
{
    assert(connection->in_flight[part->slot] == part);
    connection->in_flight[part->slot] = NULL;
    connection->in_flight_count--;
    connection->cancels &= ~(UINT64_C(1) << part->slot);
    connection->large_count -= part->room > KV_CLIENT_BUFFER_SIZE / 2;
    connection->control_count -= part->operation == 0;
    kv_list_remove(&part->link);
}

bool kv_connection_uses(const kv_connection *connection, const kv_part *part)
{
    const kv_receiving *receiving = &connection->receiving;

    if (part->state == KV_PART_SENDING)
        return part->touched;
    return receiving->in_values && receiving->part == part && receiving->out;
}

void kv_connection_forget(kv_connection *connection, kv_part *part)
{
    assert(part->state == KV_PART_SENT && connection->in_flight[part->slot] == part);
    kv_call_end_channel(part, false);
    part->call = NULL;
    connection->cancels |= UINT64_C(1) << part->slot;
    kv_connection_touch(connection);
}

/* A part whose socket is gone. */
static void part_return(kv_connection *connection, kv_part *part)
{
    bool repeat = part->touched && (!part->ended || part->refused) && !part->idempotent &&
                  part->call && !part->call->given_up;

    kv_connection_remove(connection, part);
    if (!repeat)
        kv_call_end_channel(part, part->ended && !part->refused);
    if (!part->call) {
        kv_part_close(part);
    } else if (part->call->given_up) {
        kv_call_drop_part(part);
    } else if (repeat) {
        part->repeated = true;
        kv_call_repeat(part);
    } else {
        kv_call_retry(part);
    }
}

/* An attempt came to nothing, or a connection broke: when to try again, and who need not wait. */
static void attempt_failed(kv_connection *connection, int error)
{
    kv_lane *lane = connection->lane;
    uint64_t now_ns = kv_clock_ns();

    connection->not_before_ns = now_ns;
    if (connection->attempts > 0)
        connection->not_before_ns +=
            kv_backoff_ns(&lane->random, connection->attempts - 1, KV_CLIENT_BACKOFF_FIRST_MS,
                          KV_CLIENT_BACKOFF_MAX_MS);
    if (connection->attempts < UINT32_MAX)
        connection->attempts++;
    if (error != 0)
        kv_connection_refuse_waiting(connection, error);
    kv_connection_move_waiting(connection);
}

static void socket_closed(kv_socket *socket)
{
    kv_connection *connection = KV_CONTAINER(socket, kv_connection, socket);
    kv_lane *lane = connection->lane;

    assert(connection->state == KV_CONNECTION_CLOSING);
    connection->state = KV_CONNECTION_DOWN;
    lane->sockets--;
    kv_lane_count(&lane->counters.received_bytes, socket->received_bytes);
    kv_lane_count(&lane->counters.sent_bytes, socket->sent_bytes);
    free(connection->hello);
    connection->hello = NULL;
    kv_receiving_reset(&connection->receiving);
    connection->sending.out = false;
    connection->sending.block_size = connection->sending.block_sent = 0;
    for (uint32_t i = 0; i < KV_CLIENT_IN_FLIGHT_MAX; i++)
        if (connection->in_flight[i])
            part_return(connection, connection->in_flight[i]);
    assert(connection->in_flight_count == 0);
    attempt_failed(connection, connection->error);
    kv_connection_touch(connection);
    kv_lane_work(lane);
}

/* ---- connecting ---- */

static void timer_start(kv_connection *connection, uint64_t due_ns);

/* CONNECTING or HELLO: until it ends, or it is time to go elsewhere with what waits. */
static void attempt_watch(kv_connection *connection, uint64_t now_ns)
{
    uint64_t slow_ns = now_ns + (uint64_t)KV_CLIENT_CONNECT_SLOW_MS * KV_NS_PER_MS;

    timer_start(connection,
                slow_ns < connection->attempt_end_ns ? slow_ns : connection->attempt_end_ns);
}

static void timer_expires(kv_timer *timer)
{
    kv_connection *connection = KV_CONTAINER(timer, kv_connection, timer);
    uint64_t now_ns = kv_clock_ns();
    bool attempting =
        connection->state == KV_CONNECTION_CONNECTING || connection->state == KV_CONNECTION_HELLO;

    if (attempting && now_ns >= connection->attempt_end_ns) {
        kv_connection_break(connection, -ETIMEDOUT, "connecting took too long");
    } else if (attempting) {
        unreachable(connection);
        kv_connection_move_waiting(connection);
        attempt_watch(connection, now_ns);
    }
    kv_connection_touch(connection);
    kv_lane_work(connection->lane);
}

static void timer_start(kv_connection *connection, uint64_t due_ns)
{
    connection->timer.expire = timer_expires;
    kv_timer_set(connection->lane->reactor, &connection->timer, due_ns);
}

static void socket_connected(kv_socket *socket, int error)
{
    kv_connection *connection = KV_CONTAINER(socket, kv_connection, socket);
    kv_client *client = connection->lane->client;
    uint8_t nonce[KV_NONCE_SIZE];
    int size = -ENOMEM;

    assert(connection->state == KV_CONNECTION_CONNECTING);
    if (error == 0)
        connection->hello = malloc(sizeof(*connection->hello));
    if (error == 0 && connection->hello && getrandom(nonce, sizeof(nonce), 0) == sizeof(nonce))
        size = kv_hello_begin_client(connection->hello, &client->names, client->secret,
                                     client->secret_size, nonce, connection->sending.block);
    if (error < 0 || size < 0) {
        kv_connection_break(connection, error < 0 ? error : size, NULL);
    } else {
        connection->state = KV_CONNECTION_HELLO;
        connection->sending.block_size = (uint32_t)size;
        connection->sending.block_sent = 0;
        kv_connection_touch(connection);
    }
    kv_lane_work(connection->lane);
}

/* -errno: no socket. */
static int socket_begin(kv_connection *connection, const struct sockaddr_storage *address,
                        socklen_t size)
{
    int descriptor = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int one = 1;

    if (descriptor < 0)
        return -errno;
    (void)setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    connection->state = KV_CONNECTION_CONNECTING;
    connection->lane->sockets++;
    kv_lane_count(&connection->lane->counters.connects, 1);
    if (connection->welcomed)
        kv_lane_count(&connection->lane->counters.reconnects, 1);
    kv_socket_open(&connection->socket, connection->lane->reactor, descriptor, &connection_events);
    kv_socket_connect(&connection->socket, (const struct sockaddr *)address, size);
    attempt_watch(connection, kv_clock_ns());
    return 0;
}

/* DOWN or RESOLVING, and a part waits. */
static void connect_begin(kv_connection *connection, uint64_t now_ns)
{
    kv_client *client = connection->lane->client;
    struct sockaddr_storage address;
    socklen_t size;
    int error;

    if (connection->state == KV_CONNECTION_DOWN)
        connection->attempt_end_ns = now_ns + client->connect_timeout_ms * KV_NS_PER_MS;
    error = kv_addresses_find(client->addresses, connection->endpoint, connection->attempts, now_ns,
                              &address, &size);
    if (error == -EINPROGRESS) {
        connection->state = KV_CONNECTION_RESOLVING;
        timer_start(connection, now_ns + (uint64_t)KV_CLIENT_RESOLVE_PAUSE_MS * KV_NS_PER_MS);
        return;
    }
    if (error == 0)
        error = socket_begin(connection, &address, size);
    if (error == 0)
        return;
    connection->state = KV_CONNECTION_DOWN;
    kv_lane_count(&connection->lane->counters.connect_failures, 1);
    kv_client_set_failure(client, name_of(connection), strerror(-error));
    unreachable(connection);
    attempt_failed(connection, error);
    kv_connection_touch(connection);
}

static void work_down(kv_connection *connection)
{
    uint64_t now_ns = kv_clock_ns();

    if (kv_list_empty(&connection->waiting)) {
        connection->state = KV_CONNECTION_DOWN;
        return;
    }
    if (connection->state == KV_CONNECTION_DOWN && now_ns < connection->not_before_ns) {
        timer_start(connection, connection->not_before_ns);
        return;
    }
    if (!kv_timer_is_set(&connection->timer) || connection->state == KV_CONNECTION_DOWN)
        connect_begin(connection, now_ns);
}

/* ---- carrying ---- */

/* A connection that nothing went through for a while may be gone: then it is better to hear of it
 * before an update is trusted to it. */
static bool look_after_idleness(kv_connection *connection)
{
    uint64_t now_ns = kv_clock_ns();
    bool idle = now_ns > connection->used_ns + (uint64_t)KV_CLIENT_IDLE_CHECK_MS * KV_NS_PER_MS;

    connection->used_ns = now_ns;
    if (!idle || connection->receiving.out || connection->in_flight_count > 0)
        return true;
    return kv_connection_receive(connection);
}

void kv_connection_work(kv_connection *connection)
{
    switch (connection->state) {
    case KV_CONNECTION_DOWN:
    case KV_CONNECTION_RESOLVING:
        work_down(connection);
        break;
    case KV_CONNECTION_READY:
        if (!kv_list_empty(&connection->waiting) && !look_after_idleness(connection))
            break;
        if (kv_connection_send(connection) && kv_connection_listens(connection))
            kv_connection_receive(connection);
        break;
    case KV_CONNECTION_HELLO:
        if (kv_connection_send(connection))
            kv_connection_receive(connection);
        break;
    default:
        break;
    }
}

static void socket_received(kv_socket *socket, int64_t result)
{
    kv_connection *connection = KV_CONTAINER(socket, kv_connection, socket);

    connection->receiving.out = false;
    if (kv_connection_received(connection, result))
        kv_connection_touch(connection);
    kv_lane_work(connection->lane);
}

static void socket_sent(kv_socket *socket, int64_t result)
{
    kv_connection *connection = KV_CONTAINER(socket, kv_connection, socket);

    connection->sending.out = false;
    if (kv_connection_sent(connection, result))
        kv_connection_touch(connection);
    kv_lane_work(connection->lane);
}

static const kv_socket_events connection_events = {
    .connected = socket_connected,
    .received = socket_received,
    .sent = socket_sent,
    .closed = socket_closed,
};

void kv_connection_invariants(const kv_connection *connection)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < KV_CLIENT_IN_FLIGHT_MAX; i++) {
        const kv_part *part = connection->in_flight[i];

        if (!part)
            continue;
        count++;
        assert(part->slot == i);
        assert(part->state == KV_PART_SENDING || part->state == KV_PART_SENT);
        assert(!part->call || kv_batch_moves_values(part->operation) || part->room == 0);
    }
    assert(count == connection->in_flight_count);
    assert(count == 0 || connection->state >= KV_CONNECTION_READY);
}
