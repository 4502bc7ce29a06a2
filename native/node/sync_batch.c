/* Some keys on their way to a syncing successor, as one update of the target's own.
 *
 *   begun ──turn──► looked up: values are lent, or keys found missing ──forwarded──► over ──► freed
 *
 * SET sends what the keys hold at their turn. A key that is gone by then, or has grown, was changed
 * by a live update, which the successor got too: it is passed over. DELETE removes what is not here
 * at its turn. */

#include "node/resync.h"

#include "bytes/endian.h"
#include "embedded/owner.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ENTRY_AT_SIZE 4u

struct kv_sync_batch {
    kv_owner owner;
    kv_mail mail;
    kv_resync *resync;
    kv_chain_update *update;
    kv_operation *operation; /* NULL: none, or ended */
    kv_request request;
    kv_status status;
    bool answered;
    bool looked;
    bool over;
    uint32_t named;
    uint32_t count;
    kv_item items[KV_NODE_RESYNC_BATCH_COUNT];
    kv_item_stat stats[KV_NODE_RESYNC_BATCH_COUNT];
    uint8_t keys[];
};

const kv_request *kv_sync_request(const kv_sync_batch *batch)
{
    return &batch->request;
}

kv_operation *kv_sync_operation(const kv_sync_batch *batch)
{
    return batch->operation;
}

static void items_fill(kv_sync_batch *batch, const uint8_t *const *entries)
{
    uint8_t *key = batch->keys;

    for (uint32_t i = 0; i < batch->count; i++) {
        uint32_t size = kv_endian_load_u16(entries[i]);

        memcpy(key, entries[i] + KV_STORED_ENTRY_SIZE, size);
        batch->items[i] = (kv_item){.key = (uint64_t)(uintptr_t)key,
                                    .key_size = size,
                                    .value_size = kv_endian_load_u32(entries[i] + ENTRY_AT_SIZE)};
        key += size;
    }
}

static void batch_forget(kv_sync_batch *batch)
{
    const kv_chain_update *own = batch->update;
    uint64_t size = 0;
    uint32_t count = 0;
    bool done = batch->status == KV_OK;

    if (!batch->over || batch->operation)
        return;
    for (uint32_t i = 0; i < batch->count; i++) {
        done &= own->update.statuses[i] != KV_NO_SPACE; /* the successor lacks it still */
        if (own->update.statuses[i] == KV_OK) {
            count++;
            size += own->operation == KV_OP_SET ? batch->items[i].result_size : 0;
        }
    }
    kv_resync_batch_ended(batch->resync, count, size, done);
    kv_chain_leave(batch->update);
    kv_chain_update_free(batch->update);
    free(batch);
}

/* What the keys hold; it stays so until the update has ended. */
static void looked_up(kv_sync_batch *batch)
{
    kv_chain_update *own = batch->update;
    kv_engine *engine = own->chain->target->engine;
    kv_status status = KV_OK;

    for (uint32_t i = 0; i < batch->count; i++) {
        const kv_item *item = &batch->items[i];
        kv_item_stat stat;
        uint32_t size;
        bool there = kv_engine_peek(engine, (const void *)(uintptr_t)item->key, item->key_size,
                                    &stat, &size) == 0;

        if (own->operation == KV_OP_DELETE) {
            own->update.statuses[i] = there ? KV_EXISTS : KV_OK;
            continue;
        }
        own->update.statuses[i] = (uint8_t)(there ? item->status : KV_NOT_FOUND);
        own->versions[i] = there ? stat.version : 0;
        batch->stats[i].flags = there ? stat.flags : 0;
        /* What cannot be read here the successor must not be told to have. */
        if (there && item->status != KV_OK && item->status != KV_BUFFER_TOO_SMALL)
            status = KV_IO_ERROR;
    }
    /* In cache mode a copy that finds no room is refused: what makes room for it may be waiting
     * behind this update, in the queue of a key. */
    own->update.careful = own->operation == KV_OP_SET && own->chain->target->caches;
    kv_chain_decide(own, status);
}

/* Naming the last item brings about the step that answers; claimed before, it need not come by
 * mail. True: that step is to be made. */
static bool items_name(kv_sync_batch *batch)
{
    bool claimed = false;
    int64_t item = 0;

    while (batch->named < batch->count && item >= 0) {
        if (batch->named + 1 == batch->count && !claimed)
            claimed = kv_operation_claim(batch->operation);
        item = kv_operation_next(batch->operation);
        batch->named += item >= 0;
    }
    return claimed;
}

static void step(kv_sync_batch *batch)
{
    bool finished;

    do
        finished = kv_operation_step(batch->operation);
    while (!finished && items_name(batch));
    if (finished) {
        kv_operation_end(batch->operation);
        batch->operation = NULL;
    }
    if (batch->answered && !batch->looked) {
        batch->looked = true;
        looked_up(batch);
    } else if (finished) {
        batch_forget(batch);
    }
}

static void deliver(kv_mail *mail)
{
    step(KV_CONTAINER(mail, kv_sync_batch, mail));
}

/* Any thread. Once for each step. */
static void ready(kv_owner *owner)
{
    kv_sync_batch *batch = KV_CONTAINER(owner, kv_sync_batch, owner);

    kv_reactor_post(batch->update->loop->reactor, &batch->mail);
}

static void answered(kv_owner *owner)
{
    KV_CONTAINER(owner, kv_sync_batch, owner)->answered = true;
}

kv_sync_batch *kv_sync_open(kv_resync *resync, kv_chain *chain, kv_loop *loop, uint32_t operation,
                            const uint8_t *const *entries, uint32_t count)
{
    size_t keys_size = 0;
    kv_sync_batch *batch;

    assert(count > 0 && count <= KV_NODE_RESYNC_BATCH_COUNT);
    for (uint32_t i = 0; i < count; i++)
        keys_size += kv_endian_load_u16(entries[i]);
    batch = calloc(1, sizeof(*batch) + keys_size);
    if (!batch)
        return NULL;
    batch->owner = (kv_owner){.ready = ready, .answered = answered};
    batch->mail.deliver = deliver;
    batch->resync = resync;
    batch->count = count;
    items_fill(batch, entries);
    batch->request = (kv_request){.items = batch->items,
                                  .stats = batch->stats,
                                  .count = count,
                                  .operation = KV_OP_LEND};
    batch->update = kv_chain_update_create(chain, loop, operation, batch->items, count);
    if (!batch->update) {
        free(batch);
        return NULL;
    }
    batch->update->batch = batch;
    batch->update->update.source = KV_UPDATE_SYNC;
    return batch;
}

void kv_sync_begin(kv_sync_batch *batch)
{
    kv_chain_join(batch->update);
    kv_chain_enter(batch->update);
}

void kv_sync_look(kv_sync_batch *batch)
{
    kv_engine *engine = batch->update->chain->target->engine;

    if (batch->update->operation == KV_OP_DELETE) {
        looked_up(batch);
        return;
    }
    if (kv_operation_begin(engine, &batch->request, &batch->operation) < 0) {
        batch->operation = NULL;
        kv_chain_decide(batch->update, KV_BUSY);
        return;
    }
    kv_operation_set_owner(batch->operation, &batch->owner);
    step(batch);
}

void kv_sync_ended(kv_sync_batch *batch, kv_status status)
{
    assert(!batch->over);
    batch->over = true;
    batch->status = status;
    if (!batch->operation) {
        batch_forget(batch);
        return;
    }
    for (uint32_t i = 0; i < batch->count; i++)
        if (batch->items[i].status == KV_OK && batch->items[i].result_size > 0)
            kv_operation_return(batch->operation, i); /* the last one asks for a last step */
}
