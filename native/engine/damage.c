/* See damage.h; and how a damaged object is made whole: by a MOVE of the object as it is to a new
 * place, with bytes that match the checksum that it was set with. So it stays the same update, in
 * whatever order others come, and an object that changed meanwhile stays as it is. */

#include "engine/damage.h"

#include "engine/engine_state.h"
#include "engine/survey.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

static kv_damaged *find(kv_damage *damage, const void *key, uint32_t key_size)
{
    for (uint32_t i = 0; i < damage->count; i++) {
        kv_damaged *damaged = &damage->objects[i];

        if (damaged->key_size == key_size && memcmp(damaged->key, key, key_size) == 0)
            return damaged;
    }
    return NULL;
}

void kv_damage_note(kv_damage *damage, const kv_object *object)
{
    kv_damaged *damaged = find(damage, object->key, object->key_size);

    if (object->dead || (!damaged && damage->count == KV_DAMAGE_COUNT_MAX))
        return;
    if (!damaged)
        damaged = &damage->objects[damage->count++];
    damaged->sequence = kv_object_sequence(object);
    damaged->key_size = object->key_size;
    memcpy(damaged->key, object->key, object->key_size);
}

/* The last one takes its place. */
static void drop(kv_damage *damage, kv_damaged *damaged)
{
    assert(damage->count > 0);
    damage->count--;
    *damaged = damage->objects[damage->count];
}

void kv_damage_forget(kv_damage *damage, const void *key, uint32_t key_size)
{
    kv_damaged *damaged = find(damage, key, key_size);

    if (damaged)
        drop(damage, damaged);
}

/* Locked: the object, if it is still the one that was noted. */
static kv_object *object_of(kv_engine *engine, const kv_damaged *damaged)
{
    uint64_t hash = kv_index_hash(engine->index, damaged->key, damaged->key_size);
    kv_object *object = kv_index_find(engine->index, hash, damaged->key, damaged->key_size);

    if (!object || kv_object_sequence(object) != damaged->sequence || !object->stored ||
        kv_object_expired(object, kv_engine_now(engine)))
        return NULL;
    return object;
}

int64_t kv_engine_damaged(kv_engine *engine, void *buffer, uint64_t size)
{
    kv_damage *damage = &engine->damage;
    uint64_t used = 0;
    uint32_t i = 0;

    pthread_mutex_lock(&engine->lock);
    while (i < damage->count) {
        const kv_object *object = object_of(engine, &damage->objects[i]);
        uint64_t needed = KV_STORED_ENTRY_SIZE + damage->objects[i].key_size;

        if (!object) {
            drop(damage, &damage->objects[i]);
            continue;
        }
        if (used + needed <= size) {
            kv_stored_entry_put((uint8_t *)buffer + used, object);
            used += needed;
        }
        i++;
    }
    pthread_mutex_unlock(&engine->lock);
    return (int64_t)used;
}

uint32_t kv_engine_damaged_count(kv_engine *engine)
{
    uint32_t count;

    pthread_mutex_lock(&engine->lock);
    count = engine->damage.count;
    pthread_mutex_unlock(&engine->lock);
    return count;
}

/* Locked. The sequence of the object to be replaced; 0: it is none, or another one by now. */
static uint64_t sequence_of(kv_engine *engine, const void *key, uint32_t key_size)
{
    kv_damaged *damaged = find(&engine->damage, key, key_size);
    uint64_t sequence = 0;

    if (damaged && object_of(engine, damaged))
        sequence = damaged->sequence;
    else if (damaged)
        drop(&engine->damage, damaged);
    return sequence;
}

static int error_of(int32_t status)
{
    switch (status) {
    case KV_OK:
        return 0;
    case KV_NOT_FOUND: /* not these bytes, or not this object any more */
        return -EBADMSG;
    case KV_NO_SPACE:
        return -ENOSPC;
    default:
        return -EIO;
    }
}

int kv_engine_repair(kv_engine *engine, const void *key, uint32_t key_size, const void *value,
                     uint32_t value_size, kv_engine_run *run, void *runner)
{
    kv_item item = {.key = (uint64_t)(uintptr_t)key,
                    .key_size = key_size,
                    .value = (uint64_t)(uintptr_t)value,
                    .value_size = value_size};
    kv_item_stat stat = {0};
    kv_request request = {.items = &item, .stats = &stat, .count = 1, .operation = KV_OP_MOVE};
    int result;

    pthread_mutex_lock(&engine->lock);
    stat.version = sequence_of(engine, key, key_size);
    pthread_mutex_unlock(&engine->lock);
    if (stat.version == 0)
        return -ENOENT;
    result = run(runner, &request);
    if (result != 0)
        return result < 0 ? result : -ECANCELED;
    if (item.status == KV_OK) {
        pthread_mutex_lock(&engine->lock);
        kv_damage_forget(&engine->damage, key, key_size);
        pthread_mutex_unlock(&engine->lock);
    }
    return error_of(item.status);
}
