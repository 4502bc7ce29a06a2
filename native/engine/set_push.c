/* Receiving values: a set whose bytes come in pieces, after their place was reserved.
 *
 *   NEW -> STAGED (awaits bytes) --last byte--> STAGED --step--> WRITING -> (as any set)
 *                 \--aborted, its bytes not complete--> CLOSED, nothing was set
 *
 * Bytes come in the order of the batch, so three marks tell everything: what is written or being written, what
 * has come, what is begun. Memory is reserved only a little ahead of what comes, so that slow peers cannot hold the
 * DRAM tier. A value that does not match its checksum keeps its place until it would be appended, because
 * others may share its memory, and is given up there.
 *
 * Pushes belong to the thread that steps. They touch only works that nobody else does: staged ones. */

#include "engine/set.h"

#include <assert.h>
#include <string.h>

/* The last byte has come. Behind the value nothing of others reaches the device: the rest of its memory is cleared. */
static void value_complete(kv_operation *operation, uint32_t i)
{
    const kv_tier *tier = &operation->engine->tier;
    kv_work *work = &operation->works[i];
    uint32_t end = work->position + work->size;
    const kv_frame *run_frame;

    work->awaits = 0;
    operation->unstepped = true;
    if (work->checksum != operation->request->stats[i].checksum)
        work->outcome = KV_CORRUPT;
    if (work->size == 0)
        return;
    if (!work->packed) {
        kv_set_clear(tier, work->frame, work->size, work->frame->span);
        return;
    }
    run_frame = kv_set_run_frame(work);
    if (i + 1 < operation->next && operation->works[i + 1].run == work->run)
        kv_set_clear(tier, run_frame, end, operation->works[i + 1].position);
    else
        kv_set_clear(tier, run_frame, end, run_frame->span);
}

void kv_push_await(kv_operation *operation, uint32_t first, uint32_t count)
{
    for (uint32_t i = first; i < first + count; i++) {
        kv_work *work = &operation->works[i];

        if (work->state != KV_WORK_STAGED)
            continue; /* it was refused */
        work->awaits = work->size > 0;
        operation->awaited_size += work->size;
        if (work->size == 0)
            value_complete(operation, i);
    }
}

bool kv_push_has_enough(const kv_operation *operation)
{
    return operation->awaited_size >= KV_STAGE_SIZE;
}

void kv_push_came(kv_operation *operation)
{
    uint64_t size = 0;

    for (uint32_t i = 0; i < operation->count; i++)
        size += operation->works[i].size;
    if (size > KV_COMING_SIZE_MAX || operation->append_next == operation->count)
        return;
    assert(!operation->coming);
    operation->coming = true;
    operation->engine->sets_coming++;
}

uint32_t kv_push_end(kv_operation *operation)
{
    uint32_t before = operation->came_next;
    uint32_t end;

    operation->unstepped = false;
    while (operation->came_next < operation->next && !operation->works[operation->came_next].awaits)
        operation->came_next++;
    end = operation->came_next;
    if (end == operation->count && before < end && !kv_set_is_held(operation))
        kv_push_came(operation);
    if (end < operation->next && operation->came_size < KV_STAGE_SIZE)
        return operation->write_next; /* more is coming: it shares the submission */
    while (end > operation->write_next && end < operation->next && operation->works[end].packed &&
           operation->works[end - 1].run == operation->works[end].run)
        end--;
    if (end > operation->write_next)
        operation->came_size = 0;
    return end;
}

void kv_push_abort(kv_operation *operation)
{
    for (uint32_t i = operation->write_next; i < operation->next; i++) {
        kv_work *work = &operation->works[i];

        if (work->state != KV_WORK_STAGED)
            continue;
        work->awaits = 0;
        kv_set_discard(operation, work, operation->abort_status);
    }
}

/* No memory: a step will find some, or wait for it. What came since the last one may be all that holds it up. */
static uint32_t push_refuse(kv_operation *operation)
{
    if (operation->unstepped) {
        pthread_mutex_lock(&operation->engine->lock);
        operation->unstepped = false;
        kv_operation_wake(operation);
        pthread_mutex_unlock(&operation->engine->lock);
    }
    return 0;
}

uint32_t kv_operation_push(kv_operation *operation, uint32_t i, const void *bytes, uint32_t size)
{
    const kv_tier *tier = &operation->engine->tier;
    kv_work *work = &operation->works[i];

    assert(operation->kind == KV_OP_RECEIVE && i < operation->count);
    if (i >= operation->next)
        return push_refuse(operation);
    if (!work->awaits)
        return size;
    assert(i == 0 || !operation->works[i - 1].awaits);
    assert(size <= work->size - work->received);
    if (!work->packed) {
        work->checksum = kv_set_copy_in(tier, work->frame, work->received, bytes, size, work->checksum);
    } else {
        work->checksum = kv_set_copy_in(tier, kv_set_run_frame(work), work->position + work->received,
                                        bytes, size, work->checksum);
        if (work->frame)
            kv_set_copy_in(tier, work->frame, work->received, bytes, size, 0);
    }
    work->received += size;
    operation->awaited_size -= size;
    operation->came_size += size;
    if (work->received == work->size)
        value_complete(operation, i);
    return size;
}
