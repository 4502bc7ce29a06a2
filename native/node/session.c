/* A connection of a client: its life from accept to close.
 *
 *   GREETS ──hello done──► SERVES ──────────────┐
 *     │ hello failed, or refused at the door    │ the other end is gone, breaks the protocol,
 *     ▼                                         │ stalls; or nothing is under way while draining
 *   LINGERS ──the reason was read──► CLOSED ◄───┘──the last request has ended──► freed
 *
 * 1. A connection that is closed sends and receives nothing; it is freed when its socket is
 *    closed and its last request and control have ended.
 * 2. What the system may still read or write is not touched before the socket is closed.
 * 3. What a client does wrong cuts its own connection alone, is counted, and is said in one
 *    event. */

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

const char *kv_session_address(const kv_session *session, char text[KV_ADDRESS_TEXT_SIZE])
{
    const struct sockaddr_in *four = (const void *)&session->address;
    const struct sockaddr_in6 *six = (const void *)&session->address;
    char name[INET6_ADDRSTRLEN] = "?";

    if (session->address.ss_family == AF_INET6) {
        inet_ntop(AF_INET6, &six->sin6_addr, name, sizeof(name));
        snprintf(text, KV_ADDRESS_TEXT_SIZE, "[%s]:%u", name, ntohs(six->sin6_port));
    } else {
        inet_ntop(AF_INET, &four->sin_addr, name, sizeof(name));
        snprintf(text, KV_ADDRESS_TEXT_SIZE, "%s:%u", name, ntohs(four->sin_port));
    }
    return text;
}

void kv_session_release(kv_session *session)
{
    kv_loop *loop = session->loop;
    kv_node *node = loop->node;

    assert(session->references > 0);
    if (--session->references > 0)
        return;
    assert(session->state == KV_SESSION_CLOSED && kv_list_empty(&session->requests));
    assert(session->lent == 0 && session->message_reserved == 0 && !session->window);
    kv_list_remove(&session->link);
    kv_list_remove(&session->speaking_link);
    kv_list_remove(&session->eager_link);
    kv_list_remove(&session->waiting_link);
    if (session->refused)
        atomic_fetch_sub_explicit(&node->refused_count, 1, memory_order_relaxed);
    /* Relaxed: read by `accepted`, which wants any recent number. */
    atomic_fetch_sub_explicit(&loop->load, 1, memory_order_relaxed);
    free(session);
    pthread_mutex_lock(&node->mutex);
    atomic_fetch_sub_explicit(&node->connection_count, 1, memory_order_relaxed); /* read under the mutex by drain */
    pthread_cond_broadcast(&node->quiet);
    pthread_mutex_unlock(&node->mutex);
}

static void socket_closed(kv_socket *socket)
{
    kv_session *session = KV_CONTAINER(socket, kv_session, socket);
    kv_loop *loop = session->loop;

    assert(session->state == KV_SESSION_CLOSED);
    session->gone = true;
    /* Until now the system may have read from, or written to, what the connection gave it. */
    kv_outgoing_close(session);
    kv_serving_abandon(session, loop->stopping);
    session->begin = session->end;
    kv_receive_shrink(session);
    kv_greeting_end(session);
    kv_counters_subtract(&loop->counters, KV_COUNTER(connections), 1);
    kv_session_release(session);
}

static void message_release(kv_session *session)
{
    kv_loop_release(session->loop, session->pool, session->message_reserved);
    session->message_reserved = 0;
}

void kv_session_cut(kv_session *session, kv_node_event_kind kind, int error, const char *format,
                    ...)
{
    char address[KV_ADDRESS_TEXT_SIZE];
    char text[KV_NODE_EVENT_TEXT_SIZE];
    va_list arguments;

    if (!kv_session_is_live(session))
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (session->state != KV_SESSION_LINGERS)
        kv_events_report(&session->loop->node->events, kind, error, session->id, "%s: %.160s",
                         kv_session_address(session, address), text);
    session->state = KV_SESSION_CLOSED;
    session->hold = KV_HOLD_NONE;
    kv_list_remove(&session->speaking_link);
    kv_list_remove(&session->eager_link);
    kv_list_remove(&session->waiting_link);
    message_release(session);
    kv_socket_close(&session->socket);
}

static void socket_received(kv_socket *socket, int64_t result)
{
    kv_receive_done(KV_CONTAINER(socket, kv_session, socket), result);
}

static void socket_sent(kv_socket *socket, int64_t result)
{
    kv_outgoing_sent(KV_CONTAINER(socket, kv_session, socket), result);
}

static const kv_socket_events socket_events = {
    .received = socket_received,
    .sent = socket_sent,
    .closed = socket_closed,
};

void kv_session_linger(kv_session *session)
{
    assert(session->state == KV_SESSION_LINGERS);
    shutdown(session->socket.descriptor, SHUT_WR);
}

void kv_session_rest(kv_session *session)
{
    bool quiet = session->in_flight == 0 && !session->control && !session->window &&
                 kv_receive_is_between(session) && session->state == KV_SESSION_SERVES;

    if (session->loop->draining && quiet)
        kv_session_cut(session, KV_EVENT_DISCONNECTED, 0, "the node drains");
}

/* Marks may be a little younger than the time at which a turn began. */
static bool has_passed(uint64_t now_ns, uint64_t mark_ns, uint64_t time_ns)
{
    return now_ns > mark_ns && now_ns - mark_ns > time_ns;
}

static unsigned long long ms_of(uint64_t time_ns)
{
    return time_ns / 1000000;
}

/* Everything but a hold, which is this node's own doing, has its time. */
void kv_session_watch(kv_session *session, uint64_t now_ns)
{
    const kv_node_settings *settings = &session->loop->node->settings;
    bool quiet = session->in_flight == 0 && !session->control && !session->window;
    bool waits = session->hold == KV_HOLD_NONE && !kv_receive_is_between(session);
    const kv_target *stranded;

    if (!kv_session_is_live(session))
        return;
    stranded = kv_serving_stranded(session, now_ns);
    if (session->state != KV_SESSION_SERVES) {
        if (has_passed(now_ns, session->active_ns, settings->hello_ns))
            kv_session_cut(session, KV_EVENT_CUT_STALLED, ETIMEDOUT,
                           "hello was not over after %llu ms",
                           ms_of(settings->hello_ns));
    } else if (stranded) { /* so that who waits turns to the others of the chain */
        kv_session_cut(session, KV_EVENT_CUT_STALLED, ETIMEDOUT,
                       "target %u left its chain with requests under way", stranded->number);
    } else if (session->sending && has_passed(now_ns, session->send_mark_ns, settings->stall_ns)) {
        kv_session_cut(session, KV_EVENT_CUT_STALLED, ETIMEDOUT, "no reply was taken for %llu ms",
                       ms_of(settings->stall_ns));
    } else if (waits && has_passed(now_ns, session->receive_mark_ns, settings->stall_ns)) {
        kv_session_cut(session, KV_EVENT_CUT_STALLED, ETIMEDOUT,
                       "the rest of a message did not come for %llu ms", ms_of(settings->stall_ns));
    } else if (quiet && has_passed(now_ns, session->active_ns, settings->idle_ns)) {
        kv_session_cut(session, KV_EVENT_CUT_IDLE, 0, "no request for %llu ms",
                       ms_of(settings->idle_ns));
    }
}

static void arrive(kv_mail *mail)
{
    kv_session *session = KV_CONTAINER(mail, kv_session, mail);
    kv_loop *loop = session->loop;

    kv_list_append(&loop->connections, &session->link);
    kv_counters_add(&loop->counters, KV_COUNTER(connections), 1);
    kv_counters_add(&loop->counters, KV_COUNTER(connections_total), 1);
    session->active_ns = kv_clock_ns();
    session->receive_mark_ns = session->active_ns;
    kv_socket_open(&session->socket, loop->reactor, session->socket.descriptor, &socket_events);
    if (loop->stopping) {
        kv_session_cut(session, KV_EVENT_REFUSED, 0, "the node stops");
        return;
    }
    if (loop->draining && !session->refused) {
        session->refused = true;
        atomic_fetch_add_explicit(&loop->node->refused_count, 1, memory_order_relaxed);
    }
    if (session->refused)
        kv_greeting_refuse(session);
    else if (kv_greeting_begin(session) < 0)
        kv_session_cut(session, KV_EVENT_CUT_RESET, ENOMEM, "no memory for hello");
    if (kv_session_is_live(session))
        kv_receive_go_on(session);
}

int kv_session_open(kv_loop *loop, int descriptor, const struct sockaddr_storage *address,
                    bool refused)
{
    kv_node *node = loop->node;
    kv_session *session = calloc(1, sizeof(*session));

    if (!session)
        return -ENOMEM;
    session->loop = loop;
    session->socket.descriptor = descriptor;
    session->address = *address;
    session->refused = refused;
    session->references = 1;
    session->buffer = session->bytes_small;
    session->capacity = sizeof(session->bytes_small);
    kv_list_init(&session->link);
    kv_list_init(&session->speaking_link);
    kv_list_init(&session->eager_link);
    kv_list_init(&session->waiting_link);
    kv_list_init(&session->requests);
    kv_list_init(&session->answers);
    /* Relaxed: counts; the mail orders everything else. */
    session->id = atomic_fetch_add_explicit(&node->connection_last, 1, memory_order_relaxed) + 1;
    atomic_fetch_add_explicit(&node->connection_count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&node->refused_count, refused, memory_order_relaxed);
    atomic_fetch_add_explicit(&loop->load, 1, memory_order_relaxed);
    session->mail.deliver = arrive;
    kv_reactor_post(loop->reactor, &session->mail);
    return 0;
}
