/* The table of registered segments, and the thread that registers them. Finding is lock-free and
 * happens for every operation; asking for a segment takes a lock only when it is new. */
#include "drivers/uring_memory.h"

#include "drivers/driver_thread.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/uio.h>

#define PAGE_SIZE 4096u

enum {
    SEGMENT_UNTRIED = 0,
    SEGMENT_WANTED = 1,
    SEGMENT_REGISTERED = 2,
    SEGMENT_REFUSED = 3,
    SEGMENT_AHEAD = 4, /* registered, and nobody has used it yet */
    SEGMENT_USED = 5   /* registered, and the next one is wanted, too */
};

void kv_uring_memory_init(kv_uring_memory *memory)
{
    pthread_mutex_init(&memory->lock, NULL);
    pthread_cond_init(&memory->changed, NULL);
    memory->started = memory->stopping = memory->asked = memory->resting = false;
    atomic_init(&memory->region_count, 0);
    atomic_init(&memory->exhausted, false);
    memory->segment_count = 0;
    memory->states = NULL;
}

void kv_uring_memory_close(kv_uring_memory *memory)
{
    free(memory->states);
    memory->states = NULL;
}

void kv_uring_memory_refuse(kv_uring_memory *memory)
{
    atomic_store_explicit(&memory->exhausted, true, memory_order_relaxed);
}

/* An empty table of full size: kernels before 5.19 take it as so many empty entries. */
static int table_register(kv_uring *ring)
{
    struct io_uring_rsrc_register table = {.nr = KV_URING_SEGMENTS_MAX,
                                           .flags = IORING_RSRC_REGISTER_SPARSE};
    int result = kv_uring_register(ring, IORING_REGISTER_BUFFERS2, &table, sizeof(table));
    struct iovec *empty;

    if (result != -EINVAL)
        return result;
    empty = calloc(KV_URING_SEGMENTS_MAX, sizeof(*empty));
    if (empty == NULL)
        return -ENOMEM;
    table.flags = 0;
    table.data = (uintptr_t)empty;
    result = kv_uring_register(ring, IORING_REGISTER_BUFFERS2, &table, sizeof(table));
    free(empty);
    return result;
}

static int table_open(kv_uring_memory *memory, kv_uring *ring)
{
    int result;

    if (memory->states != NULL)
        return 0;
    memory->states = calloc(KV_URING_SEGMENTS_MAX, sizeof(*memory->states));
    if (memory->states == NULL)
        return -ENOMEM;
    result = table_register(ring);
    if (result < 0) {
        free(memory->states);
        memory->states = NULL;
        return result;
    }
    return 0;
}

static const kv_uring_region *region_find(kv_uring_memory *memory, uintptr_t base)
{
    /* Acquire: pairs with the release in region_add. */
    unsigned count = atomic_load_explicit(&memory->region_count, memory_order_acquire);

    for (unsigned i = 0; i < count; i++) {
        const kv_uring_region *region = &memory->regions[i];

        if (base >= (uintptr_t)region->memory && base - (uintptr_t)region->memory < region->size)
            return region;
    }
    return NULL;
}

/* ---- the thread ---- */

/* Each page is written without being changed: others may use it at the same time. The kernel makes a
 * page present under a lock of its region alone here, where registering, or asking for all of them at
 * once, would hold up whoever maps memory. */
__attribute__((no_sanitize("thread"))) static void pages_touch(uint8_t *memory, size_t size)
{
    for (size_t at = 0; at < size; at += PAGE_SIZE)
        (void)__atomic_fetch_or(memory + at, 0, __ATOMIC_RELAXED);
}

static void segment_register(kv_uring_memory *memory, const kv_uring_region *region,
                             uint32_t segment, unsigned char registered)
{
    size_t offset = segment * region->segment_size;
    size_t rest = region->size - offset;
    struct iovec vector = {.iov_base = region->memory + offset,
                           .iov_len = rest < region->segment_size ? rest : region->segment_size};
    uint64_t tag = 0;
    struct io_uring_rsrc_update2 update = {.offset = region->first + segment,
                                           .data = (uintptr_t)&vector,
                                           .tags = (uintptr_t)&tag,
                                           .nr = 1};
    int result = -ENOMEM;

    if (!atomic_load_explicit(&memory->exhausted, memory_order_relaxed)) {
        pages_touch(vector.iov_base, vector.iov_len);
        result = kv_uring_register(memory->ring, IORING_REGISTER_BUFFERS_UPDATE, &update,
                                   sizeof(update));
    }
    /* At a limit on pinned memory every further attempt would fault pages in for nothing. */
    if (result == -ENOMEM)
        kv_uring_memory_refuse(memory);
    /* Release: pairs with the acquire in kv_uring_memory_find. */
    atomic_store_explicit(&memory->states[region->first + segment],
                          result == 1 ? registered : SEGMENT_REFUSED, memory_order_release);
}

/* The state of a segment becomes another one if it still is `before`. Relaxed: who wants a segment
 * says nothing else by it. */
static bool segment_turn(kv_uring_memory *memory, uint32_t index, unsigned char before,
                         unsigned char after)
{
    return atomic_compare_exchange_strong_explicit(&memory->states[index], &before, after,
                                                   memory_order_relaxed, memory_order_relaxed);
}

/* One that nobody uses yet, but is likely to be used next. True: there was something to do. */
static bool segment_precede(kv_uring_memory *memory, const kv_uring_region *region,
                            uint32_t segment)
{
    if (segment >= region->count || !segment_turn(memory, region->first + segment,
                                                  SEGMENT_UNTRIED, SEGMENT_WANTED))
        return false;
    segment_register(memory, region, segment, SEGMENT_AHEAD);
    return true;
}

/* The same for one that is used, with the one behind it. */
static bool segment_attend(kv_uring_memory *memory, const kv_uring_region *region,
                           uint32_t segment)
{
    uint32_t index = region->first + segment;
    unsigned char state = atomic_load_explicit(&memory->states[index], memory_order_relaxed);

    if (state == SEGMENT_WANTED)
        segment_register(memory, region, segment, SEGMENT_REGISTERED);
    else if (state != SEGMENT_USED ||
             !segment_turn(memory, index, SEGMENT_USED, SEGMENT_REGISTERED))
        return false;
    (void)segment_precede(memory, region, segment + 1);
    return true;
}

/* Goes through all segments once. True: there was something to do. */
static bool segments_attend(kv_uring_memory *memory)
{
    /* Acquire: pairs with the release in region_add. */
    unsigned count = atomic_load_explicit(&memory->region_count, memory_order_acquire);
    bool any = false;

    for (unsigned i = 0; i < count; i++) {
        any |= segment_precede(memory, &memory->regions[i], 0);
        for (uint32_t k = 0; k < memory->regions[i].count; k++)
            any |= segment_attend(memory, &memory->regions[i], k);
    }
    return any;
}

static void *thread_run(void *argument)
{
    kv_uring_memory *memory = argument;
    bool any;

    pthread_mutex_lock(&memory->lock);
    while (!memory->stopping) {
        memory->asked = false;
        pthread_mutex_unlock(&memory->lock);
        any = segments_attend(memory);
        pthread_mutex_lock(&memory->lock);
        if (any || memory->asked)
            continue;
        memory->resting = true;
        pthread_cond_broadcast(&memory->changed);
        while (!memory->asked && !memory->stopping)
            pthread_cond_wait(&memory->changed, &memory->lock);
        memory->resting = false;
    }
    pthread_mutex_unlock(&memory->lock);
    return NULL;
}

/* Locked. */
static int thread_start(kv_uring_memory *memory, kv_uring *ring)
{
    int error;

    if (memory->started)
        return 0;
    memory->ring = ring;
    error = kv_driver_thread_start("kv-uring-memory", thread_run, memory, &memory->thread);
    memory->started = error == 0;
    return error;
}

/* Locked. */
static void thread_ask(kv_uring_memory *memory)
{
    memory->asked = true;
    pthread_cond_broadcast(&memory->changed);
}

void kv_uring_memory_settle(kv_uring_memory *memory)
{
    pthread_mutex_lock(&memory->lock);
    while (memory->started && (memory->asked || !memory->resting))
        pthread_cond_wait(&memory->changed, &memory->lock);
    pthread_mutex_unlock(&memory->lock);
}

static void thread_stop(kv_uring_memory *memory)
{
    pthread_mutex_lock(&memory->lock);
    memory->stopping = true;
    pthread_cond_broadcast(&memory->changed);
    pthread_mutex_unlock(&memory->lock);
    if (memory->started)
        pthread_join(memory->thread, NULL);
    memory->started = false;
}

/* ---- users ---- */

static int region_add(kv_uring_memory *memory, kv_uring *ring, const kv_uring_region *region)
{
    unsigned index = atomic_load_explicit(&memory->region_count, memory_order_relaxed);
    uint32_t room = KV_URING_SEGMENTS_MAX - memory->segment_count;
    size_t count = (region->size + region->segment_size - 1) / region->segment_size;
    int result;

    if (index == KV_URING_REGIONS_MAX)
        return -ENOSPC;
    result = table_open(memory, ring);
    if (result == 0)
        result = thread_start(memory, ring);
    if (result != 0)
        return result;
    memory->regions[index] = *region;
    memory->regions[index].first = memory->segment_count;
    /* What does not fit the table is used unregistered. */
    memory->regions[index].count = count < room ? (uint32_t)count : room;
    memory->segment_count += memory->regions[index].count;
    /* Release: pairs with the acquire in region_find. */
    atomic_store_explicit(&memory->region_count, index + 1, memory_order_release);
    thread_ask(memory);
    return 0;
}

int kv_uring_memory_add(kv_uring_memory *memory, kv_uring *ring, void *base, size_t size,
                        size_t segment_size)
{
    kv_uring_region region = {.memory = base, .size = size, .segment_size = segment_size};
    int result;

    if (base == NULL || size == 0 || segment_size == 0 || segment_size % PAGE_SIZE != 0 ||
        segment_size > KV_URING_SEGMENT_SIZE_MAX)
        return -EINVAL;
    pthread_mutex_lock(&memory->lock);
    result = region_add(memory, ring, &region);
    pthread_mutex_unlock(&memory->lock);
    return result;
}

/* True: the thread has something to do. */
static bool segment_use(kv_uring_memory *memory, uint32_t index)
{
    unsigned char state = atomic_load_explicit(&memory->states[index], memory_order_relaxed);

    if (state == SEGMENT_UNTRIED)
        return segment_turn(memory, index, SEGMENT_UNTRIED, SEGMENT_WANTED);
    return state == SEGMENT_AHEAD &&
           segment_turn(memory, index, SEGMENT_AHEAD, SEGMENT_USED);
}

void kv_uring_memory_prepare(kv_uring_memory *memory, const void *base, size_t size)
{
    const kv_uring_region *region = region_find(memory, (uintptr_t)base);
    bool asks = false;
    size_t first;
    size_t last;

    if (region == NULL || atomic_load_explicit(&memory->exhausted, memory_order_relaxed))
        return;
    assert(size > 0);
    first = ((uintptr_t)base - (uintptr_t)region->memory) / region->segment_size;
    last = ((uintptr_t)base - (uintptr_t)region->memory + size - 1) / region->segment_size;
    for (size_t i = first; i <= last && i < region->count; i++)
        asks |= segment_use(memory, region->first + (uint32_t)i);
    if (!asks)
        return;
    pthread_mutex_lock(&memory->lock);
    thread_ask(memory);
    pthread_mutex_unlock(&memory->lock);
}

static bool is_registered(unsigned char state)
{
    return state == SEGMENT_REGISTERED || state == SEGMENT_AHEAD || state == SEGMENT_USED;
}

int kv_uring_memory_find(kv_uring_memory *memory, const void *base, size_t size)
{
    const kv_uring_region *region = region_find(memory, (uintptr_t)base);
    size_t offset;
    size_t segment;

    if (region == NULL)
        return -1;
    offset = (uintptr_t)base - (uintptr_t)region->memory;
    segment = offset / region->segment_size;
    if (segment >= region->count || offset % region->segment_size + size > region->segment_size ||
        offset + size > region->size)
        return -1;
    /* Acquire: pairs with the release in segment_register. */
    if (!is_registered(atomic_load_explicit(&memory->states[region->first + segment],
                                            memory_order_acquire)))
        return -1;
    return (int)(region->first + segment);
}

uint32_t kv_uring_memory_registered(kv_uring_memory *memory)
{
    uint32_t registered = 0;

    pthread_mutex_lock(&memory->lock);
    for (uint32_t i = 0; i < memory->segment_count; i++)
        registered += is_registered(
            atomic_load_explicit(&memory->states[i], memory_order_relaxed));
    pthread_mutex_unlock(&memory->lock);
    return registered;
}

void kv_uring_memory_release(kv_uring_memory *memory, kv_uring *ring)
{
    thread_stop(memory);
    if (memory->states != NULL)
        (void)kv_uring_register(ring, IORING_UNREGISTER_BUFFERS, NULL, 0);
}
