/* The embedded store with threads and real files: blocking and asynchronous requests side by side,
 * cancellation, closing under load, and who may open what. Meant to run under the thread sanitizer too. */

#include "bytes/random.h"
#include "engine/engine.h"
#include "kvcore.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MEMORY (96ull << 20)
#define BATCH 16u
#define ROUNDS 60u
#define THREADS 4u
#define IN_FLIGHT 8u
#define VALUE_MAX 20000u
#define CLOSE_TIMEOUT_MS 20000u

static char directory[64];

static void directory_make(void)
{
    snprintf(directory, sizeof(directory), "%s", "/tmp/kv-test-store-XXXXXX");
    assert(mkdtemp(directory));
}

static void directory_remove(void)
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

static kv_store_options options_of(uint32_t durability, uint32_t driver)
{
    return (kv_store_options){.directory = directory,
                              .capacity = 64u << 20,
                              .memory = MEMORY,
                              .durability = durability,
                              .driver = driver,
                              .workers = 2};
}

static kv_store *store_open(const kv_store_options *options)
{
    char message[KV_MESSAGE_SIZE] = "";
    kv_store *store;

    if (kv_store_open(options, &store, message) < 0) {
        fprintf(stderr, "%s\n", message);
        abort();
    }
    return store;
}

/* A batch of one client: its keys are nobody else's, so it knows what they hold. */
typedef struct batch {
    kv_request request;
    kv_item items[BATCH];
    char keys[BATCH][24];
    uint8_t values[BATCH][VALUE_MAX];
} batch;

static uint32_t size_of(uint32_t client, uint32_t i, uint32_t version)
{
    return (client * 977 + i * 3511 + version * 131) % VALUE_MAX;
}

static void batch_prepare(batch *work, uint32_t operation, uint32_t client, uint32_t version)
{
    work->request = (kv_request){.items = work->items, .count = BATCH, .operation = operation};
    for (uint32_t i = 0; i < BATCH; i++) {
        bool sets = operation == KV_OP_SET;

        snprintf(work->keys[i], sizeof(work->keys[i]), "%u-%u", client, i);
        memset(work->values[i], sets ? (int)(client + i + version) : 0, VALUE_MAX);
        work->items[i] = (kv_item){.key = (uint64_t)work->keys[i],
                                   .key_size = (uint32_t)strlen(work->keys[i]),
                                   .value = (uint64_t)work->values[i],
                                   .value_size = sets ? size_of(client, i, version) : VALUE_MAX};
    }
}

static void batch_check(const batch *work, uint32_t client, uint32_t version)
{
    for (uint32_t i = 0; i < BATCH; i++) {
        uint32_t size = size_of(client, i, version);

        assert(work->items[i].status == KV_OK);
        if (work->request.operation != KV_OP_GET)
            continue;
        assert(work->items[i].result_size == size);
        for (uint32_t at = 0; at < size; at++)
            assert(work->values[i][at] == (uint8_t)(client + i + version));
    }
}

typedef struct client {
    kv_store *store;
    uint32_t number;
    pthread_t thread;
    atomic_bool *stop;
} client;

static void *blocking_client(void *argument)
{
    client *self = argument;
    batch *work = malloc(sizeof(*work));

    assert(work);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        batch_prepare(work, KV_OP_SET, self->number, round);
        assert(kv_store_run(self->store, &work->request) == 0);
        batch_check(work, self->number, round);
        batch_prepare(work, KV_OP_GET, self->number, round);
        assert(kv_store_run(self->store, &work->request) == 0);
        batch_check(work, self->number, round);
        if (round % 16 == 0) {
            kv_request flush = {.operation = KV_OP_FLUSH};

            assert(kv_store_run(self->store, &flush) == 0 && flush.status == KV_OK);
        }
    }
    free(work);
    return NULL;
}

static uint32_t reap_some(kv_queue *queue, int descriptor, uint64_t *tags, uint32_t room)
{
    struct pollfd waited = {.fd = descriptor, .events = POLLIN};
    int count = 0;

    while (count == 0) {
        assert(poll(&waited, 1, 20000) == 1);
        count = kv_queue_reap(queue, tags, room);
        assert(count >= 0);
    }
    return (uint32_t)count;
}

static void *queue_client(void *argument)
{
    client *self = argument;
    batch *works = calloc(IN_FLIGHT, sizeof(*works));
    kv_queue *queue;
    int descriptor;

    assert(works && kv_queue_open(&queue, &descriptor) == 0);
    for (uint32_t round = 0; round < ROUNDS / 2; round++)
        for (uint32_t reads = 0; reads < 2; reads++) {
            uint32_t done = 0;

            for (uint32_t k = 0; k < IN_FLIGHT; k++) {
                batch_prepare(&works[k], reads ? KV_OP_GET : KV_OP_SET, self->number * 100 + k, round);
                works[k].request.tag = k;
                assert(kv_store_submit(self->store, queue, &works[k].request) == 0);
            }
            while (done < IN_FLIGHT) {
                uint64_t tags[3];
                uint32_t count = reap_some(queue, descriptor, tags, 3);

                for (uint32_t k = 0; k < count; k++)
                    batch_check(&works[tags[k]], self->number * 100 + (uint32_t)tags[k], round);
                done += count;
            }
        }
    kv_queue_close(queue);
    free(works);
    return NULL;
}

/* Requests that are cancelled at any time are reaped all the same, each item with a status of its own. */
static void *cancelling_client(void *argument)
{
    client *self = argument;
    batch *work = malloc(sizeof(*work));
    kv_queue *queue;
    int descriptor;

    assert(work && kv_queue_open(&queue, &descriptor) == 0);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        uint64_t tag;

        batch_prepare(work, round % 2 ? KV_OP_GET : KV_OP_SET, self->number, round);
        work->request.tag = round;
        assert(kv_store_submit(self->store, queue, &work->request) == 0);
        kv_store_cancel(self->store, &work->request);
        assert(reap_some(queue, descriptor, &tag, 1) == 1 && tag == round);
        for (uint32_t i = 0; i < BATCH; i++)
            assert(work->items[i].status == KV_OK || work->items[i].status == KV_CANCELLED ||
                   work->items[i].status == KV_NOT_FOUND);
    }
    kv_queue_close(queue);
    free(work);
    return NULL;
}

/* What operators do meanwhile. */
static void *upkeep_client(void *argument)
{
    client *self = argument;
    uint8_t *buffer = malloc(1u << 20);

    assert(buffer);
    while (!atomic_load_explicit(self->stop, memory_order_relaxed)) { /* set by the main thread */
        kv_store_statistics statistics;
        uint64_t cursor = 0;
        uint64_t objects = 0;
        uint64_t bytes = 0;
        kv_slab_row rows[64];
        char text[256];

        kv_store_statistics_read(self->store, &statistics);
        assert(statistics.offline == 0 && kv_store_slabs(self->store, rows, 64) >= 0);
        assert(kv_store_describe(self->store, text, sizeof(text)) > 0);
        while (cursor != UINT64_MAX)
            assert(kv_store_list(self->store, &cursor, "1", 1, buffer, 1u << 20) >= 0);
        cursor = 0;
        while (cursor != UINT64_MAX)
            assert(kv_store_verify(self->store, &cursor, 1u << 20, buffer, 1u << 20, &objects, &bytes) == 0);
        assert(kv_store_checkpoint(self->store, 1000) == 0 && kv_store_compact(self->store, 1000) >= 0);
    }
    free(buffer);
    return NULL;
}

static void everybody_works_at_once(uint32_t durability, uint32_t driver)
{
    static void *(*const bodies[])(void *) = {blocking_client, queue_client, cancelling_client, blocking_client};
    kv_store_options options = options_of(durability, driver);
    atomic_bool stop = false;
    client clients[THREADS + 1];
    batch *work = malloc(sizeof(*work));
    kv_store *store;

    directory_make();
    store = store_open(&options);
    for (uint32_t i = 0; i <= THREADS; i++) {
        clients[i] = (client){.store = store, .number = i + 1, .stop = &stop};
        assert(pthread_create(&clients[i].thread, NULL, i < THREADS ? bodies[i] : upkeep_client,
                              &clients[i]) == 0);
    }
    for (uint32_t i = 0; i <= THREADS; i++) {
        if (i == THREADS)
            atomic_store_explicit(&stop, true, memory_order_relaxed); /* read by upkeep_client */
        assert(pthread_join(clients[i].thread, NULL) == 0);
    }
    assert(kv_store_close(store, CLOSE_TIMEOUT_MS) == 0);
    store = store_open(&options);
    batch_prepare(work, KV_OP_GET, 1, 0);
    assert(kv_store_run(store, &work->request) == 0);
    batch_check(work, 1, ROUNDS - 1);
    assert(kv_store_close(store, CLOSE_TIMEOUT_MS) == 0);
    free(work);
    directory_remove();
}

/* Values that were answered and are still on their way to the device are there at the next open. */
static void closing_waits_for_what_is_in_flight(void)
{
    kv_store_options options = options_of(KV_DURABILITY_MEMORY, KV_DRIVER_AUTO);
    batch *works = calloc(IN_FLIGHT, sizeof(*works));
    uint64_t tags[IN_FLIGHT];
    kv_store *store;
    kv_queue *queue;
    int descriptor;

    directory_make();
    store = store_open(&options);
    assert(works && kv_queue_open(&queue, &descriptor) == 0);
    for (uint32_t k = 0; k < IN_FLIGHT; k++) {
        batch_prepare(&works[k], KV_OP_SET, k, 1);
        works[k].request.tag = k;
        assert(kv_store_submit(store, queue, &works[k].request) == 0);
    }
    for (uint32_t done = 0; done < IN_FLIGHT;)
        done += reap_some(queue, descriptor, tags, IN_FLIGHT);
    kv_queue_close(queue);
    assert(kv_store_close(store, CLOSE_TIMEOUT_MS) == 0);
    store = store_open(&options);
    for (uint32_t k = 0; k < IN_FLIGHT; k++) {
        batch_check(&works[k], k, 1);
        batch_prepare(&works[k], KV_OP_GET, k, 1);
        assert(kv_store_run(store, &works[k].request) == 0);
        batch_check(&works[k], k, 1);
    }
    assert(kv_store_close(store, CLOSE_TIMEOUT_MS) == 0);
    free(works);
    directory_remove();
}

static void a_directory_serves_one_store_at_a_time(void)
{
    kv_store_options options = options_of(KV_DURABILITY_DISK, KV_DRIVER_AUTO);
    char message[KV_MESSAGE_SIZE] = "";
    kv_store *second;
    kv_store *store;

    directory_make();
    store = store_open(&options);
    assert(kv_store_open(&options, &second, message) == -EBUSY && strstr(message, directory));
    options.open_mode = KV_OPEN_READ_ONLY;
    assert(kv_store_open(&options, &second, message) == -EBUSY);
    assert(kv_store_close(store, CLOSE_TIMEOUT_MS) == 0);
    store = store_open(&options);
    assert(kv_store_close(store, CLOSE_TIMEOUT_MS) == 0);
    directory_remove();
}

/* A forked child gives up what it inherited; the parent goes on, and still holds the directory. */
static void a_child_gives_up_what_it_inherited(void)
{
    kv_store_options options = options_of(KV_DURABILITY_DISK, KV_DRIVER_THREADS);
    char message[KV_MESSAGE_SIZE] = "";
    batch *work = malloc(sizeof(*work));
    kv_store *second;
    kv_store *store;
    int status;
    pid_t child;

    directory_make();
    store = store_open(&options);
    batch_prepare(work, KV_OP_SET, 1, 1);
    assert(kv_store_run(store, &work->request) == 0);
    child = fork();
    assert(child >= 0);
    if (child == 0) {
        kv_store_abandon(store);
        _exit(0);
    }
    assert(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert(kv_store_open(&options, &second, message) == -EBUSY);
    batch_prepare(work, KV_OP_GET, 1, 1);
    assert(kv_store_run(store, &work->request) == 0);
    batch_check(work, 1, 1);
    assert(kv_store_close(store, CLOSE_TIMEOUT_MS) == 0);
    free(work);
    directory_remove();
}

static void registered_memory_is_read_and_written(void)
{
    kv_store_options options = options_of(KV_DURABILITY_DISK, KV_DRIVER_AUTO);
    const uint32_t size = 256u << 10;
    kv_store *store;
    uint8_t *memory;
    kv_item item = {.key = (uint64_t) "k", .key_size = 1, .value_size = size};
    kv_request request = {.items = &item, .count = 1, .operation = KV_OP_SET};

    directory_make();
    store = store_open(&options);
    assert(posix_memalign((void **)&memory, 4096, 2 * size) == 0);
    assert(kv_store_register(store, (uint64_t)memory, 2 * size) == 0);
    assert(kv_store_register(store, (uint64_t)memory + 4096, 4096) == -EEXIST);
    for (uint32_t round = 0; round < 20; round++) {
        memset(memory, (int)round, size);
        memset(memory + size, 255, size);
        item.value = (uint64_t)memory;
        request.operation = KV_OP_SET;
        assert(kv_store_run(store, &request) == 0 && item.status == KV_OK);
        item.value = (uint64_t)memory + size;
        request.operation = KV_OP_GET;
        assert(kv_store_run(store, &request) == 0 && item.status == KV_OK && item.result_size == size);
        assert(memcmp(memory, memory + size, size) == 0);
    }
    assert(kv_store_unregister(store, (uint64_t)memory) == 0);
    assert(kv_store_unregister(store, (uint64_t)memory) == -ENOENT);
    assert(kv_store_close(store, CLOSE_TIMEOUT_MS) == 0);
    free(memory);
    directory_remove();
}

static void a_deadline_ends_what_cannot_end_otherwise(void)
{
    kv_store_options options = options_of(KV_DURABILITY_DISK, KV_DRIVER_AUTO);
    batch *work = malloc(sizeof(*work));
    kv_store *store;

    directory_make();
    store = store_open(&options);
    for (uint32_t round = 0; round < 50; round++) {
        batch_prepare(work, KV_OP_SET, 1, round);
        work->request.timeout_ms = 1;
        assert(kv_store_run(store, &work->request) == 0);
        for (uint32_t i = 0; i < BATCH; i++)
            assert(work->items[i].status == KV_OK || work->items[i].status == KV_TIMEOUT);
    }
    assert(kv_store_close(store, CLOSE_TIMEOUT_MS) == 0);
    free(work);
    directory_remove();
}

/* Flags, and kinds that have to be driven, are the core's own. */
static void requests_of_the_cores_own_are_refused(void)
{
    kv_store_options options = options_of(KV_DURABILITY_DISK, KV_DRIVER_THREADS);
    kv_item item = {.key = (uint64_t)"key", .key_size = 3};
    kv_item_stat stat = {0};
    kv_request request = {.items = &item, .stats = &stat, .count = 1, .operation = KV_OP_SET};
    const uint32_t kinds[] = {KV_OP_SET, KV_OP_LEND, KV_OP_RECEIVE};
    kv_queue *queue;
    kv_store *store;
    int descriptor;

    directory_make();
    store = store_open(&options);
    assert(kv_queue_open(&queue, &descriptor) == 0);
    for (uint32_t n = 0; n < sizeof(kinds) / sizeof(kinds[0]); n++) {
        request.operation = kinds[n];
        request.flags = n == 0;
        assert(kv_store_run(store, &request) == -EINVAL);
        assert(kv_store_submit(store, queue, &request) == -EINVAL);
    }
    kv_queue_close(queue);
    assert(kv_store_close(store, CLOSE_TIMEOUT_MS) == 0);
    directory_remove();
}

int main(void)
{
    requests_of_the_cores_own_are_refused();
    everybody_works_at_once(KV_DURABILITY_DISK, KV_DRIVER_THREADS);
    everybody_works_at_once(KV_DURABILITY_MEMORY, KV_DRIVER_THREADS);
    everybody_works_at_once(KV_DURABILITY_SYNC, KV_DRIVER_AUTO);
    closing_waits_for_what_is_in_flight();
    a_directory_serves_one_store_at_a_time();
    a_child_gives_up_what_it_inherited();
    registered_memory_is_read_and_written();
    a_deadline_ends_what_cannot_end_otherwise();
    return 0;
}
