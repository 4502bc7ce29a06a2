/* Executing requests: on the caller's thread until they are answered, or by the workers.
 *
 * A task lives as long as its operation and anybody who looks at it (references). A blocking caller
 * leaves as soon as its request is answered; what the operation still has to do is then the
 * workers' business. */

#include "drivers/queue.h"
#include "embedded/store_state.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define WORKER_TASKS_MAX 16u /* stepped together: few enough that other workers get some */

static void task_free(kv_task *task)
{
    kv_operation_end(task->operation);
    pthread_cond_destroy(&task->wake);
    free(task);
}

/* Locked. */
static void task_forget(kv_store *store)
{
    assert(store->task_count > 0);
    store->task_count--;
    if (store->task_count == 0)
        pthread_cond_broadcast(&store->idle);
}

/* Let go of a task; the last one ends it. */
static void task_release(kv_task *task)
{
    kv_store *store = task->store;
    bool last;

    pthread_mutex_lock(&store->mutex);
    assert(task->references > 0);
    task->references--;
    last = task->references == 0;
    if (last)
        kv_list_remove(&task->link);
    pthread_mutex_unlock(&store->mutex);
    if (!last)
        return;
    task_free(task);
    pthread_mutex_lock(&store->mutex);
    task_forget(store);
    pthread_mutex_unlock(&store->mutex);
}

/* Locked: wake a worker, unless one is waking up already: it will wake the next one if it leaves work. A
 * wake-up for each task would cost more than most steps. */
static void worker_wake(kv_store *store)
{
    if (store->worker_waking || store->workers_idle == 0)
        return;
    store->worker_waking = true;
    pthread_cond_signal(&store->work);
}

/* Locked. */
static void make_runnable(kv_task *task)
{
    kv_store *store = task->store;

    if (task->blocking && !task->answered) {
        task->runnable = true;
        pthread_cond_signal(&task->wake);
        return;
    }
    assert(kv_list_empty(&task->run_link));
    kv_list_append(&store->runnable, &task->run_link);
    store->runnable_count++;
    worker_wake(store);
}

static void task_ready(kv_owner *owner)
{
    kv_task *task = KV_CONTAINER(owner, kv_task, owner);
    kv_store *store = task->store;

    pthread_mutex_lock(&store->mutex);
    make_runnable(task);
    pthread_mutex_unlock(&store->mutex);
}

static void task_answered(kv_owner *owner)
{
    kv_task *task = KV_CONTAINER(owner, kv_task, owner);
    kv_store *store = task->store;

    pthread_mutex_lock(&store->mutex);
    task->answered = true;
    task->request = NULL;
    if (task->queue)
        kv_queue_report(task->queue, task->tag);
    pthread_mutex_unlock(&store->mutex);
}

void kv_task_ready(void *executor, kv_operation *operation)
{
    kv_owner *owner = kv_operation_owner(operation);

    (void)executor;
    owner->ready(owner);
}

void kv_task_answered(void *executor, kv_operation *operation)
{
    kv_owner *owner = kv_operation_owner(operation);

    (void)executor;
    owner->answered(owner);
}

static kv_task *task_create(kv_store *store, kv_request *request, kv_queue *queue)
{
    kv_task *task = calloc(1, sizeof(*task));
    uint64_t timeout_ms = request->timeout_ms ? request->timeout_ms : store->timeout_ms;

    if (!task)
        return NULL;
    task->owner = (kv_owner){.ready = task_ready, .answered = task_answered};
    task->store = store;
    task->request = request;
    task->queue = queue;
    task->tag = request->tag;
    task->blocking = queue == NULL;
    task->references = 1;
    task->deadline_ms = kv_monotonic_ms() + timeout_ms;
    kv_condition_init(&task->wake);
    kv_list_init(&task->run_link);
    kv_list_init(&task->link);
    return task;
}

/* None begins once the store is closing, so that the last one is the last. */
static int task_begin(kv_task *task)
{
    kv_store *store = task->store;
    int error;

    pthread_mutex_lock(&store->mutex);
    error = store->closing ? -ESHUTDOWN : 0;
    if (error == 0)
        store->task_count++;
    pthread_mutex_unlock(&store->mutex);
    if (error < 0)
        return error;

    error = kv_operation_begin(store->engine, task->request, &task->operation);
    if (error == 0)
        kv_operation_set_owner(task->operation, &task->owner);
    pthread_mutex_lock(&store->mutex);
    if (error == 0)
        kv_list_append(&store->tasks, &task->link);
    else
        task_forget(store);
    pthread_mutex_unlock(&store->mutex);
    return error;
}

static int task_open(kv_store *store, kv_request *request, kv_queue *queue, kv_task **result)
{
    kv_task *task;
    int error;

    if (request->flags != 0 || request->operation == KV_OP_LEND || request->operation == KV_OP_RECEIVE)
        return -EINVAL; /* for a node, which drives such operations itself */
    task = task_create(store, request, queue);
    if (!task)
        return -ENOMEM;
    error = task_begin(task);
    if (error < 0) {
        pthread_cond_destroy(&task->wake);
        free(task);
        return error;
    }
    *result = task;
    return 0;
}

/* Blocking: sleep until the next step makes sense or the deadline has passed. True: it was answered. */
static bool task_wait(kv_task *task)
{
    kv_store *store = task->store;
    bool expired = false;
    bool answered;

    pthread_mutex_lock(&store->mutex);
    while (!task->answered && !task->runnable && !expired) {
        uint64_t now_ms = kv_monotonic_ms();

        expired = now_ms >= task->deadline_ms && !task->expired;
        if (!expired)
            kv_condition_wait_ms(&task->wake, &store->mutex,
                                 task->expired ? KV_TIMEOUT_MS_DEFAULT : task->deadline_ms - now_ms);
    }
    answered = task->answered;
    task->runnable = false;
    task->expired |= expired;
    pthread_mutex_unlock(&store->mutex);
    if (expired)
        kv_operation_abort(task->operation, KV_TIMEOUT);
    return answered;
}

int kv_task_run(kv_store *store, kv_request *request)
{
    kv_task *task;
    int error = task_open(store, request, NULL, &task);
    bool answered = false;

    if (error < 0)
        return error;
    pthread_mutex_lock(&store->mutex);
    task->references++; /* this thread's; the first one is the operation's */
    pthread_mutex_unlock(&store->mutex);
    while (!answered) {
        if (kv_operation_step(task->operation)) {
            task_release(task);
            break;
        }
        answered = task_wait(task);
    }
    task_release(task);
    return 0;
}

/* Step several tasks and submit what they ask of the device in one go. */
static void worker_steps(kv_store *store, kv_task **tasks, uint32_t count, kv_gather *gather)
{
    uint32_t finished = 0;

    for (uint32_t i = 0; i < count; i++)
        if (kv_operation_step_gather(tasks[i]->operation, gather))
            tasks[finished++] = tasks[i];
    kv_engine_submit(store->engine, gather);
    for (uint32_t i = 0; i < finished; i++)
        task_release(tasks[i]);
}

/* Locked: take this worker's share of what is runnable; the idle ones get theirs. */
static uint32_t worker_take(kv_store *store, kv_task *tasks[WORKER_TASKS_MAX])
{
    uint32_t takers = store->workers_idle + 1;
    uint32_t share = (store->runnable_count + takers - 1) / takers;
    uint32_t count = 0;

    while (count < share && count < WORKER_TASKS_MAX)
        tasks[count++] = KV_CONTAINER(kv_list_pop(&store->runnable), kv_task, run_link);
    store->runnable_count -= count;
    if (store->runnable_count > 0)
        worker_wake(store);
    return count;
}

/* Locked. */
static void worker_sleep(kv_store *store)
{
    store->workers_idle++;
    pthread_cond_wait(&store->work, &store->mutex);
    store->workers_idle--;
    store->worker_waking = false;
}

void *kv_task_worker(void *argument)
{
    kv_store *store = argument;
    kv_gather gather = {0};

    pthread_mutex_lock(&store->mutex);
    for (;;) {
        kv_task *tasks[WORKER_TASKS_MAX];
        uint32_t count = worker_take(store, tasks);

        if (count == 0 && store->stopping)
            break;
        if (count == 0) {
            worker_sleep(store);
            continue;
        }
        pthread_mutex_unlock(&store->mutex);
        worker_steps(store, tasks, count, &gather);
        pthread_mutex_lock(&store->mutex);
    }
    pthread_mutex_unlock(&store->mutex);
    kv_gather_close(&gather);
    return NULL;
}

/* Locked: hold the first task that ought to end. */
static kv_task *find_overdue(kv_store *store, bool all)
{
    uint64_t now_ms = kv_monotonic_ms();

    for (kv_list *link = store->tasks.next; link != &store->tasks; link = link->next) {
        kv_task *task = KV_CONTAINER(link, kv_task, link);
        bool overdue = all || (!task->blocking && now_ms >= task->deadline_ms);

        if (overdue && !task->answered && !task->expired) {
            task->expired = true;
            task->references++;
            return task;
        }
    }
    return NULL;
}

void kv_task_expire(kv_store *store, bool all, kv_status status)
{
    kv_task *task;

    do {
        pthread_mutex_lock(&store->mutex);
        task = find_overdue(store, all);
        pthread_mutex_unlock(&store->mutex);
        if (task) {
            kv_operation_abort(task->operation, status);
            task_release(task);
        }
    } while (task);
}

int kv_store_submit(kv_store *store, kv_queue *queue, kv_request *request)
{
    kv_task *task;
    int error = kv_queue_reserve(queue);

    if (error < 0)
        return error;
    error = task_open(store, request, queue, &task);
    if (error < 0) {
        kv_queue_release(queue);
        return error;
    }
    pthread_mutex_lock(&store->mutex);
    make_runnable(task);
    pthread_mutex_unlock(&store->mutex);
    return 0;
}

void kv_store_cancel(kv_store *store, kv_request *request)
{
    kv_task *found = NULL;

    pthread_mutex_lock(&store->mutex);
    for (kv_list *link = store->tasks.next; link != &store->tasks && !found; link = link->next) {
        kv_task *task = KV_CONTAINER(link, kv_task, link);

        if (task->request == request && !task->answered)
            found = task;
    }
    if (found)
        found->references++;
    pthread_mutex_unlock(&store->mutex);
    if (found) {
        kv_operation_abort(found->operation, KV_CANCELLED);
        task_release(found);
    }
}
