/* A request's operation: its steps, what it lends, values that arrive for it, and its end.
 *
 *   begun ──steps──► answered ──replied to──► over ──┐
 *     │ without an operation ▲                       ├──► freed
 *     └──────────────────────┘    operation ended ───┘ (it may still write, or lend)
 *
 * 1. A request is freed when its operation has ended and it is over: its last reply is sent, or
 *    nobody waits for it.
 * 2. An update that began in a channel ends in it, whatever becomes of the connection: what is
 *    repeated later learns what happened. Only values that never came are given up, and recorded
 *    as not done (KV_BUSY).
 * 3. What is lent is returned once: when it was sent, or when nobody will send it. */

#include "node/chain.h"
#include "node/naming.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* What reading costs is known only afterwards; this is what it may be taken to hold. */
static uint64_t lent_estimate(const kv_request *request)
{
    uint64_t size = 0;

    for (uint32_t i = 0; i < request->count && size < KV_NODE_LENT_REQUEST_MAX; i++)
        size += request->items[i].value_size;
    return size < KV_NODE_LENT_REQUEST_MAX ? size : KV_NODE_LENT_REQUEST_MAX;
}

/* One request may always go on, so that a connection that takes its replies is never stuck. */
bool kv_serving_may_lend(const kv_session *session)
{
    const kv_node_settings *settings = &session->loop->node->settings;

    return session->lent == 0 || (session->lent < settings->lent_connection &&
                                     session->loop->lent < settings->lent_loop);
}

static void lend(kv_node_request *request)
{
    kv_loop *loop = request->session->loop;

    request->lent = lent_estimate(&request->request);
    request->session->lent += request->lent;
    loop->lent += request->lent;
    kv_counters_add(&loop->counters, KV_COUNTER(lent_memory), request->lent);
}

static void lend_end(kv_node_request *request)
{
    kv_session *session = request->session;
    kv_loop *loop = session->loop;

    session->lent -= request->lent;
    loop->lent -= request->lent;
    kv_counters_subtract(&loop->counters, KV_COUNTER(lent_memory), request->lent);
    request->lent = 0;
    if (session->hold == KV_HOLD_LENT && kv_list_empty(&session->eager_link))
        kv_list_append(&loop->eager, &session->eager_link);
}

void kv_serving_forget(kv_node_request *request)
{
    kv_session *session = request->session;
    kv_loop *loop = session->loop;

    if (!request->over || request->operation || request->arriving || request->update)
        return;
    assert(!kv_timer_is_set(&request->deadline) && request->lent == 0 && !request->channel);
    kv_list_remove(&request->link);
    kv_list_remove(&request->answer_link);
    kv_loop_release(loop, request->pool, request->reserved);
    if (request->dirty)
        kv_blocks_give(&loop->blocks, request->dirty, kv_chain_dirty_size(request->count));
    kv_blocks_give(&loop->blocks, request, request->size);
    kv_session_release(session);
}

void kv_serving_settle(kv_node_request *request)
{
    assert(!request->over);
    request->over = true;
    lend_end(request);
    kv_serving_forget(request);
}

static void count_statuses(const kv_node_request *request)
{
    uint64_t counts[KV_NODE_ERROR_COUNT] = {0};

    for (uint32_t i = 0; i < request->count; i++)
        counts[request->request.items[i].status]++;
    for (uint32_t status = 0; status < KV_NODE_ERROR_COUNT; status++)
        if (counts[status] > 0)
            kv_counters_add(&request->session->loop->counters, KV_COUNTER(key_statuses) + status,
                            counts[status]);
    if (counts[KV_UNAVAILABLE] > 0 && request->target &&
        /* Relaxed: it only keeps the event from being said twice. */
        !atomic_exchange_explicit(&request->target->offline_told, true, memory_order_relaxed))
        kv_events_report(&request->session->loop->node->events, KV_EVENT_TARGET_OFFLINE, EIO, 0,
                         "target %u is offline after a failure of its device", request->target->number);
}

/* Once for each update that began in a channel. */
static void channel_end(kv_node_request *request)
{
    kv_node *node = request->session->loop->node;
    uint8_t statuses[KV_MESSAGE_COUNT_MAX];

    for (uint32_t i = 0; i < request->count; i++) {
        int32_t status = request->request.items[i].status;

        statuses[i] = (uint8_t)(request->broken && status == KV_CANCELLED ? KV_BUSY : status);
    }
    pthread_mutex_lock(&node->channels_mutex);
    kv_channel_end(node->channels, request->channel, statuses, kv_clock_ns() / 1000000);
    pthread_mutex_unlock(&node->channels_mutex);
    request->channel = NULL;
}

void kv_serving_answered(kv_node_request *request)
{
    kv_reactor *reactor = request->session->loop->reactor;

    if (kv_timer_is_set(&request->deadline))
        kv_timer_stop(reactor, &request->deadline);
    if (request->channel)
        channel_end(request);
    if (!request->forward)
        count_statuses(request);
    if (request->kind != KV_OP_GET)
        request->named = request->count;
    /* A client that still sends values is not to take its request for done. */
    if (!request->over && !request->arriving)
        kv_outgoing_speak(request);
}

/* True: the operation is finished. */
static bool operation_step(kv_node_request *request)
{
    kv_naming naming = {request->count, &request->named, request->order};

    return request->kind == KV_OP_GET ? kv_naming_step(request->operation, &naming)
                                      : kv_operation_step(request->operation);
}

/* Something was named: it is said, or given back when nobody listens. */
static void tell_items(kv_node_request *request)
{
    if (!request->over)
        kv_outgoing_speak(request);
    while (request->over && request->returned < request->named)
        kv_serving_return(request, request->returned);
}

static void operation_end(kv_node_request *request)
{
    assert(request->answered);
    kv_operation_end(request->operation);
    request->operation = NULL;
}

/* An update of a chain is replied to when it ends there. The request may be gone afterwards. */
static void update_step(kv_node_request *request)
{
    bool answered = request->answered;
    bool finished = kv_operation_step(request->operation);

    if (finished)
        operation_end(request);
    if (request->answered && !answered)
        kv_chain_answered(request->update);
    else if (finished)
        kv_serving_forget(request);
}

static void answer(kv_node_request *request)
{
    if (request->epoch && request->kind != KV_OP_GET)
        kv_chain_check(request, 0, request->count);
    kv_serving_answered(request);
}

void kv_serving_step(kv_node_request *request)
{
    bool answered = request->answered;
    uint32_t named = request->named;
    bool finished;

    if (request->update) {
        update_step(request);
        return;
    }
    finished = operation_step(request);
    if (request->epoch && request->kind == KV_OP_GET)
        kv_chain_check(request, named, request->named);
    if (request->answered && !answered)
        answer(request);
    if (finished) {
        operation_end(request);
        kv_serving_forget(request);
    } else if (request->kind == KV_OP_GET && request->named > named) {
        tell_items(request);
    }
}

/* The last one ends the operation: claimed before, its last step need not come by mail. (A
 * request that nobody waits for might be freed by it under the caller, and waits for the mail.) */
void kv_serving_return(kv_node_request *request, uint32_t position)
{
    const kv_item *item = &request->request.items[request->order[position]];
    bool claimed;

    assert(position == request->returned && position < request->named);
    request->returned++;
    if (item->status != KV_OK || item->result_size == 0)
        return;
    claimed = !request->over && request->answered && request->returned == request->count &&
              kv_operation_claim(request->operation);
    kv_operation_return(request->operation, request->order[position]);
    if (claimed)
        kv_serving_step(request);
}

static void deliver(kv_mail *mail)
{
    kv_node_request *request = KV_CONTAINER(mail, kv_node_request, mail);
    kv_session *session = request->session;

    session->references++; /* the request may be its last one */
    kv_serving_step(request);
    if (session->hold == KV_HOLD_VALUES)
        kv_receive_go_on(session);
    kv_session_release(session);
}

/* Any thread. Once for each step. */
static void ready(kv_owner *owner)
{
    kv_node_request *request = KV_CONTAINER(owner, kv_node_request, owner);

    kv_reactor_post(request->session->loop->reactor, &request->mail);
}

/* Inside a step, so on the loop's thread. */
static void answered(kv_owner *owner)
{
    KV_CONTAINER(owner, kv_node_request, owner)->answered = true;
}

static void expire(kv_timer *timer)
{
    kv_node_request *request = KV_CONTAINER(timer, kv_node_request, deadline);

    if (request->update)
        kv_chain_withdraw(request->update, KV_TIMEOUT);
    else if (request->operation)
        kv_operation_abort(request->operation, KV_TIMEOUT);
}

void kv_serving_init(kv_node_request *request)
{
    request->owner = (kv_owner){.ready = ready, .answered = answered};
    request->mail.deliver = deliver;
    request->deadline.expire = expire;
}

void kv_serving_refuse(kv_node_request *request, kv_status status)
{
    for (uint32_t i = 0; i < request->count; i++)
        request->request.items[i].status = (int32_t)status;
    if (!request->channel || request->forward) /* not recorded: it may come again as it is */
        request->status = (int32_t)status;
    request->answered = true;
    kv_serving_answered(request);
}

void kv_serving_set_deadline(kv_node_request *request, uint32_t timeout_ms)
{
    kv_reactor *reactor = request->session->loop->reactor;

    if (timeout_ms == 0)
        timeout_ms = KV_NODE_REQUEST_TIMEOUT_MS_DEFAULT;
    if (timeout_ms > KV_NODE_REQUEST_TIMEOUT_MS_MAX)
        timeout_ms = KV_NODE_REQUEST_TIMEOUT_MS_MAX;
    kv_timer_set(reactor, &request->deadline,
                 kv_reactor_now_ns(reactor) + (uint64_t)timeout_ms * 1000000u);
}

void kv_serving_begin(kv_node_request *request, uint32_t timeout_ms)
{
    int error = kv_operation_begin(request->target->engine, &request->request, &request->operation);

    if (error < 0) {
        assert(error == -ENOMEM); /* decoding left nothing that an engine would not take */
        request->operation = NULL;
        kv_serving_refuse(request, KV_BUSY);
        return;
    }
    kv_operation_set_owner(request->operation, &request->owner);
    if (request->kind == KV_OP_GET)
        lend(request);
    /* Most are answered by their first step, and need no timer. */
    kv_serving_step(request);
    if (!request->answered)
        kv_serving_set_deadline(request, timeout_ms);
}

/* Bytes of the item that is due; fewer than `size` when it has no memory yet. */
static uint32_t push_item(kv_node_request *request, const uint8_t *bytes, uint32_t size)
{
    uint32_t left = request->request.items[request->push_item].value_size - request->push_offset;
    uint32_t wanted = left < size ? left : size;
    uint32_t taken = wanted;

    if (request->update && kv_chain_waits(request->update))
        taken = 0;
    else if (request->operation)
        taken = kv_operation_push(request->operation, request->push_item, bytes, wanted);
    assert(taken <= wanted);
    request->push_offset += taken;
    return taken;
}

/* Move on over what is complete; empty values have no bytes to wait for. True: an item was
 * completed. */
static bool push_advance(kv_node_request *request)
{
    uint32_t before = request->push_item;

    while (request->push_item < request->count &&
           request->push_offset == request->request.items[request->push_item].value_size) {
        request->push_item++;
        request->push_offset = 0;
    }
    return request->push_item > before;
}

/* After the last byte of a value. */
static void claim_step(kv_node_request *request)
{
    if (request->operation && kv_operation_claim(request->operation))
        kv_serving_step(request);
}

static void values_complete(kv_node_request *request)
{
    kv_session *session = request->session;

    session->incoming = NULL;
    request->arriving = false;
    request->arrived_ns = kv_clock_ns();
    claim_step(request);
    if (request->update)
        kv_chain_came(request->update);
    else if (request->answered && !request->over)
        kv_outgoing_speak(request);
}

uint32_t kv_serving_push(kv_session *session, const uint8_t *bytes, uint32_t size)
{
    kv_node_request *request = session->incoming;
    uint32_t done = 0;
    bool complete = push_advance(request);
    bool stuck = false;

    while (done < size && request->push_item < request->count) {
        uint32_t taken = push_item(request, bytes + done, size - done);

        done += taken;
        complete |= push_advance(request);
        if (taken > 0) {
            stuck = false;
            continue;
        }
        /* A step may find memory; if it does not, `ready` comes when there is some. */
        if (stuck || !request->operation || !kv_operation_claim(request->operation))
            break;
        stuck = true;
        kv_serving_step(request);
    }
    if (request->push_item == request->count)
        values_complete(request);
    else if (complete && !stuck)
        claim_step(request);
    return done;
}

void kv_serving_cancel(kv_session *session, uint64_t id)
{
    for (kv_list *link = session->requests.next; link != &session->requests; link = link->next) {
        kv_node_request *request = KV_CONTAINER(link, kv_node_request, link);

        if (request->id == id && request->update)
            kv_chain_withdraw(request->update, KV_CANCELLED);
        else if (request->id == id && request->operation && !request->answered)
            kv_operation_abort(request->operation, KV_CANCELLED);
    }
}

static bool is_stranded(const kv_node_request *request, uint64_t now_ns)
{
    const uint64_t age_ns = KV_NODE_STRANDED_MS * 1000000ull;
    kv_chain *chain;

    if (!request->target || request->spoken || request->arriving)
        return false;
    chain = atomic_load_explicit(&request->target->chain, memory_order_acquire);
    /* Relaxed: a look too early sees it the next time. */
    return chain && atomic_load_explicit(&chain->version, memory_order_relaxed) == 0 &&
           now_ns > request->arrived_ns && now_ns - request->arrived_ns >= age_ns;
}

const kv_target *kv_serving_stranded(const kv_session *session, uint64_t now_ns)
{
    const kv_list *requests = &session->requests;

    for (const kv_list *link = requests->next; link != requests; link = link->next) {
        const kv_node_request *request = KV_CONTAINER(link, kv_node_request, link);

        if (is_stranded(request, now_ns))
            return request->target;
    }
    return NULL;
}

/* Nobody waits for its replies any more. */
static void request_abandon(kv_node_request *request, bool all)
{
    bool updates = kv_request_updates(request->kind);

    while (request->kind == KV_OP_GET && request->returned < request->named)
        kv_serving_return(request, request->returned);
    request->broken |= request->arriving;
    request->arriving = false;
    if (!request->spoken) {
        request->spoken = true;
        request->session->in_flight--;
        kv_counters_subtract(&request->session->loop->counters, KV_COUNTER(requests_in_flight), 1);
    }
    if (request->update && (all || request->broken))
        kv_chain_withdraw(request->update, KV_CANCELLED);
    else if (request->operation && !request->answered && (all || !updates || request->broken))
        kv_operation_abort(request->operation, KV_CANCELLED);
    if (!request->over)
        kv_serving_settle(request);
}

void kv_serving_abandon(kv_session *session, bool all)
{
    kv_list *next;

    session->incoming = NULL;
    for (kv_list *link = session->requests.next; link != &session->requests; link = next) {
        next = link->next; /* the one that is looked at may be freed */
        request_abandon(KV_CONTAINER(link, kv_node_request, link), all);
    }
}
