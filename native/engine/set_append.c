/* Writing values, the last part: from "the device holds it" to the answer.
 *
 * Records are appended in the order of the batch, so the last of equal keys wins, and at the moment of
 * the append the checks that count are made: the key's presence, quotas, the version (MOVE). */

#include "engine/set.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

void kv_set_count_memory(kv_operation *operation, int64_t size)
{
    operation->held_size += (uint64_t)size;
    if (operation->keeps)
        operation->engine->kept_size += (uint64_t)size;
}

static void release_frame(kv_operation *operation, kv_frame **frame)
{
    if (!*frame)
        return;
    kv_set_count_memory(operation, -(int64_t)(*frame)->span);
    kv_engine_release_frame(operation->engine, *frame);
    *frame = NULL;
}

void kv_set_release_frames(kv_operation *operation, kv_work *work)
{
    release_frame(operation, &work->frame);
    release_frame(operation, &work->staging);
}

/* What is retained is the memory that bytes were pushed to: a packed value's own frame only serves
 * readers. */
static void close_frames(kv_operation *operation, kv_work *work)
{
    if (!operation->retained)
        kv_set_release_frames(operation, work);
    else if (work->packed)
        release_frame(operation, &work->frame);
}

void kv_set_answer(kv_operation *operation, kv_work *work, kv_status status)
{
    assert(status != KV_OK || work->state >= KV_WORK_WRITING);
    if (work->answered)
        return;
    work->answered = 1;
    work->given = (uint8_t)status;
    kv_operation_finish(operation, (uint32_t)(work - operation->works), status);
}

void kv_set_close(kv_operation *operation, kv_work *work, kv_status status)
{
    close_frames(operation, work);
    if (operation->held)
        kv_hold_end(operation, work);
    if (work->pieces != &work->extent)
        free(work->pieces);
    work->pieces = NULL;
    work->state = KV_WORK_CLOSED;
    kv_set_answer(operation, work, status);
}

/* Close a work that never reached the journal: its extents and object go back. */
void kv_set_discard(kv_operation *operation, kv_work *work, kv_status status)
{
    kv_engine *engine = operation->engine;

    kv_space_free(engine, work->pieces, work->piece_count);
    kv_space_settle(engine, 1);
    if (work->object)
        kv_index_destroy(engine->index, work->object);
    work->object = NULL;
    kv_set_close(operation, work, status);
}

/* Whether another item may become an object of its own now. KV_OK, KV_QUOTA, or KV_UNAVAILABLE: the journal is full, wait. */
static kv_status quota_check(kv_engine *engine, const kv_object *old)
{
    if (old || engine->options.objects_max == 0)
        return KV_OK;
    while (kv_index_count(engine->index) >= engine->options.objects_max) {
        if (!kv_journal_has_room(engine, 2 * KV_RECORD_SIZE_MAX)) /* of the eviction and of the set */
            return KV_UNAVAILABLE;
        if (!kv_space_evict_one(engine))
            return KV_QUOTA;
    }
    return KV_OK;
}

/* Locked: the checks that count, at the moment the object would be linked. KV_UNAVAILABLE: wait for the journal. */
static kv_status set_admit(kv_operation *operation, kv_work *work)
{
    kv_engine *engine = operation->engine;
    kv_object *object = work->object;
    kv_object *old = kv_index_find(engine->index, work->hash, object->key, object->key_size);
    kv_status status;

    if (operation->kind == KV_OP_MOVE) {
        bool same = old && old->stored && kv_object_sequence(old) == kv_object_sequence(object) &&
                    old->checksum == work->checksum && old->size == object->size;

        return same ? KV_OK : KV_NOT_FOUND;
    }
    if (operation->if_absent && old && !kv_object_expired(old, kv_engine_now(engine)))
        return KV_EXISTS;
    status = quota_check(engine, old);
    return status == KV_QUOTA && operation->held ? KV_OK : status; /* it was promised its place */
}

/* What the request says of the object beyond its value: known by now. */
static void object_describe(const kv_operation *operation, kv_work *work)
{
    const kv_item_stat *stat;

    if (!operation->versioned && !operation->exact)
        return;
    stat = &operation->request->stats[work - operation->works];
    if (operation->versioned) {
        kv_object_set_version(work->object, stat->version);
        kv_object_set_expiry_ms(work->object, stat->expiry_ms);
    }
    if (operation->exact)
        work->object->pinned = (stat->flags & KV_ITEM_PINNED) != 0;
}

static kv_pinning pinning_of(const kv_operation *operation)
{
    return operation->exact ? KV_PINNED_AS_IT_IS : KV_PINNED_AS_BEFORE;
}

static kv_status status_of(int error)
{
    return error == ENOSPC ? KV_NO_SPACE : error == ENOMEM ? KV_UNAVAILABLE : KV_IO_ERROR;
}

kv_status kv_set_outcome(const kv_work *work)
{
    if (work->outcome != KV_OK || !work->error)
        return work->outcome;
    return status_of(work->error);
}

/* Locked: a value that replaces one whose write a flush may wait for takes its place there: the older one, once
 * superseded, never gets a record. */
static uint8_t epoch_for(const kv_engine *engine, const kv_work *work)
{
    const kv_object *old =
        kv_index_find(engine->index, work->hash, work->object->key, work->object->key_size);

    return old && !old->stored ? old->epoch : (uint8_t)(engine->unwritten_epoch & 1);
}

/* Locked: make a staged value findable, and answer it, before the device holds it (durability memory). */
void kv_set_link_unstored(kv_operation *operation, kv_work *work)
{
    kv_engine *engine = operation->engine;
    uint32_t rank = (uint32_t)(work - operation->works);
    kv_status status = KV_UNAVAILABLE;
    uint8_t epoch;

    if (!operation->late && (work->frame || work->size == 0))
        status = set_admit(operation, work);
    if (status == KV_UNAVAILABLE || (status == KV_QUOTA && engine->eviction)) {
        operation->late = true; /* it is linked when it is stored, and so are those after it */
        return;
    }
    if (status != KV_OK) {
        work->outcome = status;
        return;
    }
    epoch = epoch_for(engine, work);
    object_describe(operation, work);
    kv_update_link(engine, work->object, work->hash, rank, pinning_of(operation));
    kv_object_hold(work->object);
    if (work->frame) {
        work->frame->state = KV_FRAME_FILLED;
        work->frame->verified = 1;
        work->frame->unwritten = 1;
        kv_tier_attach(&engine->tier, work->frame, work->object, work->hash, rank, operation->batch);
    }
    work->linked = 1;
    work->epoch = epoch;
    work->object->epoch = epoch;
    engine->unwritten_counts[work->epoch]++;
    kv_set_answer(operation, work, KV_OK);
}

void kv_set_link_settled(kv_operation *operation)
{
    if (operation->engine->options.durability != KV_DURABILITY_MEMORY)
        return;
    for (uint32_t i = operation->append_next; i < operation->write_next; i++) {
        kv_work *work = &operation->works[i];
        bool written = work->state == KV_WORK_WRITING || work->state == KV_WORK_WRITTEN;

        if (written && !work->linked && kv_set_outcome(work) == KV_OK)
            kv_set_link_unstored(operation, work);
    }
}

void kv_set_written(kv_operation *operation, kv_work *work)
{
    uint64_t *count = &operation->engine->unwritten_counts[work->epoch];

    assert(work->linked && *count > 0);
    if (work->frame)
        work->frame->unwritten = 0;
    (*count)--;
    if (*count == 0)
        kv_operation_wake_all(&operation->engine->unwritten_waiters);
}

/* Locked: a linked value is on the device now, or was superseded before it got there. */
static void append_linked(kv_operation *operation, kv_work *work)
{
    kv_engine *engine = operation->engine;
    kv_object *object = work->object;

    kv_set_written(operation, work);
    if (object->dead) {
        kv_space_free(engine, work->pieces, work->piece_count);
        object->queue = KV_QUEUE_ORPHAN;
    } else if (kv_update_store(engine, object, work->pieces, work->piece_count, work->packed) < 0) {
        kv_engine_fail(engine, ENOMEM);
    }
    kv_space_settle(engine, 1);
    work->object = NULL;
    kv_object_release(engine, object);
    kv_set_close(operation, work, KV_OK);
}

/* Locked: append the record of a written value and make it findable. */
static void append_written(kv_operation *operation, kv_work *work)
{
    kv_engine *engine = operation->engine;
    kv_object *object = work->object;
    uint32_t rank = (uint32_t)(work - operation->works);

    object->checksum = work->checksum;
    if (kv_object_set_pieces(engine, object, work->pieces, work->piece_count, work->packed) < 0) {
        kv_set_discard(operation, work, KV_UNAVAILABLE);
        return;
    }
    if (operation->kind == KV_OP_MOVE) {
        work->sequence = kv_update_move(engine, object, work->hash);
    } else {
        object_describe(operation, work);
        work->sequence = kv_update_set(engine, object, work->hash, rank, pinning_of(operation));
        if (work->frame) {
            work->frame->state = KV_FRAME_FILLED;
            work->frame->verified = 1; /* the checksum is of these bytes */
            kv_tier_attach(&engine->tier, work->frame, object, work->hash, rank, operation->batch);
        }
    }
    kv_space_settle(engine, 1);
    work->object = NULL; /* the index's now */
    work->state = KV_WORK_APPENDED;
}

/* Locked. False: wait for room in the journal. */
static bool append_one(kv_operation *operation, kv_work *work)
{
    kv_engine *engine = operation->engine;
    kv_status status;

    if (work->error && work->linked)
        kv_engine_fail(engine, work->error); /* it was promised already */
    if (engine->offline)
        return false;
    if (work->error || work->outcome != KV_OK) {
        kv_set_discard(operation, work, kv_set_outcome(work));
        return true;
    }
    if (operation->abort_status && !work->linked) {
        kv_set_discard(operation, work, operation->abort_status);
        return true;
    }
    if (!kv_journal_has_room(engine, KV_RECORD_SIZE_MAX))
        return false;
    if (work->linked) {
        append_linked(operation, work);
        return true;
    }
    status = set_admit(operation, work);
    if (status == KV_UNAVAILABLE)
        return false;
    if (status == KV_OK)
        append_written(operation, work);
    else
        kv_set_discard(operation, work, status);
    return true;
}

void kv_set_came(kv_operation *operation)
{
    if (!operation->coming)
        return;
    operation->coming = false;
    operation->engine->sets_coming--;
    if (operation->engine->sets_coming == 0)
        kv_journal_kick(operation->engine); /* a flush may have waited */
}

/* Locked: append what is written, in the order of the batch. */
bool kv_set_append(kv_operation *operation)
{
    kv_engine *engine = operation->engine;
    uint32_t before = operation->append_next;

    if (kv_set_is_held(operation))
        return false;
    while (operation->append_next < operation->next) {
        kv_work *work = &operation->works[operation->append_next];

        if (work->state == KV_WORK_WRITTEN && !append_one(operation, work)) {
            if (engine->offline)
                kv_operation_wake(operation); /* no journal will */
            else
                kv_operation_wait_sequence(operation, engine->journal.next - 1, true);
            kv_set_came(operation);
            break;
        }
        if (work->state != KV_WORK_APPENDED && work->state != KV_WORK_CLOSED)
            break;
        operation->append_next++;
    }
    if (operation->append_next == operation->count)
        kv_set_came(operation);
    if (operation->append_next == operation->next || operation->outstanding == 0)
        kv_journal_kick(engine); /* else what is still being written shares the group */
    return operation->append_next != before;
}

/* Locked: answer what is visible. */
bool kv_set_close_visible(kv_operation *operation)
{
    uint64_t visible = kv_engine_visible(operation->engine);
    uint32_t before = operation->close_next;

    while (operation->close_next < operation->append_next) {
        kv_work *work = &operation->works[operation->close_next];

        if (work->state == KV_WORK_APPENDED && work->sequence > visible) {
            kv_operation_wait_sequence(operation, work->sequence, true);
            break;
        }
        if (work->state == KV_WORK_APPENDED) {
            if (work->outcome == KV_OK && operation->kind != KV_OP_MOVE)
                kv_engine_count_set(operation->engine, work->size);
            kv_set_close(operation, work, work->outcome);
        }
        operation->close_next++;
    }
    return operation->close_next != before;
}

/* Whether a step could do more than wait. */
static bool wants_step(const kv_operation *operation)
{
    return operation->next < operation->count || operation->close_next == operation->count ||
           operation->abort_status || operation->engine->offline;
}

void kv_set_progress(kv_operation *operation)
{
    if (!operation->abort_status && !operation->engine->offline) {
        kv_set_append(operation);
        kv_set_close_visible(operation);
    }
    if (wants_step(operation))
        kv_operation_wake(operation);
}
