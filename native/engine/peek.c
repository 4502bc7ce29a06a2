/* What a chain asks of its target about single keys, between updates: the newest state in
 * memory, whether it is durable, and shown to readers, or not yet. Nothing here waits. */

#include "engine/engine_state.h"

#include <errno.h>

int kv_engine_peek(kv_engine *engine, const void *key, uint32_t key_size, kv_item_stat *stat,
                   uint32_t *value_size)
{
    uint64_t hash = kv_index_hash(engine->index, key, key_size);
    uint64_t now_ms = kv_engine_now(engine);
    const kv_object *object;
    int result = -ENOENT;

    pthread_mutex_lock(&engine->lock);
    object = kv_index_find(engine->index, hash, key, key_size);
    if (object && !kv_object_expired(object, now_ms)) {
        *stat = (kv_item_stat){.version = kv_object_version(object),
                               .expiry_ms = kv_object_expiry_ms(object),
                               .checksum = object->checksum,
                               .flags = object->pinned ? KV_ITEM_PINNED : 0};
        *value_size = object->size;
        result = 0;
    }
    pthread_mutex_unlock(&engine->lock);
    return result;
}

uint64_t kv_engine_version_max(kv_engine *engine)
{
    uint64_t version;

    pthread_mutex_lock(&engine->lock);
    version = engine->version_max;
    pthread_mutex_unlock(&engine->lock);
    return version;
}
