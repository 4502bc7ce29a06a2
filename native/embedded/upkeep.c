/* The store's background threads beside its workers: maintenance with the scrub, and the watchman of
 * asynchronous deadlines. */

#include "embedded/store_state.h"

#include <assert.h>

#define SCRUB_STEP_MS 250u
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

/* Verify about as many bytes as the rate allows in the time since the last step. What is corrupt is
 * counted; a reader of that key gets an error, never wrong bytes. */
static void scrub_step(kv_store *store, uint64_t elapsed_ms)
{
    static _Thread_local uint8_t bad[SCRUB_REPORT_SIZE];
    uint64_t bytes_max = store->scrub_bytes_per_s * elapsed_ms / 1000;
    uint64_t objects = 0;
    uint64_t bytes = 0;

    if (bytes_max <= store->scrub_debt) {
        store->scrub_debt -= bytes_max;
        return;
    }
    bytes_max -= store->scrub_debt;
    kv_engine_verify(store->engine, &store->scrub_cursor, bytes_max, bad, sizeof(bad), &objects, &bytes,
                     kv_upkeep_run, store);
    store->scrub_debt = bytes > bytes_max ? bytes - bytes_max : 0;
    pthread_mutex_lock(&store->mutex);
    store->scrubbed_values += objects;
    store->scrubbed_bytes += bytes;
    if (store->scrub_cursor == UINT64_MAX) {
        store->scrub_cursor = 0;
        store->scrub_passes++;
    }
    pthread_mutex_unlock(&store->mutex);
}

void *kv_upkeep_thread(void *argument)
{
    kv_store *store = argument;
    uint64_t last_scrub_ms = kv_monotonic_ms();
    uint64_t pause_ms = 0;

    pthread_mutex_lock(&store->mutex);
    while (!store->closing) {
        uint64_t now_ms;

        if (!store->maintain_wanted && pause_ms > 0)
            kv_condition_wait_ms(&store->upkeep, &store->mutex, pause_ms);
        store->maintain_wanted = false;
        if (store->closing)
            break;
        pthread_mutex_unlock(&store->mutex);
        pause_ms = kv_engine_maintain(store->engine, kv_upkeep_run, store);
        now_ms = kv_monotonic_ms();
        if (store->scrub_bytes_per_s > 0 && now_ms - last_scrub_ms >= SCRUB_STEP_MS) {
            scrub_step(store, now_ms - last_scrub_ms);
            last_scrub_ms = now_ms;
        }
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
