/* The device on io_uring: submission on the caller's thread, completion on one reaper thread.
 *
 *   submit ──► waiting ──► started ──► finished ──► done(io)
 *              (in order)  (all pieces  (no piece
 *                           taken)       out)
 *
 * A flush goes to the kernel in pieces, one for each file; a read or write is one piece, because
 * the kernel splits large ones as well as we could, and neighbours that wait together share one
 * (io_run.h). A piece takes a slot, of which there are `depth`; an operation that finds none waits
 * its turn and is started by the reaper.
 *
 * Invariants
 *  1. A slot is out (its entry is in a ring or in the kernel) or it is on the free stack.
 *  2. io->pieces counts the slots out for it; io->cursor says what of it has had a slot.
 *  3. An operation is on exactly one list until it is `finishing`; `outstanding` counts both.
 *  4. Slots free and operations waiting exclude each other whenever the lock is free.
 *  5. An operation whose run did not move as a whole waits once more, and goes alone
 *     (io->driver is set). */
#include "drivers/device_uring.h"
#include "drivers/driver_files.h"
#include "drivers/driver_thread.h"
#include "drivers/io_run.h"
#include "drivers/transfer.h"
#include "drivers/uring.h"
#include "drivers/uring_memory.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define STOP UINT64_MAX /* user_data of the entry that ends the reaper */

typedef struct slot {
    kv_io *io; /* of a run, the first */
    kv_transfer transfer;
    kv_io_run run; /* reads and writes */
} slot;

typedef struct kv_device_uring {
    kv_device device;
    kv_driver_files files;
    kv_uring ring;
    kv_uring_memory memory;
    bool files_registered;
    pthread_t reaper;
    pthread_mutex_t lock; /* over all below, and over filling the ring */
    pthread_cond_t completed;
    kv_list waiting;
    kv_list started;
    kv_list finished;
    const kv_io *finishing; /* its done is running; only compared, never followed */
    uint64_t outstanding;
    uint32_t waiters;
    uint32_t free_count;
    uint16_t free_slots[KV_DEVICE_DEPTH_MAX];
    slot slots[KV_DEVICE_DEPTH_MAX];
} kv_device_uring;

static kv_device_uring *device_of(kv_device *device)
{
    return KV_CONTAINER(device, kv_device_uring, device);
}

/* ---- pieces ---- */

/* What io->cursor is when every piece has had a slot. */
static uint32_t cursor_end(const kv_io *io)
{
    return io->kind == KV_IO_FLUSH ? io->files : io->size;
}

/* Cut the next piece off `io`. */
static kv_transfer piece_cut(kv_io *io)
{
    uint32_t rest = cursor_end(io) & ~io->cursor;

    assert(rest != 0);
    if (io->kind == KV_IO_FLUSH) {
        io->cursor |= rest & -rest;
        return (kv_transfer){.kind = KV_IO_FLUSH, .file = (kv_file)__builtin_ctz(rest)};
    }
    io->cursor = io->size;
    return (kv_transfer){.memory = io->memory,
                         .offset = io->offset,
                         .size = io->size,
                         .kind = io->kind,
                         .file = io->file};
}

/* Memory in several segments, which no registration covers. */
static void vector_fill(struct io_uring_sqe *sqe, const kv_transfer *piece, const kv_io_run *run)
{
    sqe->opcode = piece->kind == KV_IO_READ ? IORING_OP_READV : IORING_OP_WRITEV;
    sqe->addr = (uintptr_t)run->segments;
    sqe->len = run->segment_count;
    sqe->off = piece->offset;
}

/* Describe a slot's transfer, or what remains of it, to the kernel. Locked. */
static void piece_fill(kv_device_uring *uring, uint32_t index)
{
    const kv_transfer *piece = &uring->slots[index].transfer;
    const kv_io_run *run = &uring->slots[index].run;
    struct io_uring_sqe *sqe = kv_uring_fill(&uring->ring);
    int segment;

    sqe->user_data = index;
    sqe->fd = uring->files.descriptors[piece->file];
    if (uring->files_registered) {
        sqe->fd = (int)piece->file;
        sqe->flags = IOSQE_FIXED_FILE;
    }
    if (piece->kind == KV_IO_FLUSH) {
        sqe->opcode = IORING_OP_FSYNC;
        sqe->fsync_flags = IORING_FSYNC_DATASYNC;
        return;
    }
    if (run->segment_count > 1) {
        vector_fill(sqe, piece, run);
        return;
    }
    segment = kv_uring_memory_find(&uring->memory, piece->memory, piece->size);
    if (segment >= 0) {
        sqe->opcode = piece->kind == KV_IO_READ ? IORING_OP_READ_FIXED : IORING_OP_WRITE_FIXED;
        sqe->buf_index = (uint16_t)segment;
    } else {
        sqe->opcode = piece->kind == KV_IO_READ ? IORING_OP_READ : IORING_OP_WRITE;
    }
    sqe->addr = (uintptr_t)piece->memory;
    sqe->len = piece->size;
    sqe->off = piece->offset;
}

static void io_move(kv_io *io, kv_list *list)
{
    kv_list_remove(&io->link);
    kv_list_append(list, &io->link);
}

/* Let the first waiting operation, which has begun, take those behind it that continue it. Locked. */
static void run_gather(kv_device_uring *uring, slot *taken)
{
    kv_io_run_begin(&taken->run, taken->io);
    while (taken->io->driver == NULL && taken->io->link.next != &uring->waiting) {
        kv_io *io = KV_CONTAINER(taken->io->link.next, kv_io, link);

        if (io->driver != NULL || !kv_io_run_extend(&taken->run, io))
            break;
        io->cursor = io->size;
        io->pieces = 1;
        io_move(io, &uring->started);
    }
    taken->transfer.size = taken->run.size;
}

/* Give slots to waiting operations while there are both; returns the entries filled. Locked. */
static uint32_t start_waiting(kv_device_uring *uring)
{
    uint32_t count = 0;

    while (!kv_list_empty(&uring->waiting) && uring->free_count > 0) {
        kv_io *io = KV_CONTAINER(uring->waiting.next, kv_io, link);
        uint32_t index = uring->free_slots[--uring->free_count];
        slot *taken = &uring->slots[index];

        taken->io = io;
        taken->transfer = piece_cut(io);
        taken->run.count = 0;
        io->pieces++;
        if (io->kind != KV_IO_FLUSH)
            run_gather(uring, taken);
        piece_fill(uring, index);
        count++;
        if (io->cursor == cursor_end(io))
            io_move(io, &uring->started);
    }
    return count;
}

/* A run of several moved as a whole. Locked. */
static void run_finish(kv_device_uring *uring, const kv_io_run *run)
{
    for (uint32_t i = 0; i < run->count; i++) {
        run->ios[i]->result = run->ios[i]->size;
        run->ios[i]->pieces = 0;
        io_move(run->ios[i], &uring->finished);
    }
}

/* It did not: its operations are the next to start, one by one. Locked. */
static void run_split(kv_device_uring *uring, const kv_io_run *run)
{
    for (uint32_t i = run->count; i-- > 0;) {
        run->ios[i]->cursor = 0;
        run->ios[i]->pieces = 0;
        run->ios[i]->driver = uring;
        io_move(run->ios[i], uring->waiting.next); /* before the one that was first */
    }
}

/* Take account of one completion; returns the entries filled, 0 or 1. Locked. */
static uint32_t piece_complete(kv_device_uring *uring, uint32_t index, int32_t result)
{
    slot *taken = &uring->slots[index];
    kv_io *io = taken->io;
    int verdict;

    if (taken->run.count > 1) {
        if (result == (int64_t)taken->run.size)
            run_finish(uring, &taken->run);
        else
            run_split(uring, &taken->run);
        uring->free_slots[uring->free_count++] = (uint16_t)index;
        return 0;
    }
    verdict = kv_transfer_step(&taken->transfer, &uring->files, result);
    if (verdict == KV_TRANSFER_AGAIN) {
        piece_fill(uring, index);
        return 1;
    }
    assert(io->pieces > 0);
    io->pieces--;
    uring->free_slots[uring->free_count++] = (uint16_t)index;
    /* The first error is the operation's, and spares the pieces that have not started. */
    if (verdict < 0 && io->result == 0) {
        io->result = verdict;
        io->cursor = cursor_end(io);
    }
    if (io->pieces == 0 && io->cursor == cursor_end(io)) {
        if (io->result == 0 && io->kind != KV_IO_FLUSH)
            io->result = io->size;
        io_move(io, &uring->finished);
    } else if (verdict < 0) {
        io_move(io, &uring->started);
    }
    return 0;
}

/* ---- the reaper ---- */

/* Take all completions and start what waits; false once the stop entry came. */
static bool reap(kv_device_uring *uring)
{
    bool running = true;
    uint32_t count = 0;
    uint64_t user_data;
    int32_t result;

    pthread_mutex_lock(&uring->lock);
    while (kv_uring_pop(&uring->ring, &user_data, &result)) {
        if (user_data == STOP)
            running = false;
        else
            count += piece_complete(uring, (uint32_t)user_data, result);
    }
    count += start_waiting(uring);
    kv_uring_publish(&uring->ring);
    pthread_mutex_unlock(&uring->lock);
    kv_uring_submit(&uring->ring, count);
    return running;
}

static void run_done(kv_device_uring *uring)
{
    kv_list *link;

    pthread_mutex_lock(&uring->lock);
    while ((link = kv_list_pop(&uring->finished)) != NULL) {
        kv_io *io = KV_CONTAINER(link, kv_io, link);

        uring->finishing = io;
        pthread_mutex_unlock(&uring->lock);
        io->done(io);
        pthread_mutex_lock(&uring->lock);
        uring->finishing = NULL;
        uring->outstanding--;
        if (uring->waiters > 0)
            pthread_cond_broadcast(&uring->completed);
    }
    pthread_mutex_unlock(&uring->lock);
}

static void *reaper_run(void *argument)
{
    kv_device_uring *uring = argument;

    while (reap(uring)) {
        run_done(uring);
        kv_uring_wait(&uring->ring);
    }
    return NULL;
}

/* ---- the port ---- */

static void uring_submit(kv_device *device, kv_io **ios, size_t count)
{
    kv_device_uring *uring = device_of(device);
    uint32_t filled;

    for (size_t i = 0; i < count; i++) {
        kv_driver_files_check(ios[i]);
        if (ios[i]->kind != KV_IO_FLUSH)
            kv_uring_memory_prepare(&uring->memory, ios[i]->memory, ios[i]->size);
    }
    pthread_mutex_lock(&uring->lock);
    for (size_t i = 0; i < count; i++) {
        ios[i]->result = 0;
        ios[i]->cursor = 0;
        ios[i]->pieces = 0;
        ios[i]->driver = NULL;
        kv_list_append(&uring->waiting, &ios[i]->link);
    }
    uring->outstanding += count;
    filled = start_waiting(uring);
    kv_uring_publish(&uring->ring);
    pthread_mutex_unlock(&uring->lock);
    kv_uring_submit(&uring->ring, filled);
}

static int uring_register_memory(kv_device *device, void *memory, size_t size, size_t segment_size)
{
    kv_device_uring *uring = device_of(device);

    return kv_uring_memory_add(&uring->memory, &uring->ring, memory, size, segment_size);
}

static int64_t uring_file_size(kv_device *device, kv_file file)
{
    return kv_driver_files_size(&device_of(device)->files, file);
}

static int uring_file_reserve(kv_device *device, kv_file file, uint64_t size)
{
    return kv_driver_files_reserve(&device_of(device)->files, file, size);
}

static bool list_holds(const kv_list *list, const kv_io *io)
{
    for (const kv_list *link = list->next; link != list; link = link->next) {
        if (link == &io->link)
            return true;
    }
    return false;
}

/* Only compares `io`, which its done may have freed. Locked. */
static bool is_outstanding(const kv_device_uring *uring, const kv_io *io)
{
    return uring->finishing == io || list_holds(&uring->finished, io) ||
           list_holds(&uring->started, io) || list_holds(&uring->waiting, io);
}

static void uring_wait(kv_device *device, kv_io *io)
{
    kv_device_uring *uring = device_of(device);

    assert(!pthread_equal(pthread_self(), uring->reaper));
    pthread_mutex_lock(&uring->lock);
    uring->waiters++;
    while (is_outstanding(uring, io))
        pthread_cond_wait(&uring->completed, &uring->lock);
    uring->waiters--;
    pthread_mutex_unlock(&uring->lock);
}

static uint64_t uring_incarnation(kv_device *device)
{
    (void)device;
    return kv_driver_files_incarnation(KV_BOOT_ID_PATH, KV_BOOT_STATISTICS_PATH);
}

/* Wait for the last operation, then end the reaper by an entry of its own. */
static void reaper_stop(kv_device_uring *uring)
{
    pthread_mutex_lock(&uring->lock);
    uring->waiters++;
    while (uring->outstanding > 0)
        pthread_cond_wait(&uring->completed, &uring->lock);
    kv_uring_fill(&uring->ring)->user_data = STOP; /* A zeroed entry is IORING_OP_NOP. */
    kv_uring_publish(&uring->ring);
    pthread_mutex_unlock(&uring->lock);
    kv_uring_submit(&uring->ring, 1);
    pthread_join(uring->reaper, NULL);
}

static void uring_close(kv_device *device)
{
    kv_device_uring *uring = device_of(device);

    assert(!pthread_equal(pthread_self(), uring->reaper));
    reaper_stop(uring);
    /* The kernel ends a ring some time after its last descriptor; what we return must be free of
     * it at once. */
    kv_uring_memory_release(&uring->memory, &uring->ring);
    if (uring->files_registered)
        (void)kv_uring_register(&uring->ring, IORING_UNREGISTER_FILES, NULL, 0);
    kv_uring_close(&uring->ring);
    kv_uring_memory_close(&uring->memory);
    kv_driver_files_close(&uring->files);
    pthread_cond_destroy(&uring->completed);
    pthread_mutex_destroy(&uring->lock);
    free(uring);
}

/* The locks may be held by threads that do not exist here: they are freed as they are. */
static void uring_abandon(kv_device *device)
{
    kv_device_uring *uring = device_of(device);

    kv_uring_close(&uring->ring);
    kv_uring_memory_close(&uring->memory);
    kv_driver_files_close(&uring->files);
    free(uring);
}

static const kv_device_operations uring_operations = {
    .name = "io_uring",
    .submit = uring_submit,
    .register_memory = uring_register_memory,
    .file_size = uring_file_size,
    .file_reserve = uring_file_reserve,
    .wait = uring_wait,
    .incarnation = uring_incarnation,
    .close = uring_close,
    .abandon = uring_abandon,
};

static void uring_init(kv_device_uring *uring, uint32_t depth)
{
    uring->device.operations = &uring_operations;
    pthread_mutex_init(&uring->lock, NULL);
    pthread_cond_init(&uring->completed, NULL);
    kv_list_init(&uring->waiting);
    kv_list_init(&uring->started);
    kv_list_init(&uring->finished);
    kv_uring_memory_init(&uring->memory);
    uring->free_count = depth;
    for (uint32_t i = 0; i < depth; i++)
        uring->free_slots[i] = (uint16_t)(depth - 1 - i);
    /* Without this table the kernel looks the descriptors up each time. */
    uring->files_registered = kv_uring_register(&uring->ring, IORING_REGISTER_FILES,
                                                uring->files.descriptors, KV_FILE_COUNT) == 0;
}

int kv_driver_uring_open(const kv_driver_options *options, kv_device **device, kv_file *bad)
{
    kv_device_uring *uring;
    int result;

    if (bad != NULL)
        *bad = KV_FILE_COUNT;
    if (options->depth == 0 || options->depth > KV_DEVICE_DEPTH_MAX)
        return -EINVAL;
    uring = calloc(1, sizeof(*uring));
    if (uring == NULL)
        return -ENOMEM;
    /* The ring first: where it is forbidden, no file has been made. */
    result = kv_uring_open(options->depth, &uring->ring);
    if (result != 0)
        goto fail_ring;
    result = kv_driver_files_open(options, &uring->files, bad);
    if (result != 0)
        goto fail_files;
    uring_init(uring, options->depth);
    result = kv_driver_thread_start("kv-uring", reaper_run, uring, &uring->reaper);
    if (result != 0)
        goto fail_thread;
    *device = &uring->device;
    return 0;

fail_thread:
    kv_driver_files_close(&uring->files);
fail_files:
    kv_uring_close(&uring->ring);
fail_ring:
    free(uring);
    return result;
}

/* ---- knobs ---- */

void kv_device_uring_refuse_memory(kv_device *device)
{
    kv_uring_memory_refuse(&device_of(device)->memory);
}

uint32_t kv_device_uring_segments(kv_device *device)
{
    kv_uring_memory_settle(&device_of(device)->memory);
    return kv_uring_memory_registered(&device_of(device)->memory);
}
