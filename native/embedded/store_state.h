/* The embedded store's inside, shared by the files of this folder.
 *
 * Locks: the store's mutex is the inner one. The engine calls `ready` with its lock held, so nothing
 * here calls into the engine while it holds the mutex. */
#ifndef KV_STORE_STATE_H
#define KV_STORE_STATE_H

#include "bytes/list.h"
#include "bytes/region.h"
#include "embedded/owner.h"
#include "embedded/scrub.h"
#include "engine/engine.h"

#include <pthread.h>

#define KV_WORKERS_MAX 64u
#define KV_WORKERS_DEFAULT 2u
#define KV_DEPTH_DEFAULT 64u
#define KV_MEMORY_SIZE_MIN (96ull << 20) /* so that the largest value fits */
#define KV_MEMORY_SIZE_DEFAULT (256ull << 20)
#define KV_TIMEOUT_MS_DEFAULT 30000u
#define KV_DEADLINE_CHECK_MS 50u         /* how late an asynchronous deadline may be noticed */
#define KV_MEMORY_HUGE_SIZE_MIN (1ull << 30) /* a smaller DRAM tier has plain pages: see store.c */
#define KV_REGISTER_SIZE (8u << 20)      /* memory is registered with the device in pieces of this size */
#define KV_DRIVER_THREADS_DEFAULT 8u

/* A request in the store's hands. */
typedef struct kv_task {
    kv_owner owner;
    kv_list link;     /* store->tasks */
    kv_list run_link; /* store->runnable */
    kv_store *store;
    kv_operation *operation;
    kv_request *request;
    kv_queue *queue;  /* asynchronous: where it is reported */
    uint64_t tag;
    uint64_t deadline_ms; /* monotonic */
    uint32_t references;
    bool blocking;    /* a caller's thread steps it until it is answered */
    bool answered;
    bool runnable;    /* blocking: the caller may step */
    bool expired;
    pthread_cond_t wake;
} kv_task;

struct kv_store {
    pthread_mutex_t mutex;
    pthread_cond_t work;     /* workers */
    pthread_cond_t upkeep;   /* maintenance thread */
    pthread_cond_t watch;    /* watchman of deadlines */
    pthread_cond_t idle;     /* the last task is gone */
    kv_engine *engine;
    kv_device *device;
    kv_region region;
    kv_list tasks;
    kv_list runnable;
    uint32_t runnable_count;
    uint32_t workers_idle;
    bool worker_waking;      /* one was told of work and has not taken it yet */
    pthread_t threads[KV_WORKERS_MAX + 2]; /* maintenance, watchman, workers */
    uint32_t thread_count;
    uint32_t task_count;
    uint64_t timeout_ms;
    uint64_t recovery_ms;    /* the opening of the engine took */
    kv_scrub scrub;          /* the maintenance thread's */
    uint64_t scrubbed_values;
    uint64_t scrubbed_bytes;
    uint64_t scrub_passes;
    int lock;
    bool maintain_wanted;
    bool closing;            /* no new requests */
    bool stopping;           /* threads end */
};

uint64_t kv_monotonic_ms(void);
void kv_condition_init(pthread_cond_t *condition);
/* Locked: sleep at most so long. */
void kv_condition_wait_ms(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t ms);

/* task.c: the engine's executor ports, which hand on to the operation's kv_owner. */
void kv_task_ready(void *executor, kv_operation *operation);
void kv_task_answered(void *executor, kv_operation *operation);
/* Run a request on this thread. */
int kv_task_run(kv_store *store, kv_request *request);
/* Abort every task whose deadline has passed, or all. */
void kv_task_expire(kv_store *store, bool all, kv_status status);
void *kv_task_worker(void *store);

/* upkeep.c */
void kv_upkeep_wanted(void *executor);
void *kv_upkeep_thread(void *store);
void *kv_watchman_thread(void *store);
int kv_upkeep_run(void *runner, kv_request *request);

#endif
