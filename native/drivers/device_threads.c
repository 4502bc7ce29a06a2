/* The device on a pool of threads that call pread, pwrite and fdatasync: for systems that forbid
 * io_uring. As many operations are in flight as there are threads; the others wait in order. */
#include "drivers/driver_files.h"
#include "drivers/driver_thread.h"
#include "drivers/transfer.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

typedef struct worker {
    struct kv_device_threads *pool;
    const kv_io *running; /* from off the list until done returned; outside only compared */
    pthread_t thread;
} worker;

typedef struct kv_device_threads {
    kv_device device;
    kv_driver_files files;
    pthread_mutex_t lock; /* over all below */
    pthread_cond_t arrived;
    pthread_cond_t completed;
    kv_list waiting;
    uint64_t outstanding;
    uint32_t waiters;
    uint32_t idle;
    bool stopping;
    uint32_t worker_count;
    worker workers[KV_DRIVER_THREADS_MAX];
} kv_device_threads;

static kv_device_threads *device_of(kv_device *device)
{
    return KV_CONTAINER(device, kv_device_threads, device);
}

/* ---- one operation ---- */

static int64_t transfer_once(const kv_transfer *transfer, int descriptor)
{
    int64_t result;

    switch (transfer->kind) {
    case KV_IO_READ:
        result = pread(descriptor, transfer->memory, transfer->size, (off_t)transfer->offset);
        break;
    case KV_IO_WRITE:
        result = pwrite(descriptor, transfer->memory, transfer->size, (off_t)transfer->offset);
        break;
    default:
        result = fdatasync(descriptor);
    }
    return result < 0 ? -errno : result;
}

static int transfer_run(kv_device_threads *pool, kv_transfer transfer)
{
    int verdict;

    do {
        int64_t result = transfer_once(&transfer, pool->files.descriptors[transfer.file]);

        verdict = kv_transfer_step(&transfer, &pool->files, result);
    } while (verdict == KV_TRANSFER_AGAIN);
    return verdict;
}

static int64_t io_move(kv_device_threads *pool, const kv_io *io)
{
    int result = transfer_run(pool, (kv_transfer){.memory = io->memory,
                                                  .offset = io->offset,
                                                  .size = io->size,
                                                  .kind = io->kind,
                                                  .file = io->file});

    return result < 0 ? result : (int64_t)io->size;
}

/* Flushes every file even after an error; the first error is the operation's. */
static int64_t io_flush(kv_device_threads *pool, const kv_io *io)
{
    int first = 0;

    for (uint32_t files = io->files; files != 0; files &= files - 1) {
        kv_transfer flush = {.kind = KV_IO_FLUSH, .file = (kv_file)__builtin_ctz(files)};
        int result = transfer_run(pool, flush);

        if (first == 0)
            first = result;
    }
    return first;
}

/* ---- the workers ---- */

/* Wait for an operation; NULL when the pool stops. Locked. */
static kv_io *worker_take(kv_device_threads *pool)
{
    kv_list *link;

    while ((link = kv_list_pop(&pool->waiting)) == NULL) {
        if (pool->stopping)
            return NULL;
        pool->idle++;
        pthread_cond_wait(&pool->arrived, &pool->lock);
        pool->idle--;
    }
    return KV_CONTAINER(link, kv_io, link);
}

static void *worker_run(void *argument)
{
    worker *self = argument;
    kv_device_threads *pool = self->pool;
    kv_io *io;

    pthread_mutex_lock(&pool->lock);
    while ((io = worker_take(pool)) != NULL) {
        self->running = io;
        pthread_mutex_unlock(&pool->lock);
        io->result = io->kind == KV_IO_FLUSH ? io_flush(pool, io) : io_move(pool, io);
        io->done(io);
        pthread_mutex_lock(&pool->lock);
        self->running = NULL;
        pool->outstanding--;
        if (pool->waiters > 0)
            pthread_cond_broadcast(&pool->completed);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

/* ---- the port ---- */

static void threads_submit(kv_device *device, kv_io **ios, size_t count)
{
    kv_device_threads *pool = device_of(device);

    for (size_t i = 0; i < count; i++)
        kv_driver_files_check(ios[i]);
    pthread_mutex_lock(&pool->lock);
    for (size_t i = 0; i < count; i++)
        kv_list_append(&pool->waiting, &ios[i]->link);
    pool->outstanding += count;
    for (size_t i = 0; i < count && i < pool->idle; i++)
        pthread_cond_signal(&pool->arrived);
    pthread_mutex_unlock(&pool->lock);
}

/* There is nobody to register with. */
static int threads_register_memory(kv_device *device, void *memory, size_t size,
                                   size_t segment_size)
{
    (void)device;
    (void)memory;
    (void)size;
    (void)segment_size;
    return 0;
}

static int64_t threads_file_size(kv_device *device, kv_file file)
{
    return kv_driver_files_size(&device_of(device)->files, file);
}

static int threads_file_reserve(kv_device *device, kv_file file, uint64_t size)
{
    return kv_driver_files_reserve(&device_of(device)->files, file, size);
}

/* Only compares `io`, which its done may have freed. Locked. */
static bool is_outstanding(const kv_device_threads *pool, const kv_io *io)
{
    const kv_list *link;

    for (uint32_t i = 0; i < pool->worker_count; i++) {
        if (pool->workers[i].running == io)
            return true;
    }
    for (link = pool->waiting.next; link != &pool->waiting; link = link->next) {
        if (link == &io->link)
            return true;
    }
    return false;
}

static void threads_wait(kv_device *device, kv_io *io)
{
    kv_device_threads *pool = device_of(device);

    pthread_mutex_lock(&pool->lock);
    pool->waiters++;
    while (is_outstanding(pool, io))
        pthread_cond_wait(&pool->completed, &pool->lock);
    pool->waiters--;
    pthread_mutex_unlock(&pool->lock);
}

static uint64_t threads_incarnation(kv_device *device)
{
    (void)device;
    return kv_driver_files_incarnation(KV_BOOT_ID_PATH, KV_BOOT_STATISTICS_PATH);
}

/* End the workers once nothing is outstanding: a `done` may submit until the last has run. */
static void workers_stop(kv_device_threads *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->waiters++;
    while (pool->outstanding > 0)
        pthread_cond_wait(&pool->completed, &pool->lock);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->arrived);
    pthread_mutex_unlock(&pool->lock);
    for (uint32_t i = 0; i < pool->worker_count; i++)
        pthread_join(pool->workers[i].thread, NULL);
}

static void threads_close(kv_device *device)
{
    kv_device_threads *pool = device_of(device);

    workers_stop(pool);
    kv_driver_files_close(&pool->files);
    pthread_cond_destroy(&pool->completed);
    pthread_cond_destroy(&pool->arrived);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

/* The lock may be held by a thread that does not exist here: it is freed as it is. */
static void threads_abandon(kv_device *device)
{
    kv_device_threads *pool = device_of(device);

    kv_driver_files_close(&pool->files);
    free(pool);
}

static const kv_device_operations threads_operations = {
    .name = "threads",
    .submit = threads_submit,
    .register_memory = threads_register_memory,
    .file_size = threads_file_size,
    .file_reserve = threads_file_reserve,
    .wait = threads_wait,
    .incarnation = threads_incarnation,
    .close = threads_close,
    .abandon = threads_abandon,
};

/* Start the workers; those of a partial start are ended by workers_stop. */
static int workers_start(kv_device_threads *pool, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        worker *next = &pool->workers[i];
        char name[16];
        int result;

        (void)snprintf(name, sizeof(name), "kv-io-%u", (unsigned)(i % KV_DRIVER_THREADS_MAX));
        next->pool = pool;
        result = kv_driver_thread_start(name, worker_run, next, &next->thread);
        if (result != 0)
            return result;
        pool->worker_count++;
    }
    return 0;
}

int kv_driver_threads_open(const kv_driver_options *options, kv_device **device, kv_file *bad)
{
    kv_device_threads *pool;
    int result;

    if (bad != NULL)
        *bad = KV_FILE_COUNT;
    if (options->threads == 0 || options->threads > KV_DRIVER_THREADS_MAX)
        return -EINVAL;
    pool = calloc(1, sizeof(*pool));
    if (pool == NULL)
        return -ENOMEM;
    result = kv_driver_files_open(options, &pool->files, bad);
    if (result != 0) {
        free(pool);
        return result;
    }
    pool->device.operations = &threads_operations;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->arrived, NULL);
    pthread_cond_init(&pool->completed, NULL);
    kv_list_init(&pool->waiting);
    result = workers_start(pool, options->threads);
    if (result != 0) {
        threads_close(&pool->device);
        return result;
    }
    *device = &pool->device;
    return 0;
}
