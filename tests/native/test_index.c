/* The index against a naive table, its scan while it changes, its memory budget, its refusals. */
#include "engine/index.h"

#include "bytes/random.h"

#include <assert.h>
#include <errno.h>
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

#define KEY_SIZE_MAX 1024u

static kv_index *open_index(void)
{
    kv_index *index = NULL;

    assert(kv_index_open(42, &index) == 0);
    return index;
}

/* Equal numbers make equal keys, others do not. Every size from 4 to the largest occurs. */
static size_t make_key(uint32_t number, char *key)
{
    size_t size = number % 7 == 0 ? 4 + number % (KEY_SIZE_MAX - 3) : 4 + number % 40;

    memset(key, 'k', size);
    memcpy(key, &number, sizeof(number));
    return size;
}

static kv_object *link_number(kv_index *index, uint64_t hash, uint32_t number)
{
    char key[KEY_SIZE_MAX];
    size_t key_size = make_key(number, key);
    kv_object *object = kv_index_create(index, key, key_size);

    assert(object);
    assert(kv_index_link(index, hash, object) == 0);
    return object;
}

static kv_object *find_number(const kv_index *index, uint64_t hash, uint32_t number)
{
    char key[KEY_SIZE_MAX];
    size_t key_size = make_key(number, key);

    kv_index_prefetch(index, hash);
    kv_index_prefetch_object(index, hash);
    return kv_index_find(index, hash, key, key_size);
}

static uint64_t hash_number(const kv_index *index, uint32_t number)
{
    char key[KEY_SIZE_MAX];
    size_t key_size = make_key(number, key);

    return kv_index_hash(index, key, key_size);
}

static void a_created_object_is_zeroed_and_found_only_once_linked(void)
{
    kv_index *index = open_index();
    uint64_t hash = kv_index_hash(index, "key", 3);
    kv_object *object = kv_index_create(index, "key", 3);
    kv_object zero = {.key_size = 3};

    assert(memcmp(object, &zero, sizeof(zero)) == 0);
    assert(memcmp(object->key, "key", 3) == 0);
    assert(!kv_index_find(index, hash, "key", 3));
    assert(kv_index_link(index, hash, object) == 0);
    assert(kv_index_find(index, hash, "key", 3) == object);
    assert(!kv_index_find(index, hash, "kez", 3));
    assert(!kv_index_find(index, hash, "ke", 2));
    assert(kv_index_at(index, kv_index_handle(index, object)) == object);

    kv_index_unlink(index, hash, object);
    assert(!kv_index_find(index, hash, "key", 3));
    assert(object->key[0] == 'k');
    kv_index_destroy(index, object);
    kv_index_close(index);
    kv_index_close(NULL);
}

static void a_freshly_created_object_is_zeroed_where_another_was_destroyed(void)
{
    kv_index *index = open_index();
    kv_object *first = kv_index_create(index, "one", 3);
    kv_object zero = {.key_size = 3};

    memset(first, 0xff, sizeof(*first));
    first->key_size = 3;
    kv_index_destroy(index, first);
    assert(kv_index_create(index, "two", 3) == first);
    assert(memcmp(first, &zero, sizeof(zero)) == 0);
    kv_index_close(index);
}

static void side_records_come_from_the_same_memory(void)
{
    kv_index *index = open_index();
    uint64_t size = kv_index_size(index);
    uint32_t first = 0;

    for (int i = 0; i < 100; i++) {
        first = kv_index_side_allocate(index, 4096);
        assert(first != 0);
        memset(kv_index_side_at(index, first), i, 4096);
    }
    assert(kv_index_size(index) >= size + 99 * 4096);
    kv_index_side_free(index, first, 4096);
    assert(kv_index_side_allocate(index, 4096) == first);
    kv_index_close(index);
}

/* How the model test makes hashes: even ones, and such that collide in all or most bits. */
typedef uint64_t make_hash(const kv_index *index, uint32_t number);

static uint64_t few_hashes(const kv_index *index, uint32_t number)
{
    return hash_number(index, number) & 0xff00000000000000;
}

static uint64_t hashes_alike_in_front(const kv_index *index, uint32_t number)
{
    return hash_number(index, number) >> 14;
}

static uint64_t hashes_alike_at_the_end(const kv_index *index, uint32_t number)
{
    return hash_number(index, number) | 0xfffff00000000000;
}

static void agrees_with_a_naive_table(make_hash *hash_of, uint32_t number_count,
                                      uint32_t step_count)
{
    kv_object **table = calloc(number_count, sizeof(table[0]));
    kv_index *index = open_index();
    uint64_t count = 0;
    kv_random random;

    kv_random_init(&random, 1000003);
    for (uint32_t step = 0; step < step_count; step++) {
        uint64_t choice = kv_random_next(&random);
        uint32_t number = (uint32_t)(choice % number_count);
        uint64_t hash = hash_of(index, number);

        assert(find_number(index, hash, number) == table[number]);
        if (!table[number]) {
            table[number] = link_number(index, hash, number);
            count++;
        } else if (choice >> 40 & 1) {
            kv_object *old = table[number];

            table[number] = kv_index_create(index, old->key, old->key_size);
            kv_index_replace(index, hash, old, table[number]);
            kv_index_destroy(index, old);
        } else if (choice >> 41 & 1) {
            kv_index_unlink(index, hash, table[number]);
            kv_index_destroy(index, table[number]);
            table[number] = NULL;
            count--;
        }
        assert(kv_index_count(index) == count);
    }
    for (uint32_t number = 0; number < number_count; number++)
        assert(find_number(index, hash_of(index, number), number) == table[number]);
    kv_index_close(index);
    free(table);
}

static void every_kind_of_hash_agrees_with_a_naive_table(void)
{
    agrees_with_a_naive_table(hash_number, 20000, 60000);
    agrees_with_a_naive_table(few_hashes, 2000, 10000);
    agrees_with_a_naive_table(hashes_alike_in_front, 10000, 20000);
    agrees_with_a_naive_table(hashes_alike_at_the_end, 10000, 20000);
}

static void equal_hashes_beyond_one_segment_are_all_found(void)
{
    enum { OBJECT_COUNT = 4500 };
    kv_index *index = open_index();

    for (uint32_t number = 0; number < OBJECT_COUNT; number++)
        link_number(index, 0x123456789abcdef0, number);
    assert(kv_index_count(index) == OBJECT_COUNT);
    for (uint32_t number = 0; number < OBJECT_COUNT; number += 50)
        assert(find_number(index, 0x123456789abcdef0, number));
    assert(!find_number(index, 0x123456789abcdef0, OBJECT_COUNT));
    /* The directory deepened in vain, but only to its limit. */
    assert(kv_index_size(index) < (uint64_t)32 << 20);
    kv_index_close(index);
}

static void count_visit(void *context, kv_object *object)
{
    uint32_t *visits = context;
    uint32_t number;

    memcpy(&number, object->key, sizeof(number));
    visits[number]++;
}

static void an_empty_index_is_scanned_in_one_step(void)
{
    kv_index *index = open_index();
    uint64_t cursor = 0;

    assert(!kv_index_scan(index, &cursor, count_visit, NULL));
    assert(cursor == UINT64_MAX);
    assert(!kv_index_scan(index, &cursor, count_visit, NULL));
    kv_index_close(index);
}

/* Numbers below STAY_COUNT stay linked; of those behind, some come, some go between the steps. */
static void a_scan_visits_exactly_once_what_stays_while_the_index_grows(void)
{
    enum { STAY_COUNT = 30000, COME_COUNT = 60000, GO_COUNT = 10000 };
    uint32_t *visits = calloc(STAY_COUNT + COME_COUNT + GO_COUNT, sizeof(visits[0]));
    kv_object **going = calloc(GO_COUNT, sizeof(going[0]));
    kv_index *index = open_index();
    uint64_t cursor = 0;
    uint32_t come = 0;
    uint32_t gone = 0;
    bool more = true;

    for (uint32_t i = 0; i < STAY_COUNT; i++)
        link_number(index, hash_number(index, i), i);
    for (uint32_t i = 0; i < GO_COUNT; i++) {
        uint32_t number = STAY_COUNT + COME_COUNT + i;

        going[i] = link_number(index, hash_number(index, number), number);
    }
    while (more) {
        uint64_t before = cursor;

        more = kv_index_scan(index, &cursor, count_visit, visits);
        assert(cursor > before);
        for (int i = 0; i < 5000 && come < COME_COUNT; i++, come++)
            link_number(index, hash_number(index, STAY_COUNT + come), STAY_COUNT + come);
        for (int i = 0; i < 700 && gone < GO_COUNT; i++, gone++) {
            uint32_t number = STAY_COUNT + COME_COUNT + gone;

            kv_index_unlink(index, hash_number(index, number), going[gone]);
            kv_index_destroy(index, going[gone]);
        }
    }
    assert(cursor == UINT64_MAX);
    assert(come == COME_COUNT && gone == GO_COUNT);
    for (uint32_t i = 0; i < STAY_COUNT; i++)
        assert(visits[i] == 1);
    for (uint32_t i = STAY_COUNT; i < STAY_COUNT + COME_COUNT + GO_COUNT; i++)
        assert(visits[i] <= 1);
    kv_index_close(index);
    free(going);
    free(visits);
}

/* The most that `count` and more objects take, each beyond its key. All segments are at about
 * the same load, which repeats with every doubling, so two doublings stand for any count. */
static double cost_max(size_t key_size, size_t key_size_last)
{
    kv_index *index = open_index();
    char key[64] = {0};
    uint64_t keys_size = 0;
    double most = 0;

    for (uint64_t count = 1; count <= 410000; count++) {
        size_t size = key_size + count % (key_size_last - key_size + 1);
        kv_object *object;

        memcpy(key, &count, sizeof(count));
        object = kv_index_create(index, key, size);
        assert(kv_index_link(index, kv_index_hash(index, key, size), object) == 0);
        keys_size += size;
        if (count >= 100000 && count % 500 == 0) {
            double cost = (double)(kv_index_size(index) - keys_size) / (double)count;

            most = cost > most ? cost : most;
        }
    }
    kv_index_close(index);
    return most;
}

/* A key of 25 bytes is the worst for rounding: 48 + 25 bytes lose seven. */
static void an_object_costs_at_most_64_bytes_and_its_key_at_any_count(void)
{
    assert(cost_max(32, 32) <= 64);
    assert(cost_max(25, 32) <= 64);
    assert(cost_max(25, 25) <= 67);
}

static int link_object(kv_index *index, kv_object *object)
{
    return kv_index_link(index, kv_index_hash(index, object->key, object->key_size), object);
}

static kv_object *find_key(const kv_index *index, const void *key, size_t key_size)
{
    return kv_index_find(index, kv_index_hash(index, key, key_size), key, key_size);
}

/* Runs first, while there is no freed memory to go on with. */
static void refused_memory_leaves_the_index_as_it_was(void)
{
    enum { OBJECT_COUNT = 100000 };
    struct rlimit old, limit;
    kv_index *index, *refused;
    kv_object **objects;
    uint32_t linked = 0;

    if (!LIMITS_WORK)
        return;
    index = open_index();
    objects = calloc(OBJECT_COUNT, sizeof(objects[0]));
    for (uint32_t i = 0; i < OBJECT_COUNT; i++)
        objects[i] = kv_index_create(index, &i, sizeof(i));
    assert(getrlimit(RLIMIT_AS, &old) == 0);
    limit = old;
    limit.rlim_cur = 1;
    assert(setrlimit(RLIMIT_AS, &limit) == 0);
    assert(kv_index_open(1, &refused) == -ENOMEM);
    while (link_object(index, objects[linked]) == 0) {
        linked++;
        assert(linked < OBJECT_COUNT);
    }
    assert(kv_index_count(index) == linked);
    for (uint32_t i = 0; i < OBJECT_COUNT; i++) {
        kv_object *expected = i < linked ? objects[i] : NULL;

        assert(find_key(index, &i, sizeof(i)) == expected);
    }
    assert(setrlimit(RLIMIT_AS, &old) == 0);
    for (; linked < OBJECT_COUNT; linked++)
        assert(link_object(index, objects[linked]) == 0);
    assert(kv_index_count(index) == OBJECT_COUNT);
    kv_index_close(index);
    free(objects);
}

int main(void)
{
    refused_memory_leaves_the_index_as_it_was();
    a_created_object_is_zeroed_and_found_only_once_linked();
    a_freshly_created_object_is_zeroed_where_another_was_destroyed();
    side_records_come_from_the_same_memory();
    every_kind_of_hash_agrees_with_a_naive_table();
    equal_hashes_beyond_one_segment_are_all_found();
    an_empty_index_is_scanned_in_one_step();
    a_scan_visits_exactly_once_what_stays_while_the_index_grows();
    an_object_costs_at_most_64_bytes_and_its_key_at_any_count();
    return 0;
}
