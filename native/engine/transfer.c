/* Device operations of values: a pool of them, and the cutting of a value's memory and extents into
 * contiguous pieces. */

#include "engine/engine_state.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define TRANSFERS_PER_SLAB 64u

typedef struct kv_transfer_slab {
    kv_list link;
    kv_transfer transfers[TRANSFERS_PER_SLAB];
} kv_transfer_slab;

static int pool_grow(kv_engine *engine)
{
    kv_transfer_slab *slab = calloc(1, sizeof(*slab));

    if (!slab)
        return -ENOMEM;
    kv_list_append(&engine->transfer_slabs, &slab->link);
    for (uint32_t i = 0; i < TRANSFERS_PER_SLAB; i++) {
        slab->transfers[i].engine = engine;
        kv_list_append(&engine->transfers, &slab->transfers[i].io.link);
    }
    return 0;
}

void kv_transfer_pool_close(kv_engine *engine)
{
    kv_list *link;

    while ((link = kv_list_pop(&engine->transfer_slabs)) != NULL)
        free(KV_CONTAINER(link, kv_transfer_slab, link));
    kv_list_init(&engine->transfers);
}

static kv_transfer *transfer_take(kv_engine *engine)
{
    kv_list *link = kv_list_pop(&engine->transfers);

    if (!link && pool_grow(engine) == 0)
        link = kv_list_pop(&engine->transfers);
    return link ? KV_CONTAINER(link, kv_transfer, io.link) : NULL;
}

static void transfer_give(kv_transfer *transfer)
{
    kv_list_init(&transfer->io.link);
    kv_list_append(&transfer->engine->transfers, &transfer->io.link);
}

static void fill_finish(kv_engine *engine, kv_frame *frame)
{
    kv_object *source = kv_index_at(engine->index, frame->source);
    kv_list *link;

    frame->state = frame->error ? KV_FRAME_FAILED : KV_FRAME_FILLED;
    frame->source = 0;
    kv_object_release(engine, source);
    if (frame->error && frame->object != 0)
        kv_tier_detach(&engine->tier, kv_index_at(engine->index, frame->object));
    while ((link = kv_list_pop(&frame->waiters)) != NULL) {
        kv_work *work = KV_CONTAINER(link, kv_work, link);

        work->state = KV_WORK_READY;
        kv_list_append(&work->operation->ready, &work->link);
        kv_operation_wake(work->operation);
    }
    kv_engine_release_frame(engine, frame); /* the fill's own hold */
}

static void read_done(kv_io *io)
{
    kv_transfer *transfer = KV_CONTAINER(io, kv_transfer, io);
    kv_engine *engine = transfer->engine;
    kv_frame *frame = transfer->frame;

    pthread_mutex_lock(&engine->lock);
    kv_io_watch_end(&engine->io_watch, transfer->generation);
    assert(frame->fills > 0);
    if (io->result < 0 && !frame->error)
        frame->error = (int32_t)-io->result;
    frame->fills--;
    engine->fill_count--;
    if (frame->fills == 0)
        fill_finish(engine, frame);
    if (engine->fill_count == 0)
        pthread_cond_broadcast(&engine->changed);
    transfer_give(transfer);
    pthread_mutex_unlock(&engine->lock);
}

/* The device has done all it had to do for a work: a value was written, or read into its caller's memory. */
static void work_transferred(kv_engine *engine, kv_work *work)
{
    engine->direct_count -= work->direct;
    if (work->operation->kind == KV_OP_GET) {
        work->state = KV_WORK_READY;
        kv_list_append(&work->operation->ready, &work->link);
    } else {
        work->state = KV_WORK_WRITTEN;
    }
}

static void work_done(kv_io *io)
{
    kv_transfer *transfer = KV_CONTAINER(io, kv_transfer, io);
    kv_engine *engine = transfer->engine;
    kv_operation *operation = transfer->operation;

    pthread_mutex_lock(&engine->lock);
    kv_io_watch_end(&engine->io_watch, transfer->generation);
    for (uint32_t i = transfer->first; i < transfer->first + transfer->count; i++) {
        kv_work *work = &operation->works[i];

        if (work->run != transfer->run)
            continue;
        assert(work->pending > 0);
        work->pending--;
        if (io->result < 0)
            work->error = (int32_t)-io->result;
        if (work->pending == 0)
            work_transferred(engine, work);
    }
    assert(operation->outstanding > 0);
    operation->outstanding--;
    if (operation->kind == KV_OP_GET)
        kv_operation_wake(operation);
    else
        kv_set_progress(operation);
    transfer_give(transfer);
    pthread_mutex_unlock(&engine->lock);
}

static void count_transfer(kv_engine *engine, const kv_io *io)
{
    if (io->kind == KV_IO_READ) {
        engine->statistics.device_reads++;
        engine->statistics.device_read_bytes += io->size;
    } else {
        engine->statistics.device_writes++;
        engine->statistics.device_write_bytes += io->size;
        engine->journal.bytes_unflushed += io->size;
    }
}

static void bind_to_frame(kv_transfer *transfer, kv_frame *frame)
{
    transfer->io.done = read_done;
    transfer->frame = frame;
    frame->fills++;
    transfer->engine->fill_count++;
}

static void bind_to_works(kv_operation *operation, kv_transfer *transfer, const kv_work_range *works)
{
    transfer->io.done = work_done;
    transfer->operation = operation;
    transfer->first = works->first;
    transfer->count = works->count;
    transfer->run = works->run;
    for (uint32_t i = works->first; i < works->first + works->count; i++)
        if (operation->works[i].run == works->run)
            operation->works[i].pending++;
    operation->outstanding++;
}

/* The longest run of memory from byte `position` on: of the frame, or of the caller's. */
static uint8_t *memory_range(const kv_engine *engine, const kv_transfer_memory *memory, uint32_t position,
                             uint32_t *size)
{
    if (memory->frame)
        return kv_frame_range(&engine->tier, memory->frame, position, size);
    *size = memory->span - position;
    return memory->direct + position;
}

int kv_transfer_build(kv_operation *operation, kv_io_kind kind, const kv_transfer_memory *memory,
                      const kv_extent *pieces, const kv_work_range *works)
{
    kv_engine *engine = operation->engine;
    uint32_t position = 0;
    uint32_t piece_position = 0; /* within *pieces */

    assert(memory->span % KV_DEVICE_ALIGNMENT == 0);
    assert(works || memory->frame);
    while (position < memory->span) {
        kv_transfer *transfer = transfer_take(engine);
        uint32_t size;
        uint8_t *target;

        if (!transfer || kv_operation_queue(operation, transfer) < 0)
            return -ENOMEM;
        target = memory_range(engine, memory, position, &size);
        if (size > memory->span - position)
            size = memory->span - position;
        if (size > pieces->size - piece_position)
            size = pieces->size - piece_position;
        transfer->io = (kv_io){.kind = kind,
                               .file = KV_FILE_SLABS,
                               .size = size,
                               .offset = KV_SLABS_START + pieces->offset + piece_position,
                               .memory = target};
        if (works)
            bind_to_works(operation, transfer, works);
        else
            bind_to_frame(transfer, memory->frame);
        count_transfer(engine, &transfer->io);
        transfer->generation = kv_io_watch_begin(&engine->io_watch);
        position += size;
        piece_position += size;
        if (piece_position == pieces->size) {
            pieces++;
            piece_position = 0;
        }
    }
    return 0;
}
