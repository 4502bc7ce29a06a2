/* Writing values, the first part: an object, memory and extents for each item, or the reason why not.
 *
 * Values too small for an extent of their own are reserved side by side as one run: one frame, one
 * place in a pack, later one device write. */

#include "engine/set.h"
#include "engine/victims.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int reserve_frame(kv_operation *operation, kv_work *work)
{
    uint32_t span = kv_round_up(work->size, KV_DEVICE_ALIGNMENT);

    work->frame = kv_tier_allocate(&operation->engine->tier, span, work->size);
    if (!work->frame)
        return -EBUSY;
    kv_set_count_memory(operation, span);
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

void kv_set_reserve_own_frame(kv_operation *operation, kv_work *work)
{
    assert(work->packed && !work->frame);
    if (operation->keeps && kv_hold_admit(operation, work->size) < 0)
        return;
    work->frame = kv_tier_allocate(&operation->engine->tier, work->size, work->size);
    if (work->frame)
        kv_set_count_memory(operation, work->frame->span);
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
        result = kv_space_allocate_pack(engine, span, size, operation->kind == KV_OP_MOVE, &extent);
    if (result < 0) {
        run_release_objects(operation, i, count);
        if (staging)
            kv_engine_release_frame(engine, staging);
        return result;
    }
    kv_set_count_memory(operation, span);
    operation->works[i].staging = staging;
    engine->space.staged_count += count;
    for (uint32_t k = i; k < i + count; k++) {
        kv_work *work = &operation->works[k];
        uint32_t part = kv_round_up(operation->request->items[k].value_size, KV_SLAB_UNIT);

        work->extent = (kv_extent){.offset = extent.offset + position,
                                   .size = part,
                                   .slab_class = KV_SLAB_CLASS_PACK};
        work->pieces = &work->extent;
        work->piece_count = 1;
        work->packed = 1;
        work->run = i + 1;
        work->position = position;
        work->state = KV_WORK_STAGED;
        position += part;
        if (operation->held)
            kv_hold_begin(operation, work);
        if (operation->kind != KV_OP_MOVE && !kv_set_is_held(operation))
            kv_set_reserve_own_frame(operation, work);
    }
    return 0;
}

/* Whether the device can take the value straight from the caller's memory. */
static bool may_write_direct(const kv_operation *operation, uint32_t i)
{
    const kv_engine *engine = operation->engine;
    const kv_item *item = &operation->request->items[i];

    return operation->kind == KV_OP_SET && engine->options.durability != KV_DURABILITY_MEMORY &&
           item->value_size > 0 && (item->value | item->value_size) % KV_DEVICE_ALIGNMENT == 0 &&
           kv_engine_registered(engine, item->value, item->value_size);
}

static void reserve_direct(kv_operation *operation, uint32_t i)
{
    operation->works[i].direct = 1;
    operation->works[i].direct_source = (uint8_t *)operation->request->items[i].value;
}

static int single_reserve(kv_operation *operation, uint32_t i, uint64_t now_ms)
{
    kv_work *work = &operation->works[i];
    int result = reserve_object(operation, i, now_ms);

    if (result == 0 && may_write_direct(operation, i))
        reserve_direct(operation, i);
    else if (result == 0 && work->size > 0)
        result = reserve_frame(operation, work);
    if (result == 0 && work->size > 0)
        result = reserve_extents(operation, work);
    if (result == 0) {
        operation->engine->space.staged_count++;
        work->run = i + 1;
        work->state = KV_WORK_STAGED;
        if (operation->held)
            kv_hold_begin(operation, work);
        return 0;
    }
    kv_set_release_frames(operation, work);
    if (work->object)
        kv_index_destroy(operation->engine->index, work->object);
    work->object = NULL;
    return result;
}

/* Whether items are looked up, each by itself, when they begin: of a held set counts what is there
 * later. */
static bool looks_up_first(const kv_operation *operation)
{
    return operation->held ? kv_hold_promises_objects(operation) : operation->if_absent;
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
        kv_set_close(operation, work, KV_DENIED);
        return true;
    }
    if (item->value_size > KV_VALUE_SIZE_MAX ||
        item->value_size > kv_tier_span_max(&engine->tier)) {
        kv_set_close(operation, work, KV_TOO_LARGE);
        return true;
    }
    if (!looks_up_first(operation))
        return false;
    object = kv_index_find(engine->index, work->hash, (const void *)item->key, item->key_size);
    if (operation->held && !object &&
        kv_index_count(engine->index) + engine->held_objects >= engine->options.objects_max) {
        kv_set_close(operation, work, KV_QUOTA);
        return true;
    }
    if (operation->held || !object || kv_object_expired(object, now_ms))
        return false;
    work->sequence = kv_object_sequence(object);
    work->outcome = KV_EXISTS;
    work->state = KV_WORK_APPENDED;
    return true;
}

/* How many values from `i` on go into one run. */
static uint32_t run_count(kv_operation *operation, uint32_t i, uint32_t *size)
{
    const kv_request *request = operation->request;
    uint32_t count = run_measure(operation, i, size);

    if (count > 1 && looks_up_first(operation)) {
        *size = kv_round_up(request->items[i].value_size, KV_SLAB_UNIT);
        count = 1;
    }
    for (uint32_t k = i + 1; k < i + count; k++)
        operation->works[k].hash =
            kv_index_hash(operation->engine->index, (const void *)request->items[k].key,
                          request->items[k].key_size);
    return count;
}

/* Compaction does not wait for a checkpoint: one thread makes both. */
static int journal_admit(const kv_operation *operation)
{
    kv_engine *engine = operation->engine;
    uint64_t staged = (uint64_t)engine->space.staged_count * KV_JOURNAL_STAGED_SIZE;
    int result = kv_journal_admit(engine, engine->options.journal_step / KV_JOURNAL_SHARE_SETS + staged);

    return result == -EAGAIN && operation->kind == KV_OP_MOVE ? -ENOSPC : result;
}

/* Where others evict, every set waits for their evictions while there are as many objects as there
 * may be: what it replaces, and so whether it adds one, is known only later. */
static int space_admit(const kv_operation *operation)
{
    kv_engine *engine = operation->engine;
    int result = journal_admit(operation);

    if (result < 0 || operation->kind == KV_OP_MOVE || !kv_victims_await_objects(engine))
        return result;
    kv_victims_tell(engine);
    return -EAGAIN;
}

/* Reserve for the item (and, packed, for those after it). The number of items begun, or -EBUSY: wait for
 * memory, -EAGAIN: wait for space. */
static int set_begin(kv_operation *operation, uint32_t i, uint64_t now_ms)
{
    uint32_t size = 0;
    uint32_t count;
    int result;

    if (set_refuse(operation, i, now_ms))
        return 1;
    result = space_admit(operation);
    if (result == -EAGAIN && !operation->forsaken)
        return result;
    if (result < 0) {
        kv_set_close(operation, &operation->works[i], KV_NO_SPACE);
        return 1;
    }
    count = run_count(operation, i, &size);
    if (operation->keeps)
        result = kv_hold_admit(operation, count > 0 ? size : operation->request->items[i].value_size);
    if (result == -EBUSY)
        return result;
    if (result == -EFBIG) {
        kv_set_close(operation, &operation->works[i], KV_TOO_LARGE);
        return 1;
    }
    result = -ENOSPC;
    if (count > 0)
        result = run_reserve(operation, i, count, size, now_ms);
    if (result == 0)
        return (int)count;
    if (result == -ENOSPC)
        result = single_reserve(operation, i, now_ms);
    if (result == 0)
        return 1;
    if (result == -EBUSY || (result == -EAGAIN && !operation->forsaken))
        return result;
    if (result == -EAGAIN)
        result = -ENOSPC;
    kv_set_close(operation, &operation->works[i], result == -ENOSPC ? KV_NO_SPACE : KV_UNAVAILABLE);
    return 1;
}

/* Whether the next item may take memory now; one without bytes takes none, and so does not wait for
 * the bytes of others. */
static bool may_begin(const kv_operation *operation, uint64_t held_before)
{
    uint64_t share = operation->engine->tier.size / KV_OPERATION_MEMORY_SHARE;

    if (operation->request->items[operation->next].value_size == 0)
        return true;
    return (operation->keeps || operation->held_size < share) &&
           operation->held_size < held_before + KV_STAGE_SIZE && !kv_push_has_enough(operation);
}

bool kv_set_begin_more(kv_operation *operation)
{
    kv_engine *engine = operation->engine;
    uint64_t now_ms = kv_engine_now(engine);
    uint32_t before = operation->next;
    uint64_t held_before = operation->held_size;

    kv_list_remove(&operation->wait);
    while (operation->next < operation->count && may_begin(operation, held_before)) {
        int begun = set_begin(operation, operation->next, now_ms);

        if (begun < 0) {
            kv_list *waiters = begun == -EBUSY ? &engine->memory_waiters : &engine->space_waiters;

            kv_list_append(waiters, &operation->wait);
            break;
        }
        operation->next += (uint32_t)begun;
        if (operation->kind == KV_OP_RECEIVE)
            kv_push_await(operation, operation->next - (uint32_t)begun, (uint32_t)begun);
    }
    if (operation->next == before && operation->next < operation->count)
        kv_set_came(operation);
    return operation->next != before;
}

