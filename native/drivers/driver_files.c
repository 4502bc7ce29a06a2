/* Opens, creates, measures and grows the fixed set of files of a store. It guarantees close-on-exec
 * descriptors, a durable directory after a create, and that a failed reservation leaves the file as
 * it was. Moving data is the drivers'; keeping two processes apart is the engine's. */
#include "drivers/driver_files.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define FILE_MODE 0600        /* values belong to whoever runs the store */
#define FILL_SIZE 1048576u    /* zeros written by one call */
#define PROC_TEXT_SIZE 16384u /* of a file of /proc; the boot time of /proc/stat may come late */

/* Some file systems take O_DIRECT at open and refuse the first transfer: ask with a read. */
static bool file_takes_direct(int descriptor)
{
    void *memory = aligned_alloc(KV_DEVICE_ALIGNMENT, KV_DEVICE_ALIGNMENT);
    bool takes;

    if (memory == NULL)
        return true; /* The first transfer will tell. */
    takes = pread(descriptor, memory, KV_DEVICE_ALIGNMENT, 0) >= 0 || errno != EINVAL;
    free(memory);
    return takes;
}

static int file_open_at(int directory, const char *name, int flags)
{
    int descriptor;

    do
        descriptor = openat(directory, name, flags, FILE_MODE);
    while (descriptor < 0 && errno == EINTR);
    return descriptor < 0 ? -errno : descriptor;
}

static int file_open(int directory, const kv_driver_options *options, kv_file file, bool *direct)
{
    int access = options->read_only ? O_RDONLY : O_RDWR;
    int flags = access | O_CLOEXEC | (options->create ? O_CREAT : 0);
    const char *name = kv_file_name(file);
    int descriptor = -EINVAL;
    struct stat status;

    *direct = false;
    if (options->direct) {
        descriptor = file_open_at(directory, name, flags | O_DIRECT);
        *direct = descriptor >= 0;
    }
    if (descriptor == -EINVAL)
        descriptor = file_open_at(directory, name, flags);
    if (descriptor < 0)
        return descriptor;

    if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
        close(descriptor);
        return -EINVAL;
    }
    return descriptor;
}

/* Make the names durable. A file system without such a thing as a directory flush answers
 * EINVAL. */
static int directory_flush(int directory)
{
    return fsync(directory) == 0 || errno == EINVAL ? 0 : -errno;
}

int kv_driver_files_open(const kv_driver_options *options, kv_driver_files *files, kv_file *bad)
{
    int directory = open(options->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    unsigned file = KV_FILE_COUNT;
    int result = directory < 0 ? -errno : 0;

    for (unsigned i = 0; i < KV_FILE_COUNT; i++)
        files->descriptors[i] = -1;
    for (unsigned i = 0; i < KV_FILE_COUNT && result == 0; i++) {
        bool direct;
        int descriptor = file_open(directory, options, (kv_file)i, &direct);

        files->descriptors[i] = descriptor < 0 ? -1 : descriptor;
        atomic_init(&files->direct[i], direct);
        if (descriptor < 0) {
            result = descriptor;
            file = i;
        } else if (direct && !file_takes_direct(descriptor)) {
            kv_driver_files_buffer(files, (kv_file)i);
        }
    }
    if (result == 0 && options->create)
        result = directory_flush(directory);
    if (directory >= 0)
        close(directory);
    if (result != 0)
        kv_driver_files_close(files);
    if (bad != NULL)
        *bad = (kv_file)file;
    return result;
}

void kv_driver_files_close(kv_driver_files *files)
{
    for (unsigned i = 0; i < KV_FILE_COUNT; i++) {
        if (files->descriptors[i] >= 0)
            close(files->descriptors[i]);
        files->descriptors[i] = -1;
    }
}

void kv_driver_files_check(const kv_io *io)
{
    assert(io->done != NULL);
    if (io->kind == KV_IO_FLUSH) {
        assert(io->files != 0 && io->files < 1u << KV_FILE_COUNT);
        return;
    }
    assert(io->kind == KV_IO_READ || io->kind == KV_IO_WRITE);
    assert((unsigned)io->file < KV_FILE_COUNT);
    assert(io->size > 0 && io->size % KV_DEVICE_ALIGNMENT == 0);
    assert(io->offset % KV_DEVICE_ALIGNMENT == 0);
    assert((uintptr_t)io->memory % KV_DEVICE_ALIGNMENT == 0);
}

void kv_driver_files_buffer(kv_driver_files *files, kv_file file)
{
    int flags = fcntl(files->descriptors[file], F_GETFL);

    /* The flag lives in the open file, so a descriptor registered with a ring changes with it. */
    if (flags >= 0)
        (void)fcntl(files->descriptors[file], F_SETFL, flags & ~O_DIRECT);
    /* Relaxed: the flag guards no other memory; a late reader only retries once more. */
    atomic_store_explicit(&files->direct[file], false, memory_order_relaxed);
}

int64_t kv_driver_files_size(const kv_driver_files *files, kv_file file)
{
    struct stat status;

    assert((unsigned)file < KV_FILE_COUNT);
    return fstat(files->descriptors[file], &status) == 0 ? (int64_t)status.st_size : -errno;
}

/* One write of zeros; bytes written or a negative errno. */
static int64_t fill_once(kv_driver_files *files, kv_file file, const void *zeros, uint64_t end,
                         uint64_t size)
{
    size_t piece = size - end < FILL_SIZE ? (size_t)(size - end) : FILL_SIZE;
    ssize_t written = pwrite(files->descriptors[file], zeros, piece, (off_t)end);

    if (written >= 0)
        return written == 0 ? -EIO : written;
    if (errno == EINTR)
        return 0;
    if (errno == EINVAL && atomic_load_explicit(&files->direct[file], memory_order_relaxed)) {
        kv_driver_files_buffer(files, file);
        return 0;
    }
    return -errno;
}

int kv_driver_files_fill(kv_driver_files *files, kv_file file, uint64_t end, uint64_t size)
{
    uint64_t mask = KV_DEVICE_ALIGNMENT - 1;
    void *zeros;

    /* A ragged end, which only damage makes, stays: its page is there already. */
    end = (end + mask) & ~mask;
    zeros = aligned_alloc(KV_DEVICE_ALIGNMENT, FILL_SIZE);
    if (zeros == NULL)
        return -ENOMEM;
    memset(zeros, 0, FILL_SIZE);
    while (end < size) {
        int64_t written = fill_once(files, file, zeros, end, size);

        if (written < 0) {
            free(zeros);
            return (int)written;
        }
        end += (uint64_t)written;
    }
    free(zeros);
    return 0;
}

static int file_allocate(int descriptor, uint64_t end, uint64_t size)
{
    struct statvfs space;
    int failed;

    /* An attempt that must fail would first take all that is left, from everybody. */
    if (fstatvfs(descriptor, &space) == 0 && space.f_blocks > 0 &&
        (size - end) / space.f_frsize > space.f_bfree)
        return -ENOSPC;
    do
        failed = fallocate(descriptor, 0, (off_t)end, (off_t)(size - end));
    while (failed != 0 && errno == EINTR);
    return failed != 0 ? -errno : 0;
}

/* The first write to space that was only allocated makes the file system change its own metadata, which a
 * flush must then commit: several times the cost of the flush. Journals are written with zeros ahead. */
static bool is_journal(kv_file file)
{
    return file == KV_FILE_JOURNAL_0 || file == KV_FILE_JOURNAL_1;
}

int kv_driver_files_reserve(kv_driver_files *files, kv_file file, uint64_t size)
{
    int64_t end = kv_driver_files_size(files, file);
    int result;

    if (end < 0)
        return (int)end;
    if (size <= (uint64_t)end)
        return 0;
    if (size > INT64_MAX)
        return -EFBIG;
    result = file_allocate(files->descriptors[file], (uint64_t)end, size);
    if (result == -EOPNOTSUPP || result == -ENOSYS || (result == 0 && is_journal(file)))
        result = kv_driver_files_fill(files, file, (uint64_t)end, size);
    /* What a failed attempt took goes back; that also frees space beyond an unchanged end. */
    if (result != 0 && ftruncate(files->descriptors[file], (off_t)end) != 0)
        return -EIO;
    return result == -EDQUOT ? -ENOSPC : result;
}

/* FNV-1a: the value is compared with one stored by an earlier process, so it must never change. */
static uint64_t text_hash(const char *text, size_t size)
{
    uint64_t hash = 0xCBF29CE484222325u;

    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (uint8_t)text[i]) * 0x100000001B3u;
    return hash != 0 ? hash : 1;
}

/* Bytes read, or 0; the text ends with a zero byte. */
static size_t text_read(const char *path, char *text)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    size_t size = 0;
    ssize_t got = 1;

    while (descriptor >= 0 && got > 0 && size < PROC_TEXT_SIZE - 1) {
        got = read(descriptor, text + size, PROC_TEXT_SIZE - 1 - size);
        size += got > 0 ? (size_t)got : 0;
    }
    if (descriptor >= 0)
        close(descriptor);
    text[size] = '\0';
    return size;
}

uint64_t kv_driver_files_incarnation(const char *boot_id_path, const char *statistics_path)
{
    char text[PROC_TEXT_SIZE];
    size_t size = text_read(boot_id_path, text);
    struct timespec now = {0, 0};
    const char *line;

    if (size > 0)
        return text_hash(text, size);
    (void)text_read(statistics_path, text);
    line = strstr(text, "\nbtime ");
    if (line != NULL)
        return text_hash(line + 1, strcspn(line + 1, "\n"));
    clock_gettime(CLOCK_REALTIME, &now);
    return text_hash((const char *)&now, sizeof(now));
}
