/* The table of registered segments. Finding is lock-free and happens for every operation;
 * registering takes a lock of its own, so that pinning pages holds up no other submitter's filling
 * of the ring. */
#include "drivers/uring_memory.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/uio.h>

#define PAGE_SIZE 4096u

enum { SEGMENT_UNTRIED = 0, SEGMENT_REGISTERED = 1, SEGMENT_REFUSED = 2 };

void kv_uring_memory_init(kv_uring_memory *memory)
{
    pthread_mutex_init(&memory->lock, NULL);
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

static int region_add(kv_uring_memory *memory, kv_uring *ring, const kv_uring_region *region)
{
    unsigned index = atomic_load_explicit(&memory->region_count, memory_order_relaxed);
    uint32_t room = KV_URING_SEGMENTS_MAX - memory->segment_count;
    size_t count = (region->size + region->segment_size - 1) / region->segment_size;
    int result;

    if (index == KV_URING_REGIONS_MAX)
        return -ENOSPC;
    result = table_open(memory, ring);
    if (result != 0)
        return result;
    memory->regions[index] = *region;
    memory->regions[index].first = memory->segment_count;
    /* What does not fit the table is used unregistered. */
    memory->regions[index].count = count < room ? (uint32_t)count : room;
    memory->segment_count += memory->regions[index].count;
    /* Release: pairs with the acquire in region_find. */
    atomic_store_explicit(&memory->region_count, index + 1, memory_order_release);
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

/* Locked. */
static void segment_register(kv_uring_memory *memory, kv_uring *ring,
                             const kv_uring_region *region, uint32_t segment)
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
    int result = kv_uring_register(ring, IORING_REGISTER_BUFFERS_UPDATE, &update, sizeof(update));

    /* At a limit on pinned memory every further attempt would fault pages in for nothing. */
    if (result == -ENOMEM)
        kv_uring_memory_refuse(memory);
    /* Release: pairs with the acquire in kv_uring_memory_find. */
    atomic_store_explicit(&memory->states[region->first + segment],
                          result == 1 ? SEGMENT_REGISTERED : SEGMENT_REFUSED,
                          memory_order_release);
}

static bool segment_is_untried(kv_uring_memory *memory, const kv_uring_region *region,
                               size_t segment)
{
    /* Relaxed: only a hint outside the lock, and guarded by it inside. */
    return segment < region->count &&
           atomic_load_explicit(&memory->states[region->first + segment],
                                memory_order_relaxed) == SEGMENT_UNTRIED;
}

void kv_uring_memory_prepare(kv_uring_memory *memory, kv_uring *ring, const void *base,
                             size_t size)
{
    const kv_uring_region *region = region_find(memory, (uintptr_t)base);
    size_t first;
    size_t last;

    if (region == NULL || atomic_load_explicit(&memory->exhausted, memory_order_relaxed))
        return;
    assert(size > 0);
    first = ((uintptr_t)base - (uintptr_t)region->memory) / region->segment_size;
    last = ((uintptr_t)base - (uintptr_t)region->memory + size - 1) / region->segment_size;
    for (size_t i = first; i <= last; i++) {
        if (!segment_is_untried(memory, region, i))
            continue;
        pthread_mutex_lock(&memory->lock);
        if (segment_is_untried(memory, region, i))
            segment_register(memory, ring, region, (uint32_t)i);
        pthread_mutex_unlock(&memory->lock);
    }
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
    if (atomic_load_explicit(&memory->states[region->first + segment], memory_order_acquire) !=
        SEGMENT_REGISTERED)
        return -1;
    return (int)(region->first + segment);
}

uint32_t kv_uring_memory_registered(kv_uring_memory *memory)
{
    uint32_t registered = 0;

    pthread_mutex_lock(&memory->lock);
    for (uint32_t i = 0; i < memory->segment_count; i++)
        registered += atomic_load_explicit(&memory->states[i], memory_order_relaxed) ==
                      SEGMENT_REGISTERED;
    pthread_mutex_unlock(&memory->lock);
    return registered;
}

void kv_uring_memory_release(kv_uring_memory *memory, kv_uring *ring)
{
    if (memory->states != NULL)
        (void)kv_uring_register(ring, IORING_UNREGISTER_BUFFERS, NULL, 0);
}
