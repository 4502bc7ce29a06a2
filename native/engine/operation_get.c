/* Reading values: look up, fill frames from the device, copy out with the checksum verified.
 *
 *   NEW --hit--> READY --copied--> DONE
 *    |  \--on the device--> READING --filled--> READY      (registered memory: without a frame)
 *    |--not visible yet--> WAITING --visible--> NEW
 *    \--absent, too small--> DONE
 *
 * Copies run outside the lock on held frames. Every copy verifies the value's checksum; a mismatch is
 * read once more from the device before it is reported, and never returned as a value. */

#include "engine/get.h"

#include "bytes/checksum.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define GET_PREFETCH_COUNT 32u
#define COPY_AHEAD_VALUE_MAX (16u << 10)
#define GET_BEGIN_COUNT_MAX 256u /* items begun under one hold of the lock */

void kv_get_release(kv_operation *operation, kv_work *work)
{
    kv_engine *engine = operation->engine;

    kv_list_remove(&work->link);
    if (work->frame) {
        operation->held_size -= work->frame->span;
        kv_engine_release_frame(engine, work->frame);
        work->frame = NULL;
    }
    if (work->staging) {
        kv_engine_release_frame(engine, work->staging);
        work->staging = NULL;
    }
    if (work->object) {
        kv_object_release(engine, work->object);
        work->object = NULL;
    }
}

static void get_finish(kv_operation *operation, uint32_t i, kv_status status)
{
    kv_store_statistics *statistics = &operation->engine->statistics;
    kv_work *work = &operation->works[i];

    if (operation->kind == KV_OP_LEND && status == KV_OK && work->frame) {
        kv_lend_keep(operation, work);
    } else {
        kv_get_release(operation, work);
        work->state = KV_WORK_CLOSED;
    }
    if (operation->kind != KV_OP_READ_DEVICE) {
        statistics->gets++;
        statistics->get_misses += status == KV_NOT_FOUND;
        statistics->get_hits += status == KV_OK;
        if (status == KV_OK && operation->request)
            statistics->bytes_read += operation->request->items[i].result_size;
    }
    statistics->corrupt_values += status == KV_CORRUPT;
    kv_operation_finish(operation, i, status);
}

static void join_frame(kv_operation *operation, uint32_t i, kv_frame *frame)
{
    kv_work *work = &operation->works[i];

    frame->holders++;
    kv_get_hold_frame(operation, work, frame);
    kv_tier_touch(&operation->engine->tier, frame, i, operation->batch);
    if (frame->state == KV_FRAME_FILLING) {
        kv_list_append(&frame->waiters, &work->link);
        work->state = KV_WORK_READING;
        return;
    }
    operation->engine->statistics.get_memory_hits++;
    if (operation->kind == KV_OP_LEND && frame->verified) {
        get_finish(operation, i, KV_OK);
        return;
    }
    kv_list_append(&operation->ready, &work->link);
    work->state = KV_WORK_READY;
}

/* Wait until what this item saw is visible. True when it must. */
static bool get_wait(kv_operation *operation, uint32_t i, uint64_t sequence)
{
    if (sequence <= kv_engine_visible(operation->engine))
        return false;
    operation->works[i].state = KV_WORK_WAITING;
    operation->works[i].sequence = sequence;
    kv_operation_wait_sequence(operation, sequence, true);
    return true;
}

/* -EAGAIN: stop here, no frame can be had now. */
static int get_begin(kv_operation *operation, uint32_t i, uint64_t now_ms)
{
    kv_engine *engine = operation->engine;
    kv_item *item = &operation->request->items[i];
    kv_work *work = &operation->works[i];
    kv_object *object = kv_index_find(engine->index, work->hash, (const void *)item->key, item->key_size);
    int result = 0;

    if (!object || kv_object_expired(object, now_ms)) {
        if (!get_wait(operation, i, engine->delete_sequence))
            get_finish(operation, i, KV_NOT_FOUND);
        return 0;
    }
    if (get_wait(operation, i, kv_object_sequence(object)))
        return 0;
    item->result_size = object->size;
    if (engine->eviction && operation->kind != KV_OP_READ_DEVICE && object->queue != 0)
        kv_eviction_touch(engine->eviction, kv_index_handle(engine->index, object), i);
    if (operation->kind == KV_OP_LEND)
        kv_lend_describe(operation, i, object);
    if (item->value_size < object->size && (item->value || operation->kind != KV_OP_READ_DEVICE)) {
        get_finish(operation, i, KV_BUFFER_TOO_SMALL);
        return 0;
    }
    if (object->size == 0 || (operation->kind == KV_OP_READ_DEVICE && !object->stored)) {
        get_finish(operation, i, KV_OK);
        return 0;
    }
    if (object->size + 2 * KV_PAGE_SIZE > kv_tier_span_max(&engine->tier)) {
        get_finish(operation, i, KV_UNAVAILABLE); /* stored under a larger DRAM tier */
        return 0;
    }
    if (object->holders >= KV_HOLDERS_MAX)
        return -EAGAIN; /* very many readers of one key: some must end first */
    kv_object_hold(object);
    work->object = object;
    work->size = object->size;
    work->checksum = object->checksum;
    if (object->frame && operation->kind != KV_OP_READ_DEVICE)
        join_frame(operation, i, kv_tier_at(&engine->tier, object->frame));
    else if (kv_get_may_read_direct(operation, i))
        result = kv_get_read_direct(operation, i);
    else
        result = kv_get_fill(operation, i);
    if (result == -EAGAIN)
        kv_get_release(operation, work);
    else if (result < 0)
        get_finish(operation, i, KV_UNAVAILABLE);
    return result == -EAGAIN ? result : 0;
}

/* Ask for the frames of these keys, and then for their neighbours in the eviction queue, which a touch
 * changes too. */
static void frames_ahead(const kv_tier *tier, const kv_object *const *objects, uint32_t object_count)
{
    const kv_frame *frames[GET_PREFETCH_COUNT];
    uint32_t count = 0;

    for (uint32_t k = 0; k < object_count; k++) {
        if (objects[k] && objects[k]->frame) {
            frames[count] = kv_tier_at(tier, objects[k]->frame);
            __builtin_prefetch(&frames[count]->self, 1);
            __builtin_prefetch(frames[count]->pieces);
            count++;
        }
    }
    for (uint32_t k = 0; k < count; k++) {
        if (frames[k]->queue_next)
            __builtin_prefetch(&kv_tier_at(tier, frames[k]->queue_next)->queue_next, 1);
        if (frames[k]->queue_previous)
            __builtin_prefetch(&kv_tier_at(tier, frames[k]->queue_previous)->queue_next, 1);
    }
}

static void hash_ahead(kv_operation *operation, uint32_t i)
{
    const kv_object *objects[GET_PREFETCH_COUNT];
    uint32_t end = i + GET_PREFETCH_COUNT < operation->count ? i + GET_PREFETCH_COUNT : operation->count;

    for (uint32_t k = i; k < end; k++) {
        const kv_item *item = &operation->request->items[k];

        operation->works[k].hash =
            kv_index_hash(operation->engine->index, (const void *)item->key, item->key_size);
        kv_index_prefetch(operation->engine->index, operation->works[k].hash);
    }
    for (uint32_t k = i; k < end; k++)
        objects[k - i] = kv_index_prefetch_object(operation->engine->index, operation->works[k].hash);
    frames_ahead(&operation->engine->tier, objects, end - i);
}

/* Locked: items that waited for a sequence begin anew. False: memory ran out. */
static bool get_begin_waiting(kv_operation *operation, uint64_t now_ms)
{
    uint64_t visible = kv_engine_visible(operation->engine);

    for (uint32_t i = 0; operation->waiting_count > 0 && i < operation->next; i++) {
        kv_work *work = &operation->works[i];

        if (work->state != KV_WORK_WAITING)
            continue;
        if (work->sequence > visible) {
            kv_operation_wait_sequence(operation, work->sequence, true);
            continue;
        }
        if (!kv_get_may_hold_more(operation) || get_begin(operation, i, now_ms) < 0) {
            work->state = KV_WORK_WAITING;
            return false;
        }
        operation->waiting_count -= work->state != KV_WORK_WAITING;
    }
    return true;
}

/* Locked: begin items in order while memory allows. True: some began. */
static bool get_begin_more(kv_operation *operation)
{
    uint64_t now_ms = kv_engine_now(operation->engine);
    uint32_t end = operation->next + GET_BEGIN_COUNT_MAX;
    bool progress = false;
    bool starved;

    kv_list_remove(&operation->wait);
    starved = !get_begin_waiting(operation, now_ms);

    while (!starved && operation->next < operation->count && operation->next < end &&
           kv_get_may_hold_more(operation)) {
        uint32_t i = operation->next;

        if (i % GET_PREFETCH_COUNT == 0)
            hash_ahead(operation, i);
        operation->works[i].state = KV_WORK_NEW;
        starved = get_begin(operation, i, now_ms) < 0;
        if (starved)
            break;
        operation->waiting_count += operation->works[i].state == KV_WORK_WAITING;
        operation->next++;
        progress = true;
    }
    if (starved)
        kv_list_append(&operation->engine->memory_waiters, &operation->wait);
    return progress;
}

/* Where the copy of a small value will begin: it is asked for while the one before is copied. */
static const uint8_t *source_ahead(const kv_operation *operation, const kv_work *work)
{
    uint32_t size;

    if (!work->frame || work->size > COPY_AHEAD_VALUE_MAX)
        return NULL;
    return kv_frame_range(&operation->engine->tier, work->frame, work->frame->skip, &size);
}

/* Copy a filled frame to the caller and verify it; `next` is copied after it. Not locked. */
static bool copy_out(const kv_operation *operation, const kv_work *work, const uint8_t *next)
{
    const kv_tier *tier = &operation->engine->tier;
    uint32_t i = (uint32_t)(work - operation->works);
    uint8_t *target = (uint8_t *)operation->request->items[i].value;
    uint32_t position = 0;
    uint32_t checksum = 0;

    if (work->direct)
        return kv_checksum(0, target, work->size) == work->checksum;
    while (position < work->size) {
        uint32_t size;
        const uint8_t *source = kv_frame_range(tier, work->frame, work->frame->skip + position, &size);

        if (size > work->size - position)
            size = work->size - position;
        checksum = target ? kv_checksum_copy_ahead(checksum, target + position, source, size, next)
                          : kv_checksum(checksum, source, size);
        position += size;
    }
    return checksum == work->checksum;
}

/* Locked: take the filled works off the ready list. */
static void take_ready(kv_operation *operation, kv_list *works)
{
    kv_tier *tier = &operation->engine->tier;
    kv_list *link;

    while ((link = kv_list_pop(&operation->ready)) != NULL) {
        kv_work *work = KV_CONTAINER(link, kv_work, link);

        if (work->frame)
            work->error = work->frame->error;
        if (operation->kind == KV_OP_LEND && !work->error && work->frame->verified) {
            get_finish(operation, (uint32_t)(work - operation->works), KV_OK); /* another one's fill */
            continue;
        }
        if (work->frame && work->object->packed &&
            !work->frame->object && operation->kind != KV_OP_READ_DEVICE && !work->error)
            work->staging = kv_tier_allocate(tier, work->size, work->size);
        kv_list_append(works, &work->link);
    }
}

/* Locked: what a copied work comes to. */
static void get_conclude(kv_operation *operation, kv_work *work)
{
    kv_engine *engine = operation->engine;
    kv_object *object = work->object;
    uint32_t i = (uint32_t)(work - operation->works);

    if (work->error) {
        if (!engine->offline)
            kv_damage_note(&engine->damage, object);
        get_finish(operation, i, KV_IO_ERROR);
        return;
    }
    if (work->intact) {
        if (work->frame)
            work->frame->verified = 1;
        if (work->staging)
            work->staging->verified = 1;
        if (work->staging && !object->dead && object->frame == 0) {
            work->staging->state = KV_FRAME_FILLED;
            kv_tier_attach(&engine->tier, work->staging, object, work->hash, i, operation->batch);
        }
        get_finish(operation, i, KV_OK);
        return;
    }
    if (work->frame && object->frame == work->frame->self && !work->frame->unwritten)
        kv_tier_detach(&engine->tier, object);
    if (work->retried) {
        kv_damage_note(&engine->damage, object);
        get_finish(operation, i, KV_CORRUPT);
        return;
    }
    work->retried = 1;
    work->direct = 0;
    kv_get_release(operation, work);
    work->state = KV_WORK_WAITING;
    work->sequence = 0;
    operation->waiting_count++;
}

/* Locked: how far the operation is. A lending one is answered when its items were named, and lives until they are returned. */
static void get_settle(kv_operation *operation)
{
    uint32_t count = operation->kind == KV_OP_LEND ? operation->named_count : operation->done_count;

    operation->complete = count == operation->count;
    operation->closed = operation->complete && operation->lent_count == 0;
}

/* Locked: give everything up; what is not done gets the status of the abort, but not before the device has
 * let go of the caller's memory. */
static void get_abort(kv_operation *operation)
{
    kv_list_remove(&operation->wait);
    kv_list_remove(&operation->wait_journal);
    if (operation->kind == KV_OP_LEND)
        kv_lend_abort(operation);
    for (uint32_t i = 0; i < operation->count; i++)
        if (operation->works[i].state < KV_WORK_CLOSED && operation->works[i].pending == 0)
            get_finish(operation, i, operation->abort_status);
    get_settle(operation);
}

bool kv_get_step(kv_operation *operation)
{
    kv_engine *engine = operation->engine;
    kv_list works;
    bool progress;

    kv_list_init(&works);
    pthread_mutex_lock(&engine->lock);
    if (operation->answered) {
        pthread_mutex_unlock(&engine->lock);
        return false;
    }
    if (engine->offline && !operation->abort_status)
        operation->abort_status = KV_UNAVAILABLE;
    if (operation->abort_status) {
        get_abort(operation);
        progress = operation->complete;
        pthread_mutex_unlock(&engine->lock);
        return progress;
    }
    progress = get_begin_more(operation);
    take_ready(operation, &works);
    get_settle(operation);
    pthread_mutex_unlock(&engine->lock);

    kv_operation_submit(operation);
    if (kv_list_empty(&works))
        return progress;
    for (kv_list *link = works.next; link != &works; link = link->next) {
        kv_work *work = KV_CONTAINER(link, kv_work, link);
        const uint8_t *next = NULL;

        if (link->next != &works && work->size <= COPY_AHEAD_VALUE_MAX)
            next = source_ahead(operation, KV_CONTAINER(link->next, kv_work, link));
        work->intact = !work->error && copy_out(operation, work, next);
        if (work->staging)
            kv_frame_copy(&engine->tier, work->staging, work->frame, work->frame->skip, work->size);
    }
    kv_checksum_settle();

    pthread_mutex_lock(&engine->lock);
    while (!kv_list_empty(&works)) {
        kv_work *work = KV_CONTAINER(kv_list_pop(&works), kv_work, link);

        get_conclude(operation, work);
    }
    get_settle(operation);
    pthread_mutex_unlock(&engine->lock);
    return true;
}
