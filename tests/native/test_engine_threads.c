/* Operations of a storage node's kind on a real store: several threads step their own, each
 * receives and lends values that the others overwrite, and one more thread returns what all of
 * them were lent, and releases what was retained. Meant to run under the thread sanitizer too. */

#include "bytes/random.h"
#include "embedded/owner.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MEMORY (96ull << 20)
#define THREADS 3u
#define BATCH 12u
#define ROUNDS 120u
#define KEYS 40u
#define VALUE_MAX 60000u
#define CHAIN_FLAGS (KV_REQUEST_VERSIONED | KV_REQUEST_HELD | KV_REQUEST_RETAINED)
#define ITEM_NONE UINT32_MAX
#define PIECE_MAX 9000u
#define CLOSE_TIMEOUT_MS 20000u

/* Tasks for one thread. */
typedef struct mailbox {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    kv_list mail;
    bool closed;
} mailbox;

typedef struct task {
    kv_owner owner;
    kv_list link;
    mailbox *reactor;
    kv_operation *operation;
    kv_request request;
    kv_item items[BATCH];
    kv_item_stat stats[BATCH];
    char names[BATCH][8];
    uint8_t *values[BATCH];
    uint32_t pushing;
    uint32_t pushed_size;
    bool came[BATCH]; /* the value was whole before the answer */
    bool answered;
} task;

/* A value on its way to the thread that returns it; ITEM_NONE: all that a set has retained. */
typedef struct loan {
    kv_list link;
    task *work;
    uint32_t item;
} loan;

typedef struct reactor {
    kv_engine *engine;
    mailbox box;
    mailbox *returns;
    kv_random random;
    pthread_t thread;
} reactor;

static void mailbox_open(mailbox *box)
{
    pthread_mutex_init(&box->lock, NULL);
    pthread_cond_init(&box->changed, NULL);
    kv_list_init(&box->mail);
    box->closed = false;
}

static void mailbox_post(mailbox *box, kv_list *link)
{
    pthread_mutex_lock(&box->lock);
    kv_list_append(&box->mail, link);
    pthread_cond_signal(&box->changed);
    pthread_mutex_unlock(&box->lock);
}

/* NULL: closed and empty. */
static kv_list *mailbox_take(mailbox *box)
{
    kv_list *link;

    pthread_mutex_lock(&box->lock);
    while ((link = kv_list_pop(&box->mail)) == NULL && !box->closed)
        pthread_cond_wait(&box->changed, &box->lock);
    pthread_mutex_unlock(&box->lock);
    return link;
}

static void mailbox_shut(mailbox *box)
{
    pthread_mutex_lock(&box->lock);
    box->closed = true;
    pthread_cond_signal(&box->changed);
    pthread_mutex_unlock(&box->lock);
}

static void task_ready(kv_owner *owner)
{
    task *work = KV_CONTAINER(owner, task, owner);

    mailbox_post(work->reactor, &work->link);
}

static void task_answered(kv_owner *owner)
{
    KV_CONTAINER(owner, task, owner)->answered = true;
}

/* Values say by their checksum what they are: any bytes will do. */
static task *task_begin(reactor *self, bool lends)
{
    task *work = calloc(1, sizeof(*work));
    int result;

    assert(work);
    work->owner = (kv_owner){.ready = task_ready, .answered = task_answered};
    work->reactor = &self->box;
    work->request = (kv_request){.items = work->items, .stats = work->stats, .count = BATCH,
                                 .operation = lends ? KV_OP_LEND : KV_OP_RECEIVE};
    for (uint32_t i = 0; i < BATCH; i++) {
        uint32_t size = (uint32_t)kv_random_below(&self->random, VALUE_MAX);

        snprintf(work->names[i], sizeof(work->names[i]), "%u",
                 (uint32_t)kv_random_below(&self->random, KEYS));
        work->items[i] = (kv_item){.key = (uint64_t)work->names[i],
                                   .key_size = (uint32_t)strlen(work->names[i]),
                                   .value_size = VALUE_MAX};
        if (lends)
            continue;
        work->values[i] = malloc(size + 1);
        assert(work->values[i]);
        memset(work->values[i], (int)kv_random_below(&self->random, 256), size);
        work->items[i].value_size = size;
        work->stats[i].checksum = kv_checksum(0, work->values[i], size);
    }
    if (!lends && kv_random_below(&self->random, 2) == 0)
        work->request.flags = CHAIN_FLAGS;
    result = kv_operation_begin(self->engine, &work->request, &work->operation);
    assert(result == 0);
    kv_operation_set_owner(work->operation, &work->owner);
    return work;
}

static void loan_post(task *work, uint32_t item, mailbox *returns)
{
    loan *value = malloc(sizeof(*value));

    assert(value);
    value->work = work;
    value->item = item;
    mailbox_post(returns, &value->link);
}

static void task_take(task *work, mailbox *returns)
{
    int64_t next;

    while ((next = kv_operation_next(work->operation)) >= 0) {
        const kv_item *item = &work->items[next];

        assert(item->status == KV_OK || item->status == KV_NOT_FOUND || item->status == KV_CANCELLED);
        if (item->status != KV_OK || item->result_size == 0)
            continue;
        loan_post(work, (uint32_t)next, returns);
    }
}

/* True: it is gone. */
static bool task_step(task *work, mailbox *returns)
{
    bool finished = kv_operation_step(work->operation);

    if (!finished && work->request.operation == KV_OP_LEND)
        task_take(work, returns);
    if (!finished)
        return false;
    assert(work->answered);
    kv_operation_end(work->operation);
    for (uint32_t i = 0; i < BATCH; i++)
        free(work->values[i]);
    free(work);
    return true;
}

/* All values are there: they are set, while another thread still reads them. True: it is gone. */
static bool task_settle(reactor *self, task *work)
{
    if (work->request.flags == 0 || work->pushing > BATCH)
        return false;
    work->pushing++;
    for (uint32_t i = 0; i < BATCH; i++)
        work->stats[i].version = kv_random_next(&self->random) >> 1 | 1;
    kv_operation_settle(work->operation, NULL);
    loan_post(work, ITEM_NONE, self->returns);
    return kv_operation_claim(work->operation) && task_step(work, self->returns);
}

/* Push what has memory. True: it is gone. */
static bool task_push(reactor *self, task *work)
{
    while (work->pushing < BATCH) {
        uint32_t i = work->pushing;
        uint32_t size = (uint32_t)kv_random_below(&self->random, PIECE_MAX);
        uint32_t left = work->items[i].value_size - work->pushed_size;

        if (size > left)
            size = left;
        if (kv_operation_push(work->operation, i, work->values[i] + work->pushed_size, size) < size)
            return false;
        work->pushed_size += size;
        if (size < left)
            continue;
        work->came[i] = !work->answered;
        work->pushing++;
        work->pushed_size = 0;
        if (kv_operation_claim(work->operation) && task_step(work, self->returns))
            return true;
    }
    return task_settle(self, work);
}

static bool task_go(reactor *self, task *work)
{
    if (task_step(work, self->returns))
        return true;
    return work->request.operation == KV_OP_RECEIVE && task_push(self, work);
}

static void *reactor_run(void *argument)
{
    reactor *self = argument;
    uint32_t begun = 0;
    uint32_t out = 0;

    while (begun < ROUNDS || out > 0) {
        task *work;

        if (begun < ROUNDS && out < 3) {
            work = task_begin(self, begun++ % 2);
            out++;
            if (kv_random_below(&self->random, 8) == 0)
                kv_operation_abort(work->operation, KV_CANCELLED);
        } else {
            work = KV_CONTAINER(mailbox_take(&self->box), task, link);
        }
        out -= task_go(self, work);
    }
    return NULL;
}

static uint32_t ranges_checksum(const struct iovec *ranges, uint32_t count)
{
    uint32_t checksum = 0;

    for (uint32_t n = 0; n < count; n++)
        checksum = kv_checksum(checksum, ranges[n].iov_base, ranges[n].iov_len);
    return checksum;
}

static void release(task *work)
{
    struct iovec ranges[KV_LENT_RANGES_MAX];

    for (uint32_t i = 0; i < BATCH; i++)
        if (work->came[i]) {
            uint32_t count = kv_operation_received(work->operation, i, ranges);

            assert(ranges_checksum(ranges, count) == work->stats[i].checksum);
        }
    kv_operation_release(work->operation);
}

/* What is lent is what was promised, up to the moment of its return. */
static void *return_all(void *argument)
{
    kv_list *link;

    while ((link = mailbox_take(argument)) != NULL) {
        loan *value = KV_CONTAINER(link, loan, link);
        struct iovec ranges[KV_LENT_RANGES_MAX];
        uint32_t count;

        if (value->item == ITEM_NONE) {
            release(value->work);
            free(value);
            continue;
        }
        count = kv_operation_lent(value->work->operation, value->item, ranges);
        assert(ranges_checksum(ranges, count) == value->work->stats[value->item].checksum);
        kv_operation_return(value->work->operation, value->item);
        free(value);
    }
    return NULL;
}

static void threads_lend_and_receive(const char *directory, uint32_t durability)
{
    kv_store_options options = {.directory = directory,
                                .capacity = 64u << 20,
                                .memory = MEMORY,
                                .durability = durability,
                                .workers = KV_WORKERS_NONE};
    static reactor reactors[THREADS];
    char message[KV_MESSAGE_SIZE] = "";
    kv_store *store;
    mailbox returns;
    pthread_t thread;

    if (kv_store_open(&options, &store, message) < 0) {
        fprintf(stderr, "%s\n", message);
        abort();
    }
    mailbox_open(&returns);
    pthread_create(&thread, NULL, return_all, &returns);
    for (uint32_t i = 0; i < THREADS; i++) {
        reactors[i] = (reactor){.engine = kv_store_engine(store), .returns = &returns};
        mailbox_open(&reactors[i].box);
        kv_random_init(&reactors[i].random, i);
        pthread_create(&reactors[i].thread, NULL, reactor_run, &reactors[i]);
    }
    for (uint32_t i = 0; i < THREADS; i++)
        pthread_join(reactors[i].thread, NULL);
    mailbox_shut(&returns);
    pthread_join(thread, NULL);
    assert(kv_store_close(store, CLOSE_TIMEOUT_MS) == 0);
}

static void directory_remove(const char *directory)
{
    static const char *const names[] = {"superblock",   "slabs",        "journal-0", "journal-1",
                                        "checkpoint-0", "checkpoint-1", "lock"};
    char name[96];

    for (uint32_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(name, sizeof(name), "%s/%s", directory, names[i]);
        unlink(name);
    }
    assert(rmdir(directory) == 0);
}

int main(void)
{
    for (uint32_t durability = 0; durability < 3; durability++) {
        char directory[] = "/tmp/kv-test-threads-XXXXXX";

        assert(mkdtemp(directory));
        threads_lend_and_receive(directory, durability);
        directory_remove(directory);
    }
    return 0;
}
