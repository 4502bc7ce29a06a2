/* What the engine does by itself: eviction to the watermark, expiry, flushes, checkpoints, compaction.
 * One thread of the owner calls kv_engine_maintain; nothing here is needed for correctness, only
 * for space, memory and a short recovery. */

#include "engine/engine_state.h"
#include "engine/startup.h"
#include "engine/victims.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAINTAIN_INTERVAL_MS 250u
#define EXPIRE_COUNT_MAX 1024u       /* objects deleted in one round */
#define COMPACT_SHARE_RELAXED 50u    /* percent live: worth moving in quiet times */
#define COMPACT_SHARE_PRESSED 100u  /* when a size lacks room */

typedef struct expired {
    kv_engine *engine;
    kv_object *objects[EXPIRE_COUNT_MAX];
    uint32_t count;
    uint64_t now_ms;
} expired;

static void note_expired(void *context, kv_object *object)
{
    expired *found = context;

    if (found->count < EXPIRE_COUNT_MAX && object->stored && kv_object_expired(object, found->now_ms))
        found->objects[found->count++] = object;
}

/* Delete expired objects of one segment of the index. True: call again soon. */
static bool expire_some(kv_engine *engine)
{
    expired found = {.engine = engine};
    bool more;

    pthread_mutex_lock(&engine->lock);
    found.now_ms = kv_engine_now(engine);
    more = kv_index_scan(engine->index, &engine->expiry_cursor, note_expired, &found);
    for (uint32_t i = 0; i < found.count; i++) {
        kv_object *object = found.objects[i];

        if (engine->offline || !kv_journal_has_room(engine, KV_RECORD_SIZE_MAX))
            break;
        kv_update_delete(engine, object, kv_index_hash(engine->index, object->key, object->key_size),
                         KV_RECORD_FLAG_EXPIRED);
        engine->statistics.expirations++;
    }
    kv_journal_kick(engine);
    if (!more)
        engine->expiry_cursor = 0;
    pthread_mutex_unlock(&engine->lock);
    return more;
}

/* Cache mode: keep a share of the space free, so that a set need not wait for an eviction. */
static void evict_to_watermark(kv_engine *engine)
{
    uint64_t space;
    uint64_t wanted;

    pthread_mutex_lock(&engine->lock);
    space = kv_slab_space_size(engine->space.slabs);
    wanted = kv_space_below_watermark(engine);
    if (engine->evicts_itself && wanted > 0 && !engine->offline) {
        kv_space_evict(engine, wanted);
        kv_journal_kick(engine);
    } else if (wanted > 0) {
        kv_victims_tell(engine);
    }
    if (engine->space.retired_size > space / 100 * KV_WATERMARK_PERCENT)
        kv_journal_want_flush(engine);
    pthread_mutex_unlock(&engine->lock);
}

static void flush_if_due(kv_engine *engine)
{
    uint64_t now_ms = kv_engine_now(engine);

    pthread_mutex_lock(&engine->lock);
    if (now_ms < engine->last_flush_ms || now_ms - engine->last_flush_ms >= KV_FLUSH_INTERVAL_MS) {
        engine->last_flush_ms = now_ms;
        kv_journal_want_flush(engine);
    }
    pthread_mutex_unlock(&engine->lock);
}

static bool checkpoint_due(kv_engine *engine)
{
    bool due;

    pthread_mutex_lock(&engine->lock);
    due = kv_checkpoint_due(engine);
    pthread_mutex_unlock(&engine->lock);
    return due;
}

/* In quiet times only what gives back at least what it moves; any gain when somebody lacks room. */
static uint32_t compact_share(kv_engine *engine)
{
    uint32_t share;

    pthread_mutex_lock(&engine->lock);
    share = engine->space.compaction_wanted ? COMPACT_SHARE_PRESSED : COMPACT_SHARE_RELAXED;
    pthread_mutex_unlock(&engine->lock);
    return share;
}

uint64_t kv_engine_maintain(kv_engine *engine, kv_engine_run *run, void *runner)
{
    int compacted;

    if (engine->read_only)
        return MAINTAIN_INTERVAL_MS;
    evict_to_watermark(engine);
    expire_some(engine);
    flush_if_due(engine);
    if (checkpoint_due(engine))
        kv_engine_checkpoint(engine);
    compacted = kv_engine_compact(engine, compact_share(engine), run, runner);
    return compacted > 0 ? 0 : MAINTAIN_INTERVAL_MS;
}
