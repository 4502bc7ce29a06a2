/* Replies: built when the socket can take them, from what requests have to say by then.
 *
 *   request ──speaks──► answers ──built──► window ──sent──► items given back, request settled
 *
 * A window holds heads and columns of some replies, one behind the other, and names the values
 * that follow them: values are sent from where they are lent, up to KV_REACTOR_IOVEC_MAX ranges
 * a call. Since a reply is built late, values that become ready while the socket is busy share
 * one.
 *
 * 1. What a window names is lent until it was sent, or until the socket is closed.
 * 2. Replies of a window are sent in order; those of one request carry its items in the order of
 *    `order`.
 * 3. A window exists only while something is to be sent. */

#include "node/chain.h"
#include "node/gather.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

static uint8_t *reply_bytes(kv_window *window, const kv_outgoing_reply *reply)
{
    return window->bytes + reply->bytes_begin;
}

static bool window_open(kv_session *session)
{
    if (session->window)
        return true;
    session->window = kv_blocks_take(&session->loop->blocks, sizeof(kv_window));
    if (!session->window)
        return false;
    session->window->first = 0;
    session->window->count = 0;
    session->window->bytes_used = 0;
    return true;
}

static void window_close(kv_session *session)
{
    kv_blocks_give(&session->loop->blocks, session->window, sizeof(kv_window));
    session->window = NULL;
}

static bool window_has_room(const kv_window *window, uint32_t size)
{
    return window->count < KV_NODE_WINDOW_REPLIES && window->bytes_used + size <= KV_NODE_WINDOW_BYTES;
}

/* A reply of so many bytes of head and columns. */
static kv_outgoing_reply *window_add(kv_window *window, uint32_t size)
{
    kv_outgoing_reply *reply = &window->replies[window->count++];

    assert(window->bytes_used + size <= KV_NODE_WINDOW_BYTES);
    *reply = (kv_outgoing_reply){.bytes_begin = window->bytes_used, .bytes_size = size};
    window->bytes_used += size;
    return reply;
}

uint8_t *kv_outgoing_room(kv_session *session)
{
    kv_window *window;

    if (!window_open(session))
        return NULL;
    window = session->window;
    /* A client that says more during hello than its turn is does not get an answer each time. */
    return window_has_room(window,
                           KV_HELLO_MESSAGE_SIZE_MAX) ? window->bytes + window->bytes_used : NULL;
}

void kv_outgoing_add(kv_session *session, uint32_t size)
{
    if (size > 0)
        window_add(session->window, size);
    kv_loop_speak(session->loop, session);
}

void kv_outgoing_speak(kv_node_request *request)
{
    kv_session *session = request->session;

    if (session->state != KV_SESSION_SERVES)
        return;
    if (kv_list_empty(&request->answer_link))
        kv_list_append(&session->answers, &request->answer_link);
    if (!session->sending)
        kv_loop_speak(session->loop, session);
}

static uint32_t item_at(const kv_node_request *request, uint32_t position)
{
    return request->kind == KV_OP_GET ? request->order[position] : position;
}

/* How many items from `replied` on go into one reply, and the bytes of their values. */
static uint32_t reply_extent(const kv_node_request *request, uint64_t *values_size)
{
    uint32_t position = request->replied;

    *values_size = 0;
    while (position < request->named && position - request->replied < KV_NODE_REPLY_ITEMS_MAX) {
        const kv_item *item = &request->request.items[item_at(request, position)];
        uint64_t size = request->kind == KV_OP_GET && item->status == KV_OK ? item->result_size : 0;

        if (*values_size > 0 && *values_size + size > KV_NODE_REPLY_VALUES_SIZE)
            break;
        *values_size += size;
        position++;
    }
    return position - request->replied;
}

static void items_describe(const kv_node_request *request, uint32_t count, kv_reply_item *items)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t index = item_at(request, request->replied + i);
        const kv_item *item = &request->request.items[index];
        const kv_item_stat *stat = request->request.stats ? &request->request.stats[index] : NULL;

        items[i] = (kv_reply_item){.index = index, .status = item->status,
                                   .size = item->result_size};
        if (stat && item->status == KV_OK) {
            items[i].checksum = stat->checksum;
            if (request->kind == KV_OP_STAT) {
                items[i].version = stat->version;
                items[i].expiry_ms = stat->expiry_ms;
                items[i].flags = stat->flags;
            }
        }
    }
}

static bool request_is_refused(const kv_node_request *request)
{
    return request->status != KV_OK;
}

/* Whether there is something to say that was not said. */
static bool has_news(const kv_node_request *request)
{
    return !request->spoken && (request->replied < request->named || request_is_refused(request) ||
                                (request->forward && request->answered));
}

static void reply_encode(kv_window *window, kv_outgoing_reply *reply, kv_loop *loop,
                         uint64_t values_size)
{
    const kv_node_request *request = reply->request;
    uint8_t *bytes = reply_bytes(window, reply);
    kv_wire_reply wire = {.operation = request->kind,
                          .status = reply->last ? request->status : KV_OK,
                          .matched = reply->last ? request->request.matched : 0,
                          .count = reply->item_count};
    kv_message_head head = {.version = request->session->version,
                            .kind = KV_MESSAGE_REPLY,
                            .flags = reply->last ? KV_REPLY_LAST : 0,
                            .count = reply->item_count,
                            .request = request->id,
                            .values_size = (uint32_t)values_size};

    items_describe(request, reply->item_count, loop->items);
    head.columns_size = kv_reply_encode(&wire, loop->items, bytes + KV_MESSAGE_HEAD_SIZE);
    kv_message_encode(&head, bytes);
    assert(reply->bytes_size == KV_MESSAGE_HEAD_SIZE + head.columns_size);
}

/* The last reply leaves: the client may send another request when it has it. */
static void request_spoken(kv_node_request *request)
{
    kv_session *session = request->session;

    assert(!request->spoken && session->in_flight > 0);
    request->spoken = true;
    session->in_flight--;
    kv_counters_subtract(&session->loop->counters, KV_COUNTER(requests_in_flight), 1);
}

static void answer_encode(kv_window *window, kv_outgoing_reply *reply)
{
    const kv_node_request *request = reply->request;
    kv_chain *chain = request->target ? atomic_load_explicit(&request->target->chain,
                                                             memory_order_relaxed)
                                      : NULL;
    uint8_t *bytes = reply_bytes(window, reply);
    uint8_t statuses[KV_MESSAGE_COUNT_MAX];
    kv_wire_forwarded wire = {.status = request->status,
                              .count = reply->item_count,
                              .chain_version = request->chain_version,
                              .statuses = statuses};
    kv_message_head head = {.version = request->session->version,
                            .kind = KV_MESSAGE_FORWARDED,
                            .count = reply->item_count,
                            .request = request->id};

    for (uint32_t i = 0; i < reply->item_count; i++)
        statuses[i] = (uint8_t)request->request.items[i].status;
    if (chain)
        kv_chain_tell_space(chain, &wire);
    head.columns_size = kv_forwarded_encode(&wire, bytes + KV_MESSAGE_HEAD_SIZE);
    kv_message_encode(&head, bytes);
    assert(reply->bytes_size == KV_MESSAGE_HEAD_SIZE + head.columns_size);
}

/* The answer to a forward: all of it at once. False: the window has no room for it. */
static bool answer_build(kv_session *session, kv_node_request *request)
{
    kv_window *window = session->window;
    uint32_t count = request_is_refused(request) ? 0 : request->count;
    uint32_t size = KV_MESSAGE_HEAD_SIZE + kv_forwarded_columns_size(count);
    kv_outgoing_reply *reply;

    if (!window_has_room(window, size))
        return false;
    reply = window_add(window, size);
    reply->request = request;
    reply->item_count = count;
    reply->last = true;
    answer_encode(window, reply);
    request->replied = request->count;
    request_spoken(request);
    return true;
}

/* One more reply of a request. False: the window has no room for it. */
static bool reply_build(kv_session *session, kv_node_request *request)
{
    kv_window *window = session->window;
    uint64_t values_size = 0;
    bool refused = request_is_refused(request);
    uint32_t count = refused ? 0 : reply_extent(request, &values_size);
    uint32_t size = KV_MESSAGE_HEAD_SIZE + kv_reply_columns_size(request->kind, count);
    kv_outgoing_reply *reply;

    assert(has_news(request));
    if (!window_has_room(window, size))
        return false;
    reply = window_add(window, size);
    reply->request = request;
    reply->item_first = request->replied;
    reply->item_count = count;
    reply->last = refused || request->replied + count == request->count;
    reply_encode(window, reply, session->loop, values_size);
    request->replied += count;
    if (reply->last)
        request_spoken(request);
    return true;
}

static void control_build(kv_session *session)
{
    kv_outgoing_reply *reply;
    kv_message_head head;
    const uint8_t *body;

    if (!session->control || !kv_control_reply(session->control, &head, &body) ||
        !window_has_room(session->window, KV_MESSAGE_HEAD_SIZE))
        return;
    reply = window_add(session->window, KV_MESSAGE_HEAD_SIZE);
    reply->control = session->control;
    reply->last = true;
    session->control = NULL;
    kv_message_encode(&head, reply_bytes(session->window, reply));
}

/* Requests take turns, a reply each, so that a large one does not hold up the small ones behind
 * it. */
static void window_fill(kv_session *session)
{
    kv_list *link;

    control_build(session);
    while ((link = session->answers.next) != &session->answers) {
        kv_node_request *request = KV_CONTAINER(link, kv_node_request, answer_link);

        if (has_news(request) && !(request->forward ? answer_build(session, request)
                                                    : reply_build(session, request)))
            return;
        kv_list_remove(link);
        if (has_news(request))
            kv_list_append(&session->answers, link);
    }
}

static uint64_t value_size(const kv_node_request *request, uint32_t position)
{
    const kv_item *item = &request->request.items[item_at(request, position)];

    return request->kind == KV_OP_GET && item->status == KV_OK ? item->result_size : 0;
}

static void gather_values(kv_ranges *gather, const kv_outgoing_reply *reply)
{
    const kv_node_request *request = reply->request;

    gather->skip = reply->item_sent;
    for (uint32_t i = 0; i < reply->item_count && !kv_ranges_full(gather); i++) {
        uint32_t position = reply->item_first + i;
        struct iovec lent[KV_LENT_RANGES_MAX];
        uint32_t count;

        if (value_size(request, position) == 0)
            continue;
        count = kv_operation_lent(request->operation, request->order[position], lent);
        assert(count > 0 && count <= KV_LENT_RANGES_MAX);
        for (uint32_t k = 0; k < count; k++)
            kv_ranges_add(gather, lent[k].iov_base, lent[k].iov_len);
    }
}

/* What is to be sent next, as far as one call can carry it. */
static uint32_t window_ranges(kv_window *window)
{
    kv_ranges gather = {.at = window->ranges};

    for (uint32_t i = window->first; i < window->count &&
         !kv_ranges_full(&gather); i++) {
        kv_outgoing_reply *reply = &window->replies[i];
        kv_message_head head;
        const uint8_t *body;

        gather.skip = reply->bytes_sent;
        kv_ranges_add(&gather, reply_bytes(window, reply), reply->bytes_size);
        if (reply->control && kv_control_reply(reply->control, &head, &body)) {
            gather.skip = reply->item_sent;
            kv_ranges_add(&gather, body, head.values_size);
        } else if (reply->request && reply->request->kind == KV_OP_GET) {
            gather_values(&gather, reply);
        }
    }
    return gather.count;
}

/* Bytes of a reply's values were sent; returns how many. Items that are complete are given back. */
static uint64_t advance_values(kv_outgoing_reply *reply, uint64_t sent)
{
    uint64_t before = sent;

    while (reply->item_count > 0) {
        uint64_t left = value_size(reply->request, reply->item_first) - reply->item_sent;

        if (sent < left) {
            reply->item_sent += sent;
            return before;
        }
        sent -= left;
        reply->item_sent = 0;
        if (reply->request->kind == KV_OP_GET)
            kv_serving_return(reply->request, reply->item_first);
        reply->item_first++;
        reply->item_count--;
    }
    return before - sent;
}

static uint64_t advance_control(kv_outgoing_reply *reply, uint64_t sent)
{
    kv_message_head head = {0};
    const uint8_t *body;
    uint64_t left;

    (void)kv_control_reply(reply->control, &head, &body);
    left = head.values_size - reply->item_sent;
    left = left < sent ? left : sent;
    reply->item_sent += left;
    if (reply->item_sent == head.values_size) {
        kv_control_settle(reply->control);
        reply->control = NULL;
    }
    return left;
}

static void reply_done(kv_session *session, kv_outgoing_reply *reply)
{
    kv_node_request *request = reply->request;

    if (!request || !reply->last)
        return;
    if (!request->forward)
        kv_counters_note_latency(&session->loop->counters, request->kind,
                                 kv_clock_ns() - request->arrived_ns);
    kv_serving_settle(request);
}

/* So many bytes of the window were sent. */
static void window_advance(kv_session *session, uint64_t sent)
{
    kv_window *window = session->window;

    kv_counters_add(&session->loop->counters, KV_COUNTER(sent_bytes), sent);
    while (window->first < window->count) {
        kv_outgoing_reply *reply = &window->replies[window->first];
        uint64_t left = reply->bytes_size - reply->bytes_sent;

        if (sent < left) {
            reply->bytes_sent += (uint32_t)sent;
            return;
        }
        sent -= left;
        reply->bytes_sent = reply->bytes_size;
        if (reply->control)
            sent -= advance_control(reply, sent);
        else
            sent -= advance_values(reply, sent);
        if (reply->item_count > 0 || reply->control)
            break;
        reply_done(session, reply);
        window->first++;
    }
    assert(sent == 0);
    if (window->first == window->count) {
        window->first = 0;
        window->count = 0;
        window->bytes_used = 0;
    }
}

/* Nothing is left to be sent. */
static void window_end(kv_session *session)
{
    window_close(session);
    if (session->state == KV_SESSION_LINGERS)
        kv_session_linger(session);
    else
        kv_session_rest(session);
}

/* The result of a send. False: the connection is cut. */
static bool sent(kv_session *session, int64_t result)
{
    if (result < 0) {
        kv_session_cut(session, KV_EVENT_CUT_RESET, (int)-result,
                          "the connection broke while it was sent replies: %s", strerror((int)-result));
        return false;
    }
    window_advance(session, (uint64_t)result);
    return true;
}

void kv_outgoing_flush(kv_session *session)
{
    if (session->state == KV_SESSION_CLOSED || session->sending)
        return;
    for (uint32_t round = 0; round < KV_NODE_ROUNDS_MAX; round++) {
        int64_t result;
        uint32_t count;

        if (!window_open(session)) {
            kv_session_cut(session, KV_EVENT_CUT_RESET, ENOMEM, "no memory for replies");
            return;
        }
        window_fill(session);
        count = window_ranges(session->window);
        if (count == 0) {
            window_end(session);
            return;
        }
        result = kv_socket_send(&session->socket, session->window->ranges, count);
        if (result == -EINPROGRESS) {
            session->sending = true;
            session->send_mark_ns = kv_reactor_now_ns(session->loop->reactor);
            return;
        }
        if (!sent(session, result))
            return;
    }
    kv_loop_speak(session->loop, session);
}

void kv_outgoing_sent(kv_session *session, int64_t result)
{
    session->sending = false;
    if (session->state != KV_SESSION_CLOSED && sent(session, result))
        kv_outgoing_flush(session);
}

void kv_outgoing_close(kv_session *session)
{
    kv_window *window = session->window;

    if (session->control)
        kv_control_settle(session->control);
    session->control = NULL;
    if (!window)
        return;
    for (uint32_t i = window->first; i < window->count; i++)
        if (window->replies[i].control)
            kv_control_settle(window->replies[i].control);
    window_close(session);
}
