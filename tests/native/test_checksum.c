/* CRC-32C against known vectors, and every implementation that this processor has against the
 * portable one: sums, continuation, and copies at all alignments between guard bytes. */

#include "bytes/checksum.h"
#include "bytes/checksum_kinds.h"
#include "bytes/random.h"
#include "kvcore.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define BIG_SIZE (1024 * 1024)
#define ALIGNMENT 64
#define GUARD_SIZE 128
#define GUARD_BYTE 0xA5
#define THREADS 4

static kv_random draws = {{0x6368, 0x6563, 0x6b73, 0x756d}};
static uint8_t source[BIG_SIZE + ALIGNMENT];
static _Alignas(ALIGNMENT) uint8_t target[BIG_SIZE + ALIGNMENT + 2 * GUARD_SIZE];

static const kv_checksum_code *portable(void)
{
    return kv_checksum_kinds[kv_checksum_kinds_count - 1];
}

/* Straight from the definition, to judge the portable one by. */
static uint32_t bit_by_bit(uint32_t seed, const uint8_t *data, size_t size)
{
    uint32_t sum = ~seed;

    for (size_t i = 0; i < size; i++) {
        sum ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            sum = (sum >> 1) ^ (0x82F63B78u & (0u - (sum & 1)));
    }
    return ~sum;
}

static uint32_t random_below(uint32_t limit)
{
    return (uint32_t)kv_random_below(&draws, limit);
}

static void expect_vector(uint32_t expected, const uint8_t *data, size_t size)
{
    uint8_t copy[64];

    assert(size <= sizeof(copy));
    assert(kv_checksum(0, data, size) == expected);
    for (size_t kind = 0; kind < kv_checksum_kinds_count; kind++) {
        if (!kv_checksum_kinds[kind]->available())
            continue;
        assert(kv_checksum_with(kv_checksum_kinds[kind], 0, data, size) == expected);
        assert(kv_checksum_copy_with(kv_checksum_kinds[kind], 0, copy, data, size, NULL) == expected);
        assert(memcmp(copy, data, size) == 0);
    }
}

/* The check value of the CRC catalogue, and RFC 3720, appendix B.4. */
static void known_vectors_hold(void)
{
    static const uint8_t scsi_read[48] = {
        [0] = 0x01,  [1] = 0xc0,  [16] = 0x14, [22] = 0x04,
        [27] = 0x14, [31] = 0x18, [32] = 0x28, [40] = 0x02,
    };
    uint8_t bytes[32];

    expect_vector(0, (const uint8_t *)"", 0);
    expect_vector(0xE3069283, (const uint8_t *)"123456789", 9);
    memset(bytes, 0, sizeof(bytes));
    expect_vector(0x8A9136AA, bytes, sizeof(bytes));
    memset(bytes, 0xFF, sizeof(bytes));
    expect_vector(0x62A8AB43, bytes, sizeof(bytes));
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)i;
    expect_vector(0x46DD794E, bytes, sizeof(bytes));
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(31 - i);
    expect_vector(0x113FDB5C, bytes, sizeof(bytes));
    expect_vector(0xD9963A56, scsi_read, sizeof(scsi_read));
}

static void portable_code_follows_the_definition(void)
{
    for (size_t size = 0; size < 300; size++) {
        uint32_t seed = (uint32_t)kv_random_next(&draws);
        const uint8_t *data = source + random_below(ALIGNMENT);

        assert(kv_checksum_with(portable(), seed, data, size) == bit_by_bit(seed, data, size));
    }
}

/* One sum and one copy; the bytes around the target have to survive. */
static void expect_same(const kv_checksum_code *code, size_t from, size_t to, size_t size)
{
    uint32_t seed = (uint32_t)kv_random_next(&draws);
    uint32_t expected = kv_checksum_with(portable(), seed, source + from, size);
    uint8_t *place = target + GUARD_SIZE + to;

    assert(kv_checksum_with(code, seed, source + from, size) == expected);
    memset(place - GUARD_SIZE, GUARD_BYTE, GUARD_SIZE);
    memset(place, 0, size);
    memset(place + size, GUARD_BYTE, GUARD_SIZE);
    assert(kv_checksum_copy_with(code, seed, place, source + from, size, place) == expected);
    assert(memcmp(place, source + from, size) == 0);
    for (size_t i = 0; i < GUARD_SIZE; i++) {
        assert(*(place - GUARD_SIZE + i) == GUARD_BYTE);
        assert(place[size + i] == GUARD_BYTE);
    }
}

static void all_small_sizes_agree(const kv_checksum_code *code)
{
    for (size_t size = 0; size <= 4096; size += size < 1100 ? 1 : 7)
        expect_same(code, random_below(ALIGNMENT), random_below(ALIGNMENT), size);
}

static void large_sizes_agree(const kv_checksum_code *code)
{
    static const size_t sizes[] = {8191,       8192,       8193,      65535,         65536,
                                   65537,      65536 * 2,  65536 * 3, 65536 + 16384, 300001,
                                   BIG_SIZE - 1, BIG_SIZE};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        expect_same(code, random_below(ALIGNMENT), random_below(ALIGNMENT), sizes[i]);
    for (int i = 0; i < 20; i++)
        expect_same(code, random_below(ALIGNMENT), random_below(ALIGNMENT), random_below(BIG_SIZE));
}

static void copies_agree_at_every_alignment(const kv_checksum_code *code)
{
    for (size_t alignment = 0; alignment < ALIGNMENT; alignment++) {
        expect_same(code, alignment, 0, 777);
        expect_same(code, 0, alignment, 777);
        expect_same(code, random_below(ALIGNMENT), alignment, KV_CHECKSUM_STREAM_SIZE - 1);
        expect_same(code, random_below(ALIGNMENT), alignment, KV_CHECKSUM_STREAM_SIZE);
        expect_same(code, alignment, random_below(ALIGNMENT), KV_CHECKSUM_STREAM_SIZE + 63);
    }
}

static void pieces_equal_the_whole(const kv_checksum_code *code)
{
    const size_t size = 200000;
    uint32_t whole = kv_checksum_with(portable(), 0, source, size);

    for (int round = 0; round < 10; round++) {
        uint32_t sum = 0, copy_sum = 0;

        for (size_t offset = 0, piece; offset < size; offset += piece) {
            piece = random_below(random_below(4) == 0 ? 90000 : 2000);
            piece = piece < size - offset ? piece : size - offset;
            sum = kv_checksum_with(code, sum, source + offset, piece);
            copy_sum = kv_checksum_copy_with(code, copy_sum, target, source + offset, piece, source);
        }
        assert(sum == whole);
        assert(copy_sum == whole);
    }
}

static void every_available_kind_equals_the_portable_one(void)
{
    for (size_t kind = 0; kind < kv_checksum_kinds_count; kind++) {
        const kv_checksum_code *code = kv_checksum_kinds[kind];

        if (!code->available())
            continue;
        all_small_sizes_agree(code);
        large_sizes_agree(code);
        copies_agree_at_every_alignment(code);
        pieces_equal_the_whole(code);
    }
}

static void sums_read_nothing_beyond_the_data(void)
{
    static const size_t sizes[] = {1, 7, 63, 255, 256, 257, 1000, 4097, 65536, 70001};

    /* Allocations of the exact size: the address sanitizer watches their ends. */
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint8_t *exact = malloc(sizes[i]);
        uint8_t *copy = malloc(sizes[i]);

        assert(exact != NULL && copy != NULL);
        memcpy(exact, source, sizes[i]);
        uint32_t expected = kv_checksum_with(portable(), 0, source, sizes[i]);
        assert(kv_checksum(0, exact, sizes[i]) == expected);
        assert(kv_checksum_copy(0, copy, exact, sizes[i]) == expected);
        free(exact);
        free(copy);
    }
}

static void nothing_leaves_the_seed(void)
{
    assert(kv_checksum(0x12345678, NULL, 0) == 0x12345678);
    assert(kv_checksum_copy(0x12345678, NULL, NULL, 0) == 0x12345678);
}

static void one_flipped_bit_changes_the_sum(void)
{
    uint32_t before = kv_checksum(0, source, 70000);

    for (int i = 0; i < 100; i++) {
        size_t place = random_below(70000);
        uint8_t bit = (uint8_t)(1u << random_below(8));

        source[place] ^= bit;
        assert(kv_checksum(0, source, 70000) != before);
        source[place] ^= bit;
    }
    assert(kv_checksum(0, source, 70000) == before);
}

static void *first_use(void *sum)
{
    *(uint32_t *)sum = kv_checksum_with(portable(), 0, "123456789", 9) ^
                       kv_checksum(0, "123456789", 9);
    return NULL;
}

/* Runs before all others, while neither the choice nor the portable tables are made. */
static void threads_may_share_the_first_use(void)
{
    pthread_t threads[THREADS];
    uint32_t sums[THREADS];

    for (int i = 0; i < THREADS; i++)
        assert(pthread_create(&threads[i], NULL, first_use, &sums[i]) == 0);
    for (int i = 0; i < THREADS; i++) {
        assert(pthread_join(threads[i], NULL) == 0);
        assert(sums[i] == 0);
    }
}

static void the_fastest_available_kind_is_chosen(void)
{
    size_t kind = 0;

    while (!kv_checksum_kinds[kind]->available())
        kind++;
    assert(strcmp(kv_checksum_kind(), kv_checksum_kinds[kind]->name) == 0);
    assert(portable()->available());
}

int main(void)
{
    threads_may_share_the_first_use();
    for (size_t i = 0; i < sizeof(source); i++)
        source[i] = (uint8_t)kv_random_next(&draws);
    known_vectors_hold();
    portable_code_follows_the_definition();
    every_available_kind_equals_the_portable_one();
    sums_read_nothing_beyond_the_data();
    nothing_leaves_the_seed();
    one_flipped_bit_changes_the_sum();
    the_fastest_available_kind_is_chosen();
}
