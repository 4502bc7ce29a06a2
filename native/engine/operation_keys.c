/* Operations that touch no value: exists, match_prefix, stat, delete, pin, unpin, flush.
 *
 * Like reads of values they show nothing that a crash could take back: what they saw is answered once
 * it is visible. Deletes and pins are answered once their records are durable as the store promises. */

#include "engine/engine_state.h"

#include <assert.h>
#include <errno.h>

#define KEYS_PER_LOCK 256u   /* keys handled under one hold of the lock */
#define KEYS_AHEAD 16u       /* between the steps of a look-up: hash, slot, object */
#define KEYS_WINDOW (4 * KEYS_AHEAD)

/* What is known of the keys around the one looked up now, by position modulo KEYS_WINDOW. */
typedef struct keys_window {
    uint64_t hashes[KEYS_WINDOW];
    bool possible[KEYS_WINDOW]; /* the index may hold the key; while nothing is linked, false is certain */
} keys_window;

_Static_assert(KEYS_WINDOW >= 2 * KEYS_AHEAD + 1, "the key of a step and all keys ahead of it");

static void note_sequence(kv_operation *operation, uint64_t sequence)
{
    if (sequence > operation->seen_sequence)
        operation->seen_sequence = sequence;
}

static bool changes_keys(const kv_operation *operation)
{
    return operation->kind == KV_OP_DELETE || operation->kind == KV_OP_PIN ||
           operation->kind == KV_OP_UNPIN;
}

static kv_object *find(kv_operation *operation, uint32_t i, const keys_window *window, uint64_t now_ms)
{
    kv_engine *engine = operation->engine;
    const kv_item *item = &operation->request->items[i];
    kv_object *object = NULL;
    /* A reader may see an evicted key again after a crash; who deletes it may not. */
    uint64_t absent = operation->kind == KV_OP_DELETE ? engine->removal_sequence : engine->delete_sequence;

    if (window->possible[i % KEYS_WINDOW])
        object = kv_index_find(engine->index, window->hashes[i % KEYS_WINDOW], (const void *)item->key,
                               item->key_size);
    if (object && kv_object_expired(object, now_ms) && !operation->evicts)
        object = NULL;
    note_sequence(operation, object ? kv_object_sequence(object) : absent);
    return object;
}

static void stat_fill(const kv_object *object, kv_item *item, kv_item_stat *stat)
{
    item->result_size = object->size;
    stat->version = kv_object_version_told(object);
    stat->expiry_ms = kv_object_expiry_ms(object);
    stat->checksum = object->checksum;
    stat->flags = object->pinned ? KV_ITEM_PINNED : 0;
}

/* Locked. False: the journal has no room now, or (match_prefix) the first missing key was met. */
static bool key_change(kv_operation *operation, kv_object *object, uint64_t hash)
{
    kv_engine *engine = operation->engine;
    if (!kv_journal_has_room(engine, KV_RECORD_SIZE_MAX))
        return false;
    if (operation->evicts) {
        engine->statistics.evictions++;
        note_sequence(operation, kv_update_delete(engine, object, hash, KV_RECORD_FLAG_EVICTED));
    } else if (operation->kind == KV_OP_DELETE) {
        engine->delete_sequence = kv_update_delete(engine, object, hash, 0);
        engine->statistics.deletes++;
        note_sequence(operation, engine->delete_sequence);
    } else if (object->pinned != (operation->kind == KV_OP_PIN)) {
        note_sequence(operation, kv_update_pin(engine, object, operation->kind == KV_OP_PIN));
    }
    return true;
}

/* Deletes go on where sets wait for a checkpoint, as long as there is room for their records. */
static bool may_append(kv_engine *engine)
{
    uint64_t step = engine->options.journal_step;

    return kv_journal_admit(engine, step / KV_JOURNAL_SHARE_SETS) == 0 ||
           kv_journal_admit(engine, step / KV_JOURNAL_SHARE_DELETES) == 0;
}

/* Locked. False: stop here for now. */
static bool key_step(kv_operation *operation, uint32_t i, const keys_window *window, uint64_t now_ms)
{
    kv_engine *engine = operation->engine;
    kv_item *item = &operation->request->items[i];
    kv_object *object = find(operation, i, window, now_ms);
    bool changes = changes_keys(operation);

    item->result_size = 0;
    engine->statistics.exists += operation->kind == KV_OP_EXISTS;
    if (changes && engine->read_only) {
        kv_operation_finish(operation, i, KV_DENIED);
        return true;
    }
    if (object && changes && !may_append(engine)) {
        kv_operation_finish(operation, i, KV_NO_SPACE);
        return true;
    }
    if (object && changes && !key_change(operation, object, window->hashes[i % KEYS_WINDOW]))
        return false;
    if (object && !changes)
        item->result_size = object->size;
    if (object && operation->kind == KV_OP_STAT)
        stat_fill(object, item, &operation->request->stats[i]);
    kv_operation_finish(operation, i, object ? KV_OK : KV_NOT_FOUND);
    if (operation->kind == KV_OP_MATCH_PREFIX && !object) {
        for (uint32_t k = i + 1; k < operation->count; k++)
            kv_operation_finish(operation, k, KV_NOT_FOUND);
        operation->next = operation->count;
        return false;
    }
    operation->request->matched += object != NULL;
    return true;
}

static void key_hash(const kv_operation *operation, uint32_t i, keys_window *window)
{
    const kv_item *item = &operation->request->items[i];
    uint64_t hash = kv_index_hash(operation->engine->index, (const void *)item->key, item->key_size);

    window->hashes[i % KEYS_WINDOW] = hash;
    kv_index_prefetch(operation->engine->index, hash);
}

static void key_seek(const kv_operation *operation, uint32_t i, keys_window *window)
{
    uint64_t hash = window->hashes[i % KEYS_WINDOW];

    window->possible[i % KEYS_WINDOW] = kv_index_prefetch_object(operation->engine->index, hash) != NULL;
}

/* Locked. Each key is hashed, then sought, then looked up, some keys apart, so that what they load comes side by side. False: no room
 * in the journal. */
static bool keys_advance(kv_operation *operation)
{
    uint64_t now_ms = kv_engine_now(operation->engine);
    uint32_t begin = operation->next;
    uint32_t count = operation->count - begin < KEYS_PER_LOCK ? operation->count - begin : KEYS_PER_LOCK;
    keys_window window;

    for (uint32_t step = 0; step < count + 2 * KEYS_AHEAD; step++) {
        if (step < count)
            key_hash(operation, begin + step, &window);
        if (step >= KEYS_AHEAD && step < count + KEYS_AHEAD)
            key_seek(operation, begin + step - KEYS_AHEAD, &window);
        if (step < 2 * KEYS_AHEAD)
            continue;
        if (!key_step(operation, operation->next, &window, now_ms))
            return operation->next == operation->count;
        operation->next++;
    }
    return true;
}

/* Locked: whether everything answered before this flush has a record. Values answered later begin in
 * another epoch, so that they cannot hold it up; there are two at a time. */
static bool flush_written(kv_operation *operation)
{
    kv_engine *engine = operation->engine;
    uint64_t epoch = engine->unwritten_epoch;

    if (operation->flush_epoch == 0 && engine->unwritten_counts[(epoch + 1) & 1] == 0) {
        operation->flush_epoch = epoch;
        engine->unwritten_epoch = epoch + 1;
    }
    if (operation->flush_epoch == 0)
        return false;
    return engine->unwritten_epoch > operation->flush_epoch + 1 ||
           engine->unwritten_counts[operation->flush_epoch & 1] == 0;
}

/* Locked: a flush is complete when everything answered is appended and everything appended is flushed. */
static void flush_step(kv_operation *operation)
{
    kv_engine *engine = operation->engine;

    kv_list_remove(&operation->wait);
    if (engine->read_only) {
        operation->complete = true;
        return;
    }
    if (operation->seen_sequence == 0 && !flush_written(operation)) {
        kv_list_append(&engine->unwritten_waiters, &operation->wait);
        return;
    }
    if (operation->seen_sequence == 0)
        operation->seen_sequence = engine->journal.next - 1;
    if (engine->journal.flushed >= operation->seen_sequence) {
        operation->complete = true;
        return;
    }
    kv_journal_want_flush(engine);
    kv_operation_wait_sequence(operation, operation->seen_sequence, false);
}

static void keys_abort(kv_operation *operation)
{
    kv_list_remove(&operation->wait);
    kv_list_remove(&operation->wait_journal);
    if (!operation->complete)
        for (uint32_t i = 0; i < operation->count; i++)
            operation->request->items[i].status = (int32_t)operation->abort_status;
    operation->request->matched = 0;
    operation->request->status = (int32_t)operation->abort_status;
    operation->done_count = operation->count;
    operation->complete = true;
}

/* Locked: the last item is done; answer when what was seen or changed is visible. */
static void keys_settle(kv_operation *operation)
{
    kv_engine *engine = operation->engine;

    if (operation->seen_sequence <= kv_engine_visible(engine))
        operation->complete = true;
    else
        kv_operation_wait_sequence(operation, operation->seen_sequence, true);
}

bool kv_keys_step(kv_operation *operation)
{
    kv_engine *engine = operation->engine;
    bool progress = false;
    uint32_t before = operation->next;

    pthread_mutex_lock(&engine->lock);
    if (operation->answered) {
        pthread_mutex_unlock(&engine->lock);
        return false;
    }
    if (engine->offline && !operation->abort_status)
        operation->abort_status = KV_UNAVAILABLE;
    if (operation->abort_status) {
        keys_abort(operation);
    } else if (operation->kind == KV_OP_FLUSH) {
        flush_step(operation);
    } else {
        bool room = keys_advance(operation);

        progress = operation->next != before;
        kv_journal_kick(engine);
        if (operation->next == operation->count)
            keys_settle(operation);
        else if (!room)
            kv_operation_wait_sequence(operation, engine->journal.next - 1, true);
    }
    operation->closed = operation->complete;
    pthread_mutex_unlock(&engine->lock);
    return progress && !operation->complete;
}
