/* Some keys on their way to a syncing successor, as one update of the target's own.
 *
 *   opened ──begun──turn──► looked up: values are lent ──forwarded──► over ──► freed
 *     ▲                     │ LOSE: what is corrupt is deleted ▲       │
 *     │                     └──────────────────────────────────┘       │
 *     └───────────────── kept: some of the keys once more ◄────────────┘
 *
 * SET sends what the keys hold at their turn. A key that is gone by then, or has grown, was changed
 * by a live update, which the successor got too: it is passed over. What the successor had no room
 * for, and what could not be read here, is kept. REMOVE removes what is not here at its turn. LOSE
 * deletes here, and there, what cannot be read, where nobody else could have it. */

#include "node/resync.h"

#include "bytes/endian.h"
#include "embedded/owner.h"
#include "node/naming.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ENTRY_AT_SIZE 4u
#define KEY_TEXT_SIZE 65u

struct kv_sync_batch {
    kv_owner owner;
    kv_mail mail;
    kv_resync *resync;
    kv_chain *chain;
    kv_loop *loop;
    kv_sync_aim aim;
    kv_chain_update *update; /* NULL: it is not under way */
    kv_operation *operation; /* NULL: none, or ended */
    kv_request request;
    kv_status status;
    bool answered;
    bool looked;
    bool deletes;            /* LOSE: the operation deletes */
    bool over;
    uint32_t tries;          /* that only found what cannot be read */
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

/* ---- its end ---- */

/* How much got there. */
static kv_sync_result result_of(const kv_sync_batch *batch)
{
    kv_sync_result result = {.failed = batch->status != KV_OK};

    for (uint32_t i = 0; i < batch->count; i++)
        if (batch->update->update.statuses[i] == KV_OK) {
            result.count++;
            result.size += batch->aim == KV_SYNC_SET ? batch->items[i].result_size : 0;
        }
    return result;
}

/* Those that are to be tried once more. */
static void items_keep(kv_sync_batch *batch)
{
    const uint8_t *statuses = batch->update->update.statuses;
    uint32_t refused = 0, corrupt = 0;

    for (uint32_t i = 0; i < batch->count; i++) {
        const kv_item *item = &batch->items[i];

        if (statuses[i] != KV_NO_SPACE && statuses[i] != KV_CORRUPT)
            continue;
        batch->items[refused + corrupt] = (kv_item){.key = item->key,
                                                    .key_size = item->key_size,
                                                    .value_size = item->value_size};
        refused += statuses[i] == KV_NO_SPACE;
        corrupt += statuses[i] == KV_CORRUPT;
    }
    batch->count = refused + corrupt;
    batch->tries = refused > 0 ? 0 : batch->tries + 1;
}

static void batch_rest(kv_sync_batch *batch)
{
    kv_sync_result result;

    if (!batch->over || batch->operation)
        return;
    result = result_of(batch);
    items_keep(batch);
    kv_chain_leave(batch->update);
    kv_chain_update_free(batch->update);
    batch->update = NULL;
    kv_resync_batch_ended(batch->resync, batch, &result);
}

/* ---- its turn ---- */

/* Nobody who serves could have what this target has not. */
static bool serves_alone(kv_chain *chain)
{
    const kv_replica_view *view;
    bool alone;

    pthread_mutex_lock(&chain->mutex);
    view = kv_replica_view_of(chain->replica);
    alone = view->serves && view->head && view->successor_syncs;
    pthread_mutex_unlock(&chain->mutex);
    return alone;
}

static void look_removed(kv_sync_batch *batch)
{
    kv_chain_update *own = batch->update;

    for (uint32_t i = 0; i < batch->count; i++) {
        const kv_item *item = &batch->items[i];
        kv_item_stat stat;
        uint32_t size;
        bool there = kv_engine_peek(batch->chain->target->engine,
                                    (const void *)(uintptr_t)item->key, item->key_size, &stat,
                                    &size) == 0;

        own->update.statuses[i] = there ? KV_EXISTS : KV_OK;
    }
    kv_chain_decide(own, KV_OK);
}

/* What the keys hold; it stays so until the update has ended. */
static void look_set(kv_sync_batch *batch)
{
    kv_chain_update *own = batch->update;
    kv_status status = KV_OK;

    for (uint32_t i = 0; i < batch->count; i++) {
        const kv_item *item = &batch->items[i];
        kv_item_stat stat;
        uint32_t size;
        bool there = kv_engine_peek(batch->chain->target->engine,
                                    (const void *)(uintptr_t)item->key, item->key_size, &stat,
                                    &size) == 0;

        own->update.statuses[i] = (uint8_t)(there ? item->status : KV_NOT_FOUND);
        own->versions[i] = there ? stat.version : 0;
        batch->stats[i].flags = there ? stat.flags : 0;
        /* What the device does not give may be there all the same. */
        if (there && item->status != KV_OK && item->status != KV_BUFFER_TOO_SMALL &&
            item->status != KV_CORRUPT)
            status = KV_IO_ERROR;
    }
    /* A copy that finds no room is refused: what makes room for it may be waiting behind this
     * update, in the queue of a key. */
    own->update.careful = true;
    kv_chain_decide(own, status);
}

static void step(kv_sync_batch *batch);

static void operation_begin(kv_sync_batch *batch, uint32_t operation)
{
    batch->request = (kv_request){.items = batch->items,
                                  .stats = operation == KV_OP_LEND ? batch->stats : NULL,
                                  .count = batch->count,
                                  .operation = operation};
    batch->named = 0;
    batch->answered = false;
    if (kv_operation_begin(batch->chain->target->engine, &batch->request, &batch->operation) < 0) {
        batch->operation = NULL;
        batch->looked = true;
        kv_chain_decide(batch->update, KV_BUSY);
        return;
    }
    kv_operation_set_owner(batch->operation, &batch->owner);
    step(batch);
}

static bool any_other_than_corrupt(const kv_sync_batch *batch)
{
    for (uint32_t i = 0; i < batch->count; i++)
        if (batch->items[i].status != KV_CORRUPT)
            return true;
    return false;
}

/* Nothing of it was deleted: healed or changed meanwhile, they are to be sent. */
static void lose_nothing(kv_sync_batch *batch)
{
    batch->aim = KV_SYNC_SET;
    batch->tries = 0;
    batch->looked = true;
    memset(batch->update->update.statuses, KV_CORRUPT, batch->count);
    kv_chain_decide(batch->update, KV_OK);
}

/* The key without its names, as people can read it. */
static void lost_tell(kv_sync_batch *batch, const kv_item *item)
{
    const uint8_t *key = (const uint8_t *)(uintptr_t)item->key;
    uint32_t at = 1u + key[0];
    char text[KEY_TEXT_SIZE] = "";

    at += at < item->key_size ? 1u + key[at] : 0;
    for (uint32_t i = 0; i + 1 < sizeof(text) && at < item->key_size; i++, at++)
        text[i] = key[at] > ' ' && key[at] < 127 ? (char)key[at] : '.';
    kv_events_report(&batch->chain->node->events, KV_EVENT_VALUE_LOST, EBADMSG,
                     batch->chain->target->number,
                     "target %u: the value of %s, %u bytes, is damaged, and nobody else has it",
                     batch->chain->target->number, text, item->value_size);
}

static void look_lost(kv_sync_batch *batch)
{
    kv_chain_update *own = batch->update;

    if (!batch->deletes) {
        if (any_other_than_corrupt(batch) || !serves_alone(batch->chain)) {
            lose_nothing(batch);
        } else if (!batch->operation) {
            batch->deletes = true;
            operation_begin(batch, KV_OP_DELETE);
        }
        return;
    }
    batch->looked = true;
    for (uint32_t i = 0; i < batch->count; i++) {
        bool gone = batch->items[i].status == KV_OK || batch->items[i].status == KV_NOT_FOUND;

        own->update.statuses[i] = gone ? KV_OK : KV_CORRUPT;
        if (gone)
            lost_tell(batch, &batch->items[i]);
    }
    kv_chain_decide(own, KV_OK);
}

static void step(kv_sync_batch *batch)
{
    kv_naming naming = {batch->count, &batch->named, NULL};
    bool finished = batch->deletes ? kv_operation_step(batch->operation)
                                   : kv_naming_step(batch->operation, &naming);

    if (finished) {
        kv_operation_end(batch->operation);
        batch->operation = NULL;
    }
    if (batch->looked) {
        batch_rest(batch);
    } else if (batch->answered && batch->aim == KV_SYNC_LOSE) {
        look_lost(batch);
    } else if (batch->answered) {
        batch->looked = true;
        look_set(batch);
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

    kv_reactor_post(batch->loop->reactor, &batch->mail);
}

static void answered(kv_owner *owner)
{
    KV_CONTAINER(owner, kv_sync_batch, owner)->answered = true;
}

void kv_sync_look(kv_sync_batch *batch)
{
    if (batch->aim == KV_SYNC_REMOVE)
        look_removed(batch);
    else
        operation_begin(batch, KV_OP_LEND);
}

/* ---- its life ---- */

kv_sync_batch *kv_sync_open(kv_resync *resync, kv_chain *chain, kv_loop *loop, kv_sync_aim aim,
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
    batch->chain = chain;
    batch->loop = loop;
    batch->aim = aim;
    batch->count = count;
    items_fill(batch, entries);
    return batch;
}

void kv_sync_close(kv_sync_batch *batch)
{
    assert(!batch->update && !batch->operation);
    free(batch);
}

uint32_t kv_sync_count(const kv_sync_batch *batch)
{
    return batch->count;
}

uint32_t kv_sync_tries(const kv_sync_batch *batch)
{
    return batch->tries;
}

uint64_t kv_sync_size(const kv_sync_batch *batch)
{
    uint64_t size = 0;

    for (uint32_t i = 0; batch->aim == KV_SYNC_SET && i < batch->count; i++)
        size += batch->items[i].value_size;
    return size;
}

bool kv_sync_begin(kv_sync_batch *batch)
{
    bool sets = batch->aim == KV_SYNC_SET;

    assert(batch->count > 0 && !batch->update);
    if (batch->tries >= KV_NODE_RESYNC_CORRUPT_TRIES && serves_alone(batch->chain)) {
        batch->aim = KV_SYNC_LOSE;
        sets = false;
    }
    batch->update = kv_chain_update_create(batch->chain, batch->loop,
                                           sets ? KV_OP_SET : KV_OP_DELETE, batch->items,
                                           batch->count);
    if (!batch->update)
        return false;
    batch->over = batch->looked = batch->deletes = false;
    batch->update->batch = batch;
    batch->update->update.source = KV_UPDATE_SYNC;
    kv_chain_join(batch->update);
    kv_chain_enter(batch->update);
    return true;
}

void kv_sync_ended(kv_sync_batch *batch, kv_status status)
{
    assert(!batch->over);
    batch->over = true;
    batch->looked = true;
    batch->status = status;
    if (!batch->operation) {
        batch_rest(batch);
        return;
    }
    for (uint32_t i = 0; !batch->deletes && i < batch->count; i++)
        if (batch->items[i].status == KV_OK && batch->items[i].result_size > 0)
            kv_operation_return(batch->operation, i); /* the last one asks for a last step */
}
