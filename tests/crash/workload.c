/* The clients of the recorded store. See workload.h. */
#include "workload.h"

#include "bytes/random.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_MAX 3u
#define VALUE_SIZE_MIN 4u /* of a value's number, which it begins with */
#define LARGE_SPREAD (WORKLOAD_VALUE_SIZE_MAX - VALUE_SIZE_MIN)
#define STORE_CAPACITY (8u << 20)
#define STORE_MEMORY (96u << 20) /* the least there may be */
#define CLOSE_MS 30000u

typedef struct client {
    workload *work;
    kv_store *store;
    uint32_t index;
    uint32_t operations;
    kv_random random;
} client;

kv_store_options workload_options(const char *directory, kv_durability durability, kv_driver driver)
{
    return (kv_store_options){.directory = directory,
                              .capacity = STORE_CAPACITY,
                              .memory = STORE_MEMORY,
                              .durability = durability,
                              .driver = driver,
                              .workers = 1,
                              .depth = 8,
                              .timeout_ms = 30000};
}

void workload_key(uint32_t key, char name[16])
{
    snprintf(name, 16, "key-%02u", key);
}

/* Small ones share a page, most take a few, some take pieces. */
uint32_t workload_value_size(uint32_t number)
{
    kv_random random;

    kv_random_init(&random, number);
    switch (kv_random_below(&random, 4)) {
    case 0:
        return VALUE_SIZE_MIN + (uint32_t)kv_random_below(&random, 600);
    case 1:
        return VALUE_SIZE_MIN + (uint32_t)kv_random_below(&random, LARGE_SPREAD);
    default:
        return VALUE_SIZE_MIN + (uint32_t)kv_random_below(&random, 12000);
    }
}

void workload_value(uint32_t number, uint8_t *value)
{
    kv_random random;

    kv_random_init(&random, ~(uint64_t)number);
    kv_random_fill(&random, value, workload_value_size(number));
    memcpy(value, &number, sizeof(number));
}

/* ---- what is done ---- */

static uint32_t update_note(workload *work, uint32_t key, uint32_t number, uint32_t begin)
{
    if (work->update_count == work->update_capacity) {
        work->update_capacity = work->update_capacity ? 2 * work->update_capacity : 1024;
        work->updates = realloc(work->updates, work->update_capacity * sizeof(*work->updates));
        assert(work->updates != NULL);
    }
    work->updates[work->update_count] =
        (workload_update){.key = key, .number = number, .begin = begin, .done = UINT32_MAX};
    return work->update_count++;
}

static void do_update(client *self, bool deletes)
{
    workload *work = self->work;
    uint32_t count = 1 + (uint32_t)kv_random_below(&self->random, BATCH_MAX);
    uint32_t share = WORKLOAD_KEYS / WORKLOAD_THREADS;
    uint32_t first = (uint32_t)kv_random_below(&self->random, share), notes[BATCH_MAX], done;
    kv_item items[BATCH_MAX] = {{0}};
    char names[BATCH_MAX][16];
    uint8_t *values[BATCH_MAX] = {NULL};
    kv_request request = {.items = items,
                          .count = count,
                          .operation = deletes ? KV_OP_DELETE : KV_OP_SET};

    pthread_mutex_lock(&work->mutex);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t key = self->index * share + (first + i) % share;
        uint32_t number = deletes ? 0 : ++work->numbers;

        workload_key(key, names[i]);
        items[i].key = (uintptr_t)names[i];
        items[i].key_size = (uint32_t)strlen(names[i]);
        notes[i] = update_note(work, key, number, record_mark());
        if (deletes)
            continue;
        items[i].value_size = workload_value_size(number);
        values[i] = malloc(items[i].value_size);
        assert(values[i] != NULL);
        workload_value(number, values[i]);
        items[i].value = (uintptr_t)values[i];
    }
    pthread_mutex_unlock(&work->mutex);
    assert(kv_store_run(self->store, &request) == 0);
    done = record_mark();
    pthread_mutex_lock(&work->mutex);
    for (uint32_t i = 0; i < count; i++) {
        assert(items[i].status == KV_OK || (deletes && items[i].status == KV_NOT_FOUND));
        work->updates[notes[i]].done = done;
        free(values[i]);
    }
    pthread_mutex_unlock(&work->mutex);
}

static void do_flush(client *self)
{
    workload *work = self->work;
    kv_request request = {.operation = KV_OP_FLUSH};
    workload_flush flush = {.begin = record_mark()};

    assert(kv_store_run(self->store, &request) == 0 && request.status == KV_OK);
    flush.done = record_mark();
    pthread_mutex_lock(&work->mutex);
    if (work->flush_count == work->flush_capacity) {
        work->flush_capacity = work->flush_capacity ? 2 * work->flush_capacity : 64;
        work->flushes = realloc(work->flushes, work->flush_capacity * sizeof(*work->flushes));
        assert(work->flushes != NULL);
    }
    work->flushes[work->flush_count++] = flush;
    pthread_mutex_unlock(&work->mutex);
}

static void *client_run(void *argument)
{
    client *self = argument;

    for (uint32_t i = 0; i < self->operations; i++) {
        uint64_t dice = kv_random_below(&self->random, 40);

        if (dice < 30)
            do_update(self, false);
        else if (dice < 36)
            do_update(self, true);
        else if (dice < 38)
            do_flush(self);
        else if (dice == 38)
            assert(kv_store_checkpoint(self->store, CLOSE_MS) >= 0);
        else
            assert(kv_store_compact(self->store, CLOSE_MS) >= 0);
    }
    return NULL;
}

static kv_store *life_run(workload *work, const kv_store_options *options, uint32_t operations,
                          uint32_t life)
{
    pthread_t threads[WORKLOAD_THREADS];
    client clients[WORKLOAD_THREADS];
    char message[KV_MESSAGE_SIZE];
    kv_store *store;
    int error;

    error = kv_store_open(options, &store, message);
    if (error < 0) {
        fprintf(stderr, "the recorded store does not open: %s\n", message);
        exit(error == -ENOSYS || error == -EPERM ? WORKLOAD_NO_DRIVER : 1);
    }
    for (uint32_t i = 0; i < WORKLOAD_THREADS; i++) {
        clients[i] = (client){.work = work, .store = store, .index = i, .operations = operations};
        kv_random_init(&clients[i].random, work->seed * 100 + life * 10 + i);
        assert(pthread_create(&threads[i], NULL, client_run, &clients[i]) == 0);
    }
    for (uint32_t i = 0; i < WORKLOAD_THREADS; i++)
        pthread_join(threads[i], NULL);
    return store;
}

void workload_run(workload *work, const char *directory, uint64_t seed, uint32_t operations,
                  kv_durability durability, kv_driver driver)
{
    kv_store_options options = workload_options(directory, durability, driver);
    uint32_t each = operations / (2 * WORKLOAD_THREADS) + 1;
    kv_store *store;

    *work = (workload){.durability = durability, .seed = seed};
    pthread_mutex_init(&work->mutex, NULL);
    record_set_boot(1);
    record_start(&work->record, directory);
    store = life_run(work, &options, each, 1);
    assert(kv_store_close(store, CLOSE_MS) == 0);
    store = life_run(work, &options, each, 2);
    record_stop();
    assert(kv_store_close(store, CLOSE_MS) == 0);
}

void workload_free(workload *work)
{
    record_free(&work->record);
    free(work->updates);
    free(work->flushes);
    pthread_mutex_destroy(&work->mutex);
}

/* ---- what may be ---- */

static bool is_promised(const workload *work, const workload_update *update, uint32_t cut,
                        bool power)
{
    if (update->done > cut)
        return false;
    if (!power || work->durability == KV_DURABILITY_SYNC)
        return true;
    for (uint32_t i = 0; i < work->flush_count; i++)
        if (work->flushes[i].done <= cut && update->done < work->flushes[i].begin)
            return true;
    return false;
}

const char *workload_judge(const workload *work, uint32_t cut, bool power, uint32_t key,
                           uint32_t number)
{
    const workload_update *promised = NULL;
    bool explained = number == 0;

    for (uint32_t i = 0; i < work->update_count; i++) {
        const workload_update *update = &work->updates[i];

        if (update->key != key || update->begin > cut)
            continue;
        if (is_promised(work, update, cut, power)) {
            promised = update;
            explained = update->number == number;
        } else {
            explained |= update->number == number;
        }
    }
    if (explained)
        return NULL;
    if (number != 0)
        return "an older value, or one of later";
    return promised && promised->number != 0 ? "what was promised is lost"
                                             : "what was deleted is there";
}
