/* The embedded store: an engine over the files of a directory, in the caller's process. */

#include "embedded/store_state.h"

#include "bytes/checksum.h"
#include "bytes/clock.h"
#include "drivers/drivers.h"
#include "embedded/directory.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define CLOSE_GRACE_MS 30000u /* for the device, after everything was cancelled */

uint64_t kv_monotonic_ms(void)
{
    return kv_clock_ns() / 1000000;
}

static uint64_t unix_ms(void *clock)
{
    struct timespec now;

    (void)clock;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void kv_condition_init(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

void kv_condition_wait_ms(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t ms)
{
    struct timespec end;

    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += (time_t)(ms / 1000);
    end.tv_nsec += (long)(ms % 1000) * 1000000;
    if (end.tv_nsec >= 1000000000) {
        end.tv_sec++;
        end.tv_nsec -= 1000000000;
    }
    pthread_cond_timedwait(condition, mutex, &end);
}

static int options_check(const kv_store_options *options, char *message)
{
    const char *bad = NULL;

    if (options->durability > KV_DURABILITY_SYNC)
        bad = "durability";
    else if (options->eviction > KV_EVICTION_CACHE)
        bad = "eviction";
    else if (options->driver > KV_DRIVER_THREADS)
        bad = "driver";
    else if (options->open_mode > KV_OPEN_READ_ONLY)
        bad = "open_mode";
    else if (options->workers > KV_WORKERS_MAX && options->workers != KV_WORKERS_NONE)
        bad = "workers";
    else if (options->depth > KV_DEVICE_DEPTH_MAX)
        bad = "depth";
    else if (options->memory != 0 && options->memory < KV_MEMORY_SIZE_MIN)
        bad = "memory (at least 100663296 bytes, so that the largest value fits)";
    if (bad)
        snprintf(message, KV_MESSAGE_SIZE, "option out of range: %s", bad);
    return bad ? -EINVAL : 0;
}

static bool uring_forbidden(int error, kv_file bad)
{
    return bad == KV_FILE_COUNT &&
           (error == -ENOSYS || error == -EPERM || error == -EACCES || error == -ENOMEM);
}

static int device_open(kv_store *store, const kv_store_options *options, char *message)
{
    kv_driver_options driver = {
        .directory = options->directory,
        .create = options->open_mode == KV_OPEN_NORMAL,
        .read_only = options->open_mode == KV_OPEN_READ_ONLY,
        .direct = true,
        .depth = options->depth ? options->depth : KV_DEPTH_DEFAULT,
        .threads = KV_DRIVER_THREADS_DEFAULT,
    };
    kv_file bad = KV_FILE_COUNT;
    int result = -ENOSYS;

    if (options->driver != KV_DRIVER_THREADS)
        result = kv_driver_uring_open(&driver, &store->device, &bad);
    if (options->driver == KV_DRIVER_THREADS ||
        (options->driver == KV_DRIVER_AUTO && result < 0 && uring_forbidden(result, bad)))
        result = kv_driver_threads_open(&driver, &store->device, &bad);
    if (result < 0 && bad < KV_FILE_COUNT)
        snprintf(message, KV_MESSAGE_SIZE, "%s/%s cannot be opened: %s", options->directory,
                 kv_file_name(bad), strerror(-result));
    else if (result < 0)
        snprintf(message, KV_MESSAGE_SIZE, "the driver %s cannot start: %s",
                 options->driver == KV_DRIVER_URING ? "io_uring" : "threads", strerror(-result));
    /* Without the right to io_uring the directory may well be ours: the message says what is not. */
    return options->driver == KV_DRIVER_URING && uring_forbidden(result, bad) ? -ENOSYS : result;
}

/* The engine knows neither the directory nor what the file system has. */
static void explain_space(const kv_store_options *options, char *message)
{
    unsigned long long available = kv_directory_space(options->directory);

    if (options->capacity > 0)
        snprintf(message, KV_MESSAGE_SIZE,
                 "no space for a store of capacity %llu in %.300s: the file system has %llu bytes to give",
                 (unsigned long long)options->capacity, options->directory, available);
    else
        snprintf(message, KV_MESSAGE_SIZE,
                 "no space for a store in %.300s: the file system has %llu bytes to give",
                 options->directory, available);
}

static int engine_open(kv_store *store, const kv_store_options *options, char *message)
{
    kv_engine_options engine = {
        .device = store->device,
        .memory = store->region.memory,
        .memory_size = store->region.size,
        .capacity = options->capacity,
        .space_max = kv_directory_space(options->directory),
        .objects_max = options->objects_max,
        .durability = options->durability,
        .eviction = options->eviction,
        .open_mode = options->open_mode,
        .ttl_ms = options->ttl_ms,
        .now_ms = unix_ms,
        .ready = kv_task_ready,
        .answered = kv_task_answered,
        .maintain = kv_upkeep_wanted,
        .executor = store,
    };
    uint64_t begin_ms = kv_monotonic_ms();
    int result;

    if (getrandom(&engine.seed, sizeof(engine.seed), 0) != sizeof(engine.seed))
        engine.seed = unix_ms(NULL) * 0x9e3779b97f4a7c15u + (uint64_t)getpid();
    result = kv_engine_open(&engine, &store->engine, message);
    store->recovery_ms = kv_monotonic_ms() - begin_ms;
    if (result == -ENOSPC)
        explain_space(options, message);
    return result;
}

static void *(*const thread_bodies[])(void *) = {kv_upkeep_thread, kv_watchman_thread};

static void threads_stop(kv_store *store)
{
    pthread_mutex_lock(&store->mutex);
    store->closing = true;
    store->stopping = true;
    pthread_cond_broadcast(&store->work);
    pthread_cond_broadcast(&store->upkeep);
    pthread_cond_broadcast(&store->watch);
    pthread_mutex_unlock(&store->mutex);
    for (uint32_t i = 0; i < store->thread_count; i++)
        pthread_join(store->threads[i], NULL);
    store->thread_count = 0;
}

/* Signals are the caller's threads' business. */
static int threads_start(kv_store *store, uint32_t workers)
{
    const uint32_t bodies = sizeof(thread_bodies) / sizeof(thread_bodies[0]);
    sigset_t all;
    sigset_t before;
    int error = 0;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (uint32_t i = 0; i < workers + bodies && error == 0; i++) {
        void *(*body)(void *) = i < bodies ? thread_bodies[i] : kv_task_worker;

        error = pthread_create(&store->threads[i], NULL, body, store);
        store->thread_count += error == 0;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error)
        threads_stop(store);
    return -error;
}

static kv_store *store_create(const kv_store_options *options)
{
    kv_store *store = calloc(1, sizeof(*store));

    if (!store)
        return NULL;
    pthread_mutex_init(&store->mutex, NULL);
    kv_condition_init(&store->work);
    kv_condition_init(&store->upkeep);
    kv_condition_init(&store->watch);
    kv_condition_init(&store->idle);
    kv_list_init(&store->tasks);
    kv_list_init(&store->runnable);
    store->timeout_ms = options->timeout_ms ? options->timeout_ms : KV_TIMEOUT_MS_DEFAULT;
    kv_scrub_init(&store->scrub, options->scrub_bytes_per_s, kv_monotonic_ms());
    return store;
}

static void store_free(kv_store *store)
{
    pthread_cond_destroy(&store->work);
    pthread_cond_destroy(&store->upkeep);
    pthread_cond_destroy(&store->watch);
    pthread_cond_destroy(&store->idle);
    pthread_mutex_destroy(&store->mutex);
    free(store);
}

/* Everything behind the lock of the directory. */
static int store_open_locked(kv_store *store, const kv_store_options *options, char *message)
{
    uint64_t memory = options->memory ? options->memory : KV_MEMORY_SIZE_DEFAULT;
    uint32_t workers = options->workers ? options->workers : KV_WORKERS_DEFAULT;
    int result = device_open(store, options, message);

    if (result < 0)
        return result;
    /* A huge page is made present all at once, by whoever touches it first: on virtual machines that
     * took 10 to 100 ms, during which a node that had just started answered nobody. Plain pages cost
     * microseconds each, and the gain of huge ones shows in large tiers only. */
    result = kv_region_open(memory, memory >= KV_MEMORY_HUGE_SIZE_MIN, &store->region);
    if (result < 0) {
        snprintf(message, KV_MESSAGE_SIZE, "no memory for a DRAM tier of %llu bytes",
                 (unsigned long long)memory);
        goto fail_region;
    }
    store->device->operations->register_memory(store->device, store->region.memory, store->region.size,
                                               KV_REGISTER_SIZE);
    result = engine_open(store, options, message);
    if (result < 0)
        goto fail_engine;
    result = threads_start(store, workers == KV_WORKERS_NONE ? 0 : workers);
    if (result < 0) {
        snprintf(message, KV_MESSAGE_SIZE, "threads cannot be started: %s", strerror(-result));
        goto fail_threads;
    }
    return 0;

fail_threads:
    kv_engine_close(store->engine, false);
fail_engine:
    store->device->operations->close(store->device);
    kv_region_close(&store->region);
    return result;
fail_region:
    store->device->operations->close(store->device);
    return result;
}

int kv_store_open(const kv_store_options *options, kv_store **result, char *message)
{
    bool make = options->open_mode == KV_OPEN_NORMAL;
    int error = options_check(options, message);
    kv_store *store;

    if (error < 0)
        return error;
    if (!make && !kv_directory_holds_store(options->directory)) {
        snprintf(message, KV_MESSAGE_SIZE, "there is no store in %s", options->directory);
        return -ENOENT;
    }
    store = store_create(options);
    if (!store)
        return -ENOMEM;
    error = kv_directory_open(options->directory, options->open_mode, &store->lock, message);
    if (error == 0) {
        error = store_open_locked(store, options, message);
        if (error < 0)
            kv_directory_close(store->lock);
    }
    if (error < 0) {
        store_free(store);
        return error;
    }
    *result = store;
    return 0;
}

/* Wait until no task is left. False: some are still there after so long. */
static bool wait_idle(kv_store *store, uint64_t timeout_ms)
{
    uint64_t end_ms = kv_monotonic_ms() + timeout_ms;
    bool idle;

    pthread_mutex_lock(&store->mutex);
    for (;;) {
        uint64_t now_ms = kv_monotonic_ms();

        idle = store->task_count == 0;
        if (idle || now_ms >= end_ms)
            break;
        kv_condition_wait_ms(&store->idle, &store->mutex, end_ms - now_ms);
    }
    pthread_mutex_unlock(&store->mutex);
    return idle;
}

int kv_store_close(kv_store *store, uint64_t timeout_ms)
{
    pthread_mutex_lock(&store->mutex);
    store->closing = true;
    pthread_cond_broadcast(&store->upkeep);
    pthread_mutex_unlock(&store->mutex);
    if (!wait_idle(store, timeout_ms)) {
        kv_task_expire(store, true, KV_CANCELLED);
        if (!wait_idle(store, CLOSE_GRACE_MS))
            return -ETIMEDOUT; /* the device holds memory of ours: better kept than reused */
    }
    threads_stop(store);
    kv_engine_close(store->engine, true);
    store->device->operations->close(store->device);
    kv_region_close(&store->region);
    kv_directory_close(store->lock);
    store_free(store);
    return 0;
}

void kv_store_abandon(kv_store *store)
{
    if (store->device->operations->abandon)
        store->device->operations->abandon(store->device);
    kv_directory_close(store->lock);
}

kv_engine *kv_store_engine(kv_store *store)
{
    return store->engine;
}

int kv_store_run(kv_store *store, kv_request *request)
{
    int error = kv_task_run(store, request);

    if (error < 0 || request->operation != KV_OP_FLUSH || request->status == KV_OK)
        return error;
    switch (request->status) {
    case KV_TIMEOUT:
        return -ETIMEDOUT;
    case KV_CANCELLED:
        return -ECANCELED;
    default:
        return -ENODEV;
    }
}

int kv_store_register(kv_store *store, uint64_t address, uint64_t size)
{
    return kv_engine_register(store->engine, address, size);
}

int kv_store_unregister(kv_store *store, uint64_t address)
{
    return kv_engine_unregister(store->engine, address);
}

int64_t kv_store_list(kv_store *store, uint64_t *cursor, const void *prefix, uint32_t prefix_size,
                      void *buffer, uint64_t size)
{
    return kv_engine_list(store->engine, cursor, prefix, prefix_size, buffer, size);
}

int64_t kv_store_verify(kv_store *store, uint64_t *cursor, uint64_t bytes_max, void *buffer,
                        uint64_t size, uint64_t *objects, uint64_t *bytes)
{
    return kv_engine_verify(store->engine, cursor, bytes_max, buffer, size, objects, bytes,
                            kv_upkeep_run, store);
}

int kv_store_repair(kv_store *store, const void *key, uint32_t key_size, const void *value,
                    uint32_t value_size)
{
    return kv_engine_repair(store->engine, key, key_size, value, value_size, kv_upkeep_run, store);
}

int kv_store_compact(kv_store *store, uint64_t timeout_ms)
{
    (void)timeout_ms;
    return kv_engine_compact(store->engine, 100, kv_upkeep_run, store);
}

int kv_store_checkpoint(kv_store *store, uint64_t timeout_ms)
{
    (void)timeout_ms;
    return kv_engine_checkpoint(store->engine);
}

int kv_store_slabs(kv_store *store, kv_slab_row *rows, int rows_max)
{
    return kv_engine_slabs(store->engine, rows, rows_max);
}

void kv_store_statistics_read(kv_store *store, kv_store_statistics *statistics)
{
    kv_engine_statistics(store->engine, statistics);
    statistics->memory_huge_size = store->region.huge_size;
    statistics->recovery_ns = store->recovery_ms * 1000000;
    pthread_mutex_lock(&store->mutex);
    statistics->scrubbed_values = store->scrubbed_values;
    statistics->scrubbed_bytes = store->scrubbed_bytes;
    statistics->scrub_passes = store->scrub_passes;
    pthread_mutex_unlock(&store->mutex);
}

int kv_store_describe(kv_store *store, char *text, size_t size)
{
    return snprintf(text, size, "driver=%s checksum=%s", store->device->operations->name,
                    kv_checksum_kind());
}
