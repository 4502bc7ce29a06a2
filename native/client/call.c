/* A request of the caller while the client has it: cut into parts, retried, given up, finished.
 *
 *   opened ──start──► parts under way ──last part dropped──► finished
 *                       │        ▲                              ▲
 *                       ├─retry──┘ (placing.c)                  │
 *                       └─give_up: settled; parts leave as soon as nothing touches their memory
 *
 * Invariants: a started call has a part as long as it is not finished; after it is finished nothing
 * of the client points to the caller's memory. */

#include "client/client_state.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

kv_call *kv_call_open(kv_client *client, kv_call_kind kind, kv_request *request,
                      uint64_t timeout_ms)
{
    uint32_t count = request ? request->count : 0;
    kv_call *call = calloc(1, sizeof(*call) + count);

    if (!call)
        return NULL;
    if (timeout_ms == 0)
        timeout_ms = client->timeout_ms;
    if (timeout_ms > KV_CLIENT_TIMEOUT_MS_MAX)
        timeout_ms = KV_CLIENT_TIMEOUT_MS_MAX;
    call->kind = kind;
    call->client = client;
    call->deadline_ns = kv_clock_ns() + timeout_ms * KV_NS_PER_MS;
    atomic_init(&call->cancelled, false);
    kv_list_init(&call->link);
    kv_list_init(&call->client_link);
    kv_list_init(&call->parts);
    if (request) {
        kv_batch_init(&call->batch, request, call->marks);
        call->tag = request->tag;
    }
    return call;
}

void kv_call_close(kv_call *call)
{
    assert(kv_list_empty(&call->parts) && kv_list_empty(&call->client_link));
    if (call->routing)
        kv_route_table_release(call->routing);
    free(call);
}

static void call_finish(kv_call *call)
{
    assert(kv_list_empty(&call->parts));
    if (call->kind == KV_CALL_BATCH)
        kv_batch_conclude(&call->batch);
    kv_list_remove(&call->link);
    kv_timer_stop(call->lane->reactor, &call->timer);
    kv_client_call_finished(call);
}

static void deadline_passes(kv_timer *timer)
{
    kv_call *call = KV_CONTAINER(timer, kv_call, timer);
    kv_lane *lane = call->lane;

    kv_call_give_up(call, KV_TIMEOUT);
    kv_lane_work(lane);
}

void kv_call_start(kv_lane *lane, kv_call *call)
{
    int error;

    assert(call->lane == lane);
    kv_list_append(&lane->calls, &call->link);
    kv_lane_count(&lane->counters.batches, 1);
    if (lane->background) {
        call->timer.expire = deadline_passes;
        kv_timer_set(lane->reactor, &call->timer, call->deadline_ns);
    }
    error = kv_call_place(call);
    if (error < 0)
        kv_call_give_up(call, KV_UNAVAILABLE);
    else if (kv_list_empty(&call->parts))
        call_finish(call);
}

static void part_leave(kv_part *part)
{
    kv_list_remove(&part->call_link);
    kv_part_close(part);
}

void kv_call_drop_part(kv_part *part)
{
    kv_call *call = part->call;

    part_leave(part);
    if (kv_list_empty(&call->parts))
        call_finish(call);
}

static int error_of(kv_status status)
{
    switch (status) {
    case KV_OK:
        return 0;
    case KV_TIMEOUT:
        return -ETIMEDOUT;
    case KV_CANCELLED:
        return -ECANCELED;
    case KV_DENIED:
        return -EACCES;
    default:
        return -ECONNREFUSED;
    }
}

/* A flush, or a control request, has come to this unless it had failed before. */
static void settle_control(kv_call *call, kv_status status)
{
    if (call->kind == KV_CALL_FLUSH) {
        if (call->batch.request->status == KV_OK)
            call->batch.request->status = (int32_t)status;
        return;
    }
    call->control->result = error_of(status);
    if (status == KV_TIMEOUT || status == KV_CANCELLED)
        snprintf(call->control->message, KV_MESSAGE_SIZE, "%s: no answer in time",
                 kv_addresses_name(call->client->addresses, call->control->endpoint));
    else
        kv_client_explain(call->client, call->control->message);
}

/* Items of a part that cannot be sent: an update that was sent before may have happened. */
static kv_status status_unsent(const kv_part *part, kv_status status)
{
    return part->repeated ? KV_OUTCOME_UNKNOWN : status;
}

void kv_call_fail_part(kv_part *part, kv_status status)
{
    kv_call *call = part->call;

    if (call->kind != KV_CALL_BATCH)
        settle_control(call, status);
    for (uint32_t i = 0; i < part->count; i++)
        if (kv_batch_is_open(&call->batch, part->indices[i]))
            kv_batch_settle(&call->batch, part->indices[i], status_unsent(part, status));
    kv_call_drop_part(part);
}

void kv_call_end_channel(kv_part *part, bool known)
{
    kv_sequences *sequences = &part->lane->client->sequences;

    if (part->sequence == 0)
        return;
    if (!part->touched)
        kv_sequences_give_unused(sequences, part->channel);
    else if (known)
        kv_sequences_give(sequences, part->channel);
    else
        kv_sequences_retire(sequences, part->channel);
    part->sequence = 0;
}

void kv_call_control_reply(kv_part *part, int error, uint64_t size)
{
    kv_call *call = part->call;

    part->pauses = error == EBUSY;
    if (part->pauses)
        return;
    if (call->kind == KV_CALL_CONTROL) {
        call->control->result = error != 0 ? -(int64_t)error : (int64_t)size;
        if (error == 0 && size > call->control->reply_size)
            call->control->result = -EMSGSIZE;
        return;
    }
    if (error != 0)
        settle_control(call, error == ETIMEDOUT ? KV_TIMEOUT : KV_UNAVAILABLE);
}

/* Whether it waits for a connection, or for somebody who serves it. */
static bool part_is_unsent(const kv_part *part)
{
    if (part->state == KV_PART_PAUSED)
        return !kv_list_empty(&part->link);
    return part->state == KV_PART_WAITING && part->connection->state != KV_CONNECTION_READY;
}

/* Items that could not even be asked for are told from those that were not answered. */
static void settle_unsent(kv_call *call)
{
    for (kv_list *at = call->parts.next; at != &call->parts; at = at->next) {
        kv_part *part = KV_CONTAINER(at, kv_part, call_link);

        if (!part_is_unsent(part))
            continue;
        if (call->kind != KV_CALL_BATCH)
            settle_control(call, KV_UNAVAILABLE);
        for (uint32_t i = 0; i < part->count; i++)
            if (kv_batch_is_open(&call->batch, part->indices[i]))
                kv_batch_settle(&call->batch, part->indices[i],
                                status_unsent(part, KV_UNAVAILABLE));
    }
}

/* Whether a node has become so silent that its connection is not worth keeping. */
static bool is_silent(const kv_connection *connection)
{
    return kv_clock_ns() >
           connection->silent_since_ns + (uint64_t)KV_CLIENT_SILENCE_MS * KV_NS_PER_MS;
}

/* True: the part has left its call. Otherwise it leaves when its connection is closed. */
static bool part_give_up(kv_part *part, kv_status status)
{
    kv_connection *connection = part->connection;

    if (part->state == KV_PART_PAUSED || part->state == KV_PART_WAITING) {
        kv_timer_stop(part->lane->reactor, &part->pause);
        kv_list_remove(&part->link);
        kv_call_end_channel(part, false);
        part_leave(part);
        return true;
    }
    if (connection->state == KV_CONNECTION_CLOSING)
        return false;
    if (kv_connection_uses(connection, part)) {
        kv_connection_break(connection, -ECANCELED, "a request was given up in the middle of it");
        return false;
    }
    if (status == KV_TIMEOUT && part->state == KV_PART_SENT && is_silent(connection)) {
        kv_connection_break(connection, -ETIMEDOUT, "the node does not answer");
        return false;
    }
    if (part->state == KV_PART_SENDING) {
        kv_connection_remove(connection, part);
        kv_call_end_channel(part, false);
        part_leave(part);
        return true;
    }
    kv_list_remove(&part->call_link);
    kv_connection_forget(connection, part);
    return true;
}

void kv_call_give_up(kv_call *call, kv_status status)
{
    kv_list *at;

    assert(status != KV_OK);
    if (call->given_up)
        return;
    call->given_up = true;
    call->batch.given_up = true;
    if (status == KV_TIMEOUT) {
        kv_lane_count(&call->lane->counters.timeouts, 1);
        settle_unsent(call);
    }
    if (call->kind == KV_CALL_BATCH)
        kv_batch_settle_all(&call->batch, status);
    else if (call->kind == KV_CALL_FLUSH || call->control->result == 0)
        settle_control(call, status);
    for (at = call->parts.next; at != &call->parts;) {
        kv_part *part = KV_CONTAINER(at, kv_part, call_link);

        at = at->next;
        part_give_up(part, status);
    }
    if (kv_list_empty(&call->parts))
        call_finish(call);
}
