/* Operations, threads and processes that come and go around a real driver. */
#include "device_subject.h"

#include <dirent.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>

static atomic_uint completions;

static void count_done(kv_io *io)
{
    assert(io->result == PAGE);
    atomic_fetch_add(&completions, 1);
    free(io);
}

static void close_completes_what_is_in_flight(const test_subject *subject)
{
    kv_device *device = open_of_depth(subject, 4);
    uint8_t *memory = memory_of(200 * PAGE);

    atomic_store(&completions, 0);
    for (uint32_t i = 0; i < 200; i++) {
        kv_io *io = malloc(sizeof(*io));

        assert(io != NULL);
        page_fill(memory + i * PAGE, i, 7);
        *io = (kv_io){.kind = KV_IO_WRITE,
                      .file = KV_FILE_SLABS,
                      .size = PAGE,
                      .offset = i * PAGE,
                      .memory = memory + i * PAGE,
                      .done = count_done};
        device->operations->submit(device, &io, 1);
    }
    device->operations->close(device);
    assert(atomic_load(&completions) == 200);

    device = open_of_depth(subject, 4);
    assert(run(device, KV_IO_READ, 0, 200 * PAGE, memory) == 200 * PAGE);
    for (uint32_t i = 0; i < 200; i++)
        page_check(memory + i * PAGE, i, 7);
    device->operations->close(device);
    free(memory);
}

/* Waits for operations that `done` frees, so nothing may look at them. */
static void an_operation_may_be_freed_by_its_done(const test_subject *subject)
{
    kv_device *device = open_of_depth(subject, 2);
    uint8_t *memory = memory_of(PAGE);

    memset(memory, 1, PAGE);
    atomic_store(&completions, 0);
    for (uint32_t i = 0; i < 100; i++) {
        kv_io *io = malloc(sizeof(*io));

        assert(io != NULL);
        *io = (kv_io){.kind = KV_IO_WRITE,
                      .file = KV_FILE_SLABS,
                      .size = PAGE,
                      .memory = memory,
                      .done = count_done};
        device->operations->submit(device, &io, 1);
        device->operations->wait(device, io);
        assert(atomic_load(&completions) == i + 1);
    }
    device->operations->close(device);
    free(memory);
}

typedef struct test_relay {
    kv_device *device;
    test_latch *latch;
    uint32_t left;
} test_relay;

static void relay_done(kv_io *io)
{
    test_relay *self = io->context;

    assert(io->result == PAGE);
    if (self->left-- > 0) {
        io->offset += PAGE;
        self->device->operations->submit(self->device, &io, 1);
    } else {
        io->context = self->latch;
        latch_done(io);
    }
}

static void a_done_may_submit_again(const test_subject *subject)
{
    kv_device *device = open_of_depth(subject, 2);
    uint8_t *memory = memory_of(PAGE);
    test_relay relays[5];
    kv_io ios[5];
    kv_io *batch[5];
    test_latch latch;

    memset(memory, 1, PAGE);
    latch_init(&latch, 5);
    for (uint32_t i = 0; i < 5; i++) {
        relays[i] = (test_relay){.device = device, .latch = &latch, .left = 50};
        ios[i] = (kv_io){.kind = KV_IO_WRITE,
                         .file = KV_FILE_SLABS,
                         .size = PAGE,
                         .memory = memory,
                         .done = relay_done,
                         .context = &relays[i]};
        batch[i] = &ios[i];
    }
    device->operations->submit(device, batch, 5);
    latch_wait(&latch);
    for (uint32_t i = 0; i < 5; i++) {
        device->operations->wait(device, &ios[i]);
        assert(ios[i].offset == 50 * PAGE);
    }
    device->operations->close(device);
    free(memory);
}

typedef struct test_submitter {
    kv_device *device;
    uint32_t index;
    pthread_t thread;
} test_submitter;

/* Writes and reads back 16 pages of its own, many times, in batches. */
static void *submitter_run(void *argument)
{
    test_submitter *self = argument;
    uint8_t *memory = memory_of(16 * PAGE);
    kv_io ios[16];
    kv_io *batch[16];
    test_latch latch;

    for (uint32_t round = 0; round < 40; round++) {
        latch_init(&latch, 16);
        for (uint32_t i = 0; i < 16; i++) {
            if (round % 2 == 0)
                page_fill(memory + i * PAGE, self->index * 16 + i, round);
            ios[i] = (kv_io){.kind = round % 2 == 0 ? KV_IO_WRITE : KV_IO_READ,
                             .file = KV_FILE_SLABS,
                             .size = PAGE,
                             .offset = (self->index * 16 + i) * PAGE,
                             .memory = memory + i * PAGE,
                             .done = latch_done,
                             .context = &latch};
            batch[i] = &ios[i];
        }
        self->device->operations->submit(self->device, batch, 16);
        latch_wait(&latch);
        for (uint32_t i = 0; i < 16; i++) {
            assert(ios[i].result == PAGE);
            page_check(memory + i * PAGE, self->index * 16 + i, round & ~1u);
        }
    }
    free(memory);
    return NULL;
}

static void several_threads_submit_at_once(const test_subject *subject)
{
    kv_device *device = open_of_depth(subject, 8);
    test_submitter submitters[4];

    for (uint32_t i = 0; i < 4; i++) {
        submitters[i] = (test_submitter){.device = device, .index = i};
        assert(pthread_create(&submitters[i].thread, NULL, submitter_run, &submitters[i]) == 0);
    }
    for (uint32_t i = 0; i < 4; i++)
        assert(pthread_join(submitters[i].thread, NULL) == 0);
    device->operations->close(device);
}

typedef struct test_leaver {
    kv_device *device;
    kv_io **ios;
} test_leaver;

static void *leaver_run(void *argument)
{
    test_leaver *self = argument;

    self->device->operations->submit(self->device, self->ios, 32);
    return NULL;
}

/* A ring drops some work of a thread that exits; the driver must take it up again. */
static void operations_outlive_the_thread_that_submitted_them(const test_subject *subject)
{
    kv_device *device = open_of_depth(subject, 32);
    uint8_t *memory = memory_of(32 * PAGE);
    kv_io ios[32];
    kv_io *batch[32];

    memset(memory, 1, 32 * PAGE);
    for (uint32_t round = 0; round < 10; round++) {
        test_leaver leaver = {device, batch};
        pthread_t thread;
        test_latch latch;

        latch_init(&latch, 32);
        for (uint32_t i = 0; i < 32; i++) {
            ios[i] = (kv_io){.kind = i % 8 == 7 ? KV_IO_FLUSH : KV_IO_WRITE,
                             .file = KV_FILE_SLABS,
                             .files = 1u << KV_FILE_SLABS,
                             .size = PAGE,
                             .offset = i * PAGE,
                             .memory = memory + i * PAGE,
                             .done = latch_done,
                             .context = &latch};
            batch[i] = &ios[i];
        }
        assert(pthread_create(&thread, NULL, leaver_run, &leaver) == 0);
        assert(pthread_join(thread, NULL) == 0);
        latch_wait(&latch);
        for (uint32_t i = 0; i < 32; i++)
            assert(ios[i].result == (i % 8 == 7 ? 0 : PAGE));
    }
    device->operations->close(device);
    free(memory);
}

static void a_forked_child_leaves_the_parent_alone(const test_subject *subject)
{
    kv_device *device = open_of_depth(subject, 4);
    uint8_t *memory = memory_of(64 * PAGE);
    kv_io ios[64];
    kv_io *batch[64];
    test_latch latch;
    int status;
    pid_t child;

    memset(memory, 1, 64 * PAGE);
    latch_init(&latch, 64);
    for (uint32_t i = 0; i < 64; i++) {
        ios[i] = (kv_io){.kind = KV_IO_WRITE,
                         .file = KV_FILE_SLABS,
                         .size = PAGE,
                         .offset = i * PAGE,
                         .memory = memory + i * PAGE,
                         .done = latch_done,
                         .context = &latch};
        batch[i] = &ios[i];
    }
    device->operations->submit(device, batch, 64);
    child = fork();
    if (child == 0) {
        device->operations->abandon(device);
        _exit(0);
    }
    assert(waitpid(child, &status, 0) == child);
    assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    latch_wait(&latch);
    assert(run(device, KV_IO_READ, 0, 64 * PAGE, memory) == 64 * PAGE);
    device->operations->close(device);
    free(memory);
}

/* The signal mask of the thread of that name, from /proc. */
static bool thread_mask(const char *name, uint64_t *mask)
{
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *task;
    bool found = false;

    assert(tasks != NULL);
    while ((task = readdir(tasks)) != NULL && !found) {
        char path[PATH_MAX];
        char line[128];
        FILE *status;

        (void)snprintf(path, sizeof(path), "/proc/self/task/%.32s/status", task->d_name);
        status = fopen(path, "r");
        while (status != NULL && fgets(line, sizeof(line), status) != NULL) {
            if (strncmp(line, "Name:\t", 6) == 0)
                found = strncmp(line + 6, name, strlen(name)) == 0;
            if (strncmp(line, "SigBlk:\t", 8) == 0)
                *mask = strtoull(line + 8, NULL, 16);
        }
        if (status != NULL)
            (void)fclose(status);
    }
    (void)closedir(tasks);
    return found;
}

static void driver_threads_take_no_signals(const test_subject *subject)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGCHLD, SIGALRM, SIGPROF, SIGUSR1, SIGXFSZ};
    kv_device *device = open_of_depth(subject, 1);
    uint64_t mask = 0;

    assert(thread_mask(subject->driver == THREADS ? "kv-io-0" : "kv-uring", &mask));
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        assert((mask >> (signals[i] - 1) & 1) == 1);
    device->operations->close(device);
}

static const test_rule rules[] = {
    close_completes_what_is_in_flight,
    an_operation_may_be_freed_by_its_done,
    a_done_may_submit_again,
    several_threads_submit_at_once,
    operations_outlive_the_thread_that_submitted_them,
    a_forked_child_leaves_the_parent_alone,
    driver_threads_take_no_signals,
};

int main(void)
{
    subject_check_all(rules, sizeof(rules) / sizeof(rules[0]));
}
