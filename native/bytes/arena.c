/* Many small records in one reserved range of addresses.
 *
 *   base        filled          usable                     reserved
 *    |  records   |  not yet used  |  no access               |
 *    +---+--+---+-+----------------+--------------------------+
 *     ^ first granule unused: handle 0 is "none"
 *
 * Invariants:
 *   1. filled <= usable <= reserved.
 *   2. Every granule below `filled`, but the first, belongs to exactly one record, in use or free.
 *   3. A free record holds the handle of the next free record of its size in its first bytes.
 *
 * Guarantees that records never move. Leaves to others what is in them, and all locking. */
#include "bytes/arena.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Both compilers name this sanitizer differently. */
#if defined(__SANITIZE_ADDRESS__)
#define KV_ARENA_POISONS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KV_ARENA_POISONS 1
#endif
#endif

#ifdef KV_ARENA_POISONS
#include <sanitizer/asan_interface.h>
#endif

#define KV_ARENA_SIZE_MAX ((uint64_t)KV_ARENA_GRANULE << 32)
/* A system that refuses even this much address space has no room for a store. */
#define KV_ARENA_SIZE_MIN ((uint64_t)64 << 20)
/* One system call makes this much usable: rare enough to cost nothing for each record. */
#define KV_ARENA_STEP ((uint64_t)1 << 20)
#define KV_ARENA_GRANULES_MAX (KV_ARENA_RECORD_SIZE_MAX / KV_ARENA_GRANULE)

_Static_assert(KV_ARENA_RECORD_SIZE_MAX % KV_ARENA_GRANULE == 0, "records are whole granules");
_Static_assert(KV_ARENA_GRANULE >= sizeof(uint32_t), "a free record holds the handle of the next");
_Static_assert(KV_ARENA_STEP > KV_ARENA_RECORD_SIZE_MAX, "one step is enough for any record");

struct kv_arena {
    char *base;
    uint64_t reserved;
    uint64_t usable;
    uint64_t filled;
    uint64_t page_size;
    uint32_t free[KV_ARENA_GRANULES_MAX + 1]; /* first free record, by its count of granules */
};

/* Under the address sanitizer a touch of memory that belongs to no record is reported. */
static void poison(void *start, size_t size)
{
#ifdef KV_ARENA_POISONS
    ASAN_POISON_MEMORY_REGION(start, size);
#else
    (void)start;
    (void)size;
#endif
}

static void unpoison(void *start, size_t size)
{
#ifdef KV_ARENA_POISONS
    ASAN_UNPOISON_MEMORY_REGION(start, size);
#else
    (void)start;
    (void)size;
#endif
}

static uint64_t whole_pages(const kv_arena *arena, uint64_t size)
{
    return (size + arena->page_size - 1) / arena->page_size * arena->page_size;
}

/* A limit on address space may leave no room for all of it: then a smaller arena still serves. */
static int reserve(kv_arena *arena, uint64_t size)
{
    while (true) {
        int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        void *base = mmap(NULL, size, PROT_NONE, flags, -1, 0);

        if (base != MAP_FAILED) {
            arena->base = base;
            arena->reserved = size;
            return 0;
        }
        if (size <= KV_ARENA_SIZE_MIN)
            return -ENOMEM;
        size = size / 2 / KV_ARENA_STEP * KV_ARENA_STEP;
        if (size < KV_ARENA_SIZE_MIN)
            size = KV_ARENA_SIZE_MIN;
    }
}

int kv_arena_open(uint64_t size_max, kv_arena **arena)
{
    kv_arena *opened = calloc(1, sizeof(*opened));
    int result;

    if (!opened)
        return -ENOMEM;
    if (size_max > KV_ARENA_SIZE_MAX)
        size_max = KV_ARENA_SIZE_MAX;
    opened->page_size = (uint64_t)sysconf(_SC_PAGESIZE);
    assert(KV_ARENA_STEP % opened->page_size == 0);
    result = reserve(opened, whole_pages(opened, size_max ? size_max : 1));
    if (result < 0) {
        free(opened);
        return result;
    }
    opened->filled = KV_ARENA_GRANULE;
    *arena = opened;
    return 0;
}

void kv_arena_close(kv_arena *arena)
{
    if (!arena)
        return;
    unpoison(arena->base, arena->usable);
    munmap(arena->base, arena->reserved);
    free(arena);
}

static int grow(kv_arena *arena)
{
    uint64_t step = arena->reserved - arena->usable;

    if (step > KV_ARENA_STEP)
        step = KV_ARENA_STEP;
    if (step == 0 || mprotect(arena->base + arena->usable, step, PROT_READ | PROT_WRITE) < 0)
        return -ENOMEM;
    poison(arena->base + arena->usable, step);
    arena->usable += step;
    return 0;
}

static void push(kv_arena *arena, uint32_t handle, size_t granules)
{
    char *record = kv_arena_at(arena, handle);

    unpoison(record, sizeof(uint32_t));
    memcpy(record, &arena->free[granules], sizeof(uint32_t));
    poison(record, granules * KV_ARENA_GRANULE);
    arena->free[granules] = handle;
}

/* 0 when no free record has that size. */
static uint32_t pop(kv_arena *arena, size_t granules)
{
    uint32_t handle = arena->free[granules];

    if (handle) {
        char *record = kv_arena_at(arena, handle);

        unpoison(record, sizeof(uint32_t));
        memcpy(&arena->free[granules], record, sizeof(uint32_t));
        poison(record, sizeof(uint32_t));
    }
    return handle;
}

/* 0 when nothing is left behind the last record. */
static uint32_t append(kv_arena *arena, size_t granules)
{
    uint64_t start = arena->filled;

    if (start + granules * KV_ARENA_GRANULE > arena->usable && grow(arena) < 0)
        return 0;
    if (start + granules * KV_ARENA_GRANULE > arena->usable)
        return 0;
    arena->filled += granules * KV_ARENA_GRANULE;
    return (uint32_t)(start / KV_ARENA_GRANULE);
}

/* Cut a larger free record: only when nothing else is left, for the rest may fit nobody. */
static uint32_t cut(kv_arena *arena, size_t granules)
{
    for (size_t larger = granules + 1; larger <= KV_ARENA_GRANULES_MAX; larger++) {
        uint32_t handle = pop(arena, larger);

        if (handle) {
            push(arena, handle + (uint32_t)granules, larger - granules);
            return handle;
        }
    }
    return 0;
}

uint32_t kv_arena_allocate(kv_arena *arena, size_t size)
{
    size_t granules = (size + KV_ARENA_GRANULE - 1) / KV_ARENA_GRANULE;
    uint32_t handle;

    assert(size > 0);
    assert(size <= KV_ARENA_RECORD_SIZE_MAX);
    handle = pop(arena, granules);
    if (!handle)
        handle = append(arena, granules);
    if (!handle)
        handle = cut(arena, granules);
    if (handle)
        unpoison(kv_arena_at(arena, handle), size);
    return handle;
}

void kv_arena_free(kv_arena *arena, uint32_t handle, size_t size)
{
    size_t granules = (size + KV_ARENA_GRANULE - 1) / KV_ARENA_GRANULE;

    assert(handle != 0);
    assert(size > 0 && size <= KV_ARENA_RECORD_SIZE_MAX);
    assert((handle + granules) * KV_ARENA_GRANULE <= arena->filled);
    push(arena, handle, granules);
}

void *kv_arena_at(const kv_arena *arena, uint32_t handle)
{
    return arena->base + (uint64_t)handle * KV_ARENA_GRANULE;
}

uint32_t kv_arena_handle(const kv_arena *arena, const void *record)
{
    uint64_t offset = (uint64_t)((const char *)record - arena->base);

    assert(offset < arena->filled);
    assert(offset % KV_ARENA_GRANULE == 0);
    return (uint32_t)(offset / KV_ARENA_GRANULE);
}

/* Pages behind `filled` were never touched, so the system has not given them yet. */
uint64_t kv_arena_size(const kv_arena *arena)
{
    return whole_pages(arena, arena->filled);
}
