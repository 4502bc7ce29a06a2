/* Placement: the hash is the published one, names and key cannot be confused, slots are leading bits
 * that keys spread over evenly, and the slots of some keys are those they always had. */

#include "protocol/placement.h"

#include "bytes/endian.h"
#include "bytes/random.h"

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define ROUNDS 20000
#define SPREAD_KEYS 65536
#define SPREAD_SLOTS 64

static void hash_store(uint8_t *at, kv_placement_hash hash)
{
    kv_endian_store_u64(at, hash.high);
    kv_endian_store_u64(at + 8, hash.low);
}

/* SMHasher's VerificationTest: hashes of 0 ... n-1 with seed 256 - n, hashed together. */
static void the_hash_has_the_published_verification_value(void)
{
    uint8_t key[256], hashes[256 * 16], final[16];

    for (unsigned n = 0; n < 256; n++) {
        key[n] = (uint8_t)n;
        hash_store(hashes + (size_t)n * 16, kv_placement_murmur(256 - n, key, n));
    }
    hash_store(final, kv_placement_murmur(0, hashes, sizeof(hashes)));
    assert(kv_endian_load_u32(final) == 0x6384BA69u);
}

static void known_texts_have_their_known_hashes(void)
{
    const char *text = "The quick brown fox jumps over the lazy dog";
    kv_placement_hash hash = kv_placement_murmur(0, text, strlen(text));

    assert(hash.high == 0xe34bbc7bbc071b6cu && hash.low == 0x7a433ca9c49a9347u);
    hash = kv_placement_murmur(0, "", 0);
    assert(hash.high == 0 && hash.low == 0);
    hash = kv_placement_murmur(0, "hello", 5);
    assert(hash.high == 0xcbd8a7b341bd9b02u && hash.low == 0x5b1e906a48ae1d19u);
}

static void name_draw(char *name, kv_random *random)
{
    size_t size = kv_random_below(random, 64);

    for (size_t i = 0; i < size; i++)
        name[i] = (char)('a' + kv_random_below(random, 26));
    name[size] = '\0';
}

static void a_placement_is_the_hash_of_sizes_names_and_key(void)
{
    kv_random random;
    uint8_t key[1200], joined[1400];

    kv_random_init(&random, 1);
    kv_random_fill(&random, key, sizeof(key));
    for (int round = 0; round < ROUNDS; round++) {
        char tenant[64], name_space[64];
        size_t key_size = kv_random_below(&random, kv_random_one_in(&random, 4) ? 1200 : 60);
        size_t size;
        kv_placement_hash got, expected;

        name_draw(tenant, &random);
        name_draw(name_space, &random);
        size = (size_t)sprintf((char *)joined, "%c%s%c%s", (int)strlen(tenant), tenant,
                               (int)strlen(name_space), name_space);
        memcpy(joined + size, key, key_size);
        got = kv_placement_of(tenant, name_space, key, key_size);
        expected = kv_placement_murmur(0, joined, size + key_size);
        assert(got.high == expected.high && got.low == expected.low);
    }
}

static bool differ(kv_placement_hash a, kv_placement_hash b)
{
    return a.high != b.high && a.low != b.low;
}

static void names_and_key_cannot_be_confused(void)
{
    assert(differ(kv_placement_of("ab", "c", "d", 1), kv_placement_of("a", "bc", "d", 1)));
    assert(differ(kv_placement_of("a", "bc", "d", 1), kv_placement_of("a", "b", "cd", 2)));
    assert(differ(kv_placement_of("a", "b", "x", 1), kv_placement_of("b", "a", "x", 1)));
    assert(differ(kv_placement_of("a", "b", "x\0", 2), kv_placement_of("a", "b", "x", 1)));
}

static void slots_are_leading_bits(void)
{
    kv_placement_hash hash = {0xabcd000000000000u, 0};

    assert(kv_placement_slot(hash, 1) == 0);
    assert(kv_placement_slot(hash, 2) == 1);
    assert(kv_placement_slot(hash, 16) == 0xa);
    assert(kv_placement_slot(hash, 65536) == 0xabcd);
}

static void keys_that_count_up_spread_evenly(void)
{
    uint32_t counts[SPREAD_SLOTS] = {0};
    uint32_t mean = SPREAD_KEYS / SPREAD_SLOTS;

    for (uint32_t i = 0; i < SPREAD_KEYS; i++) {
        char key[32];
        int size = snprintf(key, sizeof(key), "layer-0/page-%u", i);

        counts[kv_placement_slot(kv_placement_of("default", "default", key, (size_t)size),
                                 SPREAD_SLOTS)]++;
    }
    /* Six standard deviations of the mean are 6 * sqrt(1024). */
    for (uint32_t i = 0; i < SPREAD_SLOTS; i++)
        assert(counts[i] > mean - 192 && counts[i] < mean + 192);
}

static void keys_are_where_they_always_were(void)
{
    static const struct {
        const char *tenant, *name_space, *key;
        uint32_t slot;
    } rows[] = {
        {"default", "default", "a", 10342},
        {"default", "default", "0123456789abcdef0123456789abcdef", 15253},
        {"acme", "kv-cache", "llama/0/17", 7487},
        {"acme", "kv-cache", "", 23572},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert(kv_placement_slot(kv_placement_of(rows[i].tenant, rows[i].name_space, rows[i].key,
                                                 strlen(rows[i].key)),
                                 KV_SLOT_COUNT_MAX) == rows[i].slot);
}

int main(void)
{
    the_hash_has_the_published_verification_value();
    known_texts_have_their_known_hashes();
    a_placement_is_the_hash_of_sizes_names_and_key();
    names_and_key_cannot_be_confused();
    slots_are_leading_bits();
    keys_that_count_up_spread_evenly();
    keys_are_where_they_always_were();
    return 0;
}
