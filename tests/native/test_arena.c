/* The arena against a naive model, at its limits, and where the system refuses memory. */
#include "bytes/arena.h"
#include "bytes/random.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* Sanitizers need address space of their own, so it cannot be limited under them. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LIMITS_WORK false
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define LIMITS_WORK false
#endif
#endif
#ifndef LIMITS_WORK
#define LIMITS_WORK true
#endif

#define MIB ((uint64_t)1 << 20)

static kv_arena *open_arena(uint64_t size_max)
{
    kv_arena *arena = NULL;

    assert(kv_arena_open(size_max, &arena) == 0);
    return arena;
}

/* How many records of that size it gives before it is full. */
static uint64_t fill(kv_arena *arena, size_t size)
{
    uint64_t count = 0;

    while (kv_arena_allocate(arena, size))
        count++;
    return count;
}

static void a_handle_and_its_record_name_each_other(void)
{
    kv_arena *arena = open_arena(MIB);

    for (size_t size = 1; size <= KV_ARENA_RECORD_SIZE_MAX; size *= 2) {
        uint32_t handle = kv_arena_allocate(arena, size);
        char *record = kv_arena_at(arena, handle);

        assert(handle != 0);
        assert((uintptr_t)record % KV_ARENA_GRANULE == 0);
        memset(record, 0xa5, size);
        assert(kv_arena_handle(arena, record) == handle);
    }
    kv_arena_close(arena);
}

static void a_freed_record_serves_the_next_of_its_size(void)
{
    kv_arena *arena = open_arena(MIB);
    uint32_t first = kv_arena_allocate(arena, 41);
    uint32_t second = kv_arena_allocate(arena, 100);

    kv_arena_free(arena, first, 41);
    kv_arena_free(arena, second, 100);
    assert(kv_arena_allocate(arena, 49) != first);
    assert(kv_arena_allocate(arena, 48) == first);
    assert(kv_arena_allocate(arena, 104) == second);
    kv_arena_close(arena);
}

static void a_full_arena_refuses_until_a_record_is_freed(void)
{
    kv_arena *arena = open_arena(3 * MIB);
    uint32_t first = kv_arena_allocate(arena, 64);

    /* The first granule is nobody's, so the last record of 64 bytes does not fit. */
    assert(fill(arena, 64) == 3 * MIB / 64 - 2);
    assert(kv_arena_allocate(arena, 64) == 0);
    kv_arena_free(arena, first, 64);
    assert(kv_arena_allocate(arena, 64) == first);
    assert(kv_arena_allocate(arena, 64) == 0);
    assert(kv_arena_size(arena) == 3 * MIB);
    kv_arena_close(arena);
}

static void a_larger_free_record_is_cut_when_nothing_else_is_left(void)
{
    kv_arena *arena = open_arena(MIB);
    uint32_t large = kv_arena_allocate(arena, 4096);

    fill(arena, 8);
    kv_arena_free(arena, large, 4096);
    assert(kv_arena_allocate(arena, 1024) == large);
    assert(fill(arena, 1024) == 3);
    assert(kv_arena_allocate(arena, 8) == 0);
    kv_arena_close(arena);
}

static void a_tiny_arena_is_one_page(void)
{
    kv_arena *arena = open_arena(1);

    assert(kv_arena_allocate(arena, 2000) != 0);
    assert(kv_arena_allocate(arena, 2000) != 0);
    assert(kv_arena_size(arena) > 0);
    kv_arena_close(arena);
    kv_arena_close(NULL);
}

static void size_follows_what_is_used(void)
{
    kv_arena *arena = open_arena(64 * MIB);

    for (uint64_t used = KV_ARENA_GRANULE + 80; used < 2 * MIB; used += 80) {
        assert(kv_arena_allocate(arena, 77) != 0);
        assert(kv_arena_size(arena) >= used);
        assert(kv_arena_size(arena) < used + 65536);
    }
    kv_arena_close(arena);
}

/* The model: each record is filled with a byte of its own, intact until the record is freed. */
static void records_never_overlap(void)
{
    enum { RECORD_COUNT = 3000, STEP_COUNT = 60000 };
    static struct {
        uint32_t handle;
        uint32_t size;
        uint8_t fill;
    } records[RECORD_COUNT];
    kv_arena *arena = open_arena(4 * MIB);
    kv_random random;
    uint32_t refused = 0;

    kv_random_init(&random, 20240607);
    for (int step = 0; step < STEP_COUNT; step++) {
        uint64_t choice = kv_random_next(&random);
        size_t i = (size_t)(choice % RECORD_COUNT);
        uint8_t *record;

        if (records[i].handle) {
            record = kv_arena_at(arena, records[i].handle);
            for (uint32_t k = 0; k < records[i].size; k++)
                assert(record[k] == records[i].fill);
            kv_arena_free(arena, records[i].handle, records[i].size);
            records[i].handle = 0;
            continue;
        }
        records[i].size = 1 + (uint32_t)kv_random_below(&random, choice & 1024 ? 96 : 4096);
        records[i].fill = (uint8_t)(choice >> 24);
        records[i].handle = kv_arena_allocate(arena, records[i].size);
        if (records[i].handle)
            memset(kv_arena_at(arena, records[i].handle), records[i].fill, records[i].size);
        else
            refused++;
    }
    assert(kv_arena_size(arena) <= 4 * MIB);
    assert(refused < STEP_COUNT / 10);
    kv_arena_close(arena);
}

static void a_refused_reservation_is_halved_and_then_fails(void)
{
    struct rlimit old, limit;
    kv_arena *arena = NULL;

    if (!LIMITS_WORK)
        return;
    assert(getrlimit(RLIMIT_AS, &old) == 0);
    limit = old;
    limit.rlim_cur = 200 * MIB;
    assert(setrlimit(RLIMIT_AS, &limit) == 0);
    assert(kv_arena_open((uint64_t)32 << 30, &arena) == 0);
    assert(fill(arena, KV_ARENA_RECORD_SIZE_MAX) >= 64 * MIB / KV_ARENA_RECORD_SIZE_MAX - 1);
    assert(kv_arena_size(arena) <= 200 * MIB);
    kv_arena_close(arena);

    limit.rlim_cur = 60 * MIB;
    assert(setrlimit(RLIMIT_AS, &limit) == 0);
    assert(kv_arena_open((uint64_t)32 << 30, &arena) == -ENOMEM);
    assert(setrlimit(RLIMIT_AS, &old) == 0);
}

int main(void)
{
    a_handle_and_its_record_name_each_other();
    a_freed_record_serves_the_next_of_its_size();
    a_full_arena_refuses_until_a_record_is_freed();
    a_larger_free_record_is_cut_when_nothing_else_is_left();
    a_tiny_arena_is_one_page();
    size_follows_what_is_used();
    records_never_overlap();
    a_refused_reservation_is_halved_and_then_fails();
    return 0;
}
