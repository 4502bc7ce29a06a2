/* What the tests of the real drivers share: a device under test, in a directory of its own. */
#ifndef DEVICE_SUBJECT_H
#define DEVICE_SUBJECT_H

#include "bytes/random.h"
#include "drivers/device_uring.h"
#include "drivers/drivers.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE 4096u

typedef enum test_driver {
    URING = 0,
    URING_REFUSED = 1, /* no memory is registered */
    THREADS = 2,
    DRIVER_COUNT = 3
} test_driver;

typedef struct test_subject {
    char directory[PATH_MAX];
    test_driver driver;
    bool direct;
} test_subject;

/* Counts completions; `done` of an io whose context is a latch. */
typedef struct test_latch {
    pthread_mutex_t lock;
    pthread_cond_t reached;
    uint32_t left;
} test_latch;

static inline void latch_init(test_latch *self, uint32_t count)
{
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->reached, NULL);
    self->left = count;
}

static inline void latch_done(kv_io *io)
{
    test_latch *self = io->context;

    pthread_mutex_lock(&self->lock);
    assert(self->left > 0);
    if (--self->left == 0)
        pthread_cond_signal(&self->reached);
    pthread_mutex_unlock(&self->lock);
}

static inline void latch_wait(test_latch *self)
{
    pthread_mutex_lock(&self->lock);
    while (self->left > 0)
        pthread_cond_wait(&self->reached, &self->lock);
    pthread_mutex_unlock(&self->lock);
    pthread_cond_destroy(&self->reached);
    pthread_mutex_destroy(&self->lock);
}

/* ---- a device and its memory ---- */

static inline int device_open(const test_subject *subject, uint32_t depth, kv_device **device)
{
    kv_driver_options options = {.directory = subject->directory,
                                 .create = true,
                                 .direct = subject->direct,
                                 .depth = depth,
                                 .threads = depth < 8 ? depth : 8};
    kv_file bad = KV_FILE_SLABS;
    int result;

    if (subject->driver == THREADS)
        return kv_driver_threads_open(&options, device, &bad);
    result = kv_driver_uring_open(&options, device, &bad);
    if (result == 0 && subject->driver == URING_REFUSED)
        kv_device_uring_refuse_memory(*device);
    return result;
}

static inline kv_device *open_of_depth(const test_subject *subject, uint32_t depth)
{
    kv_device *device = NULL;

    assert(device_open(subject, depth, &device) == 0);
    return device;
}

static inline uint8_t *memory_of(size_t size)
{
    uint8_t *memory = aligned_alloc(PAGE, size);

    assert(memory != NULL);
    return memory;
}

static inline int64_t run(kv_device *device, kv_io_kind kind, uint64_t offset, uint32_t size,
                          void *memory)
{
    kv_io io = {.kind = kind,
                .file = KV_FILE_SLABS,
                .files = kind == KV_IO_FLUSH ? 1u << KV_FILE_SLABS : 0,
                .offset = offset,
                .size = size,
                .memory = memory};

    return kv_device_run(device, &io);
}

/* The bytes of page `index` in version `version`. */
static inline void page_fill(uint8_t *page, uint64_t index, uint64_t version)
{
    kv_random random;

    kv_random_init(&random, index * 1000003 + version);
    kv_random_fill(&random, page, PAGE);
}

static inline void page_check(const uint8_t *page, uint64_t index, uint64_t version)
{
    uint8_t expected[PAGE];

    page_fill(expected, index, version);
    assert(memcmp(expected, page, PAGE) == 0);
}

/* ---- rules ---- */

typedef void (*test_rule)(const test_subject *subject);

/* Each rule has a directory of its own. */
static inline void subject_check(test_rule rule, test_driver driver, bool direct)
{
    const char *parent = getenv("TMPDIR");
    test_subject subject = {.driver = driver, .direct = direct};

    (void)snprintf(subject.directory, sizeof(subject.directory), "%s/kv-test-XXXXXX",
                   parent != NULL ? parent : ".");
    assert(mkdtemp(subject.directory) != NULL);
    rule(&subject);
    for (unsigned i = 0; i < KV_FILE_COUNT; i++) {
        char path[PATH_MAX + 32];

        (void)snprintf(path, sizeof(path), "%s/%s", subject.directory,
                       kv_file_name((kv_file)i));
        (void)unlink(path);
    }
    assert(rmdir(subject.directory) == 0);
}

/* A container may forbid io_uring; its drivers are then left out. */
static inline bool uring_is_allowed(void)
{
    kv_driver_options options = {.directory = "./no-such-directory", .depth = 1};
    kv_device *device;

    return kv_driver_uring_open(&options, &device, NULL) == -ENOENT;
}

/* Every rule over every driver allowed here, past the page cache and through it. */
static inline void subject_check_all(const test_rule *rules, size_t count)
{
    unsigned first = uring_is_allowed() ? URING : THREADS;

    for (unsigned i = first; i < DRIVER_COUNT; i++) {
        for (size_t rule = 0; rule < count; rule++) {
            subject_check(rules[rule], (test_driver)i, true);
            subject_check(rules[rule], (test_driver)i, false);
        }
    }
}

#endif
