/* Slab compaction: empty sparse slabs, so that their space serves every slab class again.
 *
 * A victim slab is frozen, the objects in it are found by a scan of the index, and each is read,
 * verified and written to another place by requests like a client's; a MOVE record takes effect
 * only where the object is still the same version. A slab whose last extent leaves is free. */

#include "engine/engine_state.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define COMPACT_BATCH_COUNT 256u
#define COMPACT_BATCH_SIZE (8u << 20) /* bytes of values moved together, unless one value is larger */
#define COMPACT_VICTIMS_MAX 16u       /* in one call */

typedef struct compaction {
    kv_engine *engine;
    uint32_t slab;
    uint32_t count;
    uint64_t size;
    uint64_t moved_size;
    uint8_t *values;
    uint64_t values_capacity;
    kv_item items[COMPACT_BATCH_COUNT];
    kv_item_stat stats[COMPACT_BATCH_COUNT];
    uint8_t keys[COMPACT_BATCH_COUNT][KV_KEY_SIZE_MAX];
} compaction;

static bool lies_in(const kv_engine *engine, const kv_object *object, uint32_t slab)
{
    kv_extent pieces[KV_SLAB_PIECES_MAX];
    uint32_t count = kv_object_pieces(engine, object, pieces);

    for (uint32_t i = 0; i < count; i++)
        if (kv_slab_index_of(engine->space.slabs, pieces[i].offset) == slab)
            return true;
    return false;
}

/* Locked: note the objects of the victim, up to a batch. */
static void note(void *context, kv_object *object)
{
    compaction *state = context;
    uint32_t i = state->count;

    if (i == COMPACT_BATCH_COUNT || (i > 0 && state->size + object->size > COMPACT_BATCH_SIZE))
        return;
    if (object->size == 0 || !object->stored || !lies_in(state->engine, object, state->slab))
        return;
    memcpy(state->keys[i], object->key, object->key_size);
    state->items[i] = (kv_item){.key = (uint64_t)state->keys[i],
                                .key_size = object->key_size,
                                .value = state->size, /* a position until the memory is there */
                                .value_size = object->size};
    state->stats[i] = (kv_item_stat){.version = kv_object_sequence(object),
                                     .checksum = object->checksum};
    state->size += object->size;
    state->count++;
}

static int prepare_values(compaction *state)
{
    if (state->size > state->values_capacity) {
        free(state->values);
        state->values = malloc(state->size);
        state->values_capacity = state->values ? state->size : 0;
        if (!state->values)
            return -ENOMEM;
    }
    for (uint32_t i = 0; i < state->count; i++)
        state->items[i].value += (uint64_t)state->values;
    return 0;
}

/* Keep only the items that were read whole. */
static void keep_read(compaction *state)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < state->count; i++) {
        if (state->items[i].status != KV_OK || state->items[i].result_size != state->items[i].value_size)
            continue;
        state->items[kept] = state->items[i];
        state->stats[kept] = state->stats[i];
        kept++;
    }
    state->count = kept;
}

/* Move a batch. The number of objects moved, or a negative errno. */
static int move_batch(compaction *state, kv_engine_run *run, void *runner)
{
    kv_request request = {.items = state->items,
                          .stats = state->stats,
                          .operation = KV_OP_READ_DEVICE};
    int moved = 0;
    int result = prepare_values(state);

    request.count = state->count;
    if (result == 0)
        result = run(runner, &request);
    if (result != 0)
        return result < 0 ? result : -ECANCELED;
    keep_read(state);
    request.count = state->count;
    request.operation = KV_OP_MOVE;
    result = run(runner, &request);
    if (result != 0)
        return result < 0 ? result : -ECANCELED;
    for (uint32_t i = 0; i < state->count; i++)
        if (state->items[i].status == KV_OK) {
            moved++;
            state->moved_size += state->items[i].value_size;
        }
    return moved;
}

/* One pass over the index for the victim; the number of objects moved. */
static int evacuate(compaction *state, kv_engine_run *run, void *runner)
{
    kv_engine *engine = state->engine;
    uint64_t cursor = 0;
    bool more = true;
    int total = 0;

    while (more) {
        uint64_t here = cursor;
        int moved;

        state->count = 0;
        state->size = 0;
        pthread_mutex_lock(&engine->lock);
        more = kv_index_scan(engine->index, &cursor, note, state);
        pthread_mutex_unlock(&engine->lock);
        if (state->count == 0)
            continue;
        moved = move_batch(state, run, runner);
        if (moved < 0)
            return moved;
        total += moved;
        if (moved > 0) {
            cursor = here; /* the segment may hold more than a batch */
            more = true;
        }
    }
    return total;
}

static uint32_t choose(kv_engine *engine, uint32_t live_share_max)
{
    uint32_t slab;

    pthread_mutex_lock(&engine->lock);
    slab = engine->offline ? KV_SLAB_NONE : kv_slab_victim(engine->space.slabs, live_share_max);
    if (slab != KV_SLAB_NONE)
        kv_slab_freeze(engine->space.slabs, slab);
    pthread_mutex_unlock(&engine->lock);
    return slab;
}

/* The moved extents are in quarantine until a flush; then the slab is free. True: it is. */
static bool settle(kv_engine *engine, uint32_t slab)
{
    bool empty;

    kv_journal_settle(engine, true);
    pthread_mutex_lock(&engine->lock);
    empty = kv_slab_live_size(engine->space.slabs, slab) == 0;
    pthread_mutex_unlock(&engine->lock);
    return empty;
}

/* Slabs that could not be emptied, because of a value that is being read or is damaged, say, stay frozen
 * until here, so that they do not stand before the others. */
static void thaw(kv_engine *engine, const uint32_t *slabs, uint32_t count)
{
    pthread_mutex_lock(&engine->lock);
    for (uint32_t i = 0; i < count; i++)
        kv_slab_thaw(engine->space.slabs, slabs[i]);
    pthread_mutex_unlock(&engine->lock);
}

int kv_engine_compact(kv_engine *engine, uint32_t live_share_max, kv_engine_run *run, void *runner)
{
    compaction *state;
    uint32_t kept[COMPACT_VICTIMS_MAX];
    uint32_t kept_count = 0;
    int freed = 0;
    int moved = 0;

    if (engine->read_only)
        return -EROFS;
    state = malloc(sizeof(*state)); /* large, and mostly never used: only the head is cleared */
    if (!state)
        return -ENOMEM;
    memset(state, 0, offsetof(compaction, items));
    state->engine = engine;
    for (uint32_t i = 0; i < COMPACT_VICTIMS_MAX && moved >= 0; i++) {
        state->slab = choose(engine, live_share_max);
        if (state->slab == KV_SLAB_NONE)
            break;
        moved = evacuate(state, run, runner);
        if (settle(engine, state->slab))
            freed++;
        else
            kept[kept_count++] = state->slab;
    }
    thaw(engine, kept, kept_count);
    pthread_mutex_lock(&engine->lock);
    engine->statistics.compactions += (uint64_t)freed;
    engine->statistics.compacted_bytes += state->moved_size;
    kv_space_compacted(engine, freed > 0);
    pthread_mutex_unlock(&engine->lock);
    free(state->values);
    free(state);
    return moved < 0 ? moved : freed;
}
