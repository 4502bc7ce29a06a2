#include "drivers/transfer.h"

#include <assert.h>
#include <errno.h>

static uint8_t memory[65536];

/* Files that exist only as flags: a step never calls the kernel but to buffer a file. */
static void set_direct(kv_driver_files *files, bool direct)
{
    for (unsigned i = 0; i < KV_FILE_COUNT; i++)
        files->descriptors[i] = -1;
    for (unsigned i = 0; i < KV_FILE_COUNT; i++)
        atomic_init(&files->direct[i], direct);
}

static kv_transfer of_kind(kv_io_kind kind)
{
    return (kv_transfer){.memory = memory,
                         .offset = 8192,
                         .size = kind == KV_IO_FLUSH ? 0 : 16384,
                         .kind = kind,
                         .file = KV_FILE_SLABS};
}

static void everything_moved_completes(void)
{
    kv_driver_files files;
    kv_transfer read = of_kind(KV_IO_READ);
    kv_transfer flush = of_kind(KV_IO_FLUSH);

    set_direct(&files, true);
    assert(kv_transfer_step(&read, &files, 16384) == 0);
    assert(kv_transfer_step(&flush, &files, 0) == 0);
}

static void a_short_transfer_goes_on_where_it_stopped(void)
{
    kv_driver_files files;
    kv_transfer write = of_kind(KV_IO_WRITE);

    set_direct(&files, true);
    assert(kv_transfer_step(&write, &files, 4096) == KV_TRANSFER_AGAIN);
    assert(write.memory == memory + 4096 && write.offset == 12288 && write.size == 12288);
    assert(kv_transfer_step(&write, &files, 12288) == 0);
}

static void a_direct_transfer_goes_on_aligned(void)
{
    kv_driver_files files;
    kv_transfer read = of_kind(KV_IO_READ);

    set_direct(&files, true);
    assert(kv_transfer_step(&read, &files, 4096 + 512) == KV_TRANSFER_AGAIN);
    assert(read.offset == 8192 + 4096 && read.size == 16384 - 4096);
    assert(kv_transfer_step(&read, &files, 512) == -ENODATA);
}

static void a_buffered_transfer_goes_on_anywhere(void)
{
    kv_driver_files files;
    kv_transfer read = of_kind(KV_IO_READ);

    set_direct(&files, false);
    assert(kv_transfer_step(&read, &files, 100) == KV_TRANSFER_AGAIN);
    assert(read.offset == 8292 && read.size == 16284);
}

static void nothing_moved_is_the_end_of_a_read_and_an_error_of_a_write(void)
{
    kv_driver_files files;
    kv_transfer read = of_kind(KV_IO_READ);
    kv_transfer write = of_kind(KV_IO_WRITE);

    set_direct(&files, false);
    assert(kv_transfer_step(&read, &files, 0) == -ENODATA);
    assert(kv_transfer_step(&write, &files, 0) == -EIO);
}

static void passing_errors_are_retried_but_not_for_ever(void)
{
    kv_driver_files files;
    static const int errors[] = {-EINTR, -EAGAIN, -ECANCELED, -EFAULT};

    set_direct(&files, true);
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        kv_transfer read = of_kind(KV_IO_READ);

        for (unsigned attempt = 0; attempt < KV_TRANSFER_RETRIES_MAX; attempt++)
            assert(kv_transfer_step(&read, &files, errors[i]) == KV_TRANSFER_AGAIN);
        assert(kv_transfer_step(&read, &files, errors[i]) == errors[i]);
    }
}

static void progress_renews_the_retries(void)
{
    kv_driver_files files;
    kv_transfer read = of_kind(KV_IO_READ);

    set_direct(&files, true);
    for (unsigned attempt = 0; attempt < KV_TRANSFER_RETRIES_MAX; attempt++)
        assert(kv_transfer_step(&read, &files, -EINTR) == KV_TRANSFER_AGAIN);
    assert(kv_transfer_step(&read, &files, 4096) == KV_TRANSFER_AGAIN);
    assert(kv_transfer_step(&read, &files, -EINTR) == KV_TRANSFER_AGAIN);
}

static void real_errors_are_final_at_once(void)
{
    kv_driver_files files;
    static const int errors[] = {-EIO, -ENOSPC, -EFBIG, -EBADF};

    set_direct(&files, true);
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        kv_transfer write = of_kind(KV_IO_WRITE);
        kv_transfer flush = of_kind(KV_IO_FLUSH);

        assert(kv_transfer_step(&write, &files, errors[i]) == errors[i]);
        assert(kv_transfer_step(&flush, &files, errors[i]) == errors[i]);
    }
}

static void a_refused_direct_transfer_goes_on_buffered(void)
{
    kv_driver_files files;
    kv_transfer first = of_kind(KV_IO_WRITE);
    kv_transfer second = of_kind(KV_IO_WRITE);

    set_direct(&files, true);
    assert(kv_transfer_step(&first, &files, -EINVAL) == KV_TRANSFER_AGAIN);
    assert(!atomic_load(&files.direct[KV_FILE_SLABS]));
    assert(atomic_load(&files.direct[KV_FILE_SUPERBLOCK]));
    assert(kv_transfer_step(&second, &files, -EINVAL) == KV_TRANSFER_AGAIN);
    assert(kv_transfer_step(&first, &files, -EINVAL) == -EINVAL);
}

static void a_refused_flush_is_an_error(void)
{
    kv_driver_files files;
    kv_transfer flush = of_kind(KV_IO_FLUSH);

    set_direct(&files, true);
    assert(kv_transfer_step(&flush, &files, -EINVAL) == -EINVAL);
    assert(atomic_load(&files.direct[KV_FILE_SLABS]));
}

int main(void)
{
    everything_moved_completes();
    a_short_transfer_goes_on_where_it_stopped();
    a_direct_transfer_goes_on_aligned();
    a_buffered_transfer_goes_on_anywhere();
    nothing_moved_is_the_end_of_a_read_and_an_error_of_a_write();
    passing_errors_are_retried_but_not_for_ever();
    progress_renews_the_retries();
    real_errors_are_final_at_once();
    a_refused_direct_transfer_goes_on_buffered();
    a_refused_flush_is_an_error();
}
