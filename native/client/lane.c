/* A lane: a reactor and one connection to each node, turned by one thread at a time. A background
 * lane has a thread of its own and gets calls by mail; any other is turned by the blocking caller
 * that has checked it out, until its call is finished.
 *
 * Callbacks of the reactor change state and mark connections as dirty; kv_lane_work, at the bottom
 * of each of them, lets those do what they can. So nothing that sends or receives is ever on the
 * stack twice. */

#include "client/client_state.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define CONNECTIONS_FIRST 4u

static void cancel_delivered(kv_mail *mail)
{
    kv_lane *lane = KV_CONTAINER(mail, kv_lane, cancel_mail);

    pthread_mutex_lock(&lane->client->mutex);
    lane->cancel_posted = false;
    pthread_mutex_unlock(&lane->client->mutex);
    kv_lane_cancel(lane);
}

static void routing_delivered(kv_mail *mail)
{
    kv_lane *lane = KV_CONTAINER(mail, kv_lane, routing_mail);

    pthread_mutex_lock(&lane->client->mutex);
    lane->routing_posted = false;
    pthread_mutex_unlock(&lane->client->mutex);
    kv_lane_reroute(lane);
}

int kv_lane_open(kv_client *client, bool background, kv_lane **result)
{
    kv_lane *lane = calloc(1, sizeof(*lane));
    uint64_t seed;
    int error = -ENOMEM;

    if (!lane)
        return -ENOMEM;
    lane->scratch = malloc(KV_CLIENT_SCRATCH_SIZE);
    if (!lane->scratch)
        goto fail_scratch;
    if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
        seed = kv_clock_ns();
    kv_random_init(&lane->random, seed);
    error = background ? kv_reactor_open(client->reactor_driver, &lane->reactor)
                       : kv_reactor_open_private(&lane->reactor);
    if (error < 0)
        goto fail_reactor;
    lane->client = client;
    lane->background = background;
    lane->cancel_mail.deliver = cancel_delivered;
    lane->routing_mail.deliver = routing_delivered;
    kv_list_init(&lane->link);
    kv_list_init(&lane->calls);
    kv_list_init(&lane->dirty);
    kv_list_init(&lane->held);
    *result = lane;
    return 0;

fail_reactor:
    free(lane->scratch);
fail_scratch:
    free(lane);
    return error;
}

void kv_lane_close(kv_lane *lane)
{
    assert(kv_list_empty(&lane->calls) && kv_list_empty(&lane->held));
    lane->closing = true;
    for (uint32_t i = 0; i < lane->connection_capacity; i++)
        if (lane->connections[i] && lane->connections[i]->state >= KV_CONNECTION_CONNECTING)
            kv_connection_break(lane->connections[i], -ECANCELED, NULL);
    while (lane->sockets > 0)
        kv_reactor_turn(lane->reactor, KV_REACTOR_FOREVER);
    for (uint32_t i = 0; i < lane->connection_capacity; i++)
        if (lane->connections[i])
            kv_connection_close(lane->connections[i]);
    free(lane->connections);
    lane->connections = NULL;
    lane->connection_capacity = 0;
}

void kv_lane_free(kv_lane *lane)
{
    assert(!lane->connections);
    kv_reactor_close(lane->reactor);
    free(lane->scratch);
    free(lane);
}

void kv_lane_abandon(kv_lane *lane)
{
    for (uint32_t i = 0; i < lane->connection_capacity; i++)
        if (lane->connections[i] && lane->connections[i]->state >= KV_CONNECTION_CONNECTING &&
            lane->connections[i]->state < KV_CONNECTION_CLOSING)
            close(lane->connections[i]->socket.descriptor);
    kv_reactor_abandon(lane->reactor);
}

static int connections_grow(kv_lane *lane, uint32_t endpoint)
{
    uint32_t capacity = lane->connection_capacity ? lane->connection_capacity : CONNECTIONS_FIRST;
    kv_connection **connections;

    while (capacity <= endpoint)
        capacity *= 2;
    if (capacity == lane->connection_capacity)
        return 0;
    connections = realloc(lane->connections, capacity * sizeof(kv_connection *));
    if (!connections)
        return -ENOMEM;
    memset(connections + lane->connection_capacity, 0,
           (capacity - lane->connection_capacity) * sizeof(kv_connection *));
    lane->connections = connections;
    lane->connection_capacity = capacity;
    return 0;
}

kv_connection *kv_lane_connection(kv_lane *lane, uint32_t endpoint)
{
    assert(endpoint < KV_CLIENT_ENDPOINTS_MAX);
    if (connections_grow(lane, endpoint) < 0)
        return NULL;
    if (!lane->connections[endpoint])
        lane->connections[endpoint] = kv_connection_open(lane, endpoint);
    return lane->connections[endpoint];
}

void kv_lane_work(kv_lane *lane)
{
    kv_list *link;

    if (lane->working)
        return;
    lane->working = true;
    while (!lane->closing && (link = kv_list_pop(&lane->dirty)) != NULL)
        kv_connection_work(KV_CONTAINER(link, kv_connection, dirty));
    lane->working = false;
}

static bool is_cancelled(const kv_call *call)
{
    /* Relaxed: the flag alone is the message. */
    return atomic_load_explicit(&call->cancelled, memory_order_relaxed);
}

void kv_lane_cancel(kv_lane *lane)
{
    kv_list *at = lane->calls.next;

    while (at != &lane->calls) {
        kv_call *call = KV_CONTAINER(at, kv_call, link);

        at = at->next;
        if (is_cancelled(call))
            kv_call_give_up(call, KV_CANCELLED);
    }
    kv_lane_work(lane);
}

/* What a signal, another thread or the clock has to say about a blocking call. */
static void run_check(kv_lane *lane, kv_call *call, uint64_t now_ns)
{
    if (lane->generation != kv_client_generation(lane->client))
        kv_lane_reroute(lane);
    if (call->finished)
        return;
    if (is_cancelled(call))
        kv_call_give_up(call, KV_CANCELLED);
    else if (now_ns >= call->deadline_ns)
        kv_call_give_up(call, KV_TIMEOUT);
    kv_lane_work(lane);
}

void kv_lane_run(kv_lane *lane, kv_call *call)
{
    uint64_t now_ns = kv_clock_ns();

    if (now_ns > lane->used_ns + (uint64_t)KV_CLIENT_IDLE_CHECK_MS * KV_NS_PER_MS)
        kv_reactor_turn(lane->reactor, 0); /* hear which connections have gone meanwhile */
    lane->restless = false;
    lane->generation = call->routing ? call->routing->generation : 0;
    kv_call_start(lane, call);
    kv_lane_work(lane);
    while (!call->finished) {
        uint32_t slice_ms =
            lane->restless ? KV_CLIENT_ROUTING_CHECK_MS : KV_CLIENT_CANCEL_CHECK_MS;
        uint64_t until_ns = now_ns + slice_ms * (uint64_t)KV_NS_PER_MS;

        if (call->deadline_ns < until_ns && !call->given_up)
            until_ns = call->deadline_ns;
        kv_reactor_turn(lane->reactor, until_ns);
        now_ns = kv_reactor_now_ns(lane->reactor);
        if (!call->finished)
            run_check(lane, call, now_ns);
    }
    lane->used_ns = now_ns;
}

void *kv_lane_thread(void *argument)
{
    kv_lane *lane = argument;

    kv_reactor_run(lane->reactor);
    kv_lane_close(lane);
    return NULL;
}
