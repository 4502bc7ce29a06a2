/* Pure bookkeeping: nothing here calls the kernel. */
#include "drivers/io_run.h"

#include <assert.h>

static void memory_append(kv_io_run *run, const kv_io *io)
{
    struct iovec *last = &run->segments[run->segment_count - 1];

    if ((uint8_t *)last->iov_base + last->iov_len == io->memory)
        last->iov_len += io->size;
    else
        run->segments[run->segment_count++] = (struct iovec){io->memory, io->size};
}

static bool continues(const kv_io *last, const kv_io *io)
{
    return io->kind == last->kind && io->file == last->file &&
           io->offset == last->offset + last->size;
}

void kv_io_run_begin(kv_io_run *run, kv_io *io)
{
    assert(io->kind == KV_IO_READ || io->kind == KV_IO_WRITE);
    run->count = 1;
    run->segment_count = 1;
    run->size = io->size;
    run->ios[0] = io;
    run->segments[0] = (struct iovec){io->memory, io->size};
}

bool kv_io_run_extend(kv_io_run *run, kv_io *io)
{
    assert(run->count > 0);
    if (run->count == KV_IO_RUN_MAX || !continues(run->ios[run->count - 1], io) ||
        run->size >= KV_IO_RUN_SIZE_MAX || io->size > KV_IO_RUN_SIZE_MAX - run->size)
        return false;
    memory_append(run, io);
    run->ios[run->count++] = io;
    run->size += io->size;
    return true;
}
