/* Reads that a node keeps without a word, while others of their chain could answer them: they are
 * asked for elsewhere, and what the silent one may say later is forgotten.
 *
 * A node is silent from the last byte that came, or from the sending of the read, if that was later.
 * Updates wait for it: only mgmtd can tell who else may have them. */

#include "client/client_state.h"

#include <assert.h>
#include <errno.h>

static void silence_expires(kv_timer *timer);

/* How long a read waits: several times the usual, and longer with each move of it. */
static uint64_t patience_ns(const kv_connection *connection, const kv_part *part)
{
    const kv_load *load = &connection->lane->client->loads[connection->endpoint];
    uint64_t least_ns = (uint64_t)KV_CLIENT_READ_SILENCE_MS * KV_NS_PER_MS;
    uint64_t usual_ns = kv_load_usual_ns(load, kv_load_units(part->room));
    uint64_t wait_ns = usual_ns * KV_CLIENT_READ_SILENCE_FACTOR;
    uint32_t shift =
        part->moves < KV_CLIENT_READ_MOVES_COUNTED ? part->moves : KV_CLIENT_READ_MOVES_COUNTED;

    return (wait_ns > least_ns ? wait_ns : least_ns) << shift;
}

/* Since when the part has heard nothing. */
static uint64_t silent_since_ns(const kv_connection *connection, const kv_part *part)
{
    return connection->silent_since_ns > part->sent_ns ? connection->silent_since_ns
                                                       : part->sent_ns;
}

static void watch_until(kv_connection *connection, uint64_t due_ns)
{
    connection->silence.expire = silence_expires;
    kv_timer_set(connection->lane->reactor, &connection->silence, due_ns);
}

void kv_connection_watch(kv_connection *connection, const kv_part *part)
{
    if (!kv_timer_is_set(&connection->silence) && kv_call_has_choice(part))
        watch_until(connection, part->sent_ns + patience_ns(connection, part));
}

static bool is_read_under_way(const kv_part *part)
{
    return part && part->state == KV_PART_SENT && part->call && !part->call->given_up &&
           kv_call_has_choice(part);
}

/* Bytes of a value may still come into the caller's buffer: only closing the socket ends that, and
 * costs all that is under way a new connection. True: it was done. */
static bool stuck_break(kv_connection *connection, uint64_t since_ns, uint64_t now_ns)
{
    if (now_ns < since_ns + (uint64_t)KV_CLIENT_STUCK_MS * KV_NS_PER_MS)
        return false;
    kv_connection_break(connection, -ETIMEDOUT, "the node stopped in the middle of a value");
    return true;
}

/* Nobody hears of a read that moves: its node may be slow, and no more than that. */
static void move(kv_connection *connection, kv_part *part, uint64_t now_ns)
{
    kv_lane *lane = connection->lane;

    kv_load_avoid(&lane->client->loads[connection->endpoint], now_ns, &lane->random);
    kv_call_ask_elsewhere(part);
}

/* When it is to be looked at again; UINT64_MAX: it has gone elsewhere, or comes back with the
 * socket. */
static uint64_t look_at(kv_connection *connection, kv_part *part, uint64_t now_ns)
{
    uint64_t since_ns = silent_since_ns(connection, part);
    uint64_t due_ns = since_ns + patience_ns(connection, part);

    if (due_ns > now_ns)
        return due_ns;
    if (kv_call_may_move(part)) {
        if (!kv_connection_uses(connection, part)) {
            move(connection, part, now_ns);
            return UINT64_MAX;
        }
        if (stuck_break(connection, since_ns, now_ns))
            return UINT64_MAX;
    }
    return now_ns + (uint64_t)KV_CLIENT_READ_SILENCE_MS * KV_NS_PER_MS;
}

static void silence_expires(kv_timer *timer)
{
    kv_connection *connection = KV_CONTAINER(timer, kv_connection, silence);
    uint64_t now_ns = kv_clock_ns();
    uint64_t next_ns = UINT64_MAX;
    bool moved = false;

    assert(connection->state == KV_CONNECTION_READY);
    for (uint32_t i = 0;
         i < KV_CLIENT_IN_FLIGHT_MAX && connection->state == KV_CONNECTION_READY; i++) {
        kv_part *part = connection->in_flight[i];
        uint64_t due_ns;

        if (!is_read_under_way(part))
            continue;
        due_ns = look_at(connection, part, now_ns);
        moved |= due_ns == UINT64_MAX;
        next_ns = due_ns < next_ns ? due_ns : next_ns;
    }
    if (moved) /* what is not even sent goes elsewhere, too */
        kv_connection_move_waiting(connection);
    if (next_ns != UINT64_MAX && connection->state == KV_CONNECTION_READY)
        watch_until(connection, next_ns);
    kv_lane_work(connection->lane);
}
