/* The device's space: extents, growth of the slab file, quarantine and eviction.
 *
 * An object that was superseded or deleted is retired: its extents stay untouched until the record
 * that made it obsolete is flushed and its last reader has let go (invariant 2 of engine_state.h). */

#include "engine/engine_state.h"
#include "engine/victims.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SPACE_RETIRED_CAPACITY_FIRST 256u
#define SPACE_RESERVE_FROM 32u /* slabs; from here on one is kept for compaction to move things to */
#define SPACE_SLAB_COUNT_MAX (1u << 20)
#define SPACE_EVICT_SHARE 128u /* of the space goes when a set finds it full */

int kv_space_open(kv_engine *engine, uint64_t slab_size, uint64_t space_size)
{
    kv_space *space = &engine->space;
    uint64_t slab_count = space_size / slab_size;
    kv_slab_options options = {
        .slab_size = slab_size,
        .slab_count = (uint32_t)(slab_count < SPACE_SLAB_COUNT_MAX ? slab_count : SPACE_SLAB_COUNT_MAX),
        .alignment = KV_DEVICE_ALIGNMENT,
        .extent_size_max = (uint32_t)(slab_size / 8),
    };
    int64_t size = engine->device->operations->file_size(engine->device, KV_FILE_SLABS);

    if (size < 0)
        return (int)size;
    memset(space, 0, sizeof(*space));
    space->slab_size = slab_size;
    space->reserved_size = (uint64_t)size;
    space->retired = calloc(SPACE_RETIRED_CAPACITY_FIRST, sizeof(*space->retired));
    if (!space->retired)
        return -ENOMEM;
    space->retired_capacity = SPACE_RETIRED_CAPACITY_FIRST;
    space->reserve_count = options.slab_count >= SPACE_RESERVE_FROM ? 1 : 0;
    return kv_slab_open(&options, &space->slabs);
}

void kv_space_close(kv_engine *engine)
{
    if (engine->space.slabs)
        kv_slab_close(engine->space.slabs);
    free(engine->space.retired);
    memset(&engine->space, 0, sizeof(engine->space));
}

/* The slab file must reach behind the last slab in use before anything is written there. */
static int space_grow(kv_engine *engine)
{
    kv_space *space = &engine->space;
    uint64_t needed = KV_SLABS_START + (uint64_t)kv_slab_high_mark(space->slabs) * space->slab_size;
    uint64_t limit = KV_SLABS_START + kv_slab_space_size(space->slabs);
    uint64_t step = space->reserved_size < KV_GROW_STEP ? space->reserved_size : KV_GROW_STEP;
    uint64_t wanted = needed + step < limit ? needed + step : limit;
    const kv_device_operations *operations = engine->device->operations;
    int result;

    if (needed <= space->reserved_size)
        return 0;
    result = operations->file_reserve(engine->device, KV_FILE_SLABS, wanted);
    if (result == -ENOSPC) {
        wanted = needed;
        result = operations->file_reserve(engine->device, KV_FILE_SLABS, wanted);
    }
    if (result == 0)
        space->reserved_size = wanted;
    return result;
}

/* The file system is full: give out no slab that the file does not hold. */
static void space_limit(kv_engine *engine)
{
    kv_space *space = &engine->space;

    space->full = true;
    kv_slab_limit(space->slabs,
                  (uint32_t)((space->reserved_size - KV_SLABS_START) / space->slab_size));
}

/* What is evicted is free after a flush of the device, so one flush serves many sets. */
static uint64_t evict_size(const kv_engine *engine, uint64_t size)
{
    uint64_t share = kv_slab_space_size(engine->space.slabs) / SPACE_EVICT_SHARE;

    return size > share ? size : share;
}

/* Free bytes may lie where this size cannot use them. False: compaction was in vain, or has nothing to gain. */
static bool space_want_compaction(kv_engine *engine)
{
    kv_space *space = &engine->space;

    if (space->compaction_vain || kv_slab_victim(space->slabs, 100) == KV_SLAB_NONE)
        return false;
    space->compaction_wanted = true;
    engine->options.maintain(engine->options.executor);
    return true;
}

/* Others evict: they are told, and the set waits for what they do. */
static int space_await(kv_engine *engine, uint32_t size)
{
    if (engine->space.retired_size < size)
        kv_victims_want(engine, evict_size(engine, size));
    else
        kv_victims_tell(engine);
    if (engine->space.retired_count > 0)
        kv_journal_want_flush(engine);
    else
        space_want_compaction(engine);
    return -EAGAIN;
}

/* Nothing was free: can waiting or evicting help? What is still being written can be evicted soon, and
 * what is being read and was superseded is free soon. */
static int space_refuse(kv_engine *engine, uint32_t size)
{
    const kv_space *space = &engine->space;
    bool cache = engine->eviction != NULL;

    if (kv_victims_are_others(engine))
        return space_await(engine, size);
    if (cache && space->retired_size < size)
        kv_space_evict(engine, evict_size(engine, size));
    if (space->retired_count > 0 || (cache && !kv_journal_has_room(engine, KV_RECORD_SIZE_MAX))) {
        kv_journal_want_flush(engine);
        return -EAGAIN;
    }
    if (space->orphan_count > 0 || (cache && space->staged_count > space->held_count))
        return -EAGAIN;
    return space_want_compaction(engine) ? -EAGAIN : -ENOSPC;
}

void kv_space_settle(kv_engine *engine, uint32_t count)
{
    assert(engine->space.staged_count >= count);
    engine->space.staged_count -= count;
    kv_operation_wake_all(&engine->space_waiters);
}

static int space_take(kv_engine *engine, uint32_t size, bool ideal, kv_extent *pieces)
{
    kv_slab_allocator *slabs = engine->space.slabs;
    int count = ideal ? kv_slab_allocate_ideal(slabs, size, pieces)
                      : kv_slab_allocate(slabs, size, pieces);

    if (count > 1 && size <= engine->space.slab_size / 8)
        engine->space.compaction_wanted = true; /* it was scattered: room of its class ran out */
    if (count < 0 || space_grow(engine) == 0)
        return count;
    kv_space_free(engine, pieces, (uint32_t)count);
    space_limit(engine);
    return -ENOSPC;
}

int kv_space_allocate(kv_engine *engine, uint32_t size, bool ideal, kv_extent pieces[KV_SLAB_PIECES_MAX])
{
    bool was_full = engine->space.full;
    int count;

    if (ideal)
        kv_slab_reserve(engine->space.slabs, 0);
    count = space_take(engine, size, ideal, pieces);
    if (count < 0 && !was_full && engine->space.full)
        count = space_take(engine, size, ideal, pieces); /* within what the file already has */
    kv_slab_reserve(engine->space.slabs, engine->space.reserve_count);
    return count < 0 && !ideal ? space_refuse(engine, size) : count;
}

int kv_space_allocate_pack(kv_engine *engine, uint32_t size, uint32_t live_size, bool compacts,
                           kv_extent *extent)
{
    int result;

    if (compacts)
        kv_slab_reserve(engine->space.slabs, 0);
    result = kv_slab_allocate_pack(engine->space.slabs, size, live_size, extent);
    kv_slab_reserve(engine->space.slabs, engine->space.reserve_count);
    if (result < 0)
        return result;
    if (space_grow(engine) == 0)
        return 0;
    extent->size = live_size;
    kv_slab_free(engine->space.slabs, extent);
    space_limit(engine);
    return -ENOSPC;
}

void kv_space_compacted(kv_engine *engine, bool freed)
{
    engine->space.compaction_wanted = false;
    engine->space.compaction_vain = !freed;
    kv_operation_wake_all(&engine->space_waiters);
}

void kv_space_free(kv_engine *engine, const kv_extent *pieces, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        engine->space.freed += pieces[i].size;
        kv_slab_free(engine->space.slabs, &pieces[i]);
    }
    engine->space.compaction_vain &= count == 0;
}

static int retired_grow(kv_space *space)
{
    uint32_t capacity = space->retired_capacity * 2;
    kv_retired *ring = calloc(capacity, sizeof(*ring));

    if (!ring)
        return -ENOMEM;
    for (uint32_t i = 0; i < space->retired_count; i++)
        ring[i] = space->retired[(space->retired_head + i) & (space->retired_capacity - 1)];
    free(space->retired);
    space->retired = ring;
    space->retired_capacity = capacity;
    space->retired_head = 0;
    return 0;
}

uint64_t kv_space_of(const kv_engine *engine, const kv_object *object)
{
    kv_extent pieces[KV_SLAB_PIECES_MAX];
    uint32_t count = kv_object_pieces(engine, object, pieces);
    uint64_t size = 0;

    for (uint32_t i = 0; i < count; i++)
        size += pieces[i].size;
    return size;
}

int kv_space_retire(kv_engine *engine, kv_object *object, uint64_t sequence)
{
    kv_space *space = &engine->space;

    assert(object->dead && object->frame == 0);
    if (space->retired_count == space->retired_capacity && retired_grow(space) < 0)
        return -ENOMEM;
    space->retired[(space->retired_head + space->retired_count) & (space->retired_capacity - 1)] =
        (kv_retired){.sequence = sequence, .object = kv_index_handle(engine->index, object)};
    space->retired_count++;
    space->retired_size += kv_space_of(engine, object);
    if (space->retired_count >= KV_QUARANTINE_COUNT_MAX)
        kv_journal_want_flush(engine);
    return 0;
}

static void object_free(kv_engine *engine, kv_object *object)
{
    kv_extent pieces[KV_SLAB_PIECES_MAX];
    uint32_t count = kv_object_pieces(engine, object, pieces);

    assert(object->holders == 0);
    kv_space_free(engine, pieces, count);
    if (object->scattered)
        kv_index_side_free(engine->index, (uint32_t)kv_object_location(object),
                           sizeof(uint64_t) * (count + 1));
    kv_index_destroy(engine->index, object);
}

void kv_space_release(kv_engine *engine)
{
    kv_space *space = &engine->space;
    while (space->retired_count > 0) {
        kv_retired *first = &space->retired[space->retired_head];
        kv_object *object;

        if (first->sequence > engine->journal.flushed)
            break;
        object = kv_index_at(engine->index, first->object);
        space->retired_size -= kv_space_of(engine, object);
        space->retired_head = (space->retired_head + 1) & (space->retired_capacity - 1);
        space->retired_count--;
        if (object->holders > 0) {
            object->queue = KV_QUEUE_ORPHAN;
            space->orphan_count++;
        } else {
            object_free(engine, object);
        }
    }
    kv_operation_wake_all(&engine->space_waiters); /* they ask for another flush where it takes one */
}

void kv_object_hold(kv_object *object)
{
    assert(object->holders < UINT16_MAX);
    object->holders++;
}

void kv_object_release(kv_engine *engine, kv_object *object)
{
    assert(object->holders > 0);
    object->holders--;
    if (object->holders == 0 && object->dead && object->queue == KV_QUEUE_ORPHAN) {
        engine->space.orphan_count -= object->stored;
        object_free(engine, object);
        kv_operation_wake_all(&engine->space_waiters);
    }
}

static bool object_may_go(void *context, uint32_t handle, uint64_t *hash)
{
    const kv_engine *engine = context;
    const kv_object *object = kv_index_at(engine->index, handle);

    *hash = kv_index_hash(engine->index, object->key, object->key_size);
    return !object->pinned && object->stored;
}

bool kv_space_evict_one(kv_engine *engine)
{
    uint32_t handle;
    kv_object *object;

    if (!engine->evicts_itself || !kv_journal_has_room(engine, KV_RECORD_SIZE_MAX))
        return false;
    handle = kv_eviction_pick(engine->eviction, object_may_go);
    if (handle == 0)
        return false;
    object = kv_index_at(engine->index, handle);
    object->queue = 0;
    engine->statistics.evictions++;
    kv_update_delete(engine, object, kv_index_hash(engine->index, object->key, object->key_size),
                     KV_RECORD_FLAG_EVICTED);
    return true;
}

uint64_t kv_space_evict(kv_engine *engine, uint64_t size)
{
    uint64_t before = engine->space.retired_size;

    while (engine->space.retired_size - before < size)
        if (!kv_space_evict_one(engine))
            break;
    return engine->space.retired_size - before;
}

uint64_t kv_space_below_watermark(const kv_engine *engine)
{
    const kv_slab_allocator *slabs = engine->space.slabs;
    uint64_t wanted = kv_slab_space_size(slabs) / 100 * KV_WATERMARK_PERCENT;
    uint64_t available = kv_slab_free_size(slabs) + engine->space.retired_size;

    return available < wanted ? wanted - available : 0;
}
