/* From the socket to whole messages: one buffer of a connection, in which a head, its columns
 * and then values arrive. Columns are looked at when all of them are there; values are pushed on
 * as they come.
 *
 * 1. A receive is out only without a hold, and then the buffer does not move.
 * 2. Memory for a message is reserved when its head is known, before anything is taken for it; a
 *    connection that waits for memory holds none but its buffer of 4 KiB, or what an earlier
 *    message left. */

#include "node/node_state.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

typedef enum advance {
    ADVANCE_MORE = 0, /* look again */
    ADVANCE_BYTES = 1,/* more bytes are needed */
    ADVANCE_STOP = 2  /* held or closed */
} advance;

/* Back to the small buffer; what is in the larger one is given up or fits. */
void kv_receive_shrink(kv_session *session)
{
    kv_loop *loop = session->loop;
    uint32_t size = session->end - session->begin;

    if (session->buffer == session->bytes_small)
        return;
    assert(size <= sizeof(session->bytes_small));
    memcpy(session->bytes_small, session->buffer + session->begin, size);
    kv_blocks_give(&loop->blocks, session->buffer, session->capacity);
    kv_loop_release(loop, session->pool, session->buffer_reserved);
    session->buffer = session->bytes_small;
    session->capacity = sizeof(session->bytes_small);
    session->buffer_reserved = 0;
    session->begin = 0;
    session->end = size;
}

/* The other end is gone: in good order when nothing was under way. */
static void peer_gone(kv_session *session, int error)
{
    bool midst = session->begin < session->end || session->incoming ||
                 session->in_flight > 0 || session->state == KV_SESSION_GREETS;

    if (error == 0 && !midst)
        kv_session_cut(session, KV_EVENT_DISCONNECTED, 0, "the client closed the connection");
    else if (session->state == KV_SESSION_GREETS)
        kv_session_cut(session, KV_EVENT_CUT_RESET, error, "the connection ended during hello");
    else
        kv_session_cut(session, KV_EVENT_CUT_RESET, error,
                          "the connection broke with %u requests under way%s%s", session->in_flight,
                          error ? ": " : "", error ? strerror(error) : "");
}

/* The buffer that the message in `head` needs: all of head and columns at a time, and for values
 * that do not fit the small one, large pieces. */
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
static int buffer_grow(kv_session *session, uint32_t capacity, uint64_t reserved)
{
    uint32_t size = session->end - session->begin;
    uint8_t *buffer = kv_blocks_take(&session->loop->blocks, capacity);
    uint64_t before = session->buffer_reserved;

    if (!buffer)
        return -ENOMEM;
    assert(size <= capacity && !session->receiving);
    memcpy(buffer, session->buffer + session->begin, size);
    if (session->buffer != session->bytes_small)
        kv_blocks_give(&session->loop->blocks, session->buffer, session->capacity);
    session->buffer = buffer;
    session->capacity = capacity;
    session->buffer_reserved = before + reserved;
    session->begin = 0;
    session->end = size;
    return 0;
}

static void hold(kv_session *session, kv_hold why)
{
    session->hold = why;
    if (why == KV_HOLD_MEMORY && kv_list_empty(&session->waiting_link))
        kv_list_append(&session->loop->waiting[session->pool], &session->waiting_link);
}

static uint64_t message_bound(const kv_session *session, const kv_message_head *head)
{
    if (head->kind == KV_MESSAGE_REQUEST)
        return kv_incoming_bound(session, head);
    return head->kind == KV_MESSAGE_FORWARD ? kv_forwarding_bound(head) : 0;
}

/* Reserve what the message needs, once. False: held, or cut. */
static bool admit(kv_session *session)
{
    kv_loop *loop = session->loop;
    const kv_message_head *head = &session->head;
    uint32_t capacity = capacity_wanted(head);
    bool grows = capacity > session->capacity;
    uint64_t buffer_size = grows ? capacity - (session->buffer_reserved ? session->capacity : 0) : 0;
    uint64_t size = message_bound(session, head);

    if (head->kind == KV_MESSAGE_REQUEST && !kv_serving_may_lend(session)) {
        hold(session, KV_HOLD_LENT);
        return false;
    }
    if (size + buffer_size > 0 && !kv_loop_reserve(loop, session->pool, size + buffer_size)) {
        hold(session, KV_HOLD_MEMORY);
        return false;
    }
    kv_list_remove(&session->waiting_link);
    session->message_reserved = size;
    session->admitted = true;
    if (grows && buffer_grow(session, capacity, buffer_size) < 0) {
        kv_loop_release(loop, session->pool, buffer_size);
        kv_session_cut(session, KV_EVENT_CUT_RESET, ENOMEM, "no memory for a message");
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

/* A connection that carries forwards takes all its memory from the pool of their place, which the
 * first one names. */
static const char *forward_misplaced(kv_session *session, const kv_message_head *head)
{
    if (!(session->rights & KV_RIGHT_PEER))
        return "a forward came from who is no node of this cluster";
    if (head->flags == 0 || head->flags >= KV_NODE_POOLS)
        return "a forward names no place that there is";
    if (session->pool == 0 && session->in_flight == 0 && session->buffer_reserved == 0)
        session->pool = head->flags;
    return session->pool == head->flags ? NULL : "a forward is for another place than those before";
}

/* What a client may say now. NULL: this. */
static const char *misplaced(kv_session *session, const kv_message_head *head)
{
    bool hello = head->kind == KV_MESSAGE_HELLO || head->kind == KV_MESSAGE_PROOF;

    if (session->state == KV_SESSION_GREETS)
        return hello ? NULL : "a message came before hello was over";
    if (head->version != session->version)
        return "a message has another version than was agreed";
    if (head->kind == KV_MESSAGE_REQUEST || head->kind == KV_MESSAGE_FORWARD) {
        if (session->in_flight >= session->loop->node->settings.requests_max)
            return "more requests are in flight than were granted";
        return head->kind == KV_MESSAGE_FORWARD ? forward_misplaced(session, head) : NULL;
    }
    return head->kind == KV_MESSAGE_CANCEL || head->kind == KV_MESSAGE_CONTROL
               ? NULL
               : "a message of this kind is not for a node";
}

/* False: cut. */
static bool head_take(kv_session *session)
{
    int error = kv_message_decode(session->buffer + session->begin, &session->head);
    const char *wrong = error < 0 ? head_error(error) : misplaced(session, &session->head);

    if (wrong && error == -EMSGSIZE)
        kv_session_cut(session, KV_EVENT_CUT_PROTOCOL, EMSGSIZE,
                          "%s: kind %u, %u items, %u bytes of columns, %u of values", wrong,
                          session->head.kind, session->head.count, session->head.columns_size,
                          session->head.values_size);
    else if (wrong)
        kv_session_cut(session, KV_EVENT_CUT_PROTOCOL, error < 0 ? -error : EPROTO, "%s", wrong);
    session->head_known = !wrong;
    session->admitted = false;
    return !wrong;
}

static void message_take(kv_session *session, const uint8_t *bytes)
{
    const kv_message_head *head = &session->head;

    switch (head->kind) {
    case KV_MESSAGE_REQUEST:
        kv_incoming_begin(session, head, bytes + KV_MESSAGE_HEAD_SIZE);
        break;
    case KV_MESSAGE_FORWARD:
        kv_forwarding_begin(session, head, bytes + KV_MESSAGE_HEAD_SIZE);
        break;
    case KV_MESSAGE_CANCEL:
        kv_serving_cancel(session, head->request);
        break;
    case KV_MESSAGE_CONTROL:
        kv_control_begin(session, head, bytes + KV_MESSAGE_HEAD_SIZE);
        break;
    default:
        kv_greeting_step(session, head, bytes);
    }
}

static advance values_advance(kv_session *session)
{
    uint32_t size = session->end - session->begin;

    session->begin += kv_serving_push(session, session->buffer + session->begin, size);
    if (!kv_session_is_live(session))
        return ADVANCE_STOP;
    if (!session->incoming)
        return ADVANCE_MORE;
    if (session->begin < session->end) {
        hold(session, KV_HOLD_VALUES);
        return ADVANCE_STOP;
    }
    return ADVANCE_BYTES;
}

static advance message_advance(kv_session *session)
{
    uint32_t size = session->end - session->begin;
    uint32_t wanted;
    uint8_t *bytes;

    if (session->state == KV_SESSION_LINGERS)
        session->begin = session->end;
    if (session->state >= KV_SESSION_LINGERS)
        return kv_session_is_live(session) ? ADVANCE_BYTES : ADVANCE_STOP;
    if (session->incoming)
        return values_advance(session);
    if (size < KV_MESSAGE_HEAD_SIZE)
        return ADVANCE_BYTES;
    if (!session->head_known && !head_take(session))
        return ADVANCE_STOP;
    if (!session->admitted && !admit(session))
        return ADVANCE_STOP;
    wanted = KV_MESSAGE_HEAD_SIZE + session->head.columns_size;
    if (size < wanted)
        return ADVANCE_BYTES;
    bytes = session->buffer + session->begin;
    if (kv_message_verify(bytes + KV_MESSAGE_HEAD_SIZE, session->head.columns_size) < 0) {
        kv_session_cut(session, KV_EVENT_CUT_PROTOCOL, EBADMSG,
                          "the columns of a message do not match their checksum");
        return ADVANCE_STOP;
    }
    session->begin += wanted;
    session->head_known = false;
    message_take(session, bytes);
    return kv_session_is_live(session) ? ADVANCE_MORE : ADVANCE_STOP;
}

/* Take what is in the buffer. False: held or closed. */
static bool advance_all(kv_session *session)
{
    advance result;

    do
        result = message_advance(session);
    while (result == ADVANCE_MORE);
    return result == ADVANCE_BYTES;
}

static void buffer_prepare(kv_session *session)
{
    uint32_t size = session->end - session->begin;

    /* With requests in flight more of the same is likely to come. */
    if (!session->incoming && !session->head_known && session->in_flight == 0)
        kv_receive_shrink(session);
    if (session->begin > 0) {
        memmove(session->buffer, session->buffer + session->begin, size);
        session->begin = 0;
        session->end = size;
    }
    assert(session->end < session->capacity);
    session->range = (struct iovec){.iov_base = session->buffer + session->end,
                                       .iov_len = session->capacity - session->end};
}

/* The clock of a stalled message runs from its first byte, and anew whenever a good part of it
 * has come. */
static void note_arrival(kv_session *session, bool first, uint32_t size)
{
    session->arrived += size;
    if (first || session->arrived >= KV_NODE_PROGRESS_SIZE) {
        session->receive_mark_ns = kv_reactor_now_ns(session->loop->reactor);
        session->arrived = 0;
    }
}

/* The result of a receive. False: no further one now. */
static bool received(kv_session *session, int64_t result)
{
    bool first = kv_receive_is_between(session);

    if (result <= 0) {
        peer_gone(session, (int)-result);
        return false;
    }
    assert(result <= session->capacity - session->end);
    session->end += (uint32_t)result;
    kv_counters_add(&session->loop->counters, KV_COUNTER(received_bytes), (uint64_t)result);
    note_arrival(session, first, (uint32_t)result);
    return advance_all(session);
}

static void receive(kv_session *session)
{
    assert(!session->receiving && session->hold == KV_HOLD_NONE);
    for (uint32_t round = 0; round < KV_NODE_ROUNDS_MAX; round++) {
        int64_t result;

        buffer_prepare(session);
        result = kv_socket_receive(&session->socket, &session->range, 1);
        if (result == -EINPROGRESS) {
            session->receiving = true;
            return;
        }
        if (!received(session, result))
            return;
    }
    if (kv_list_empty(&session->eager_link))
        kv_list_append(&session->loop->eager, &session->eager_link);
}

void kv_receive_done(kv_session *session, int64_t result)
{
    session->receiving = false;
    if (kv_session_is_live(session) && received(session, result))
        receive(session);
}

void kv_receive_go_on(kv_session *session)
{
    bool held = session->hold != KV_HOLD_NONE;

    if (!kv_session_is_live(session) || session->receiving)
        return;
    session->hold = KV_HOLD_NONE;
    if (held) /* it was this node that kept it waiting */
        session->receive_mark_ns = kv_reactor_now_ns(session->loop->reactor);
    if (advance_all(session))
        receive(session);
}
