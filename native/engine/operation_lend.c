/* Lending values: a get that ends where the copy would begin. The value's frame stays held, and its bytes
 * stay as they are, until it is returned, whatever becomes of the key meanwhile.
 *
 *   READY --verified--> LENT --named--> (the caller sends it) --returned--> CLOSED
 *                         \--aborted before it was named--> CLOSED
 *
 * Look up, fills and retries are operation_get.c's. The steps, and the naming between them, belong to one thread;
 * values are returned by any. A frame is verified once: when it came from the device by whoever takes it first, or
 * when it was staged by a set. */

#include "engine/get.h"

#include <assert.h>

void kv_lend_describe(kv_operation *operation, uint32_t i, const kv_object *object)
{
    kv_item_stat *stat = &operation->request->stats[i];

    stat->version = kv_object_version_told(object);
    stat->expiry_ms = kv_object_expiry_ms(object);
    stat->checksum = object->checksum;
    stat->flags = object->pinned ? KV_ITEM_PINNED : 0;
}

/* A packed value was read with the pages around it, and copied to a frame of its own size: that one is lent. */
static void keep_small_frame(kv_operation *operation, kv_work *work)
{
    operation->held_size -= work->frame->span;
    kv_engine_release_frame(operation->engine, work->frame);
    work->frame = work->staging;
    work->staging = NULL;
    work->frame->state = KV_FRAME_FILLED;
    operation->held_size += work->frame->span;
}

void kv_lend_keep(kv_operation *operation, kv_work *work)
{
    assert(operation->kind == KV_OP_LEND && work->frame);
    if (work->staging)
        keep_small_frame(operation, work);
    assert(work->frame->verified);
    if (work->object)
        kv_object_release(operation->engine, work->object);
    work->object = NULL;
    work->state = KV_WORK_LENT;
    operation->lent_count++;
}

/* The value of this work is nobody's any more. */
static void lend_close(kv_operation *operation, kv_work *work)
{
    assert(work->state == KV_WORK_LENT && operation->lent_count > 0);
    kv_get_release(operation, work);
    work->state = KV_WORK_CLOSED;
    operation->lent_count--;
}

void kv_lend_abort(kv_operation *operation)
{
    for (uint32_t n = operation->named_count; n < operation->done_count; n++) {
        uint32_t i = operation->order[n];

        if (operation->works[i].state == KV_WORK_LENT)
            lend_close(operation, &operation->works[i]);
        operation->request->items[i].status = (int32_t)operation->abort_status;
    }
}

int64_t kv_operation_next(kv_operation *operation)
{
    kv_engine *engine = operation->engine;
    uint32_t i;

    assert(operation->kind == KV_OP_LEND);
    if (operation->named_count == operation->done_count)
        return -1;
    i = operation->order[operation->named_count++];
    if (operation->named_count == operation->count) {
        pthread_mutex_lock(&engine->lock);
        kv_operation_wake(operation); /* a step answers the request */
        pthread_mutex_unlock(&engine->lock);
    }
    return i;
}

uint32_t kv_operation_lent(const kv_operation *operation, uint32_t i, struct iovec *ranges)
{
    const kv_work *work = &operation->works[i];

    assert(i < operation->count && work->frame);
    return kv_frame_ranges(&operation->engine->tier, work->frame, work->frame->skip, work->size, ranges);
}

void kv_operation_return(kv_operation *operation, uint32_t i)
{
    kv_engine *engine = operation->engine; /* the operation may be gone after the last value */
    bool more;

    pthread_mutex_lock(&engine->lock);
    assert(operation->kind == KV_OP_LEND && i < operation->count);
    lend_close(operation, &operation->works[i]);
    operation->closed = operation->complete && operation->lent_count == 0;
    more = operation->next < operation->count || operation->waiting_count > 0;
    if (operation->closed || (more && kv_get_may_hold_more(operation)))
        kv_operation_wake(operation);
    pthread_mutex_unlock(&engine->lock);
}
