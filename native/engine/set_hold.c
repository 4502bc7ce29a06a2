/* Sets of a chain: held until their caller has decided, and with values that stay in memory for
 * others.
 *
 *   values come, are written --settle--> appended, answered --release--> finished
 *          \--abort--> all answered, nothing set ------------/
 *
 * What a held set may need later is taken before it is settled (extents, memory, its share of a
 * limit of objects), so that a refusal comes while it is still possible. Nobody waits for a held
 * set: how long its caller takes is not known here. The memory that such sets keep is bounded
 * twice: one set may fill half of the DRAM tier and is refused what goes beyond, for it alone
 * could give it back; all together leave a part to everybody else. Until it is settled it takes
 * whole pages only: slabs of the DRAM tier with smaller extents would serve no value of several
 * pages. */

#include "engine/set.h"

#include <assert.h>
#include <errno.h>

int kv_hold_admit(const kv_operation *operation, uint32_t size)
{
    const kv_engine *engine = operation->engine;
    uint64_t own = operation->held_size;

    assert(operation->keeps && engine->kept_size >= own);
    if (size == 0)
        return 0;
    size = kv_round_up(size, KV_DEVICE_ALIGNMENT);
    if (own > 0 && own + size > engine->tier.size / 100 * KV_KEPT_OPERATION_PERCENT)
        return -EFBIG;
    if (engine->kept_size > own &&
        engine->kept_size + size > engine->tier.size / 100 * KV_KEPT_PERCENT)
        return -EBUSY;
    return 0;
}

bool kv_hold_promises_objects(const kv_operation *operation)
{
    const kv_engine *engine = operation->engine;

    return operation->held && engine->options.objects_max != 0 && !engine->eviction;
}

void kv_hold_begin(kv_operation *operation, kv_work *work)
{
    kv_engine *engine = operation->engine;

    assert(operation->held && !work->held && !work->promised);
    if (kv_set_is_held(operation)) {
        work->held = 1;
        engine->space.held_count++;
    }
    if (kv_hold_promises_objects(operation)) {
        work->promised = 1;
        engine->held_objects++;
    }
}

/* Its extents are on their way to a record, or back. */
static void hold_decide(kv_engine *engine, kv_work *work)
{
    assert(engine->space.held_count >= work->held);
    engine->space.held_count -= work->held;
    work->held = 0;
}

void kv_hold_decided(kv_operation *operation)
{
    for (uint32_t i = 0; i < operation->next; i++)
        hold_decide(operation->engine, &operation->works[i]);
}

void kv_hold_end(kv_operation *operation, kv_work *work)
{
    kv_engine *engine = operation->engine;

    hold_decide(engine, work);
    assert(engine->held_objects >= work->promised);
    engine->held_objects -= work->promised;
    work->promised = 0;
}

kv_status kv_operation_refusal(const kv_operation *operation, uint32_t i)
{
    const kv_work *work = &operation->works[i];
    kv_status status;

    assert(operation->kind == KV_OP_RECEIVE && i < operation->count);
    pthread_mutex_lock(&operation->engine->lock);
    status = work->answered ? work->given : kv_set_outcome(work);
    if (!work->answered && operation->engine->offline)
        status = KV_UNAVAILABLE;
    pthread_mutex_unlock(&operation->engine->lock);
    return status;
}

static bool has_ended(const kv_operation *operation)
{
    return operation->answered || operation->abort_status || operation->engine->offline;
}

/* Locked: what is refused stays refused, the others are as their caller says. */
static void take_statuses(kv_operation *operation, const uint8_t *statuses)
{
    for (uint32_t i = 0; statuses && i < operation->count; i++) {
        kv_work *work = &operation->works[i];

        if (!work->answered && kv_set_outcome(work) == KV_OK)
            work->outcome = statuses[i];
    }
}

static bool wants_own_frame(const kv_work *work)
{
    return work->packed && !work->answered && !work->awaits && work->outcome == KV_OK;
}

/* Packed values get the frames that other sets give them when they begin. The values do not
 * change, and no other thread touches these works before the set is settled: they are copied
 * without the lock. */
static void fill_own_frames(kv_operation *operation)
{
    kv_engine *engine = operation->engine;

    pthread_mutex_lock(&engine->lock);
    for (uint32_t i = 0; i < operation->next && !has_ended(operation); i++)
        if (wants_own_frame(&operation->works[i]))
            kv_set_reserve_own_frame(operation, &operation->works[i]);
    pthread_mutex_unlock(&engine->lock);
    for (uint32_t i = 0; i < operation->next; i++) {
        const kv_work *work = &operation->works[i];

        if (work->packed && work->frame)
            kv_frame_copy(&engine->tier, work->frame, kv_set_run_frame(work), work->position,
                          work->size);
    }
}

void kv_operation_settle(kv_operation *operation, const uint8_t *statuses)
{
    kv_engine *engine = operation->engine;

    pthread_mutex_lock(&engine->lock);
    assert(operation->held && !operation->settled);
    if (!has_ended(operation))
        take_statuses(operation, statuses);
    pthread_mutex_unlock(&engine->lock);
    fill_own_frames(operation);
    pthread_mutex_lock(&engine->lock);
    operation->settled = true;
    if (!has_ended(operation)) {
        kv_hold_decided(operation);
        if (operation->came_next == operation->count)
            kv_push_came(operation);
        kv_set_link_settled(operation);
    }
    pthread_mutex_unlock(&engine->lock);
}

uint32_t kv_operation_received(const kv_operation *operation, uint32_t i, struct iovec *ranges)
{
    const kv_tier *tier = &operation->engine->tier;
    const kv_work *work = &operation->works[i];

    assert(operation->kind == KV_OP_RECEIVE && i < operation->count);
    if (work->packed)
        return kv_frame_ranges(tier, kv_set_run_frame(work), work->position, work->size, ranges);
    return work->frame ? kv_frame_ranges(tier, work->frame, 0, work->size, ranges) : 0;
}

void kv_operation_release(kv_operation *operation)
{
    kv_engine *engine = operation->engine; /* the operation may be gone after the lock */

    pthread_mutex_lock(&engine->lock);
    assert(operation->retained);
    operation->retained = false;
    for (uint32_t i = 0; i < operation->count; i++)
        if (operation->works[i].state == KV_WORK_CLOSED)
            kv_set_release_frames(operation, &operation->works[i]);
    operation->closed = operation->close_next == operation->count;
    if (operation->closed)
        kv_operation_wake(operation);
    pthread_mutex_unlock(&engine->lock);
}
