/* Objects that are evicted together: see evictor.h.
 *
 *   opened ──begun──► turn: looked at ──► deleted ──► over ──► freed, with what is left spared */

#include "node/evictor.h"

#include "embedded/owner.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct kv_evict_batch {
    kv_owner owner;
    kv_mail mail;
    kv_evictor *evictor;
    kv_chain_update *update; /* its keys are the batch's, those that were left out at the end */
    kv_operation *operation; /* NULL: none, or ended */
    uint64_t size;           /* of the victims */
    uint32_t count;
    kv_status status;
    bool answered;
    bool applied;
    bool over;
    uint8_t keys[];
};

static void batch_free(kv_evict_batch *batch)
{
    kv_engine *engine = batch->update->chain->target->engine;
    const kv_update *update = &batch->update->update;

    for (uint32_t i = 0; i < batch->count; i++)
        if (i >= update->count || batch->status != KV_OK || update->statuses[i] != KV_OK)
            kv_engine_spare(engine, update->keys[i].key, update->keys[i].key_size);
    kv_chain_leave(batch->update);
    kv_chain_update_free(batch->update);
    free(batch);
}

static void batch_forget(kv_evict_batch *batch)
{
    kv_evictor *evictor = batch->evictor;
    uint64_t size = batch->size;
    uint64_t count = batch->count;

    if (!batch->over || batch->operation)
        return;
    batch_free(batch);
    kv_evictor_batch_ended(evictor, size, count);
}

/* ---- deleting ---- */

static void delete_begin(kv_evict_batch *batch);

static void pause_expires(kv_timer *timer)
{
    delete_begin(KV_CONTAINER(timer, kv_chain_update, pause)->eviction);
}

/* What was deleted as expired meanwhile is as good as evicted. True: the journal had no room for
 * some, which are deleted a little later. */
static bool is_short_of_journal(kv_evict_batch *batch)
{
    kv_chain_update *own = batch->update;
    bool again = false;

    for (uint32_t k = 0; k < own->apply.count; k++) {
        kv_status status = (kv_status)own->apply_items[k].status;
        bool waits = status == KV_NO_SPACE && own->tries < KV_NODE_APPLY_TRIES;

        again |= waits;
        own->here[own->apply_indices[k]] = !waits;
        if (!waits && status != KV_OK && status != KV_NOT_FOUND)
            kv_chain_fail(own->chain, status == KV_NO_SPACE ? ENOSPC : EIO, "it cannot evict");
    }
    return again;
}

static void deleted(kv_evict_batch *batch)
{
    kv_chain_update *own = batch->update;

    if (is_short_of_journal(batch)) {
        assert(!batch->operation); /* what deletes has ended when it has answered */
        own->tries++;
        batch->answered = false;
        own->pause.expire = pause_expires;
        kv_timer_set(own->loop->reactor, &own->pause,
                     kv_clock_ns() + KV_NODE_APPLY_PAUSE_MS * 1000000ull);
        return;
    }
    batch->applied = true;
    kv_chain_applied(own);
}

static void step(kv_evict_batch *batch)
{
    if (kv_operation_step(batch->operation)) {
        kv_operation_end(batch->operation);
        batch->operation = NULL;
    }
    if (batch->answered && !batch->applied)
        deleted(batch);
    else
        batch_forget(batch);
}

static void deliver(kv_mail *mail)
{
    step(KV_CONTAINER(mail, kv_evict_batch, mail));
}

/* Any thread. Once for each step. */
static void ready(kv_owner *owner)
{
    kv_evict_batch *batch = KV_CONTAINER(owner, kv_evict_batch, owner);

    kv_reactor_post(batch->update->loop->reactor, &batch->mail);
}

static void answered(kv_owner *owner)
{
    KV_CONTAINER(owner, kv_evict_batch, owner)->answered = true;
}

static void delete_begin(kv_evict_batch *batch)
{
    kv_chain_update *own = batch->update;
    kv_request *apply = &own->apply;

    *apply = (kv_request){.items = own->apply_items,
                          .operation = KV_OP_DELETE,
                          .flags = KV_REQUEST_EVICTS};
    for (uint32_t i = 0; i < own->update.count; i++) {
        const kv_update_key *key = &own->update.keys[i];

        if (own->update.statuses[i] != KV_OK || own->here[i])
            continue;
        own->apply_indices[apply->count] = i;
        own->apply_items[apply->count++] =
            (kv_item){.key = (uint64_t)(uintptr_t)key->key, .key_size = key->key_size};
    }
    if (kv_operation_begin(own->chain->target->engine, apply, &batch->operation) < 0) {
        batch->operation = NULL;
        batch->applied = true;
        kv_chain_fail(own->chain, ENOMEM, "it cannot evict");
        kv_chain_applied(own);
        return;
    }
    kv_operation_set_owner(batch->operation, &batch->owner);
    step(batch);
}

void kv_evict_apply(kv_evict_batch *batch)
{
    delete_begin(batch);
}

/* ---- its life ---- */

/* What was set anew or pinned since it was chosen stays. */
void kv_evict_look(kv_evict_batch *batch)
{
    kv_chain_update *own = batch->update;

    for (uint32_t i = 0; i < own->update.count; i++) {
        const kv_update_key *key = &own->update.keys[i];

        if (!kv_engine_is_victim(own->chain->target->engine, key->key, key->key_size))
            own->update.statuses[i] = KV_EXISTS;
    }
    kv_chain_decide(own, KV_OK);
}

void kv_evict_ended(kv_evict_batch *batch, kv_status status)
{
    assert(!batch->over);
    batch->over = true;
    batch->status = status;
    batch_forget(batch);
}

static void items_fill(kv_evict_batch *batch, const kv_victims *victims, kv_item *items)
{
    uint8_t *key = batch->keys;
    const uint8_t *at = victims->keys;

    for (uint32_t i = 0; i < batch->count; i++) {
        uint16_t size;

        memcpy(&size, at, sizeof(size));
        memcpy(key, at + sizeof(size), size);
        items[i] = (kv_item){.key = (uint64_t)(uintptr_t)key, .key_size = size};
        key += size;
        at += sizeof(size) + size;
    }
}

kv_evict_batch *kv_evict_open(kv_evictor *evictor, kv_chain *chain, kv_loop *loop,
                              const kv_victims *victims)
{
    kv_item items[KV_NODE_EVICT_BATCH_COUNT];
    kv_evict_batch *batch = calloc(1, sizeof(*batch) + KV_NODE_EVICT_KEYS_SIZE);

    assert(victims->count > 0 && victims->count <= KV_NODE_EVICT_BATCH_COUNT);
    if (!batch)
        return NULL;
    batch->owner = (kv_owner){.ready = ready, .answered = answered};
    batch->mail.deliver = deliver;
    batch->evictor = evictor;
    batch->size = victims->size;
    batch->count = (uint32_t)victims->count;
    items_fill(batch, victims, items);
    batch->update = kv_chain_update_create(chain, loop, KV_OP_DELETE, items, batch->count);
    if (!batch->update) {
        free(batch);
        return NULL;
    }
    batch->update->eviction = batch;
    batch->update->evicts = true;
    batch->update->update.source = KV_UPDATE_CLIENT; /* the head's, which gives it its versions */
    return batch;
}

bool kv_evict_begin(kv_evict_batch *batch)
{
    kv_chain_join(batch->update);
    if (kv_chain_enter_free(batch->update) > 0)
        return true;
    batch_free(batch);
    return false;
}
