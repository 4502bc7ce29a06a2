/* The effects of an update of a chain, carried out by its loop: apply, forward, end; what is
 * decided at its turn is in chain_decide.c. See chain.h. */

#include "node/chain.h"

#include "node/evictor.h"
#include "node/resync.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* ---- APPLY ---- */

static void settle(kv_chain_update *own)
{
    kv_node_request *request = own->request;

    if (request->answered) { /* every item was refused, or its device failed meanwhile */
        kv_chain_answered(own);
        return;
    }
    for (uint32_t i = 0; i < own->update.count; i++)
        request->request.stats[i].version = own->versions[i];
    kv_operation_settle(request->operation, own->update.statuses);
    if (kv_operation_claim(request->operation))
        kv_serving_step(request);
}

/* Deletes and pins begin at their turn: they take nothing before. */
static void change_keys(kv_chain_update *own)
{
    kv_node_request *request = own->request;
    kv_request *apply = &own->apply;
    int error;

    *apply = (kv_request){.items = own->apply_items,
                          .operation = own->operation,
                          .flags = own->evicts ? KV_REQUEST_EVICTS : 0};
    for (uint32_t i = 0; i < own->update.count; i++)
        if (own->update.statuses[i] == KV_OK && !own->here[i]) {
            own->apply_indices[apply->count] = i;
            own->apply_items[apply->count++] = request->request.items[i];
        }
    if (apply->count == 0) {
        kv_chain_applied(own);
        return;
    }
    error = kv_operation_begin(own->chain->target->engine, apply, &request->operation);
    if (error < 0) {
        request->operation = NULL;
        kv_chain_fail(own->chain, -error, "it cannot apply an update of its chain");
        kv_chain_applied(own);
        return;
    }
    kv_operation_set_owner(request->operation, &request->owner);
    kv_serving_step(request);
}

static void apply(kv_chain_update *own)
{
    assert(!own->settled && !own->batch);
    own->settled = true;
    if (own->eviction)
        kv_evict_apply(own->eviction);
    else if (own->operation == KV_OP_SET)
        settle(own);
    else
        change_keys(own);
}

/* What an item came to that had to be applied. */
static void item_applied(kv_chain_update *own, uint32_t i, kv_status status)
{
    bool passed = status == KV_NOT_FOUND && own->operation != KV_OP_SET;

    if (own->update.statuses[i] != KV_OK || status == KV_OK)
        return;
    if (passed && own->update.source != KV_UPDATE_CLIENT)
        return; /* it has expired here, or a syncing target does not have it yet */
    own->update.statuses[i] = (uint8_t)status;
    if (!passed)
        kv_chain_fail(own->chain, status == KV_NO_SPACE ? ENOSPC : EIO,
                      "it cannot apply an update of its chain");
}

static void pause_expires(kv_timer *timer)
{
    change_keys(KV_CONTAINER(timer, kv_chain_update, pause));
}

/* Deletes and pins reserve nothing beforehand: what the journal has no room for now is applied a
 * little later. False: all of them came to something. */
static bool keys_pause(kv_chain_update *own)
{
    bool again = false;

    for (uint32_t k = 0; k < own->apply.count; k++) {
        uint32_t i = own->apply_indices[k];
        kv_status status = (kv_status)own->apply_items[k].status;

        if (status == KV_NO_SPACE && own->tries < KV_NODE_APPLY_TRIES) {
            again = true;
            continue;
        }
        item_applied(own, i, status);
        own->here[i] = true;
    }
    if (!again)
        return false;
    own->tries++;
    own->request->answered = false;
    own->pause.expire = pause_expires;
    kv_timer_set(own->loop->reactor, &own->pause,
                 kv_clock_ns() + KV_NODE_APPLY_PAUSE_MS * 1000000ull);
    return true;
}

void kv_chain_answered(kv_chain_update *own)
{
    const kv_node_request *request = own->request;

    if (own->ending) {
        kv_chain_end(own, own->end_status);
        return;
    }
    if (!own->settled)
        return;
    if (own->operation != KV_OP_SET && keys_pause(own))
        return;
    for (uint32_t i = 0; own->operation == KV_OP_SET && i < own->update.count; i++)
        item_applied(own, i, (kv_status)request->request.items[i].status);
    kv_chain_applied(own);
}

/* ---- FORWARD ---- */

static uint32_t forward_columns_size(kv_peer_message *message)
{
    const kv_chain_update *own = KV_CONTAINER(message, kv_chain_update, message);
    uint64_t keys_size = 0;

    for (uint32_t i = 0; i < own->update.count; i++)
        keys_size += own->update.keys[i].key_size;
    return kv_forward_columns_size(own->update.count, keys_size);
}

static void forward_item(void *context, uint32_t i, kv_forward_item *item)
{
    const kv_chain_update *own = context;
    const kv_update_key *key = &own->update.keys[i];
    const kv_request *request;

    *item = (kv_forward_item){.key = key->key,
                              .key_size = key->key_size,
                              .version = own->versions[i],
                              .status = own->update.statuses[i]};
    if (own->operation != KV_OP_SET || item->status != KV_OK)
        return;
    request = own->batch ? kv_sync_request(own->batch) : &own->request->request;
    item->value_size = own->batch ? request->items[i].result_size : request->items[i].value_size;
    item->checksum = request->stats[i].checksum;
    item->expiry_ms = request->stats[i].expiry_ms;
    item->flags = own->batch || own->moves ? request->stats[i].flags : 0;
}

static uint32_t forward_encode(kv_peer_message *message, kv_message_head *head, uint8_t *columns)
{
    kv_chain_update *own = KV_CONTAINER(message, kv_chain_update, message);
    kv_wire_forward wire = {.forward = own->batch   ? KV_FORWARD_SYNC
                                       : own->moves ? KV_FORWARD_MOVE
                                                    : KV_FORWARD_UPDATE,
                            .operation = own->operation,
                            .target = own->sent_target,
                            .flags = (own->sent_careful ? KV_FORWARD_CAREFUL : 0) |
                                     (own->evicts ? KV_FORWARD_EVICTS : 0),
                            .attempt = own->sent_attempt,
                            .chain_version = own->sent_version,
                            .ttl_ms = own->ttl_ms,
                            .channel = own->channel,
                            .sequence = own->sequence,
                            .count = own->update.count};

    head->count = own->update.count;
    memcpy(wire.client, own->client, KV_CLIENT_ID_SIZE);
    return kv_forward_encode(&wire, forward_item, own, columns);
}

static uint32_t forward_value_size(kv_peer_message *message, uint32_t i)
{
    kv_chain_update *own = KV_CONTAINER(message, kv_chain_update, message);
    kv_forward_item item;

    forward_item(own, i, &item);
    return item.value_size;
}

static uint32_t forward_value(kv_peer_message *message, uint32_t i, struct iovec *ranges)
{
    kv_chain_update *own = KV_CONTAINER(message, kv_chain_update, message);

    return own->batch ? kv_operation_lent(kv_sync_operation(own->batch), i, ranges)
                      : kv_operation_received(own->request->operation, i, ranges);
}

static kv_peer *peer_of(kv_chain_update *own)
{
    return *kv_chain_peer_place(own->chain, own->loop, own->evicts);
}

static int forward_answered(kv_peer_message *message, const kv_message_head *head,
                            const uint8_t *columns)
{
    kv_chain_update *own = KV_CONTAINER(message, kv_chain_update, message);
    kv_wire_forwarded answer;
    int error = kv_forwarded_decode(head, columns, own->update.count, &answer);

    if (error < 0)
        return error;
    if (answer.status == KV_OK) {
        kv_peer_resume(peer_of(own));
        return kv_chain_acknowledge(own, &answer) ? 0 : -EPROTO;
    }
    kv_peer_pause(peer_of(own));
    if (kv_chain_forwards(own))
        kv_peer_send(peer_of(own), message);
    return 0;
}

static void forward_freed(kv_peer_message *message)
{
    kv_chain_update *own = KV_CONTAINER(message, kv_chain_update, message);

    kv_chain_end(own, own->end_status);
}

static const kv_peer_sender forward_sender = {
    .columns_size = forward_columns_size,
    .encode = forward_encode,
    .value_size = forward_value_size,
    .value = forward_value,
    .answered = forward_answered,
    .freed = forward_freed,
};

/* What came while there was no successor is not kept for one. Resync, which every new successor
 * begins with, waits until such updates have ended, and then finds what they set. */
static void pass_unretained(kv_chain_update *own)
{
    kv_chain *chain = own->chain;
    bool syncs;

    pthread_mutex_lock(&chain->mutex);
    syncs = kv_replica_view_of(chain->replica)->successor_syncs;
    pthread_mutex_unlock(&chain->mutex);
    if (!syncs)
        kv_chain_fail(chain, EPROTO, "it got a successor that serves and has not synced");
    kv_chain_acknowledge(own, NULL);
}

static void forward(kv_chain_update *own)
{
    kv_peer *peer;

    if (own->loop->stopping)
        return; /* its END comes */
    if (!own->retained) {
        pass_unretained(own);
        return;
    }
    peer = kv_chain_peer(own->chain, own->loop, own->evicts);
    if (!peer) {
        kv_chain_fail(own->chain, ENOMEM, "it cannot forward an update of its chain");
        return;
    }
    own->message.sender = &forward_sender;
    kv_peer_send(peer, &own->message);
}

/* ---- END ---- */

static void statuses_tell(kv_chain_update *own, kv_status status)
{
    kv_node_request *request = own->request;

    for (uint32_t i = 0; i < own->update.count; i++) {
        uint8_t own_status = own->repeated && own->here[i] ? own->refusals[i]
                                                           : own->update.statuses[i];

        request->request.items[i].status = status == KV_OK ? own_status : (int32_t)status;
        request->request.items[i].result_size = 0;
    }
    if (status == KV_WRONG_TARGET || status == KV_BUSY || (request->forward && status != KV_OK))
        request->status = status == KV_BUSY ? KV_BUSY : KV_WRONG_TARGET;
}

/* What had no effect may come again as it is. */
static void record_cancel(kv_chain_update *own, kv_status status)
{
    kv_node *node = own->chain->node;
    kv_node_request *request = own->request;

    if (!request->channel || status == KV_OK || status == KV_OUTCOME_UNKNOWN)
        return;
    pthread_mutex_lock(&node->channels_mutex);
    kv_channel_cancel(node->channels, request->channel, kv_clock_ns() / 1000000);
    pthread_mutex_unlock(&node->channels_mutex);
    request->channel = NULL;
}

/* Nothing can refuse a predecessor's update any more: a client that repeats it here later learns
 * what became of it. Where there is no room for a record, it goes on without. */
static void record_begin(kv_chain_update *own)
{
    kv_node *node = own->chain->node;
    kv_node_request *request = own->request;
    kv_channel_update update = {.channel = own->channel,
                                .count = own->update.count,
                                .sequence = own->sequence,
                                .forwarded = true};
    const uint8_t *statuses;

    if (own->recorded || own->update.source != KV_UPDATE_PEER || own->sequence == 0)
        return;
    own->recorded = true;
    memcpy(update.client, own->client, KV_CLIENT_ID_SIZE);
    pthread_mutex_lock(&node->channels_mutex);
    if (kv_channel_begin(node->channels, &update, kv_clock_ns() / 1000000, &request->channel,
                         &statuses) != KV_CHANNEL_BEGUN)
        request->channel = NULL;
    pthread_mutex_unlock(&node->channels_mutex);
}

static void values_release(kv_chain_update *own)
{
    kv_node_request *request = own->request;
    bool claimed;

    if (own->operation == KV_OP_SET && own->retained && request->operation) {
        claimed = kv_operation_claim(request->operation);
        kv_operation_release(request->operation);
        if (own->claim != KV_CLAIM_NONE)
            kv_chain_give_claim(own);
        kv_chain_leave(own);
        kv_chain_update_free(own);
        if (claimed)
            kv_serving_step(request);
        return;
    }
    if (own->claim != KV_CLAIM_NONE)
        kv_chain_give_claim(own);
    kv_chain_leave(own);
    kv_chain_update_free(own);
    kv_serving_forget(request);
}

/* The reply says it; a client whose update may or may not have happened asks elsewhere. */
static void conclude(kv_chain_update *own)
{
    kv_node_request *request = own->request;
    kv_session *session = request->session;
    bool unknown = own->end_status == KV_OUTCOME_UNKNOWN && !request->forward;

    session->references++; /* the request may be its last one */
    statuses_tell(own, own->end_status);
    record_cancel(own, own->end_status);
    request->update = NULL;
    request->answered = true;
    if (unknown)
        kv_session_cut(session, KV_EVENT_CUT_RESET, ECONNRESET,
                       "target %u left its chain with an update under way",
                       own->chain->target->number);
    request->chain_version = atomic_load_explicit(&own->chain->version, memory_order_relaxed);
    kv_serving_answered(request);
    values_release(own);
    if (session->incoming == request && session->hold == KV_HOLD_VALUES &&
        kv_list_empty(&session->eager_link))
        kv_list_append(&session->loop->eager, &session->eager_link);
    kv_session_release(session);
}

void kv_chain_end(kv_chain_update *own, kv_status status)
{
    kv_node_request *request = own->request;
    kv_peer *peer = peer_of(own);

    if (!own->ending && own->message.state != KV_PEER_IDLE)
        kv_peer_drop(peer, &own->message);
    if (!own->ending && own->claim == KV_CLAIM_WAITS && kv_chain_unclaim(own))
        own->waits = false;
    if (!own->ending && request && request->operation && !request->answered)
        kv_operation_abort(request->operation, KV_CANCELLED);
    own->ending = true;
    own->end_status = status;
    if (own->message.state != KV_PEER_IDLE || own->waits)
        return; /* the peer, or the mail of the claim, comes back to it */
    if (own->batch)
        kv_sync_ended(own->batch, status);
    else if (own->eviction)
        kv_evict_ended(own->eviction, status);
    else if (!request->operation || request->answered)
        conclude(own);
}

void kv_chain_update_carry_out(kv_chain_update *own, uint32_t effects)
{
    bool runs = effects & (KV_EFFECT_APPLY | KV_EFFECT_FORWARD);

    if (runs && own->update.source == KV_UPDATE_CLIENT)
        for (uint32_t i = 0; i < own->update.count; i++)
            own->versions[i] = own->update.version + i;
    if (runs)
        record_begin(own);
    if (effects & KV_EFFECT_DECIDE)
        kv_chain_take_turn(own);
    if (effects & KV_EFFECT_APPLY)
        apply(own);
    if (effects & KV_EFFECT_FORWARD)
        forward(own);
    if (effects & KV_EFFECT_END)
        kv_chain_end(own, own->update.status);
}
