/* Journal groups and checkpoint blocks: frozen bytes; no flipped bit and no cut goes unnoticed. */

#include "bytes/endian.h"
#include "format_examples.h"
#include "kvcore.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A group of three records: SET "key", DELETE "k" by expiry, CLOSE. */
static size_t seal_example(uint8_t target[KV_PAGE_SIZE], kv_group *group)
{
    kv_record record = {.kind = KV_RECORD_DELETE, .flags = KV_RECORD_FLAG_EXPIRED};
    uint8_t bytes[KV_RECORD_SIZE_MAX];
    size_t size = encode_example(bytes);

    memset(target, 0xee, KV_PAGE_SIZE);
    memcpy(target + KV_GROUP_HEADER_SIZE, bytes, size);
    record.key = "k";
    record.key_size = 1;
    size += kv_record_encode(&record, target + KV_GROUP_HEADER_SIZE + size);
    record.kind = KV_RECORD_CLOSE;
    record.flags = 0;
    size += kv_record_encode(&record, target + KV_GROUP_HEADER_SIZE + size);
    *group = (kv_group){(uint32_t)size, 3, 0x1122, 0x1121, 0xa1a2a3a4a5a6a7a8ull, 5, 0xb1};
    return kv_group_seal(group, target);
}

static void the_group_is_frozen(void)
{
    static const uint8_t front[108] = {
        'K', 'V', 'J', 'G', 0x84, 0x50, 0x43, 0x20, 44, 0, 0, 0, 3, 0, 0, 0,
        0x22, 0x11, 0, 0, 0, 0, 0, 0, 0x21, 0x11, 0, 0, 0, 0, 0, 0,
        0xa8, 0xa7, 0xa6, 0xa5, 0xa4, 0xa3, 0xa2, 0xa1, 5, 0, 0, 0, 0, 0, 0, 0,
        0xb1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        /* SET "key", 5000 bytes in two extents of class 31. */
        1, 0, 3, 0, 0x88, 0x13, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 'k', 'e', 'y',
        0, 0x40, 0, 0, 0, 31, 0, 0x80, 0, 0, 0, 31,
        /* DELETE "k" by expiry, CLOSE. */
        2, 4, 1, 0, 'k', 7, 0};
    static const uint8_t zero[KV_PAGE_SIZE];
    uint8_t bytes[KV_PAGE_SIZE];
    kv_group group;

    assert(seal_example(bytes, &group) == KV_PAGE_SIZE);
    assert(memcmp(bytes, front, sizeof(front)) == 0);
    assert(memcmp(bytes + 108, zero, KV_PAGE_SIZE - 108) == 0);

    group.flushed = 0x2222; /* free in a block */
    assert(kv_block_seal(&group, bytes) == KV_PAGE_SIZE);
    assert(memcmp(bytes, "KVCB", 4) == 0 && bytes[24] == 0x22);
}

static void every_flipped_bit_of_a_group_is_refused(void)
{
    uint8_t bytes[KV_PAGE_SIZE];
    kv_group group, opened;
    size_t size = seal_example(bytes, &group);

    for (uint32_t bit = 0; bit < 8 * size; bit++) {
        int result;

        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        result = kv_group_open(bytes, size, &opened);
        /* A flipped size can name a longer group; the reader finds no room for it. */
        if (bit / 8 >= 8 && bit / 8 < 12 && result == -EAGAIN)
            result = -EBADMSG;
        assert(result == (bit < 32 ? -ENODATA : -EBADMSG));
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert(kv_group_open(bytes, size, &opened) == 0);
    assert(memcmp(&group, &opened, sizeof(group)) == 0);
}

static void truncated_groups_are_refused(void)
{
    uint8_t bytes[KV_PAGE_SIZE];
    kv_group group;
    size_t size = seal_example(bytes, &group);

    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *copy = malloc(cut ? cut : 1);

        assert(copy != NULL);
        memcpy(copy, bytes, cut);
        assert(kv_group_open(copy, cut, &group) == (cut < 4 ? -ENODATA : -EAGAIN));
        assert(kv_block_open(copy, cut, &group) == -ENODATA);
        free(copy);
    }
}

static void reseal(uint8_t *bytes, uint32_t size)
{
    kv_endian_store_u32(bytes + 4, kv_checksum(0, bytes + 8, 56 + (size_t)size));
}

static void hostile_group_headers_are_refused(void)
{
    const hostile_change changes[] = {
        {8, 4, 0xffffffff}, {8, 4, KV_GROUP_SIZE_MAX - 63},       /* size */
        {8, 4, 0},          {8, 4, 1},
        {12, 4, 0},         {12, 4, 23},    {12, 4, 0xffffffff}, /* count */
        {12, 4, 0x80000001}, /* twice that is 2 in 32 bits */
        {16, 8, 0x1120},    {16, 8, UINT64_MAX - 2},              /* first */
        {24, 8, 0x1123},                                          /* flushed */
        {56, 8, 1},         {63, 1, 1},                           /* zero */
    };
    uint8_t bytes[KV_PAGE_SIZE];
    kv_group group;

    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        seal_example(bytes, &group);
        for (size_t byte = 0; byte < changes[i].width; byte++)
            bytes[changes[i].at + byte] = (uint8_t)(changes[i].value >> 8 * byte);
        reseal(bytes, group.size);
        assert(kv_group_open(bytes, sizeof(bytes), &group) == -EBADMSG);
    }
}

static void the_largest_group_is_awaited_and_no_larger_one(void)
{
    uint8_t bytes[KV_PAGE_SIZE];
    kv_group group;

    seal_example(bytes, &group);
    kv_endian_store_u32(bytes + 8, KV_GROUP_SIZE_MAX - KV_GROUP_HEADER_SIZE);
    kv_endian_store_u32(bytes + 12, 2000);
    assert(kv_group_open(bytes, sizeof(bytes), &group) == -EAGAIN);
    kv_endian_store_u32(bytes + 8, KV_GROUP_SIZE_MAX - KV_GROUP_HEADER_SIZE + 1);
    assert(kv_group_open(bytes, sizeof(bytes), &group) == -EBADMSG);
}

static void groups_and_blocks_of_any_size_round_trip(void)
{
    const uint32_t sizes[] = {0, 2, 4031, 4032, 4033, 8128, 70000, KV_GROUP_SIZE_MAX - 64};
    uint8_t *bytes = malloc(KV_GROUP_SIZE_MAX);

    assert(bytes != NULL);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        kv_group opened, group = {sizes[i], sizes[i] / 2, 1ull << 63, 1ull << 62, ~0ull, ~0ull, 1};
        size_t padded = kv_group_padded_size(sizes[i]);

        assert(padded % KV_PAGE_SIZE == 0 && padded >= sizes[i] + 64u && padded < sizes[i] + 4160u);
        memset(bytes, 0x5a, KV_GROUP_SIZE_MAX);
        assert(kv_group_seal(&group, bytes) == padded);
        assert(kv_group_open(bytes, KV_GROUP_SIZE_MAX, &opened) == 0);
        assert(memcmp(&group, &opened, sizeof(group)) == 0);
        assert(kv_block_open(bytes, padded, &opened) == -ENODATA);
        assert(kv_group_open(bytes, padded - 1, &opened) == -EAGAIN);
        assert(kv_block_seal(&group, bytes) == padded);
        assert(kv_block_open(bytes, padded, &opened) == 0);
        assert(memcmp(&group, &opened, sizeof(group)) == 0);
        assert(kv_group_open(bytes, padded, &opened) == -ENODATA);
    }
    free(bytes);
}

static void a_group_of_random_records_is_walked_to_its_end(void)
{
    static kv_record records[64], decoded;
    uint8_t *bytes = malloc(KV_GROUP_SIZE_MAX);
    size_t end, at = KV_GROUP_HEADER_SIZE;
    kv_group group = {.count = 64, .first = 10};

    assert(bytes != NULL);
    for (int i = 0; i < 64; i++) {
        fill_random(&records[i]);
        at += kv_record_encode(&records[i], bytes + at);
    }
    group.size = (uint32_t)(at - KV_GROUP_HEADER_SIZE);
    kv_group_seal(&group, bytes);

    assert(kv_group_open(bytes, KV_GROUP_SIZE_MAX, &group) == 0);
    end = KV_GROUP_HEADER_SIZE + group.size;
    at = KV_GROUP_HEADER_SIZE;
    for (int i = 0; i < 64; i++) {
        int64_t used = kv_record_decode(bytes + at, end - at, &decoded);

        assert(used > 0);
        assert_equal(&records[i], &decoded);
        at += (size_t)used;
    }
    assert(at == end);
    free(bytes);
}

int main(void)
{
    the_group_is_frozen();
    every_flipped_bit_of_a_group_is_refused();
    truncated_groups_are_refused();
    hostile_group_headers_are_refused();
    the_largest_group_is_awaited_and_no_larger_one();
    groups_and_blocks_of_any_size_round_trip();
    a_group_of_random_records_is_walked_to_its_end();
    return 0;
}
