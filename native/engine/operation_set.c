/* Writing values: reserve, stage, write, append, answer.
 *
 *   NEW -> STAGED -> WRITING -> WRITTEN -> APPENDED -> CLOSED
 *            copy      device      journal     visible
 *
 * Values are staged into the DRAM tier (where they stay for readers) with their checksum computed on
 * the way. Values too small for an extent of their own are laid side by side in a run, one device
 * write for all. Records are appended in the order of the batch, so the last of equal keys wins.
 *
 * A set that receives its values in pieces reserves and stages in steps of its own (set_push.c).
 *
 * At durability memory a value is linked and answered once it is staged; its object is `stored` = 0
 * and names the object it replaced (its shadow), which keeps its extents until the new record exists. */

#include "engine/set.h"

#include "bytes/checksum.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

uint32_t kv_set_copy_in(const kv_tier *tier, const kv_frame *frame, uint32_t position,
                        const uint8_t *source, uint32_t size, uint32_t checksum)
{
    while (size > 0) {
        uint32_t part;
        uint8_t *target = kv_frame_range(tier, frame, position, &part);

        if (part > size)
            part = size;
        checksum = kv_checksum_copy(checksum, target, source, part);
        position += part;
        source += part;
        size -= part;
    }
    return checksum;
}

void kv_set_clear(const kv_tier *tier, const kv_frame *frame, uint32_t position, uint32_t end)
{
    assert(end <= frame->span);
    while (position < end) {
        uint32_t part;
        uint8_t *target = kv_frame_range(tier, frame, position, &part);

        if (part > end - position)
            part = end - position;
        memset(target, 0, part);
        position += part;
    }
}

static void stage(kv_operation *operation, kv_work *work, const kv_frame *run_frame)
{
    const kv_tier *tier = &operation->engine->tier;
    const kv_item *item = &operation->request->items[work - operation->works];
    const uint8_t *source = (const uint8_t *)item->value;

    if (work->size == 0)
        return;
    if (work->direct) {
        work->checksum = kv_checksum(0, source, work->size);
        return;
    }
    if (!work->packed) {
        work->checksum = kv_set_copy_in(tier, work->frame, 0, source, work->size, 0);
        kv_set_clear(tier, work->frame, work->size, work->frame->span);
        return;
    }
    work->checksum = kv_set_copy_in(tier, run_frame, work->position, source, work->size, 0);
    if (work->frame)
        kv_set_copy_in(tier, work->frame, 0, source, work->size, 0);
}

/* Stage the works [first, end). Not locked. */
static void stage_all(kv_operation *operation, uint32_t first, uint32_t end)
{
    const kv_frame *run_frame = NULL;

    for (uint32_t i = first; i < end; i++) {
        kv_work *work = &operation->works[i];

        if (work->state != KV_WORK_STAGED)
            continue;
        if (work->staging) {
            run_frame = work->staging;
            kv_set_clear(&operation->engine->tier, run_frame, 0, run_frame->span);
        }
        stage(operation, work, run_frame);
    }
}

/* Locked: queue the device write of a work, or of the run it leads. */
static int write_begin(kv_operation *operation, uint32_t i, uint32_t end)
{
    kv_work *work = &operation->works[i];
    kv_work_range range = {.first = i, .count = 1, .run = work->run};
    kv_extent extent = work->extent;
    kv_transfer_memory memory = {.frame = work->frame,
                                 .direct = work->direct_source,
                                 .span = kv_round_up(work->size, KV_DEVICE_ALIGNMENT)};

    operation->engine->direct_count += work->direct;
    if (!work->packed)
        return kv_transfer_build(operation, KV_IO_WRITE, &memory, work->pieces, &range);
    while (i + range.count < end && operation->works[i + range.count].run == work->run)
        range.count++;
    extent.size = work->staging->span;
    memory = (kv_transfer_memory){.frame = work->staging, .span = extent.size};
    return kv_transfer_build(operation, KV_IO_WRITE, &memory, &extent, &range);
}

/* Locked: what is not answered gets the status of the abort; writes that are out are waited for in the background. */
static void set_abort(kv_operation *operation)
{
    uint32_t begun = operation->next;

    kv_set_came(operation);
    kv_list_remove(&operation->wait);
    if (operation->kind == KV_OP_RECEIVE)
        kv_push_abort(operation);
    if (operation->held)
        kv_hold_decided(operation);
    for (uint32_t i = begun; i < operation->count; i++)
        kv_set_close(operation, &operation->works[i], operation->abort_status);
    operation->next = operation->count;
    for (uint32_t i = 0; i < begun; i++)
        if (!operation->works[i].direct || operation->works[i].pending == 0)
            kv_set_answer(operation, &operation->works[i], operation->abort_status);
}

/* Locked, offline: let go of everything that is not being written. */
static void set_drop(kv_operation *operation)
{
    kv_engine *engine = operation->engine;

    kv_list_remove(&operation->wait_journal);
    for (uint32_t i = operation->close_next; i < operation->count; i++) {
        kv_work *work = &operation->works[i];

        if (work->state == KV_WORK_APPENDED) { /* one that exists, behind others that are on their way, too */
            kv_set_close(operation, work, KV_UNAVAILABLE);
        } else if (work->state != KV_WORK_WRITTEN) {
            continue;
        } else if (work->linked) {
            kv_object_release(engine, work->object);
            work->object = NULL;
            kv_set_written(operation, work);
            kv_space_settle(engine, 1);
            kv_set_close(operation, work, KV_UNAVAILABLE);
        } else {
            kv_set_discard(operation, work, KV_UNAVAILABLE);
        }
    }
    while (operation->append_next < operation->count &&
           operation->works[operation->append_next].state == KV_WORK_CLOSED)
        operation->append_next++;
    operation->close_next = operation->append_next;
}

/* Locked: the part of a step before staging. */
static bool set_advance(kv_operation *operation)
{
    kv_engine *engine = operation->engine;
    bool progress;

    if (engine->offline && !operation->abort_status)
        operation->abort_status = KV_UNAVAILABLE;
    if (operation->abort_status && !operation->answered)
        set_abort(operation);
    if (engine->offline) {
        set_drop(operation);
        return false;
    }
    progress = kv_set_append(operation);
    progress |= kv_set_close_visible(operation);
    return progress | kv_set_begin_more(operation);
}

/* Locked: device operations could not be built for the run of this work. */
static void write_fail(kv_operation *operation, uint32_t first, uint32_t end)
{
    uint32_t run = operation->works[first].run;

    for (uint32_t i = first; i < end && operation->works[i].run == run; i++) {
        operation->works[i].error = ENOMEM;
        if (operation->works[i].pending == 0)
            operation->works[i].state = KV_WORK_WRITTEN;
    }
}

/* Locked: the part after staging: link (durability memory) and write the works [first, end). */
static void set_write(kv_operation *operation, uint32_t first, uint32_t end)
{
    kv_engine *engine = operation->engine;
    bool early = engine->options.durability == KV_DURABILITY_MEMORY && operation->kind != KV_OP_MOVE;
    uint32_t run = 0;

    for (uint32_t i = first; i < end; i++) {
        kv_work *work = &operation->works[i];

        if (work->state != KV_WORK_STAGED)
            continue;
        work->object->checksum = work->checksum;
        work->state = work->size > 0 ? KV_WORK_WRITING : KV_WORK_WRITTEN;
        if (work->outcome != KV_OK && !work->packed)
            work->state = KV_WORK_WRITTEN; /* it will be given up */
        if (early && !operation->answered && work->outcome == KV_OK && !kv_set_is_held(operation))
            kv_set_link_unstored(operation, work);
    }
    for (uint32_t i = first; i < end; i++) {
        kv_work *work = &operation->works[i];

        if (work->state != KV_WORK_WRITING || (work->packed && work->run == run))
            continue;
        run = work->run;
        if (write_begin(operation, i, end) < 0)
            write_fail(operation, i, end);
    }
}

bool kv_set_step(kv_operation *operation)
{
    kv_engine *engine = operation->engine;
    bool receives = operation->kind == KV_OP_RECEIVE;
    uint32_t first = receives ? operation->write_next : operation->next;
    uint32_t end;
    bool progress;

    pthread_mutex_lock(&engine->lock);
    progress = set_advance(operation);
    if (operation->abort_status)
        end = first;
    else
        end = receives ? kv_push_end(operation) : operation->next;
    if (!receives) {
        pthread_mutex_unlock(&engine->lock);
        stage_all(operation, first, end);
        pthread_mutex_lock(&engine->lock);
    }
    operation->write_next = end;
    set_write(operation, first, end);
    operation->complete = operation->done_count == operation->count && !kv_set_is_held(operation);
    operation->closed = operation->close_next == operation->count && !operation->retained;
    pthread_mutex_unlock(&engine->lock);
    kv_operation_submit(operation);
    return progress || (receives && end > first);
}
