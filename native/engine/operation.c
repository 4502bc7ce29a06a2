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
#define RECEIVE_FLAGS \
    (KV_REQUEST_VERSIONED | KV_REQUEST_HELD | KV_REQUEST_RETAINED | KV_REQUEST_EXACT)

static bool kind_moves_values(uint32_t kind)
{
    return kind == KV_OP_SET || kind == KV_OP_GET || (kind >= KV_OP_MOVE && kind <= KV_OP_RECEIVE);
}

/* Requests of the engine's upkeep, which no client waits for. */
static bool is_own(uint32_t kind)
{
    return kind == KV_OP_MOVE || kind == KV_OP_READ_DEVICE;
}

static uint32_t flags_of(uint32_t kind)
{
    return kind == KV_OP_RECEIVE ? RECEIVE_FLAGS : kind == KV_OP_DELETE ? KV_REQUEST_EVICTS : 0;
}

static int request_check(const kv_request *request)
{
    uint32_t kind = request->operation;
    bool known = (kind >= KV_OP_SET && kind <= KV_OP_FLUSH) || kind_moves_values(kind);
    bool needs_stats = kind == KV_OP_STAT || kind == KV_OP_MOVE || kind == KV_OP_LEND ||
                       kind == KV_OP_RECEIVE;

    if (!known || request->count > KV_BATCH_COUNT_LIMIT || (request->count > 0 && !request->items))
        return -EINVAL;
    if (needs_stats && request->count > 0 && !request->stats)
        return -EINVAL;
    if (request->flags & ~flags_of(kind))
        return -EINVAL;
    for (uint32_t i = 0; i < request->count; i++) {
        const kv_item *item = &request->items[i];

        if (item->key_size == 0 || item->key_size > KV_KEY_SIZE_MAX || item->key == 0)
            return -EINVAL;
    }
    return 0;
}

/* A flush waits for small sets that have begun: they will want one themselves. */
static bool request_is_small_set(const kv_request *request)
{
    uint64_t size = 0;

    for (uint32_t i = 0; i < request->count && size <= KV_COMING_SIZE_MAX; i++)
        size += request->items[i].value_size;
    return request->operation == KV_OP_SET && request->count > 0 && size <= KV_COMING_SIZE_MAX;
}

int kv_operation_begin(kv_engine *engine, kv_request *request, kv_operation **result)
{
    size_t works = kind_moves_values(request->operation) ? request->count : 0;
    kv_operation *operation;
    int error = request_check(request);

    if (error < 0)
        return error;
    operation = calloc(1, sizeof(*operation) + works * (sizeof(kv_work) + sizeof(uint32_t)));
    if (!operation)
        return -ENOMEM;
    operation->engine = engine;
    operation->request = request;
    operation->kind = request->operation;
    operation->count = request->count;
    operation->works = works ? (kv_work *)(operation + 1) : NULL;
    if (works && request->operation == KV_OP_LEND)
        operation->order = (uint32_t *)(operation->works + works);
    operation->running = true;
    operation->if_absent = request->if_absent != 0;
    operation->versioned = request->flags & KV_REQUEST_VERSIONED;
    operation->held = request->flags & KV_REQUEST_HELD;
    operation->retained = request->flags & KV_REQUEST_RETAINED;
    operation->keeps = operation->held || operation->retained;
    operation->exact = request->flags & KV_REQUEST_EXACT;
    operation->evicts = request->flags & KV_REQUEST_EVICTS;
    kv_list_init(&operation->ready);
    kv_list_init(&operation->wait);
    kv_list_init(&operation->wait_journal);
    for (size_t i = 0; i < works; i++) {
        operation->works[i].operation = operation;
        kv_list_init(&operation->works[i].link);
    }
    request->matched = 0;
    request->status = KV_OK;
    request->operation_state = operation;
    pthread_mutex_lock(&engine->lock);
    engine->operation_count++;
    engine->statistics.in_flight += !is_own(operation->kind);
    operation->coming = request_is_small_set(request);
    engine->sets_coming += operation->coming;
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

static int gather_add(kv_gather *gather, kv_io *io)
{
    if (gather->count == gather->capacity) {
        uint32_t capacity = gather->capacity ? gather->capacity * 2 : OPERATION_SUBMITS_FIRST;
        kv_io **ios = realloc(gather->ios, capacity * sizeof(kv_io *));

        if (!ios)
            return -ENOMEM;
        gather->ios = ios;
        gather->capacity = capacity;
    }
    gather->ios[gather->count++] = io;
    return 0;
}

void kv_gather_close(kv_gather *gather)
{
    assert(gather->count == 0);
    free(gather->ios);
    *gather = (kv_gather){0};
}

void kv_engine_submit(kv_engine *engine, kv_gather *gather)
{
    if (gather->count > 0)
        engine->device->operations->submit(engine->device, gather->ios, gather->count);
    gather->count = 0;
}

int kv_operation_queue(kv_operation *operation, kv_transfer *transfer)
{
    kv_gather *gather = operation->gather ? operation->gather : &operation->own;

    return gather_add(gather, &transfer->io);
}

void kv_operation_submit(kv_operation *operation)
{
    if (!operation->gather)
        kv_engine_submit(operation->engine, &operation->own);
}

static bool step_once(kv_operation *operation)
{
    switch (operation->kind) {
    case KV_OP_SET:
    case KV_OP_MOVE:
    case KV_OP_RECEIVE:
        return kv_set_step(operation);
    case KV_OP_GET:
    case KV_OP_READ_DEVICE:
    case KV_OP_LEND:
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
    if (operation->order)
        operation->order[operation->done_count] = item;
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
    operation->engine->operation_count--;
    operation->engine->statistics.in_flight -= !is_own(operation->kind);
    return true;
}

bool kv_operation_step_gather(kv_operation *operation, kv_gather *gather)
{
    kv_engine *engine = operation->engine;

    assert(operation->running);
    operation->gather = gather;

    for (;;) {
        bool progress = step_once(operation);
        bool answered;

        pthread_mutex_lock(&engine->lock);
        answered = operation_answer(operation);
        if (!answered && operation->answered && operation->closed && operation->outstanding == 0) {
            kv_list_remove(&operation->wait); /* something else may have helped */
            kv_list_remove(&operation->wait_journal);
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

bool kv_operation_claim(kv_operation *operation)
{
    bool claimed;

    pthread_mutex_lock(&operation->engine->lock);
    claimed = !operation->running;
    operation->running = true;
    pthread_mutex_unlock(&operation->engine->lock);
    return claimed;
}

bool kv_operation_step(kv_operation *operation)
{
    return kv_operation_step_gather(operation, NULL);
}

void kv_operation_abort(kv_operation *operation, kv_status status)
{
    kv_engine *engine = operation->engine;

    assert(status != KV_OK);
    pthread_mutex_lock(&engine->lock);
    if (!operation->answered && !operation->settled && operation->abort_status == 0) {
        operation->abort_status = status;
        kv_operation_wake(operation);
    }
    pthread_mutex_unlock(&engine->lock);
}

void kv_operation_end(kv_operation *operation)
{
    assert(operation->answered && operation->outstanding == 0);
    assert(kv_list_empty(&operation->wait) && kv_list_empty(&operation->wait_journal));
    free(operation->own.ios);
    free(operation);
}

void kv_operation_abandon(kv_operation *operation)
{
    for (uint32_t i = 0; operation->works && i < operation->count; i++)
        if (operation->works[i].pieces != &operation->works[i].extent)
            free(operation->works[i].pieces);
    free(operation->own.ios);
    free(operation);
}
