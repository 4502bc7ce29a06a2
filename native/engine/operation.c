/* A request on its way through the engine: begin, step, wait, wake, answer, end.
 *
 *            ready()                     all items have their status      nothing is out
 *   WAITING ---------> RUNNING (step) ------------------------> ANSWERED ---------------> FINISHED
 *      ^                  |
 *      +------------------+  nothing can be done now
 *
 * What happens while an operation runs sets `again`, so no wake-up is lost and `ready` is called at
 * most once for each wait. */

#include "engine/engine_state.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define OPERATION_SUBMITS_FIRST 64u

static bool kind_moves_values(uint32_t kind)
{
    return kind == KV_OP_SET || kind == KV_OP_MOVE || kind == KV_OP_GET || kind == KV_OP_READ_DEVICE;
}

static int request_check(const kv_request *request)
{
    uint32_t kind = request->operation;
    bool known = (kind >= KV_OP_SET && kind <= KV_OP_FLUSH) || kind == KV_OP_MOVE ||
                 kind == KV_OP_READ_DEVICE;

    if (!known || request->count > KV_BATCH_COUNT_LIMIT || (request->count > 0 && !request->items))
        return -EINVAL;
    if ((kind == KV_OP_STAT || kind == KV_OP_MOVE) && request->count > 0 && !request->stats)
        return -EINVAL;
    for (uint32_t i = 0; i < request->count; i++) {
        const kv_item *item = &request->items[i];

        if (item->key_size == 0 || item->key_size > KV_KEY_SIZE_MAX || item->key == 0)
            return -EINVAL;
    }
    return 0;
}

int kv_operation_begin(kv_engine *engine, kv_request *request, kv_operation **result)
{
    size_t works = kind_moves_values(request->operation) ? request->count : 0;
    kv_operation *operation;
    int error = request_check(request);

    if (error < 0)
        return error;
    operation = calloc(1, sizeof(*operation) + works * sizeof(kv_work));
    if (!operation)
        return -ENOMEM;
    operation->engine = engine;
    operation->request = request;
    operation->kind = request->operation;
    operation->count = request->count;
    operation->works = works ? (kv_work *)(operation + 1) : NULL;
    operation->running = true;
    operation->if_absent = request->if_absent != 0;
    kv_list_init(&operation->ready);
    kv_list_init(&operation->wait);
    kv_list_init(&operation->wait_journal);
    for (size_t i = 0; i < works; i++) {
        operation->works[i].operation = operation;
        kv_list_init(&operation->works[i].link);
    }
    request->matched = 0;
    request->operation_state = operation;
    pthread_mutex_lock(&engine->lock);
    engine->statistics.in_flight++;
    operation->batch = ++engine->batch;
    pthread_mutex_unlock(&engine->lock);
    *result = operation;
    return 0;
}

void kv_operation_set_owner(kv_operation *operation, void *owner)
{
    operation->owner = owner;
}

void *kv_operation_owner(const kv_operation *operation)
{
    return operation->owner;
}

void kv_operation_wake(kv_operation *operation)
{
    kv_engine *engine = operation->engine;

    if (operation->running) {
        operation->again = true;
        return;
    }
    operation->running = true;
    engine->options.ready(engine->options.executor, operation);
}

void kv_operation_wake_all(kv_list *waiters)
{
    kv_list *link;

    while ((link = kv_list_pop(waiters)) != NULL)
        kv_operation_wake(KV_CONTAINER(link, kv_operation, wait));
}

void kv_operation_wait_sequence(kv_operation *operation, uint64_t sequence, bool visible)
{
    bool waits = !kv_list_empty(&operation->wait_journal);

    assert(!waits || operation->waits_visible == visible);
    if (!waits || sequence < operation->wait_sequence)
        operation->wait_sequence = sequence;
    operation->waits_visible = visible;
    if (!waits)
        kv_list_append(&operation->engine->journal.waiters, &operation->wait_journal);
}

int kv_operation_queue(kv_operation *operation, kv_transfer *transfer)
{
    if (operation->submit_count == operation->submit_capacity) {
        uint32_t capacity = operation->submit_capacity ? operation->submit_capacity * 2
                                                       : OPERATION_SUBMITS_FIRST;
        kv_io **submits = realloc(operation->submits, capacity * sizeof(kv_io *));

        if (!submits)
            return -ENOMEM;
        operation->submits = submits;
        operation->submit_capacity = capacity;
    }
    operation->submits[operation->submit_count++] = &transfer->io;
    return 0;
}

void kv_operation_submit(kv_operation *operation)
{
    kv_device *device = operation->engine->device;

    if (operation->submit_count > 0)
        device->operations->submit(device, operation->submits, operation->submit_count);
    operation->submit_count = 0;
}

static bool step_once(kv_operation *operation)
{
    switch (operation->kind) {
    case KV_OP_SET:
    case KV_OP_MOVE:
        return kv_set_step(operation);
    case KV_OP_GET:
    case KV_OP_READ_DEVICE:
        return kv_get_step(operation);
    default:
        return kv_keys_step(operation);
    }
}

void kv_operation_finish(kv_operation *operation, uint32_t item, kv_status status)
{
    assert(operation->done_count < operation->count);
    if (operation->request)
        operation->request->items[item].status = (int32_t)status;
    operation->done_count++;
}

/* Locked. Whether this step made the operation answered. */
static bool operation_answer(kv_operation *operation)
{
    if (!operation->complete || operation->answered)
        return false;
    operation->answered = true;
    operation->request->operation_state = NULL;
    operation->request = NULL;
    operation->engine->statistics.in_flight--;
    return true;
}

bool kv_operation_step(kv_operation *operation)
{
    kv_engine *engine = operation->engine;

    for (;;) {
        bool progress = step_once(operation);
        bool answered;

        pthread_mutex_lock(&engine->lock);
        answered = operation_answer(operation);
        if (!answered && operation->answered && operation->closed && operation->outstanding == 0) {
            pthread_mutex_unlock(&engine->lock);
            return true;
        }
        if (!answered && !progress && !operation->again) {
            operation->running = false;
            pthread_mutex_unlock(&engine->lock);
            return false;
        }
        operation->again = false;
        pthread_mutex_unlock(&engine->lock);
        if (answered)
            engine->options.answered(engine->options.executor, operation);
    }
}

void kv_operation_abort(kv_operation *operation, kv_status status)
{
    kv_engine *engine = operation->engine;

    assert(status != KV_OK);
    pthread_mutex_lock(&engine->lock);
    if (!operation->answered && operation->abort_status == 0) {
        operation->abort_status = status;
        kv_operation_wake(operation);
    }
    pthread_mutex_unlock(&engine->lock);
}

void kv_operation_end(kv_operation *operation)
{
    assert(operation->answered && operation->outstanding == 0);
    assert(kv_list_empty(&operation->wait) && kv_list_empty(&operation->wait_journal));
    free(operation->submits);
    free(operation);
}

void kv_operation_abandon(kv_operation *operation)
{
    for (uint32_t i = 0; operation->works && i < operation->count; i++)
        if (operation->works[i].pieces != &operation->works[i].extent)
            free(operation->works[i].pieces);
    free(operation->submits);
    free(operation);
}
