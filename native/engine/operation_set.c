/* Writing values: reserve, stage, write, append, answer.
 *
 *   NEW -> STAGED -> WRITING -> WRITTEN -> APPENDED -> CLOSED
 *            copy      device      journal     visible
 *
 * Values are staged into the DRAM tier (where they stay for readers) with their checksum computed on
 * the way. Values too small for an extent of their own are laid side by side in a run, one device
 * write for all. Records are appended in the order of the batch, so the last of equal keys wins.
 *
 * At durability memory a value is linked and answered once it is staged; its object is `stored` = 0
 * and names the object it replaced (its shadow), which keeps its extents until the new record exists. */

#include "engine/engine_state.h"

#include "bytes/checksum.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void work_release_frames(kv_operation *operation, kv_work *work)
{
    if (work->frame) {
        operation->held_size -= work->frame->span;
        kv_engine_release_frame(operation->engine, work->frame);
        work->frame = NULL;
    }
    if (work->staging) {
        operation->held_size -= work->staging->span;
        kv_engine_release_frame(operation->engine, work->staging);
        work->staging = NULL;
    }
}

static void set_answer(kv_operation *operation, kv_work *work, kv_status status)
{
    assert(status != KV_OK || work->state >= KV_WORK_WRITING);
    if (work->answered)
        return;
    work->answered = 1;
    kv_operation_finish(operation, (uint32_t)(work - operation->works), status);
}

static void set_close(kv_operation *operation, kv_work *work, kv_status status)
{
    work_release_frames(operation, work);
    if (work->pieces != &work->extent)
        free(work->pieces);
    work->pieces = NULL;
    work->state = KV_WORK_CLOSED;
    set_answer(operation, work, status);
}

/* Close a work that never reached the journal: its extents and object go back. */
static void set_discard(kv_operation *operation, kv_work *work, kv_status status)
{
    kv_engine *engine = operation->engine;

    kv_space_free(engine, work->pieces, work->piece_count);
    if (work->object)
        kv_index_destroy(engine->index, work->object);
    work->object = NULL;
    set_close(operation, work, status);
}

static int reserve_frame(kv_operation *operation, kv_work *work)
{
    uint32_t span = kv_round_up(work->size, KV_DEVICE_ALIGNMENT);

    work->frame = kv_tier_allocate(&operation->engine->tier, span, work->size);
    if (!work->frame)
        return -EBUSY;
    operation->held_size += span;
    return 0;
}

static int reserve_extents(kv_operation *operation, kv_work *work)
{
    kv_extent pieces[KV_SLAB_PIECES_MAX];
    bool ideal = operation->kind == KV_OP_MOVE;
    int count = kv_space_allocate(operation->engine, work->size, ideal, pieces);

    if (count < 0)
        return count;
    work->pieces = &work->extent;
    if (count > 1) {
        work->pieces = malloc((size_t)count * sizeof(*pieces));
        if (!work->pieces) {
            kv_space_free(operation->engine, pieces, (uint32_t)count);
            return -ENOMEM;
        }
    }
    memcpy(work->pieces, pieces, (size_t)count * sizeof(*pieces));
    work->piece_count = (uint16_t)count;
    return 0;
}

/* An object for the item, findable by nobody yet. */
static int reserve_object(kv_operation *operation, uint32_t i, uint64_t now_ms)
{
    kv_engine *engine = operation->engine;
    const kv_request *request = operation->request;
    const kv_item *item = &request->items[i];
    uint64_t ttl_ms = request->ttl_ms ? request->ttl_ms : engine->options.ttl_ms;
    kv_object *object = kv_index_create(engine->index, (const void *)item->key, item->key_size);

    if (!object)
        return -ENOMEM;
    object->size = item->value_size;
    if (operation->kind == KV_OP_MOVE)
        kv_object_set_sequence(object, request->stats[i].version);
    else if (ttl_ms)
        kv_object_set_expiry_ms(object, now_ms + ttl_ms < now_ms ? UINT64_MAX : now_ms + ttl_ms);
    operation->works[i].object = object;
    operation->works[i].size = item->value_size;
    return 0;
}

/* Values from `i` on that fit into one run; their number, and the bytes they take. */
static uint32_t run_measure(const kv_operation *operation, uint32_t i, uint32_t *size)
{
    const kv_engine *engine = operation->engine;
    uint32_t count = 0;

    *size = 0;
    while (i + count < operation->count && operation->works[i + count].state == KV_WORK_NEW) {
        uint32_t value_size = operation->request->items[i + count].value_size;
        uint32_t part = kv_round_up(value_size, KV_SLAB_UNIT);

        if (value_size == 0 || value_size > KV_VALUE_SIZE_MAX ||
            !kv_slab_packs(engine->space.slabs, value_size) || *size + part > KV_PACK_RUN_SIZE_MAX)
            break;
        *size += part;
        count++;
    }
    return count;
}

static void run_release_objects(kv_operation *operation, uint32_t i, uint32_t count)
{
    for (uint32_t k = i; k < i + count; k++) {
        if (operation->works[k].object)
            kv_index_destroy(operation->engine->index, operation->works[k].object);
        operation->works[k].object = NULL;
    }
}

static int run_reserve_objects(kv_operation *operation, uint32_t i, uint32_t count, uint64_t now_ms)
{
    for (uint32_t k = i; k < i + count; k++)
        if (reserve_object(operation, k, now_ms) < 0)
            return -ENOMEM;
    return 0;
}

/* Reserve a run for packed values: memory, a place in a pack, an object each. */
static int run_reserve(kv_operation *operation, uint32_t i, uint32_t count, uint32_t size, uint64_t now_ms)
{
    kv_engine *engine = operation->engine;
    uint32_t span = kv_round_up(size, KV_DEVICE_ALIGNMENT);
    kv_frame *staging = kv_tier_allocate(&engine->tier, span, size);
    kv_extent extent;
    uint32_t position = 0;
    int result = run_reserve_objects(operation, i, count, now_ms);

    if (result == 0 && !staging)
        result = -EBUSY;
    if (result == 0)
        result = kv_space_allocate_pack(engine, span, size, &extent);
    if (result < 0) {
        run_release_objects(operation, i, count);
        if (staging)
            kv_engine_release_frame(engine, staging);
        return result;
    }
    operation->held_size += span;
    operation->works[i].staging = staging;
    operation->run_count++;
    for (uint32_t k = i; k < i + count; k++) {
        kv_work *work = &operation->works[k];
        uint32_t part = kv_round_up(operation->request->items[k].value_size, KV_SLAB_UNIT);

        work->extent = (kv_extent){.offset = extent.offset + position,
                                   .size = part,
                                   .slab_class = KV_SLAB_CLASS_PACK};
        work->pieces = &work->extent;
        work->piece_count = 1;
        work->packed = 1;
        work->run = operation->run_count;
        work->position = position;
        work->state = KV_WORK_STAGED;
        position += part;
        if (operation->kind == KV_OP_SET)
            work->frame = kv_tier_allocate(&engine->tier, work->size, work->size);
        if (work->frame)
            operation->held_size += work->frame->span;
    }
    return 0;
}

static int single_reserve(kv_operation *operation, uint32_t i, uint64_t now_ms)
{
    kv_work *work = &operation->works[i];
    int result = reserve_object(operation, i, now_ms);

    if (result == 0 && work->size > 0)
        result = reserve_frame(operation, work);
    if (result == 0 && work->size > 0)
        result = reserve_extents(operation, work);
    if (result == 0) {
        operation->run_count++;
        work->run = operation->run_count;
        work->state = KV_WORK_STAGED;
        return 0;
    }
    work_release_frames(operation, work);
    if (work->object)
        kv_index_destroy(operation->engine->index, work->object);
    work->object = NULL;
    return result;
}

/* What can be told without reserving anything. True: the item is settled. */
static bool set_refuse(kv_operation *operation, uint32_t i, uint64_t now_ms)
{
    kv_engine *engine = operation->engine;
    const kv_item *item = &operation->request->items[i];
    kv_work *work = &operation->works[i];
    kv_object *object;

    work->hash = kv_index_hash(engine->index, (const void *)item->key, item->key_size);
    if (engine->read_only) {
        set_close(operation, work, KV_DENIED);
        return true;
    }
    if (item->value_size > KV_VALUE_SIZE_MAX ||
        item->value_size > kv_tier_span_max(&engine->tier)) {
        set_close(operation, work, KV_TOO_LARGE);
        return true;
    }
    if (!operation->if_absent)
        return false;
    object = kv_index_find(engine->index, work->hash, (const void *)item->key, item->key_size);
    if (!object || kv_object_expired(object, now_ms))
        return false;
    work->sequence = kv_object_sequence(object);
    work->outcome = KV_EXISTS;
    work->state = KV_WORK_APPENDED;
    return true;
}

/* How many values from `i` on go into one run: each key of an if_absent batch is looked up by itself. */
static uint32_t run_count(kv_operation *operation, uint32_t i, uint32_t *size)
{
    const kv_request *request = operation->request;
    uint32_t count = run_measure(operation, i, size);

    if (count > 1 && operation->if_absent) {
        *size = kv_round_up(request->items[i].value_size, KV_SLAB_UNIT);
        count = 1;
    }
    for (uint32_t k = i + 1; k < i + count; k++)
        operation->works[k].hash =
            kv_index_hash(operation->engine->index, (const void *)request->items[k].key,
                          request->items[k].key_size);
    return count;
}

/* Reserve for the item (and, packed, for those after it). The number of items begun, or -EBUSY: wait for
 * memory, -EAGAIN: wait for space. */
static int set_begin(kv_operation *operation, uint32_t i, uint64_t now_ms)
{
    uint32_t size = 0;
    uint32_t count;
    int result = -ENOSPC;

    if (set_refuse(operation, i, now_ms))
        return 1;
    count = run_count(operation, i, &size);
    if (count > 0)
        result = run_reserve(operation, i, count, size, now_ms);
    if (result == 0)
        return (int)count;
    if (result == -ENOSPC)
        result = single_reserve(operation, i, now_ms);
    if (result == 0)
        return 1;
    if (result == -EBUSY || result == -EAGAIN)
        return result;
    set_close(operation, &operation->works[i], result == -ENOSPC ? KV_NO_SPACE : KV_UNAVAILABLE);
    return 1;
}

static bool set_begin_more(kv_operation *operation)
{
    kv_engine *engine = operation->engine;
    uint64_t now_ms = kv_engine_now(engine);
    uint32_t before = operation->next;

    while (operation->next < operation->count &&
           operation->held_size < engine->tier.size / KV_OPERATION_MEMORY_SHARE) {
        int begun = set_begin(operation, operation->next, now_ms);

        if (begun < 0) {
            kv_list *waiters = begun == -EBUSY ? &engine->memory_waiters : &engine->space_waiters;

            if (kv_list_empty(&operation->wait))
                kv_list_append(waiters, &operation->wait);
            break;
        }
        operation->next += (uint32_t)begun;
    }
    return operation->next != before;
}

/* Copy `size` bytes to a frame from byte `position` on; the checksum of what was copied. Not locked. */
static uint32_t copy_in(const kv_tier *tier, const kv_frame *frame, uint32_t position,
                        const uint8_t *source, uint32_t size)
{
    uint32_t checksum = 0;

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

/* Nothing of other values reaches the device: clear what lies between and behind. */
static void clear_from(const kv_tier *tier, const kv_frame *frame, uint32_t position)
{
    while (position < frame->span) {
        uint32_t part;
        uint8_t *target = kv_frame_range(tier, frame, position, &part);

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
    if (!work->packed) {
        work->checksum = copy_in(tier, work->frame, 0, source, work->size);
        clear_from(tier, work->frame, work->size);
        return;
    }
    work->checksum = copy_in(tier, run_frame, work->position, source, work->size);
    if (work->frame)
        copy_in(tier, work->frame, 0, source, work->size);
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
            clear_from(&operation->engine->tier, run_frame, 0);
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

    if (!work->packed)
        return kv_transfer_build(operation, KV_IO_WRITE, work->frame, work->pieces, work->frame->span,
                                 &range);
    while (i + range.count < end && operation->works[i + range.count].run == work->run)
        range.count++;
    extent.size = work->staging->span;
    return kv_transfer_build(operation, KV_IO_WRITE, work->staging, &extent, extent.size, &range);
}

/* Whether another item may become an object of its own now. KV_OK, KV_QUOTA, or KV_UNAVAILABLE: the journal is full, wait. */
static kv_status quota_check(kv_engine *engine, const kv_object *old)
{
    if (old || engine->options.objects_max == 0)
        return KV_OK;
    while (kv_index_count(engine->index) >= engine->options.objects_max) {
        if (!kv_journal_has_room(engine, KV_GROUP_HEADER_SIZE + KV_KEY_SIZE_MAX))
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

    if (operation->kind == KV_OP_MOVE) {
        bool same = old && old->stored && kv_object_sequence(old) == kv_object_sequence(object) &&
                    old->checksum == work->checksum && old->size == object->size;

        return same ? KV_OK : KV_NOT_FOUND;
    }
    if (operation->if_absent && old && !kv_object_expired(old, kv_engine_now(engine)))
        return KV_EXISTS;
    return quota_check(engine, old);
}

static kv_status status_of(int error)
{
    return error == ENOSPC ? KV_NO_SPACE : error == ENOMEM ? KV_UNAVAILABLE : KV_IO_ERROR;
}

/* Locked: make a staged value findable, and answer it, before the device holds it (durability memory). */
static void link_unstored(kv_operation *operation, kv_work *work)
{
    kv_engine *engine = operation->engine;
    uint32_t rank = (uint32_t)(work - operation->works);
    kv_status status = set_admit(operation, work);

    if (status == KV_UNAVAILABLE)
        return; /* it is linked when it is stored */
    if (status != KV_OK) {
        work->outcome = status;
        return;
    }
    kv_update_link(engine, work->object, work->hash, rank);
    kv_object_hold(work->object);
    if (work->frame) {
        work->frame->state = KV_FRAME_FILLED;
        work->frame->unwritten = 1;
        kv_tier_attach(&engine->tier, work->frame, work->object, work->hash, rank, operation->batch);
    }
    work->linked = 1;
    engine->unwritten_count++;
    set_answer(operation, work, KV_OK);
}

/* Locked: a linked value is on the device now, or was superseded before it got there. */
static void append_linked(kv_operation *operation, kv_work *work)
{
    kv_engine *engine = operation->engine;
    kv_object *object = work->object;

    if (work->frame)
        work->frame->unwritten = 0;
    engine->unwritten_count--;
    if (engine->unwritten_count == 0)
        kv_operation_wake_all(&engine->unwritten_waiters);
    if (object->dead) {
        kv_space_free(engine, work->pieces, work->piece_count);
        object->queue = KV_QUEUE_ORPHAN;
    } else if (kv_update_store(engine, object, work->pieces, work->piece_count, work->packed) < 0) {
        kv_engine_fail(engine, ENOMEM);
    }
    work->object = NULL;
    kv_object_release(engine, object);
    set_close(operation, work, KV_OK);
}

/* Locked: append the record of a written value and make it findable. */
static void append_written(kv_operation *operation, kv_work *work)
{
    kv_engine *engine = operation->engine;
    kv_object *object = work->object;
    uint32_t rank = (uint32_t)(work - operation->works);

    object->checksum = work->checksum;
    if (kv_object_set_pieces(engine, object, work->pieces, work->piece_count, work->packed) < 0) {
        set_discard(operation, work, KV_UNAVAILABLE);
        return;
    }
    if (operation->kind == KV_OP_MOVE) {
        work->sequence = kv_update_move(engine, object, work->hash);
    } else {
        work->sequence = kv_update_set(engine, object, work->hash, rank);
        if (work->frame) {
            work->frame->state = KV_FRAME_FILLED;
            kv_tier_attach(&engine->tier, work->frame, object, work->hash, rank, operation->batch);
        }
    }
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
    if (work->error || work->answered != work->linked || work->outcome != KV_OK) {
        set_discard(operation, work, work->error ? status_of(work->error) : work->outcome);
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
        set_discard(operation, work, status);
    return true;
}

/* Locked: append what is written, in the order of the batch. */
static bool append_more(kv_operation *operation)
{
    kv_engine *engine = operation->engine;
    uint32_t before = operation->append_next;

    while (operation->append_next < operation->next) {
        kv_work *work = &operation->works[operation->append_next];

        if (work->state == KV_WORK_WRITTEN && !append_one(operation, work)) {
            kv_operation_wait_sequence(operation, engine->journal.next - 1, true);
            break;
        }
        if (work->state != KV_WORK_APPENDED && work->state != KV_WORK_CLOSED)
            break;
        operation->append_next++;
    }
    kv_journal_kick(engine);
    return operation->append_next != before;
}

/* Locked: answer what is visible. */
static bool close_more(kv_operation *operation)
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
            if (work->outcome == KV_OK)
                kv_engine_count_set(operation->engine, work->size);
            set_close(operation, work, work->outcome);
        }
        operation->close_next++;
    }
    return operation->close_next != before;
}

/* Locked: what is not answered gets the status of the abort; writes that are out are waited for in the background. */
static void set_abort(kv_operation *operation)
{
    uint32_t begun = operation->next;

    kv_list_remove(&operation->wait);
    for (uint32_t i = begun; i < operation->count; i++)
        set_close(operation, &operation->works[i], operation->abort_status);
    operation->next = operation->count;
    for (uint32_t i = 0; i < begun; i++)
        set_answer(operation, &operation->works[i], operation->abort_status);
}

/* Locked, offline: let go of everything that is not being written. */
static void set_drop(kv_operation *operation)
{
    kv_engine *engine = operation->engine;

    kv_list_remove(&operation->wait_journal);
    for (uint32_t i = operation->append_next; i < operation->count; i++) {
        kv_work *work = &operation->works[i];

        if (work->state != KV_WORK_WRITTEN)
            continue;
        if (work->linked) {
            kv_object_release(engine, work->object);
            work->object = NULL;
            if (work->frame)
                work->frame->unwritten = 0;
            engine->unwritten_count--;
            set_close(operation, work, KV_UNAVAILABLE);
        } else {
            set_discard(operation, work, KV_UNAVAILABLE);
        }
    }
    for (uint32_t i = operation->close_next; i < operation->append_next; i++)
        if (operation->works[i].state == KV_WORK_APPENDED)
            set_close(operation, &operation->works[i], KV_UNAVAILABLE);
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
    progress = append_more(operation);
    progress |= close_more(operation);
    return progress | set_begin_more(operation);
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
    bool early = engine->options.durability == KV_DURABILITY_MEMORY && operation->kind == KV_OP_SET;
    uint32_t run = 0;

    for (uint32_t i = first; i < end; i++) {
        kv_work *work = &operation->works[i];

        if (work->state != KV_WORK_STAGED)
            continue;
        work->object->checksum = work->checksum;
        work->state = work->size > 0 ? KV_WORK_WRITING : KV_WORK_WRITTEN;
        if (early && !operation->answered)
            link_unstored(operation, work);
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
    uint32_t first = operation->next;
    uint32_t end;
    bool progress;

    pthread_mutex_lock(&engine->lock);
    progress = set_advance(operation);
    end = operation->abort_status ? first : operation->next;
    pthread_mutex_unlock(&engine->lock);

    stage_all(operation, first, end);

    pthread_mutex_lock(&engine->lock);
    set_write(operation, first, end);
    operation->complete = operation->done_count == operation->count;
    operation->closed = operation->close_next == operation->count;
    pthread_mutex_unlock(&engine->lock);
    kv_operation_submit(operation);
    return progress;
}
