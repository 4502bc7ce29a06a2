/* The store's background threads beside its workers: maintenance with the scrub, and the watchman of
 * asynchronous deadlines. */

#include "embedded/store_state.h"

#define SCRUB_REPORT_SIZE 65536u

void kv_upkeep_wanted(void *executor)
{
    kv_store *store = executor;

    pthread_mutex_lock(&store->mutex);
    store->maintain_wanted = true;
    pthread_cond_signal(&store->upkeep);
    pthread_mutex_unlock(&store->mutex);
}

int kv_upkeep_run(void *runner, kv_request *request)
{
    return kv_task_run(runner, request);
}

/* Verify what is due. What is corrupt is counted; a reader of that key gets an error, never wrong
 * bytes. */
static void scrub_step(kv_store *store)
{
    static _Thread_local uint8_t bad[SCRUB_REPORT_SIZE];
    uint64_t due = kv_scrub_due(&store->scrub, kv_monotonic_ms());
    uint64_t cursor = store->scrub.cursor, objects = 0, bytes = 0;

    if (due == 0)
        return;
    kv_engine_verify(store->engine, &cursor, due, bad, sizeof(bad), &objects, &bytes, kv_upkeep_run,
                     store);
    pthread_mutex_lock(&store->mutex);
    store->scrubbed_values += objects;
    store->scrubbed_bytes += bytes;
    store->scrub_passes += kv_scrub_stepped(&store->scrub, due, bytes, cursor);
    pthread_mutex_unlock(&store->mutex);
}

void *kv_upkeep_thread(void *argument)
{
    kv_store *store = argument;
    uint64_t pause_ms = 0;

    pthread_mutex_lock(&store->mutex);
    while (!store->closing) {
        if (!store->maintain_wanted && pause_ms > 0)
            kv_condition_wait_ms(&store->upkeep, &store->mutex, pause_ms);
        store->maintain_wanted = false;
        if (store->closing)
            break;
        pthread_mutex_unlock(&store->mutex);
        pause_ms = kv_engine_maintain(store->engine, kv_upkeep_run, store);
        scrub_step(store);
        pthread_mutex_lock(&store->mutex);
    }
    pthread_mutex_unlock(&store->mutex);
    return NULL;
}

void *kv_watchman_thread(void *argument)
{
    kv_store *store = argument;

    pthread_mutex_lock(&store->mutex);
    while (!store->stopping) {
        kv_condition_wait_ms(&store->watch, &store->mutex,
                             store->task_count > 0 ? KV_DEADLINE_CHECK_MS : KV_TIMEOUT_MS_DEFAULT);
        pthread_mutex_unlock(&store->mutex);
        kv_task_expire(store, false, KV_TIMEOUT);
        pthread_mutex_lock(&store->mutex);
    }
    pthread_mutex_unlock(&store->mutex);
    return NULL;
}
