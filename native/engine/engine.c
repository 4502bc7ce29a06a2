/* Opening and closing a target, its statistics, and what every file of the engine needs. */

#include "engine/engine_state.h"
#include "engine/startup.h"

#include "bytes/hash.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void kv_engine_explain(char *message, const char *format, ...)
{
    va_list arguments;

    if (!message)
        return;
    va_start(arguments, format);
    vsnprintf(message, KV_MESSAGE_SIZE, format, arguments);
    va_end(arguments);
}

uint64_t kv_engine_visible(const kv_engine *engine)
{
    switch (engine->options.durability) {
    case KV_DURABILITY_MEMORY:
        return UINT64_MAX;
    case KV_DURABILITY_SYNC:
        return engine->journal.flushed;
    default:
        return engine->journal.durable;
    }
}

void kv_engine_fail(kv_engine *engine, int error)
{
    kv_list *link;

    assert(error > 0);
    if (engine->offline)
        return;
    engine->offline = error;
    while ((link = kv_list_pop(&engine->journal.waiters)) != NULL)
        kv_operation_wake(KV_CONTAINER(link, kv_operation, wait_journal));
    kv_operation_wake_all(&engine->memory_waiters);
    kv_operation_wake_all(&engine->space_waiters);
    kv_operation_wake_all(&engine->unwritten_waiters);
    pthread_cond_broadcast(&engine->changed);
}

int kv_engine_sleep(kv_engine *engine)
{
    size_t (*poll)(kv_device *) = engine->device->operations->poll;
    size_t completed;

    if (!poll) {
        pthread_cond_wait(&engine->changed, &engine->lock);
        return 0;
    }
    pthread_mutex_unlock(&engine->lock);
    completed = poll(engine->device);
    pthread_mutex_lock(&engine->lock);
    return completed > 0 ? 0 : -ECANCELED;
}

void kv_engine_release_frame(kv_engine *engine, kv_frame *frame)
{
    kv_tier_release(&engine->tier, frame);
    kv_operation_wake_all(&engine->memory_waiters);
}

void kv_engine_count_set(kv_engine *engine, uint32_t size)
{
    engine->statistics.sets++;
    engine->statistics.bytes_written += size;
}

bool kv_object_expired(const kv_object *object, uint64_t now_ms)
{
    uint64_t expiry_ms = kv_object_expiry_ms(object);

    return expiry_ms != 0 && expiry_ms <= now_ms;
}

static int parts_open(kv_engine *engine)
{
    const kv_engine_options *options = &engine->options;
    int result = kv_index_open(kv_hash(options->seed, "index", 5), &engine->index);

    if (result < 0)
        return result;
    result = kv_tier_open(&engine->tier, options->memory, options->memory_size, engine->index);
    if (result < 0)
        return result;
    engine->journal.run = kv_hash(options->seed, "run", 3);
    return kv_journal_open(engine);
}

static void object_load(void *context, uint32_t handle, kv_eviction_node *node)
{
    const kv_engine *engine = context;
    const kv_object *object = kv_index_at(engine->index, handle);

    node->next = object->queue_next;
    node->previous = object->queue_previous;
    node->queue = object->queue;
    node->frequency = object->frequency;
}

static void object_store(void *context, uint32_t handle, const kv_eviction_node *node)
{
    const kv_engine *engine = context;
    kv_object *object = kv_index_at(engine->index, handle);

    object->queue_next = node->next;
    object->queue_previous = node->previous;
    object->queue = node->queue & 7u;
    object->frequency = node->frequency & 3u;
}

typedef struct age {
    uint64_t sequence;
    kv_object *object;
} age;

typedef struct ages {
    age *rows;
    size_t count;
} ages;

static void age_note(void *context, kv_object *object)
{
    ages *found = context;

    found->rows[found->count++] = (age){kv_object_sequence(object), object};
}

static int age_compare(const void *left, const void *right)
{
    uint64_t a = ((const age *)left)->sequence;
    uint64_t b = ((const age *)right)->sequence;

    return (a > b) - (a < b);
}

/* Cache mode: what was recovered enters the policy in the order in which it was written. */
static int eviction_open(kv_engine *engine)
{
    uint64_t count = kv_index_count(engine->index);
    uint64_t expected = engine->options.objects_max ? engine->options.objects_max
                                                    : count + KV_EVICTION_EXPECTED_MIN;
    ages found = {0};
    uint64_t cursor = 0;
    int result = kv_eviction_open(expected, object_load, object_store, engine, &engine->eviction);

    if (result < 0)
        return result;
    engine->evicts_itself = true;
    engine->eviction_expected = expected;
    found.rows = malloc((count + 1) * sizeof(*found.rows));
    if (!found.rows)
        return -ENOMEM;
    while (kv_index_scan(engine->index, &cursor, age_note, &found))
        continue;
    qsort(found.rows, found.count, sizeof(*found.rows), age_compare);
    for (size_t i = 0; i < found.count; i++) {
        kv_object *object = found.rows[i].object;

        kv_eviction_insert(engine->eviction, kv_index_handle(engine->index, object),
                           kv_index_hash(engine->index, object->key, object->key_size), 0);
    }
    free(found.rows);
    return 0;
}

static void parts_close(kv_engine *engine)
{
    if (engine->eviction)
        kv_eviction_close(engine->eviction);
    kv_journal_close(engine);
    kv_space_close(engine);
    kv_tier_close(&engine->tier);
    if (engine->index)
        kv_index_close(engine->index);
    kv_transfer_pool_close(engine);
    free(engine->regions);
    pthread_cond_destroy(&engine->changed);
    pthread_mutex_destroy(&engine->lock);
    free(engine);
}

static kv_engine *engine_create(const kv_engine_options *options)
{
    kv_engine *engine = calloc(1, sizeof(*engine));

    if (!engine)
        return NULL;
    engine->options = *options;
    if (engine->options.journal_size_max == 0)
        engine->options.journal_size_max = KV_JOURNAL_SIZE_MAX_DEFAULT;
    if (engine->options.journal_step == 0)
        engine->options.journal_step = KV_JOURNAL_STEP;
    engine->device = options->device;
    engine->incarnation = engine->device->operations->incarnation(engine->device);
    engine->read_only = options->open_mode == KV_OPEN_READ_ONLY;
    pthread_mutex_init(&engine->lock, NULL);
    pthread_cond_init(&engine->changed, NULL);
    kv_list_init(&engine->transfers);
    kv_list_init(&engine->transfer_slabs);
    kv_list_init(&engine->memory_waiters);
    kv_list_init(&engine->space_waiters);
    kv_list_init(&engine->unwritten_waiters);
    return engine;
}

int kv_engine_open(const kv_engine_options *options, kv_engine **result, char *message)
{
    kv_engine *engine = engine_create(options);
    int error;

    if (!engine)
        return -ENOMEM;
    error = parts_open(engine);
    if (error == 0)
        error = kv_recovery_run(engine, message);
    else
        kv_engine_explain(message, "out of memory while opening the store: %s", strerror(-error));
    if (error == 0 && options->eviction == KV_EVICTION_CACHE)
        error = eviction_open(engine);
    if (error < 0) {
        parts_close(engine);
        return error;
    }
    engine->last_flush_ms = kv_engine_now(engine);
    engine->unwritten_epoch = 1;
    *result = engine;
    return 0;
}

static int close_cleanly(kv_engine *engine)
{
    kv_record record = {.kind = KV_RECORD_CLOSE};
    int result = kv_journal_settle(engine, true);

    if (result < 0)
        return result;
    pthread_mutex_lock(&engine->lock);
    kv_journal_append(engine, &record);
    pthread_mutex_unlock(&engine->lock);
    result = kv_journal_settle(engine, true);
    return result < 0 ? result : kv_superblock_write(engine, true);
}

/* No operation is out, yet the device may be busy for one that was aborted, or beside the failure that
 * took the target offline. */
static void wait_for_device(kv_engine *engine)
{
    int result = 0;

    pthread_mutex_lock(&engine->lock);
    while (result == 0 &&
           (engine->fill_count > 0 || engine->journal.writing || engine->journal.flushing))
        result = kv_engine_sleep(engine);
    pthread_mutex_unlock(&engine->lock);
}

void kv_engine_close(kv_engine *engine, bool clean)
{
    assert(!clean || engine->operation_count == 0);
    if (clean && !engine->read_only && !engine->offline)
        close_cleanly(engine);
    if (clean)
        wait_for_device(engine);
    parts_close(engine);
}

static void gauge(kv_engine *engine, kv_store_statistics *statistics)
{
    const kv_slab_allocator *slabs = engine->space.slabs;

    statistics->objects = kv_index_count(engine->index);
    statistics->index_size = kv_index_size(engine->index);
    statistics->capacity = kv_slab_space_size(slabs);
    statistics->slab_size = engine->space.slab_size;
    statistics->slabs = kv_slab_high_mark(slabs);
    statistics->slabs_free = kv_slab_free_slabs(slabs);
    statistics->space_used = kv_slab_used_size(slabs);
    statistics->space_free = kv_slab_free_size(slabs);
    statistics->space_quarantined = engine->space.retired_size;
    statistics->memory_capacity = engine->tier.size;
    statistics->memory_used = kv_slab_used_size(engine->tier.space);
    statistics->memory_objects = engine->tier.count;
    statistics->journal_size = engine->journal.offset;
    statistics->journal_generation = engine->journal.generation;
    statistics->sequence = engine->journal.next - 1;
    statistics->sequence_durable = engine->journal.durable;
    statistics->sequence_flushed = engine->journal.flushed;
    statistics->offline = (uint64_t)engine->offline;
}

void kv_engine_statistics(kv_engine *engine, kv_store_statistics *statistics)
{
    pthread_mutex_lock(&engine->lock);
    *statistics = engine->statistics;
    gauge(engine, statistics);
    pthread_mutex_unlock(&engine->lock);
}

int kv_engine_slabs(kv_engine *engine, kv_slab_row *rows, int rows_max)
{
    kv_slab_statistics found[KV_SLAB_CLASS_PACK + 1];
    int count;

    pthread_mutex_lock(&engine->lock);
    count = kv_slab_statistics_by_class(engine->space.slabs, found, KV_SLAB_CLASS_PACK + 1);
    pthread_mutex_unlock(&engine->lock);
    if (count > rows_max)
        count = rows_max;
    for (int i = 0; i < count; i++)
        rows[i] = (kv_slab_row){.slab_class = found[i].slab_class,
                                .extent_size = found[i].extent_size,
                                .slabs = found[i].slab_count,
                                .live_count = found[i].live_count,
                                .live_size = found[i].live_size,
                                .free_size = found[i].free_size};
    return count;
}

void kv_engine_watch_io(kv_engine *engine, uint64_t now_ns, uint64_t *oldest_ns,
                        uint64_t *silent_ns)
{
    kv_io_ages seen;

    pthread_mutex_lock(&engine->lock);
    seen = kv_io_watch_look(&engine->io_watch, now_ns);
    pthread_mutex_unlock(&engine->lock);
    *oldest_ns = seen.oldest_ns;
    *silent_ns = seen.silent_ns;
}
