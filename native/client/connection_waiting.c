/* What waits for a connection, or is in flight on it, when that comes to nothing: told so, moved to
 * another member of its chain, or sent where newer routing info says. */

#include "client/client_state.h"

#include <assert.h>
#include <errno.h>

/* ---- what waits ---- */

/* Who waits for a node that refuses us is told so. */
static void fail_waiting(kv_connection *connection, kv_status status,
                         bool (*fails)(const kv_part *part))
{
    kv_list *at = connection->waiting.next;

    while (at != &connection->waiting) {
        kv_part *part = KV_CONTAINER(at, kv_part, link);

        at = at->next;
        if (!fails(part))
            continue;
        kv_list_remove(&part->link);
        kv_call_end_channel(part, false);
        kv_call_fail_part(part, status);
    }
}

static bool is_any(const kv_part *part)
{
    return part->call != NULL;
}

static bool is_control(const kv_part *part)
{
    return part->call->kind == KV_CALL_CONTROL;
}

/* Of a chain, somebody else may serve it soon. */
static bool is_of_no_chain(const kv_part *part)
{
    return part->chain_version == 0;
}

void kv_connection_refuse_waiting(kv_connection *connection, int error)
{
    if (kv_connection_is_refusal(error))
        fail_waiting(connection, error == -EACCES ? KV_DENIED : KV_UNAVAILABLE, is_any);
    else if (connection->refusals >= KV_CLIENT_REFUSALS_MAX)
        fail_waiting(connection, KV_UNAVAILABLE, is_of_no_chain);
    else
        fail_waiting(connection, KV_UNAVAILABLE, is_control);
}

void kv_connection_move_waiting(kv_connection *connection)
{
    kv_list waiting;
    kv_list *link;

    kv_list_init(&waiting);
    while ((link = kv_list_pop(&connection->waiting)) != NULL)
        kv_list_append(&waiting, link);
    while ((link = kv_list_pop(&waiting)) != NULL) {
        kv_part *part = KV_CONTAINER(link, kv_part, link);

        if (kv_call_may_move(part))
            kv_call_move(part);
        else
            kv_list_append(&connection->waiting, link);
    }
}

/* ---- newer routing info ---- */

/* Whether something in flight went to a chain that the node has left since. */
static bool has_departed(const kv_connection *connection, const kv_route_table *routing)
{
    for (uint32_t i = 0; i < KV_CLIENT_IN_FLIGHT_MAX; i++) {
        const kv_part *part = connection->in_flight[i];
        const kv_route_chain *chain;
        bool there = false;

        if (!part || !part->call || part->chain_version == 0 ||
            part->chain >= routing->chain_count)
            continue;
        chain = &routing->chains[part->chain];
        for (uint32_t j = 0; j < chain->member_count; j++)
            there |= kv_route_table_members(routing, chain)[j].endpoint == connection->endpoint;
        if (!there)
            return true;
    }
    return false;
}

static void departure_expires(kv_timer *timer);

/* A node that has left a chain may be gone without a word: what is in flight does not wait for it
 * until the deadline. */
static void departure_check(kv_connection *connection)
{
    kv_route_table *routing = kv_client_routing(connection->lane->client);

    if (has_departed(connection, routing)) {
        connection->departure.expire = departure_expires;
        kv_timer_set(connection->lane->reactor, &connection->departure,
                     kv_clock_ns() + (uint64_t)KV_CLIENT_DEPARTED_SILENCE_MS * KV_NS_PER_MS);
    }
    kv_route_table_release(routing);
}

static void departure_expires(kv_timer *timer)
{
    kv_connection *connection = KV_CONTAINER(timer, kv_connection, departure);
    uint64_t silence_ns = (uint64_t)KV_CLIENT_DEPARTED_SILENCE_MS * KV_NS_PER_MS;
    kv_route_table *routing = kv_client_routing(connection->lane->client);
    bool departed = has_departed(connection, routing);

    kv_route_table_release(routing);
    if (departed && kv_clock_ns() >= connection->silent_since_ns + silence_ns)
        kv_connection_break(connection, -ETIMEDOUT,
                            "the node has left a chain and does not answer");
    else if (departed)
        departure_check(connection);
    kv_lane_work(connection->lane);
}

void kv_connection_reroute(kv_connection *connection)
{
    if (connection->state == KV_CONNECTION_READY && connection->in_flight_count > 0)
        departure_check(connection);
    if (connection->state == KV_CONNECTION_READY || kv_list_empty(&connection->waiting))
        return;
    kv_connection_move_waiting(connection);
    kv_connection_touch(connection);
}
