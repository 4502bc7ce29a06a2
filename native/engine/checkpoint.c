/* Checkpoints: the index written out, so that the journal behind it can be forgotten.
 *
 *   1. the other journal file gets the header of generation g+1; the next group goes there
 *   2. segment by segment the index is copied into blocks (under the lock) and written (without it)
 *   3. everything the blocks contain is flushed, values and journal included, and the blocks and
 *      the header of the new journal file too
 *   4. the header of checkpoint g+1 makes it count; from then on journal g and checkpoint g are free
 *
 * A checkpoint that a crash or a full file system ended after step 1 is taken up again there: journal
 * g and checkpoint g are needed until checkpoint g+1 counts.
 *
 * The copy is fuzzy: objects changed meanwhile may be in it with a later sequence than the one the
 * checkpoint stands for. Replay compares sequences, so applying the journal again is harmless. */

#include "engine/engine_state.h"
#include "engine/startup.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CHECKPOINT_GROW_STEP (16u << 20)

typedef struct checkpoint {
    kv_engine *engine;
    uint64_t generation;
    uint64_t offset;
    uint64_t count;
    uint64_t blocks;
    uint64_t reserved_size;
    uint64_t last; /* highest sequence inside */
    uint8_t *buffer;
    uint8_t *segment; /* records of the segment being visited */
    size_t segment_size;
    size_t segment_capacity;
    uint32_t fill_size;
    uint32_t fill_count;
    int error;
    kv_record record;
} checkpoint;

kv_file kv_checkpoint_file(uint64_t generation)
{
    return generation & 1 ? KV_FILE_CHECKPOINT_1 : KV_FILE_CHECKPOINT_0;
}

bool kv_checkpoint_due(const kv_engine *engine)
{
    uint64_t size = engine->journal.offset;
    bool large = size >= engine->options.journal_size_max && size >= engine->checkpoint_size;

    return !engine->offline && !engine->checkpointing && (large || engine->journal.full);
}

int kv_checkpoint_write_header(kv_engine *engine, uint64_t generation, uint64_t sequence, uint64_t count,
                               uint64_t end)
{
    uint64_t version = kv_engine_version_max(engine);
    kv_header header = {
        .kind = KV_HEADER_CHECKPOINT,
        .fields = {generation, sequence, count, end, engine->journal.switch_run,
                   engine->journal.switch_incarnation, version},
    };
    kv_file file = kv_checkpoint_file(generation);
    int result = engine->device->operations->file_reserve(engine->device, file, KV_PAGE_SIZE);

    return result < 0 ? result : kv_engine_write_header(engine, file, 0, &header);
}

/* By a good piece, or where there is no room for that by what is needed. */
static int checkpoint_grow(checkpoint *state, uint64_t size)
{
    kv_device *device = state->engine->device;
    kv_file file = kv_checkpoint_file(state->generation);
    int result = device->operations->file_reserve(device, file, size + CHECKPOINT_GROW_STEP);

    state->reserved_size = size + CHECKPOINT_GROW_STEP;
    if (result == -ENOSPC) {
        state->reserved_size = size;
        result = device->operations->file_reserve(device, file, size);
    }
    return result;
}

static int block_write(checkpoint *state)
{
    kv_device *device = state->engine->device;
    kv_group block = {.size = state->fill_size,
                      .count = state->fill_count,
                      .first = state->blocks,
                      .generation = state->generation,
                      .store = state->engine->store_id};
    kv_io io = {.kind = KV_IO_WRITE,
                .file = kv_checkpoint_file(state->generation),
                .offset = state->offset,
                .memory = state->buffer};
    int64_t result = 0;

    if (state->fill_count == 0)
        return 0;
    io.size = (uint32_t)kv_block_seal(&block, state->buffer);
    if (state->offset + io.size > state->reserved_size)
        result = checkpoint_grow(state, state->offset + io.size);
    if (result == 0)
        result = kv_device_run(device, &io);
    state->offset += io.size;
    state->blocks++;
    state->fill_size = 0;
    state->fill_count = 0;
    return result < 0 ? (int)result : 0;
}

/* What the object is on the device: a value still on its way has its record in a later group, until then the
 * one it replaces counts. NULL: nothing. */
static const kv_object *stored_object(const kv_engine *engine, const kv_object *object)
{
    uint32_t shadow = (uint32_t)kv_object_location(object);

    if (object->stored)
        return object;
    return shadow ? kv_index_at(engine->index, shadow) : NULL;
}

/* Locked. */
static void copy_object(void *context, kv_object *linked)
{
    checkpoint *state = context;
    const kv_object *object = stored_object(state->engine, linked);
    size_t size;

    if (!object || state->error)
        return;
    kv_record_of(state->engine, object, &state->record);
    state->record.flags &= (uint8_t)~KV_RECORD_FLAG_PINNED;
    state->record.flags |= linked->pinned ? KV_RECORD_FLAG_PINNED : 0;
    size = kv_record_size(&state->record);
    if (state->segment_size + sizeof(uint32_t) + size > state->segment_capacity) {
        size_t capacity = state->segment_capacity * 2 + KV_CHECKPOINT_BLOCK_SIZE_MAX;
        uint8_t *segment = realloc(state->segment, capacity);

        if (!segment) {
            state->error = -ENOMEM;
            return;
        }
        state->segment = segment;
        state->segment_capacity = capacity;
    }
    memcpy(state->segment + state->segment_size, &(uint32_t){(uint32_t)size}, sizeof(uint32_t));
    kv_record_encode(&state->record, state->segment + state->segment_size + sizeof(uint32_t));
    state->segment_size += sizeof(uint32_t) + size;
    state->count++;
    if (kv_object_sequence(object) > state->last)
        state->last = kv_object_sequence(object);
}

/* Not locked: pack what was copied into blocks and write the full ones. */
static int drain_segment(checkpoint *state)
{
    size_t position = 0;

    while (position < state->segment_size) {
        uint32_t size;

        memcpy(&size, state->segment + position, sizeof(size));
        position += sizeof(size);
        if (KV_GROUP_HEADER_SIZE + state->fill_size + size > KV_CHECKPOINT_BLOCK_SIZE_MAX) {
            int result = block_write(state);

            if (result < 0)
                return result;
        }
        memcpy(state->buffer + KV_GROUP_HEADER_SIZE + state->fill_size, state->segment + position, size);
        state->fill_size += size;
        state->fill_count++;
        position += size;
    }
    state->segment_size = 0;
    return 0;
}

static int write_blocks(checkpoint *state)
{
    kv_engine *engine = state->engine;
    uint64_t cursor = 0;
    bool more = true;
    int result = 0;

    while (more && result == 0) {
        pthread_mutex_lock(&engine->lock);
        more = kv_index_scan(engine->index, &cursor, copy_object, state);
        pthread_mutex_unlock(&engine->lock);
        result = state->error ? state->error : drain_segment(state);
    }
    return result < 0 ? result : block_write(state);
}

/* Send the journal to its other file; the last sequence that stays behind. */
static int switch_journal(kv_engine *engine, uint64_t generation, uint64_t *sequence)
{
    int result = 0;
    bool there;

    pthread_mutex_lock(&engine->lock);
    there = engine->journal.generation == generation;
    *sequence = engine->journal.switch_sequence - 1;
    pthread_mutex_unlock(&engine->lock);
    if (there)
        return 0;
    result = kv_journal_write_header(engine, generation);
    if (result < 0)
        return result;

    pthread_mutex_lock(&engine->lock);
    engine->journal.switch_wanted = true;
    kv_journal_kick(engine);
    while (result == 0 && engine->journal.switch_wanted && !engine->offline)
        result = kv_engine_sleep(engine);
    if (engine->offline)
        result = -engine->offline;
    *sequence = engine->journal.switch_sequence - 1;
    pthread_mutex_unlock(&engine->lock);
    return result;
}

/* Whatever its reason, a failed flush is not one that may be tried again: not a lack of room either. */
static int flush(kv_engine *engine, uint32_t files)
{
    kv_io io = {.kind = KV_IO_FLUSH, .files = files};
    int result = (int)kv_device_run(engine->device, &io);

    return result == -ENOSPC || result == -ENOMEM ? -EIO : result;
}

static int finish(checkpoint *state, uint64_t sequence)
{
    kv_engine *engine = state->engine;
    uint32_t file = 1u << kv_checkpoint_file(state->generation);
    int result = kv_journal_settle(engine, true);

    if (result == 0)
        result = flush(engine, file | 1u << kv_journal_file(state->generation));
    if (result == 0)
        result = kv_checkpoint_write_header(engine, state->generation, sequence, state->count,
                                            state->offset);
    if (result == 0)
        result = flush(engine, file);
    return result;
}

static int checkpoint_run(checkpoint *state)
{
    kv_engine *engine = state->engine;
    uint64_t sequence = 0;
    int64_t size = engine->device->operations->file_size(engine->device,
                                                         kv_checkpoint_file(state->generation));
    int result;

    state->offset = KV_PAGE_SIZE;
    state->reserved_size = size > 0 ? (uint64_t)size : 0;
    if (posix_memalign((void **)&state->buffer, KV_PAGE_SIZE, KV_CHECKPOINT_BLOCK_SIZE_MAX) != 0)
        return -ENOMEM;
    result = switch_journal(engine, state->generation, &sequence);
    if (result == 0)
        result = write_blocks(state);
    if (result == 0)
        result = finish(state, sequence);
    free(state->buffer);
    free(state->segment);
    if (result < 0)
        return result;
    pthread_mutex_lock(&engine->lock);
    engine->checkpoint_generation = state->generation;
    engine->statistics.checkpoints++;
    engine->checkpoint_size = state->offset;
    engine->statistics.checkpoint_sequence = sequence;
    pthread_mutex_unlock(&engine->lock);
    return 0;
}

int kv_engine_checkpoint(kv_engine *engine)
{
    checkpoint *state;
    int result = 0;

    if (engine->read_only)
        return -EROFS;
    pthread_mutex_lock(&engine->lock);
    /* One that is under way may have passed what the caller wants to see in it. */
    while (engine->checkpointing && result == 0)
        result = kv_engine_sleep(engine);
    if (result == 0)
        engine->checkpointing = true;
    pthread_mutex_unlock(&engine->lock);
    if (result < 0)
        return result;

    state = calloc(1, sizeof(*state));
    result = state ? 0 : -ENOMEM;
    if (state) {
        state->engine = engine;
        state->generation = engine->checkpoint_generation + 1;
        result = checkpoint_run(state);
    }
    free(state);
    pthread_mutex_lock(&engine->lock);
    engine->checkpointing = false;
    kv_journal_checkpointed(engine, result < 0);
    pthread_cond_broadcast(&engine->changed);
    if (result < 0 && result != -ENOMEM && result != -ENOSPC && result != -ECANCELED)
        kv_engine_fail(engine, -result);
    pthread_mutex_unlock(&engine->lock);
    return result;
}
