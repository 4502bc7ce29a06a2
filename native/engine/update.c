/* The ways an object changes. Each appends one record and changes index, tier and queues in the same
 * locked step, so that memory is always the state after the last appended record. */

#include "engine/engine_state.h"
#include "engine/victims.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

uint32_t kv_object_pieces(const kv_engine *engine, const kv_object *object,
                          kv_extent pieces[KV_SLAB_PIECES_MAX])
{
    const uint64_t *units;

    if (object->size == 0 || !object->stored)
        return 0;
    if (!object->scattered) {
        kv_slab_extent_at(engine->space.slabs, kv_object_location(object) * KV_SLAB_UNIT, object->size,
                          &pieces[0]);
        return 1;
    }
    units = kv_index_side_at(engine->index, (uint32_t)kv_object_location(object));
    for (uint32_t i = 0; i < units[0]; i++)
        kv_slab_extent_at(engine->space.slabs, units[i + 1] * KV_SLAB_UNIT, 0, &pieces[i]);
    return (uint32_t)units[0];
}

int kv_object_set_pieces(kv_engine *engine, kv_object *object, const kv_extent *pieces, uint32_t count,
                         bool packed)
{
    uint32_t handle;
    uint64_t *units;

    assert(object->size == 0 || count > 0);
    object->packed = packed;
    object->stored = 1;
    if (count == 0)
        return 0;
    if (count == 1) {
        kv_object_set_location(object, pieces[0].offset / KV_SLAB_UNIT);
        return 0;
    }
    handle = kv_index_side_allocate(engine->index, sizeof(uint64_t) * (count + 1));
    if (handle == 0)
        return -ENOMEM;
    units = kv_index_side_at(engine->index, handle);
    units[0] = count;
    for (uint32_t i = 0; i < count; i++)
        units[i + 1] = pieces[i].offset / KV_SLAB_UNIT;
    object->scattered = 1;
    kv_object_set_location(object, handle);
    return 0;
}

void kv_record_of(const kv_engine *engine, const kv_object *object, kv_record *record)
{
    record->kind = KV_RECORD_SET;
    record->flags = (uint8_t)((object->pinned ? KV_RECORD_FLAG_PINNED : 0) |
                              (object->packed ? KV_RECORD_FLAG_PACKED : 0));
    record->key_size = (uint16_t)object->key_size;
    record->key = object->key;
    record->size = object->size;
    record->checksum = object->checksum;
    record->expiry_ms = kv_object_expiry_ms(object);
    record->sequence_of = kv_object_sequence(object);
    record->version = kv_object_version(object);
    record->piece_count = (uint16_t)kv_object_pieces(engine, object, record->pieces);
}

static void count_object(kv_engine *engine, const kv_object *object, int sign)
{
    engine->statistics.value_size += (uint64_t)((int64_t)sign * (int64_t)object->size);
    engine->statistics.pinned_objects += (uint64_t)(int64_t)(object->pinned ? sign : 0);
}

static void retire(kv_engine *engine, kv_object *object, uint64_t sequence)
{
    if (kv_space_retire(engine, object, sequence) < 0)
        kv_engine_fail(engine, ENOMEM); /* its space could not even be remembered */
}

/* Take `old` out of sight; `sequence` is the record that made it obsolete. An object that is not stored
 * has no record and no extents of its own, but it answers for its shadow. */
static void object_bury(kv_engine *engine, kv_object *old, uint64_t sequence)
{
    count_object(engine, old, -1);
    kv_tier_detach(&engine->tier, old);
    old->dead = 1;
    if (old->stored)
        retire(engine, old, sequence);
    else if (kv_object_location(old) != 0)
        retire(engine, kv_index_at(engine->index, (uint32_t)kv_object_location(old)), sequence);
}

static uint64_t append(kv_engine *engine, const kv_record *record)
{
    uint64_t sequence = kv_journal_append(engine, record);

    assert(sequence != 0);
    return sequence;
}

/* Put `object` where `old` (or nothing) was, in index and queues. */
static void object_link(kv_engine *engine, kv_object *old, kv_object *object, uint64_t hash, uint32_t rank)
{
    uint32_t handle = kv_index_handle(engine->index, object);

    if (old)
        kv_index_replace(engine->index, hash, old, object);
    else if (kv_index_link(engine->index, hash, object) < 0)
        kv_engine_fail(engine, ENOMEM);
    count_object(engine, object, 1);
    if (kv_object_version(object) > engine->version_max)
        engine->version_max = kv_object_version(object);
    if (!engine->eviction)
        return;
    if (old && old->queue != 0) {
        kv_eviction_rename(engine->eviction, kv_index_handle(engine->index, old), handle);
        old->queue = 0;
        kv_eviction_touch(engine->eviction, handle, rank);
    } else {
        kv_eviction_insert(engine->eviction, handle, hash, rank);
        if (kv_eviction_count(engine->eviction) > engine->eviction_expected) {
            engine->eviction_expected *= 2;
            kv_eviction_resize(engine->eviction, engine->eviction_expected);
        }
    }
}

uint64_t kv_update_set(kv_engine *engine, kv_object *object, uint64_t hash, uint32_t rank,
                       kv_pinning pinning)
{
    kv_object *old = kv_index_find(engine->index, hash, object->key, object->key_size);
    kv_record record;
    uint64_t sequence;

    if (pinning == KV_PINNED_AS_BEFORE)
        object->pinned = old ? old->pinned : 0;
    kv_record_of(engine, object, &record);
    record.sequence_of = 0;
    sequence = append(engine, &record);
    kv_object_set_sequence(object, sequence);
    object_link(engine, old, object, hash, rank);
    if (old)
        object_bury(engine, old, sequence);
    return sequence;
}

uint64_t kv_update_delete(kv_engine *engine, kv_object *object, uint64_t hash, uint8_t flags)
{
    kv_record record = {
        .kind = KV_RECORD_DELETE,
        .flags = flags,
        .key_size = (uint16_t)object->key_size,
        .key = object->key,
    };
    uint64_t sequence = append(engine, &record);

    if (kv_victims_are_others(engine))
        kv_victims_removed(engine, kv_space_of(engine, object));
    if (engine->eviction && object->queue != 0) {
        kv_eviction_remove(engine->eviction, kv_index_handle(engine->index, object));
        object->queue = 0;
    }
    kv_index_unlink(engine->index, hash, object);
    object_bury(engine, object, sequence);
    engine->removal_sequence = sequence;
    return sequence;
}

uint64_t kv_update_pin(kv_engine *engine, kv_object *object, bool pinned)
{
    kv_record record = {
        .kind = pinned ? KV_RECORD_PIN : KV_RECORD_UNPIN,
        .key_size = (uint16_t)object->key_size,
        .key = object->key,
    };
    uint64_t sequence = append(engine, &record);

    count_object(engine, object, -1);
    object->pinned = pinned;
    count_object(engine, object, 1);
    return sequence;
}

uint64_t kv_update_move(kv_engine *engine, kv_object *object, uint64_t hash)
{
    kv_object *old = kv_index_find(engine->index, hash, object->key, object->key_size);
    kv_record record;
    uint64_t sequence;

    assert(old && kv_object_sequence(old) == kv_object_sequence(object));
    object->pinned = old->pinned;
    object->frequency = old->frequency;
    kv_object_set_expiry_ms(object, kv_object_expiry_ms(old));
    kv_object_set_version(object, kv_object_version(old));
    kv_record_of(engine, object, &record);
    record.kind = KV_RECORD_MOVE;
    sequence = append(engine, &record);
    kv_tier_move(&engine->tier, old, object);
    kv_index_replace(engine->index, hash, old, object);
    if (engine->eviction && old->queue != 0) {
        kv_eviction_rename(engine->eviction, kv_index_handle(engine->index, old),
                           kv_index_handle(engine->index, object));
        old->queue = 0;
    }
    count_object(engine, object, 1);
    object_bury(engine, old, sequence);
    return sequence;
}

void kv_update_link(kv_engine *engine, kv_object *object, uint64_t hash, uint32_t rank,
                    kv_pinning pinning)
{
    kv_object *old = kv_index_find(engine->index, hash, object->key, object->key_size);

    assert(!object->stored);
    if (pinning == KV_PINNED_AS_BEFORE)
        object->pinned = old ? old->pinned : 0;
    object_link(engine, old, object, hash, rank);
    if (!old)
        return;
    kv_object_set_location(object, old->stored ? kv_index_handle(engine->index, old)
                                               : kv_object_location(old));
    count_object(engine, old, -1);
    kv_tier_detach(&engine->tier, old);
    old->dead = 1;
}

int kv_update_store(kv_engine *engine, kv_object *object, const kv_extent *pieces, uint32_t count,
                    bool packed)
{
    uint32_t shadow = (uint32_t)kv_object_location(object);
    kv_record record;

    kv_object_set_location(object, 0);
    if (kv_object_set_pieces(engine, object, pieces, count, packed) < 0)
        return -ENOMEM;
    kv_record_of(engine, object, &record);
    record.sequence_of = 0;
    kv_object_set_sequence(object, append(engine, &record));
    if (shadow != 0)
        retire(engine, kv_index_at(engine->index, shadow), kv_object_sequence(object));
    return 0;
}
