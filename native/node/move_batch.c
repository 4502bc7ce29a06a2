/* Some keys on their way to another chain: what they hold is lent by the engine, sent as one
 * message, and what is not here is deleted there by another. See mover_state.h. */

#include "node/mover_state.h"
#include "node/naming.h"

#include <assert.h>
#include <string.h>

#define NS_PER_MS 1000000ull

void kv_move_batch_add(kv_move_batch *batch, const void *key, uint32_t key_size, uint64_t size)
{
    uint8_t *at = batch->keys + batch->keys_size;

    assert(batch->step == KV_MOVE_STEP_FREE && batch->count < KV_NODE_RESYNC_BATCH_COUNT);
    assert(key_size <= KV_STORED_KEY_SIZE_MAX);
    memcpy(at, key, key_size);
    batch->keys_size += key_size;
    batch->items[batch->count] = (kv_item){.key = (uint64_t)(uintptr_t)at,
                                           .key_size = key_size,
                                           .value_size = (uint32_t)size};
    batch->stats[batch->count++] = (kv_item_stat){0};
}

/* ---- the message ---- */

/* What this message says of an item: KV_OK where it sets, or deletes. */
static kv_status item_status(const kv_mover *mover, uint32_t i)
{
    const kv_move_batch *batch = mover->batch;
    kv_status found = (kv_status)batch->items[i].status;

    if (batch->step == KV_MOVE_STEP_SETS)
        return found == KV_OK ? KV_OK : KV_NOT_FOUND;
    return mover->run.flags & KV_MOVE_DELETE || found == KV_NOT_FOUND ? KV_OK : KV_EXISTS;
}

static bool anything_to_say(const kv_mover *mover)
{
    for (uint32_t i = 0; i < mover->batch->count; i++)
        if (item_status(mover, i) == KV_OK)
            return true;
    return false;
}

static void item_of(void *context, uint32_t i, kv_forward_item *item)
{
    const kv_mover *mover = context;
    const kv_item *from = &mover->batch->items[i];
    const kv_item_stat *stat = &mover->batch->stats[i];

    *item = (kv_forward_item){.key = (const uint8_t *)(uintptr_t)from->key,
                              .key_size = from->key_size,
                              .status = (uint8_t)item_status(mover, i)};
    if (mover->batch->step != KV_MOVE_STEP_SETS || item->status != KV_OK)
        return;
    item->version = stat->version;
    item->value_size = from->result_size;
    item->checksum = stat->checksum;
    item->expiry_ms = stat->expiry_ms;
    item->flags = stat->flags & KV_ITEM_PINNED;
}

static uint32_t columns_size(kv_peer_message *message)
{
    const kv_mover *mover = KV_CONTAINER(message, kv_mover, message);

    return kv_forward_columns_size(mover->batch->count, mover->batch->keys_size);
}

static uint32_t encode(kv_peer_message *message, kv_message_head *head, uint8_t *columns)
{
    kv_mover *mover = KV_CONTAINER(message, kv_mover, message);
    bool sets = mover->batch->step == KV_MOVE_STEP_SETS;
    kv_wire_forward wire = {.forward = KV_FORWARD_MOVE,
                            .operation = sets ? KV_OP_SET : KV_OP_DELETE,
                            .target = mover->run.target,
                            .flags = KV_FORWARD_CAREFUL,
                            .attempt = mover->attempt,
                            .chain_version = mover->run.chain_version,
                            .count = mover->batch->count};

    head->count = wire.count;
    return kv_forward_encode(&wire, item_of, mover, columns);
}

static uint32_t value_size(kv_peer_message *message, uint32_t i)
{
    kv_mover *mover = KV_CONTAINER(message, kv_mover, message);
    kv_forward_item item;

    item_of(mover, i, &item);
    return item.value_size;
}

static uint32_t value(kv_peer_message *message, uint32_t i, struct iovec *ranges)
{
    return kv_operation_lent(KV_CONTAINER(message, kv_mover, message)->batch->operation, i, ranges);
}

static void step(kv_mover *mover);

/* Every value goes back once; the last one asks for a last step. */
static void values_return(kv_mover *mover)
{
    kv_move_batch *batch = mover->batch;

    batch->step = KV_MOVE_STEP_RETURNS;
    for (uint32_t i = 0; i < batch->count; i++)
        if (batch->items[i].status == KV_OK && batch->items[i].result_size > 0)
            kv_operation_return(batch->operation, i);
}

static void batch_end(kv_mover *mover)
{
    uint64_t size = 0;
    uint32_t count = 0;

    for (uint32_t i = 0; i < mover->batch->count; i++) {
        count += mover->batch->items[i].status == KV_OK || mover->run.flags & KV_MOVE_DELETE;
        size += mover->batch->items[i].status == KV_OK ? mover->batch->items[i].result_size : 0;
    }
    mover->batch->step = KV_MOVE_STEP_FREE;
    kv_mover_batch_ended(mover, count, size);
}

/* The values have gone back. */
static void deletes_begin(kv_mover *mover)
{
    mover->batch->step = KV_MOVE_STEP_DELETES;
    if (anything_to_say(mover))
        kv_move_batch_send(mover);
    else
        batch_end(mover);
}

static void sets_end(kv_mover *mover)
{
    if (mover->batch->operation)
        values_return(mover); /* a step follows, if there were any */
    if (!mover->batch->operation)
        deletes_begin(mover);
}

/* Whether all was taken. What found no room is sent again later. */
static bool all_taken(kv_mover *mover, const kv_wire_forwarded *answer)
{
    for (uint32_t i = 0; i < mover->batch->count; i++)
        if (item_status(mover, i) == KV_OK && answer->statuses[i] != KV_OK &&
            answer->statuses[i] != KV_NOT_FOUND)
            return false;
    return true;
}

static int answered(kv_peer_message *message, const kv_message_head *head, const uint8_t *columns)
{
    kv_mover *mover = KV_CONTAINER(message, kv_mover, message);
    kv_wire_forwarded answer;
    int error = kv_forwarded_decode(head, columns, mover->batch->count, &answer);

    if (error < 0)
        return error;
    if (answer.status != KV_OK) { /* another chain version, or an attempt that is behind */
        mover->attempt++;
        kv_peer_pause(mover->peer);
        kv_peer_send(mover->peer, message);
        return 0;
    }
    kv_peer_resume(mover->peer);
    mover->asked = false;
    if (!all_taken(mover, &answer)) {
        mover->refused = true;
        kv_timer_set(mover->loop->reactor, &mover->timer,
                     kv_clock_ns() + KV_NODE_MOVE_REFUSED_MS * NS_PER_MS);
        return 0;
    }
    if (mover->batch->step == KV_MOVE_STEP_SETS)
        sets_end(mover);
    else
        batch_end(mover);
    kv_mover_look(mover);
    return 0;
}

static void freed(kv_peer_message *message)
{
    kv_mover *mover = KV_CONTAINER(message, kv_mover, message);

    mover->asked = mover->dropping = false;
    kv_mover_look(mover);
}

static const kv_peer_sender sender = {.columns_size = columns_size,
                                      .encode = encode,
                                      .value_size = value_size,
                                      .value = value,
                                      .answered = answered,
                                      .freed = freed};

void kv_move_batch_send(kv_mover *mover)
{
    assert(!mover->asked && mover->message.state == KV_PEER_IDLE);
    if (!mover->peer)
        return; /* the loop stops */
    mover->asked = true;
    mover->message.sender = &sender;
    mover->message.kind = KV_MESSAGE_FORWARD;
    mover->message.count = mover->batch->count;
    kv_peer_send(mover->peer, &mover->message);
}

/* ---- what the keys hold ---- */

/* A key that has grown was changed: it is noted. One that is gone is deleted there. */
static void looked_up(kv_mover *mover)
{
    kv_move_batch *batch = mover->batch;

    for (uint32_t i = 0; i < batch->count; i++) {
        kv_status status = (kv_status)batch->items[i].status;

        batch->unreadable |= status != KV_OK && status != KV_NOT_FOUND &&
                             status != KV_BUFFER_TOO_SMALL;
    }
    batch->step = KV_MOVE_STEP_SETS;
    if (anything_to_say(mover))
        kv_move_batch_send(mover);
    else
        sets_end(mover);
}

static void step(kv_mover *mover)
{
    kv_move_batch *batch = mover->batch;
    kv_naming naming = {batch->count, &batch->named, NULL};
    bool finished = kv_naming_step(batch->operation, &naming);

    if (finished) {
        kv_operation_end(batch->operation);
        batch->operation = NULL;
        mover->loop->update_count--;
    }
    if (batch->answered && batch->step == KV_MOVE_STEP_LOOKS)
        looked_up(mover);
    else if (finished && batch->step == KV_MOVE_STEP_RETURNS)
        deletes_begin(mover);
}

void kv_move_batch_deliver(kv_mail *mail)
{
    kv_mover *mover = KV_CONTAINER(mail, kv_mover, mail);

    step(mover);
    kv_mover_look(mover);
}

/* Any thread. Once for each step. */
void kv_move_batch_ready(kv_owner *owner)
{
    kv_mover *mover = KV_CONTAINER(owner, kv_mover, owner);

    kv_reactor_post(mover->loop->reactor, &mover->mail);
}

void kv_move_batch_answered(kv_owner *owner)
{
    KV_CONTAINER(owner, kv_mover, owner)->batch->answered = true;
}

void kv_move_batch_begin(kv_mover *mover)
{
    kv_move_batch *batch = mover->batch;

    assert(batch->count > 0 && batch->step == KV_MOVE_STEP_FREE);
    batch->answered = batch->unreadable = false;
    batch->named = 0;
    if (mover->run.flags & KV_MOVE_DELETE) {
        batch->step = KV_MOVE_STEP_DELETES;
        kv_move_batch_send(mover);
        return;
    }
    batch->step = KV_MOVE_STEP_LOOKS;
    batch->request = (kv_request){.items = batch->items,
                                  .stats = batch->stats,
                                  .count = batch->count,
                                  .operation = KV_OP_LEND};
    if (kv_operation_begin(mover->chain->target->engine, &batch->request, &batch->operation) < 0) {
        batch->operation = NULL;
        batch->unreadable = true; /* what was noted is lost with it: begin anew */
        batch->count = 0;
        batch_end(mover);
        return;
    }
    mover->loop->update_count++; /* the loop goes on until it has ended */
    kv_operation_set_owner(batch->operation, &mover->owner);
    step(mover);
}

bool kv_move_batch_drop(kv_mover *mover)
{
    kv_move_batch *batch = mover->batch;

    mover->refused = false;
    if (mover->asked && !mover->dropping) {
        mover->dropping = mover->message.state != KV_PEER_IDLE &&
                          !kv_peer_drop(mover->peer, &mover->message);
        mover->asked = mover->dropping;
    }
    if (mover->dropping || batch->step == KV_MOVE_STEP_LOOKS)
        return batch->step == KV_MOVE_STEP_FREE;
    if (batch->step == KV_MOVE_STEP_SETS && batch->operation)
        values_return(mover);
    if (batch->operation)
        return false;
    batch->step = KV_MOVE_STEP_FREE;
    return true;
}
