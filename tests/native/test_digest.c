/* Digests: equal for equal objects, however they were met, and different just where they are
 * not. */

#include "node/digest.h"

#include "bytes/endian.h"
#include "bytes/random.h"
#include "engine/engine.h"

#include <assert.h>
#include <string.h>

#define COUNT 2000u
#define ENTRY_ROOM 64u

static const kv_digest cut = {.seed = 77, .bits = 8};

typedef struct object {
    uint32_t key;
    uint64_t version;
    bool pinned;
} object;

static uint32_t entry_put(uint8_t *entry, const object *from)
{
    memset(entry, 0, ENTRY_ROOM);
    kv_endian_store_u16(entry, sizeof(from->key));
    kv_endian_store_u16(entry + 2, from->pinned ? KV_ITEM_PINNED : 0);
    kv_endian_store_u64(entry + 12, from->version);
    kv_endian_store_u32(entry + KV_STORED_ENTRY_SIZE, from->key);
    return KV_STORED_ENTRY_SIZE + (uint32_t)sizeof(from->key);
}

static uint32_t part_of(uint32_t key)
{
    uint8_t bytes[4];

    kv_endian_store_u32(bytes, key);
    return kv_digest_part(&cut, bytes, sizeof(bytes));
}

/* So many of them in one page. */
static void sums_of(const object *objects, uint32_t in_page, uint64_t *sums)
{
    static uint8_t page[COUNT * ENTRY_ROOM];
    uint32_t size = 0;

    memset(sums, 0, sizeof(*sums) << cut.bits);
    for (uint32_t i = 0; i < COUNT; i++) {
        size += entry_put(page + size, &objects[i]);
        if ((i + 1) % in_page == 0 || i + 1 == COUNT) {
            kv_digest_add(&cut, page, size, sums);
            size = 0;
        }
    }
}

static void objects_draw(object *objects, kv_random *random)
{
    for (uint32_t i = 0; i < COUNT; i++)
        objects[i] = (object){.key = i, .version = 1 + kv_random_below(random, 3)};
}

static void shuffle(object *objects, kv_random *random)
{
    for (uint32_t i = COUNT; i > 1; i--) {
        uint32_t k = (uint32_t)kv_random_below(random, i);
        object kept = objects[k];

        objects[k] = objects[i - 1];
        objects[i - 1] = kept;
    }
}

static void neither_order_nor_pages_matter(void)
{
    static object objects[COUNT];
    static uint64_t one[256], other[256];
    kv_random random;

    kv_random_init(&random, 1);
    objects_draw(objects, &random);
    sums_of(objects, COUNT, one);
    for (uint32_t in_page = 1; in_page < 100; in_page += 7) {
        shuffle(objects, &random);
        sums_of(objects, in_page, other);
        assert(memcmp(one, other, sizeof(one)) == 0);
    }
}

/* Only the part of what was changed differs. */
static void expect_part(const uint64_t *before, const object *objects, uint32_t part)
{
    static uint64_t after[256];

    sums_of(objects, COUNT, after);
    for (uint32_t i = 0; i < kv_digest_parts(&cut); i++)
        assert((before[i] != after[i]) == (i == part));
}

static void each_difference_shows_in_its_part(void)
{
    static object objects[COUNT];
    static uint64_t before[256];
    kv_random random;

    kv_random_init(&random, 2);
    objects_draw(objects, &random);
    sums_of(objects, COUNT, before);
    for (uint32_t round = 0; round < 50; round++) {
        object *changed = &objects[kv_random_below(&random, COUNT)];
        object kept = *changed;

        changed->version += 1;
        expect_part(before, objects, part_of(kept.key));
        *changed = kept;
        changed->pinned = true;
        expect_part(before, objects, part_of(kept.key));
        *changed = kept;
    }
    expect_part(before, objects, UINT32_MAX);
}

/* Versions that two keys of a part exchange do not make up for each other. */
static void exchanged_versions_differ(void)
{
    static object objects[COUNT];
    static uint64_t before[256];
    kv_random random;
    uint32_t other = 1;

    kv_random_init(&random, 3);
    objects_draw(objects, &random);
    while (part_of(other) != part_of(0))
        other++;
    assert(other < COUNT);
    objects[0].version = 5;
    objects[other].version = 6;
    sums_of(objects, COUNT, before);
    objects[0].version = 6;
    objects[other].version = 5;
    expect_part(before, objects, part_of(0));
}

static void more_objects_have_more_parts_within_limits(void)
{
    assert(kv_digest_bits(0) == KV_DIGEST_BITS_MIN);
    assert(kv_digest_bits(KV_DIGEST_PART_COUNT << 10) == 11);
    assert(kv_digest_bits((KV_DIGEST_PART_COUNT << 10) - 1) == 10);
    assert(kv_digest_bits(UINT64_MAX) == KV_DIGEST_BITS_MAX);
}

static void a_set_has_what_was_put_there(void)
{
    uint8_t set[32] = {0};

    kv_digest_put(set, 0);
    kv_digest_put(set, 255);
    kv_digest_put(set, 9);
    for (uint32_t part = 0; part < 256; part++)
        assert(kv_digest_has(set, part) == (part == 0 || part == 9 || part == 255));
}

int main(void)
{
    neither_order_nor_pages_matter();
    each_difference_shows_in_its_part();
    exchanged_versions_differ();
    more_objects_have_more_parts_within_limits();
    a_set_has_what_was_put_there();
    return 0;
}
