/* The queue of the simulated device. Links through operations of its own: when a life ends, the
 * kv_ios in flight belong to whoever owned them, perhaps freed already. */

#include "drivers/sim_queue.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct kv_sim_operation {
    kv_list link;
    kv_io *io;
    kv_io asked; /* *io when it was submitted */
    int error;
    kv_sim_write *write;              /* a write inside its file */
    kv_sim_mark marks[KV_FILE_COUNT]; /* a flush: what it covers */
} kv_sim_operation;

static kv_sim_operation *operation_of(kv_list *link)
{
    return KV_CONTAINER(link, kv_sim_operation, link);
}

void kv_sim_queue_init(kv_sim_queue *queue, bool tear_bytes, bool lose_reserves)
{
    memset(queue, 0, sizeof(*queue));
    for (kv_file file = 0; file < KV_FILE_COUNT; file++)
        kv_sim_file_init(&queue->files[file], tear_bytes, lose_reserves);
    kv_list_init(&queue->in_flight);
}

void kv_sim_queue_close(kv_sim_queue *queue)
{
    kv_sim_queue_abandon(queue);
    for (kv_file file = 0; file < KV_FILE_COUNT; file++)
        kv_sim_file_close(&queue->files[file]);
}

void kv_sim_queue_reset(kv_sim_queue *queue)
{
    kv_sim_queue_abandon(queue);
    for (kv_file file = 0; file < KV_FILE_COUNT; file++)
        kv_sim_file_reset(&queue->files[file]);
}

static bool ranges_meet(const kv_io *one, const kv_io *other)
{
    return one->file == other->file && one->offset < other->offset + other->size &&
           other->offset < one->offset + one->size;
}

/* The device would be free to order them either way, so an engine that does this has a bug. */
static void assert_undisputed(const kv_sim_queue *queue, const kv_io *io)
{
    for (kv_list *link = queue->in_flight.next; link != &queue->in_flight; link = link->next) {
        const kv_io *other = &operation_of(link)->asked;

        if (other->kind == KV_IO_WRITE || (io->kind == KV_IO_WRITE && other->kind == KV_IO_READ))
            assert(!ranges_meet(io, other));
    }
}

/* What completes after this is not covered, though the flush completes later still. */
static void begin_flush(kv_sim_queue *queue, kv_sim_operation *flush)
{
    uint32_t files = flush->asked.files;

    assert(files != 0 && files >> KV_FILE_COUNT == 0);
    for (kv_file file = 0; file < KV_FILE_COUNT; file++)
        flush->marks[file] = kv_sim_file_mark(&queue->files[file]);
}

static void begin_transfer(kv_sim_queue *queue, kv_sim_operation *operation)
{
    const kv_io *asked = &operation->asked;
    kv_sim_file *file;

    assert(asked->file < KV_FILE_COUNT);
    assert(asked->offset % KV_DEVICE_ALIGNMENT == 0);
    assert(asked->size % KV_DEVICE_ALIGNMENT == 0 && asked->size > 0);
    assert((uintptr_t)asked->memory % KV_DEVICE_ALIGNMENT == 0);
    assert_undisputed(queue, asked);
    file = &queue->files[asked->file];
    if (!kv_sim_file_holds(file, asked->offset, asked->size)) {
        operation->error = asked->kind == KV_IO_READ ? -ENODATA : -EFBIG;
    } else if (asked->kind == KV_IO_WRITE) {
        operation->write =
            kv_sim_file_begin(file, asked->offset, asked->size, asked->memory);
        assert(operation->write != NULL); /* as in kv_sim_queue_submit */
    }
}

void kv_sim_queue_submit(kv_sim_queue *queue, kv_io *io, int error)
{
    kv_sim_operation *operation = calloc(1, sizeof(*operation));

    /* A simulation without memory cannot go on, and a device's submit has no way to say so. */
    assert(operation != NULL);
    assert(io->kind >= KV_IO_READ && io->kind <= KV_IO_FLUSH);
    operation->io = io;
    operation->asked = *io;
    operation->error = error;
    if (io->kind == KV_IO_FLUSH)
        begin_flush(queue, operation);
    else
        begin_transfer(queue, operation);
    kv_list_append(&queue->in_flight, &operation->link);
    queue->count++;
}

static void finish_flush(kv_sim_queue *queue, const kv_sim_operation *flush)
{
    for (kv_file file = 0; file < KV_FILE_COUNT; file++) {
        if ((flush->asked.files >> file & 1) == 0)
            continue;
        if (flush->error == 0)
            kv_sim_file_flush(&queue->files[file], flush->marks[file]);
        else
            queue->files[file].flush_failed = true;
    }
}

static void finish_read(const kv_sim_operation *read, const kv_sim_file *file)
{
    const kv_io *asked = &read->asked;

    if (read->error == 0)
        memcpy(asked->memory, file->bytes + asked->offset, asked->size);
}

static void finish_write(const kv_sim_operation *operation, kv_sim_file *file, kv_random *random)
{
    kv_sim_write *write = operation->write;

    if (write == NULL)
        return;
    /* The caller leaves the memory alone while its write is in flight. */
    assert(memcmp(write->bytes, operation->asked.memory, write->size) == 0);
    if (operation->error == 0)
        kv_sim_file_complete(file, write);
    else
        kv_sim_file_fail(file, write, random);
}

static void drop(kv_sim_queue *queue, kv_sim_operation *operation)
{
    kv_list_remove(&operation->link);
    queue->count--;
    free(operation);
}

kv_sim_completion kv_sim_queue_complete(kv_sim_queue *queue, size_t index, kv_random *random)
{
    kv_list *link = queue->in_flight.next;
    kv_sim_completion completion;
    kv_sim_operation *operation;

    assert(index < queue->count);
    while (index-- > 0)
        link = link->next;
    operation = operation_of(link);
    completion.io = operation->io;
    completion.kind = operation->asked.kind;
    completion.result = operation->error;
    if (completion.kind == KV_IO_FLUSH)
        finish_flush(queue, operation);
    else if (completion.kind == KV_IO_READ)
        finish_read(operation, &queue->files[operation->asked.file]);
    else
        finish_write(operation, &queue->files[operation->asked.file], random);
    if (operation->error == 0 && completion.kind != KV_IO_FLUSH)
        completion.result = operation->asked.size;
    drop(queue, operation);
    return completion;
}

void kv_sim_queue_abandon(kv_sim_queue *queue)
{
    while (queue->count > 0)
        drop(queue, operation_of(queue->in_flight.next));
}
