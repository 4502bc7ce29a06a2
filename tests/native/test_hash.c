/* The keyed hash: it depends on every bit of key, size and seed, evenly over its 64 bits. */

#include "bytes/hash.h"
#include "bytes/random.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define KEY_SIZE_MAX 1024
#define SEQUENCE_COUNT (1024 * 1024)
#define SAMPLES 2000
#define SEED 0x5eed5eed5eed5eedu

static kv_random draws = {{0x68, 0x61, 0x73, 0x68}};

static void fill(uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)kv_random_next(&draws);
}

static int compare_u64(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left;
    uint64_t b = *(const uint64_t *)right;

    return (a > b) - (a < b);
}

static size_t count_equal_neighbours(uint64_t *values, size_t count)
{
    size_t equal_count = 0;

    qsort(values, count, sizeof(values[0]), compare_u64);
    for (size_t i = 1; i < count; i++)
        equal_count += values[i] == values[i - 1];
    return equal_count;
}

static void equal_keys_hash_alike_wherever_they_lie(void)
{
    uint8_t key[KEY_SIZE_MAX], copy[KEY_SIZE_MAX + 8];

    fill(key, sizeof(key));
    for (size_t size = 0; size <= KEY_SIZE_MAX; size++) {
        uint8_t *place = copy + size % 8;

        fill(copy, sizeof(copy));
        memcpy(place, key, size);
        assert(kv_hash(SEED, key, size) == kv_hash(SEED, place, size));
    }
    assert(kv_hash(SEED, NULL, 0) == kv_hash(SEED, key, 0));
}

static void no_byte_beyond_the_key_is_read(void)
{
    for (size_t size = 1; size <= 200; size++) {
        uint8_t *exact = malloc(size);

        assert(exact != NULL);
        memset(exact, 1, size);
        kv_hash(SEED, exact, size);
        free(exact);
    }
}

static void every_byte_counts(void)
{
    uint8_t key[KEY_SIZE_MAX];

    fill(key, sizeof(key));
    for (size_t size = 1; size <= KEY_SIZE_MAX; size += size < 200 ? 1 : 61) {
        uint64_t before = kv_hash(SEED, key, size);

        for (size_t i = 0; i < size; i++) {
            key[i] ^= 0x10;
            assert(kv_hash(SEED, key, size) != before);
            key[i] ^= 0x10;
        }
    }
}

/* Each run of zeros, and each prefix of a key, is another key. */
static void sizes_are_told_apart(void)
{
    uint8_t zeros[KEY_SIZE_MAX] = {0}, key[KEY_SIZE_MAX];
    uint64_t hashes[2 * (KEY_SIZE_MAX + 1)];

    fill(key, sizeof(key));
    for (size_t size = 0; size <= KEY_SIZE_MAX; size++) {
        hashes[2 * size] = kv_hash(SEED, zeros, size);
        hashes[2 * size + 1] = size > 0 ? kv_hash(SEED, key, size) : 1;
    }
    assert(count_equal_neighbours(hashes, 2 * (KEY_SIZE_MAX + 1)) == 0);
}

static void sequential_keys_do_not_collide(void)
{
    uint64_t *hashes = malloc(SEQUENCE_COUNT * sizeof(hashes[0]));

    assert(hashes != NULL);
    for (uint64_t seed = 0; seed < 2; seed++) {
        for (uint64_t key = 0; key < SEQUENCE_COUNT; key++)
            hashes[key] = kv_hash(seed, &key, sizeof(key));
        assert(count_equal_neighbours(hashes, SEQUENCE_COUNT) == 0);
    }
    free(hashes);
}

/* A table takes its slot from the low or from the high bits: 2^16 slots, 16 keys each on average.
 * The sum over slots of (count - 16)^2 / 16 has mean 2^16 and deviation 362; ten deviations never
 * happen to a fair hash. */
static void expect_even_slots(const uint32_t *counts)
{
    double squares = 0;

    for (size_t slot = 0; slot < 65536; slot++) {
        double difference = (double)counts[slot] - 16;

        squares += difference * difference / 16;
    }
    assert(squares > 65536 - 3620 && squares < 65536 + 3620);
}

static void sequential_keys_fill_high_and_low_slots_evenly(void)
{
    static uint32_t low[65536], high[65536];

    for (size_t size = 8; size <= 40; size += 16) {
        uint8_t key[40] = "tenant/namespace/layer-00/tokens/0000000";

        memset(low, 0, sizeof(low));
        memset(high, 0, sizeof(high));
        for (uint64_t index = 0; index < SEQUENCE_COUNT; index++) {
            memcpy(key + size - sizeof(index), &index, sizeof(index));
            uint64_t hash = kv_hash(SEED, key, size);
            low[hash & 65535]++;
            high[hash >> 48]++;
        }
        expect_even_slots(low);
        expect_even_slots(high);
    }
}

/* How often each of the 64 bits changed in SAMPLES trials; a fair coin strays less than six
 * deviations of sqrt(SAMPLES)/2 from the half. */
static void expect_fair(const uint32_t flips[64])
{
    for (int bit = 0; bit < 64; bit++) {
        assert(flips[bit] > SAMPLES / 2 - 135);
        assert(flips[bit] < SAMPLES / 2 + 135);
    }
}

static void count_flips(uint32_t flips[64], uint64_t difference)
{
    for (int bit = 0; bit < 64; bit++)
        flips[bit] += difference >> bit & 1;
}

static void each_key_bit_flips_each_hash_bit_half_the_time(void)
{
    static const size_t sizes[] = {1, 2, 3, 4, 7, 8, 11, 16, 17, 32, 33, 48, 65, 100};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        /* All bits of short keys, and 16 that lie apart of longer ones. */
        size_t stride = sizes[i] <= 2 ? 1 : sizes[i] / 2 + 3;

        for (size_t bit = 0; bit < 8 * sizes[i]; bit += stride) {
            uint32_t flips[64] = {0};

            for (int sample = 0; sample < SAMPLES; sample++) {
                uint8_t key[100];
                uint64_t seed = kv_random_next(&draws);

                fill(key, sizes[i]);
                uint64_t before = kv_hash(seed, key, sizes[i]);
                key[bit / 8] ^= (uint8_t)(1u << bit % 8);
                count_flips(flips, before ^ kv_hash(seed, key, sizes[i]));
            }
            expect_fair(flips);
        }
    }
}

static void each_seed_bit_flips_each_hash_bit_half_the_time(void)
{
    for (size_t size = 5; size <= 45; size += 20) {
        for (int bit = 0; bit < 64; bit++) {
            uint32_t flips[64] = {0};

            for (int sample = 0; sample < SAMPLES; sample++) {
                uint8_t key[45];
                uint64_t seed = kv_random_next(&draws);

                fill(key, size);
                count_flips(flips, kv_hash(seed, key, size) ^
                                       kv_hash(seed ^ (uint64_t)1 << bit, key, size));
            }
            expect_fair(flips);
        }
    }
}

int main(void)
{
    equal_keys_hash_alike_wherever_they_lie();
    no_byte_beyond_the_key_is_read();
    every_byte_counts();
    sizes_are_told_apart();
    sequential_keys_do_not_collide();
    sequential_keys_fill_high_and_low_slots_evenly();
    each_key_bit_flips_each_hash_bit_half_the_time();
    each_seed_bit_flips_each_hash_bit_half_the_time();
}
