/* Cache mode where others evict: the head of a chain decides what leaves all of its targets, so
 * that they stay alike. This engine says what it lacks, and offers victims.
 *
 *   on a queue of the policy ──chosen──► on none ──deleted, set anew──► gone
 *            ▲                             │
 *            └───────────spared────────────┘
 *
 * An object that is on no queue is one that was chosen: nothing else takes a live object off its
 * queue, and whatever replaces it enters one again. */

#include "engine/engine_state.h"
#include "engine/victims.h"

#include <assert.h>
#include <string.h>

#define VICTIMS_COUNT_SHARE 128u /* of the objects that there may be: places that are kept free */

bool kv_victims_are_others(const kv_engine *engine)
{
    return engine->eviction && !engine->evicts_itself;
}

void kv_victims_tell(kv_engine *engine)
{
    if (kv_victims_are_others(engine) && engine->wanted)
        engine->wanted(engine->wanted_context);
}

void kv_victims_want(kv_engine *engine, uint64_t size)
{
    if (engine->space.wanted_size < size)
        engine->space.wanted_size = size;
    kv_victims_tell(engine);
}

bool kv_victims_await_objects(const kv_engine *engine)
{
    return kv_victims_are_others(engine) && engine->options.objects_max > 0 &&
           kv_index_count(engine->index) >= engine->options.objects_max;
}

/* Its space is there after a flush, its place among the objects at once. */
void kv_victims_removed(kv_engine *engine, uint64_t size)
{
    kv_space *space = &engine->space;

    space->wanted_size -= size < space->wanted_size ? size : space->wanted_size;
    if (kv_list_empty(&engine->space_waiters))
        return;
    kv_journal_want_flush(engine);
    if (engine->options.objects_max > 0)
        kv_operation_wake_all(&engine->space_waiters);
}

void kv_engine_set_evicts(kv_engine *engine, bool evicts)
{
    pthread_mutex_lock(&engine->lock);
    engine->evicts_itself = evicts && engine->eviction;
    engine->space.wanted_size = 0;
    kv_operation_wake_all(&engine->space_waiters); /* they wait for something else now */
    pthread_mutex_unlock(&engine->lock);
}

void kv_engine_set_wanted(kv_engine *engine, void (*wanted)(void *context), void *context)
{
    pthread_mutex_lock(&engine->lock);
    engine->wanted = wanted;
    engine->wanted_context = context;
    pthread_mutex_unlock(&engine->lock);
}

/* Locked. */
static uint64_t count_wanted(const kv_engine *engine)
{
    uint64_t limit = engine->options.objects_max;
    uint64_t count = kv_index_count(engine->index);

    limit -= limit / VICTIMS_COUNT_SHARE;
    return limit > 0 && count >= limit ? count - limit + 1 : 0;
}

void kv_engine_look_shortage(kv_engine *engine, kv_engine_shortage *shortage)
{
    *shortage = (kv_engine_shortage){0};
    pthread_mutex_lock(&engine->lock);
    if (kv_victims_are_others(engine)) {
        uint64_t below = kv_space_below_watermark(engine);
        uint64_t wanted = engine->space.wanted_size;

        shortage->waits = !kv_list_empty(&engine->space_waiters);
        if (!shortage->waits)
            engine->space.wanted_size = wanted = 0; /* who wanted it is gone */
        shortage->size = below > wanted ? below : wanted;
        shortage->count = count_wanted(engine);
        shortage->freed = engine->space.freed;
    }
    pthread_mutex_unlock(&engine->lock);
}

/* What is read now gives no space back before it was read. */
static bool may_go(void *context, uint32_t handle, uint64_t *hash)
{
    const kv_engine *engine = context;
    const kv_object *object = kv_index_at(engine->index, handle);

    *hash = kv_index_hash(engine->index, object->key, object->key_size);
    return !object->pinned && object->stored && object->holders == 0;
}

static uint32_t key_put(const kv_object *object, uint8_t *at)
{
    uint16_t size = (uint16_t)object->key_size;

    memcpy(at, &size, sizeof(size));
    memcpy(at + sizeof(size), object->key, size);
    return (uint32_t)sizeof(size) + size;
}

void kv_engine_victims(kv_engine *engine, kv_victims *victims)
{
    const uint32_t room = (uint32_t)sizeof(uint16_t) + KV_KEY_SIZE_MAX;
    uint64_t size = 0, count = 0;
    uint32_t used = 0;

    pthread_mutex_lock(&engine->lock);
    while (kv_victims_are_others(engine) && (size < victims->size || count < victims->count) &&
           count < victims->count_max && victims->keys_max - used >= room) {
        uint32_t handle = kv_eviction_pick(engine->eviction, may_go);
        kv_object *object;

        if (handle == 0)
            break;
        object = kv_index_at(engine->index, handle);
        assert(object->queue == 0 && !object->dead);
        size += kv_space_of(engine, object);
        used += key_put(object, victims->keys + used);
        count++;
    }
    pthread_mutex_unlock(&engine->lock);
    victims->size = size;
    victims->count = count;
}

/* Locked: the object at the key if it was chosen; NULL. */
static kv_object *victim_at(kv_engine *engine, const void *key, uint32_t key_size, uint64_t *hash)
{
    kv_object *object;

    *hash = kv_index_hash(engine->index, key, key_size);
    object = kv_index_find(engine->index, *hash, key, key_size);
    return object && engine->eviction && object->queue == 0 ? object : NULL;
}

bool kv_engine_is_victim(kv_engine *engine, const void *key, uint32_t key_size)
{
    const kv_object *object;
    uint64_t hash;
    bool chosen;

    pthread_mutex_lock(&engine->lock);
    object = victim_at(engine, key, key_size, &hash);
    chosen = object && !object->pinned;
    pthread_mutex_unlock(&engine->lock);
    return chosen;
}

void kv_engine_spare(kv_engine *engine, const void *key, uint32_t key_size)
{
    kv_object *object;
    uint64_t hash;

    pthread_mutex_lock(&engine->lock);
    object = victim_at(engine, key, key_size, &hash);
    if (object)
        kv_eviction_insert(engine->eviction, kv_index_handle(engine->index, object), hash, 0);
    pthread_mutex_unlock(&engine->lock);
}

void kv_engine_end_waits(kv_engine *engine, bool copies)
{
    pthread_mutex_lock(&engine->lock);
    for (kv_list *at = engine->space_waiters.next; at != &engine->space_waiters; at = at->next) {
        kv_operation *operation = KV_CONTAINER(at, kv_operation, wait);

        operation->forsaken |= operation->exact || !copies;
    }
    kv_operation_wake_all(&engine->space_waiters);
    pthread_mutex_unlock(&engine->lock);
}
