/* Records: round trips of every kind, and the refusal of all that no encoder writes. */

#include "bytes/endian.h"
#include "format_examples.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Decode from memory of exactly `size` bytes, so that a sanitizer sees any read behind it. */
static int64_t decode_exact(const uint8_t *bytes, size_t size, kv_record *record)
{
    uint8_t *copy = malloc(size ? size : 1);
    int64_t result;

    assert(copy != NULL);
    memcpy(copy, bytes, size);
    result = kv_record_decode(copy, size, record);
    record->key = NULL;
    free(copy);
    return result;
}

static void round_trip(const kv_record *record)
{
    static kv_record decoded;
    uint8_t bytes[KV_RECORD_SIZE_MAX + 8], again[KV_RECORD_SIZE_MAX];
    size_t size;

    memset(bytes, 0xee, sizeof(bytes));
    size = kv_record_encode(record, bytes);
    assert(size == kv_record_size(record) && size <= KV_RECORD_SIZE_MAX);
    assert(bytes[size] == 0xee);

    assert(kv_record_decode(bytes, size, &decoded) == (int64_t)size);
    assert_equal(record, &decoded);
    assert(kv_record_encode(&decoded, again) == size && memcmp(bytes, again, size) == 0);
    assert(kv_record_decode(bytes, size + 8, &decoded) == (int64_t)size);
}

static void integers_are_little_endian(void)
{
    uint8_t bytes[8] = {0};

    kv_endian_store_u16(bytes, 0x0201);
    assert(memcmp(bytes, "\1\2\0\0\0\0\0", 8) == 0 && kv_endian_load_u16(bytes) == 0x0201);
    kv_endian_store_u32(bytes + 1, 0x05040302);
    assert(memcmp(bytes, "\1\2\3\4\5\0\0", 8) == 0 && kv_endian_load_u32(bytes + 1) == 0x05040302);
    kv_endian_store_u64(bytes, 0x0807060504030201ull);
    assert(memcmp(bytes, "\1\2\3\4\5\6\7\10", 8) == 0);
    assert(kv_endian_load_u64(bytes) == 0x0807060504030201ull);
    kv_endian_store_u40(bytes + 1, 0xabcdef123456789ull);
    assert(memcmp(bytes, "\1\x89\x67\x45\x23\xf1\7\10", 8) == 0);
    assert(kv_endian_load_u40(bytes + 1) == 0xf123456789ull);
}

static void records_of_every_kind_round_trip(void)
{
    static kv_record record;

    for (int round = 0; round < 2000; round++) {
        fill_random(&record);
        round_trip(&record);
    }
    for (uint32_t pieces = 0; pieces <= KV_SLAB_PIECES_MAX; pieces++) {
        fill_value(&record, KV_RECORD_SET, pieces);
        round_trip(&record);
    }
}

static void a_record_with_sequence_and_version_is_frozen(void)
{
    static const uint8_t expected[] = {
        5, 1 + 16 + 32, 2, 0, 0, 0, 0, 0, 0xdd, 0xcc, 0xbb, 0xaa, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        6, 5, 4, 3, 2, 1, 0, 0, 0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, 'k', 'e'};
    static const kv_record record = {.kind = KV_RECORD_MOVE, .flags = KV_RECORD_FLAG_PINNED, .key_size = 2,
                                     .checksum = 0xaabbccdd, .sequence_of = 0x010203040506,
                                     .version = 0x1112131415161718, .key = "ke"};
    uint8_t bytes[KV_RECORD_SIZE_MAX];

    assert(kv_record_encode(&record, bytes) == sizeof(expected));
    assert(memcmp(bytes, expected, sizeof(expected)) == 0);
}

static void the_largest_record_has_its_named_size(void)
{
    static kv_record record;

    fill_value(&record, KV_RECORD_MOVE, KV_SLAB_PIECES_MAX);
    record.version = 1;
    record.key_size = KV_KEY_SIZE_MAX;
    assert(kv_record_size(&record) == KV_RECORD_SIZE_MAX);
    round_trip(&record);
}

static void values_at_the_limits_round_trip(void)
{
    static kv_record record;
    uint32_t largest = kv_slab_class_size(CLASS_COUNT - 1);

    fill_value(&record, KV_RECORD_SET, 0);
    assert(record.size == 0);
    round_trip(&record);

    assert(largest == 8u << 20);
    fill_value(&record, KV_RECORD_SET, 8);
    for (int i = 0; i < 8; i++)
        record.pieces[i] = (kv_extent){(1ull << 46) - largest, largest, CLASS_COUNT - 1};
    record.size = KV_VALUE_SIZE_MAX;
    round_trip(&record);

    fill_packed(&record);
    record.size = record.pieces[0].size;
    record.pieces[0].offset = (1ull << 46) - record.size;
    round_trip(&record);
}

static void an_expiry_is_stored_as_objects_hold_it(void)
{
    const uint64_t cases[][2] = {{0, 0},
                                 {1, KV_OBJECT_EXPIRY_BASE_MS + 1},
                                 {KV_OBJECT_EXPIRY_BASE_MS, KV_OBJECT_EXPIRY_BASE_MS + 1},
                                 {KV_OBJECT_EXPIRY_BASE_MS + 5, KV_OBJECT_EXPIRY_BASE_MS + 5},
                                 {UINT64_MAX, 0}};
    static kv_record record, decoded;
    uint8_t bytes[KV_RECORD_SIZE_MAX];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        fill_value(&record, KV_RECORD_SET, 1);
        record.expiry_ms = cases[i][0];
        assert(kv_record_decode(bytes, kv_record_encode(&record, bytes), &decoded) > 0);
        assert(decoded.expiry_ms == cases[i][1]);
    }
}

static void truncated_records_are_refused(void)
{
    static kv_record record, decoded;
    uint8_t bytes[KV_RECORD_SIZE_MAX];

    for (int round = 0; round < 100; round++) {
        size_t size;

        fill_random(&record);
        size = kv_record_encode(&record, bytes);
        for (size_t cut = 0; cut < size; cut++)
            assert(decode_exact(bytes, cut, &decoded) == -EBADMSG);
    }
}

static void hostile_fields_are_refused(void)
{
    const hostile_change changes[] = {
        {0, 1, 0},          {0, 1, 8},         {0, 1, 255},           /* kind */
        {0, 1, 5},                                                    /* a MOVE without sequence */
        {1, 1, 2},          {1, 1, 4},         {1, 1, 64},            /* flags */
        {1, 1, 16},         {1, 1, 32},        {1, 1, 48},            /* all else shifted by 8, or 16 */
        {2, 2, 0},          {2, 2, 1025},      {2, 2, 65535},         /* key size */
        {4, 4, 0},          {4, 4, 4096},      {4, 4, 8193},          /* value against pieces */
        {4, 4, 0xffffffff}, {4, 4, (64u << 20) + 1},
        {12, 8, 1},         {12, 8, KV_OBJECT_EXPIRY_BASE_MS},        /* expiry */
        {12, 8, KV_OBJECT_EXPIRY_BASE_MS + (1ull << 40)}, {12, 8, UINT64_MAX},
        {20, 2, 0},         {20, 2, 1},        {20, 2, 3},            /* piece count */
        {20, 2, 257},       {20, 2, 65535},
        {25, 5, (1ull << 40) - 1},                                    /* ends behind 64 TiB */
        {30, 1, 120},       {30, 1, 254},      {30, 1, 255},          /* class */
        {36, 1, 0},                                                   /* too small for the rest */
    };
    static kv_record decoded;
    uint8_t bytes[KV_RECORD_SIZE_MAX];

    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        size_t size = encode_example(bytes);

        assert(size == 37 && kv_record_decode(bytes, size, &decoded) == 37);
        for (size_t byte = 0; byte < changes[i].width; byte++)
            bytes[changes[i].at + byte] = (uint8_t)(changes[i].value >> 8 * byte);
        assert(decode_exact(bytes, size, &decoded) == -EBADMSG);
        /* Nor does more input behind it make it legal. */
        memset(bytes + size, 0, sizeof(bytes) - size);
        assert(decode_exact(bytes, sizeof(bytes), &decoded) == -EBADMSG);
    }
}

static void keys_have_1_to_the_largest_size(void)
{
    const uint16_t sizes[] = {0, 1, KV_KEY_SIZE_MAX, KV_KEY_SIZE_MAX + 1, UINT16_MAX};
    static uint8_t bytes[4 + UINT16_MAX];
    static kv_record decoded;

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        bool legal = sizes[i] >= 1 && sizes[i] <= KV_KEY_SIZE_MAX;

        bytes[0] = KV_RECORD_DELETE;
        kv_endian_store_u16(bytes + 2, sizes[i]);
        assert(decode_exact(bytes, 4 + (size_t)sizes[i], &decoded) ==
               (legal ? 4 + (int64_t)sizes[i] : -EBADMSG));
    }
}

/* Where the number lies that is 1, and the most that an object holds of it. */
static void a_number_is_refused_beyond(const kv_record *record, size_t at, uint64_t most)
{
    static kv_record decoded;
    uint8_t bytes[KV_RECORD_SIZE_MAX];
    size_t size = kv_record_encode(record, bytes);

    assert(decode_exact(bytes, size, &decoded) == (int64_t)size);
    kv_endian_store_u64(bytes + at, 0);
    assert(decode_exact(bytes, size, &decoded) == -EBADMSG);
    kv_endian_store_u64(bytes + at, most);
    assert(decode_exact(bytes, size, &decoded) == (int64_t)size);
    kv_endian_store_u64(bytes + at, most + 1);
    assert(decode_exact(bytes, size, &decoded) == -EBADMSG);
}

static void a_carried_sequence_or_version_is_not_0_and_fits_an_object(void)
{
    static kv_record record;

    fill_value(&record, KV_RECORD_SET, 1);
    record.sequence_of = 1;
    record.version = 0;
    a_number_is_refused_beyond(&record, 22, (1ull << 48) - 1);
    record.version = 1;
    a_number_is_refused_beyond(&record, 22, (1ull << 48) - 1);
    a_number_is_refused_beyond(&record, 30, (1ull << 63) - 1);
    record.sequence_of = 0;
    a_number_is_refused_beyond(&record, 22, (1ull << 63) - 1);
}

static void a_value_above_64_mib_is_refused(void)
{
    static kv_record record, decoded;
    uint8_t bytes[KV_RECORD_SIZE_MAX];
    size_t size;

    fill_value(&record, KV_RECORD_SET, 8);
    for (int i = 0; i < 8; i++)
        record.pieces[i] = (kv_extent){0, 8u << 20, CLASS_COUNT - 1};
    record.piece_count = 8;
    record.size = KV_VALUE_SIZE_MAX;
    size = kv_record_encode(&record, bytes);

    /* The ninth piece by hand: encode would refuse it. */
    memset(bytes + size, 0, KV_PIECE_SIZE);
    kv_endian_store_u32(bytes + 4, KV_VALUE_SIZE_MAX + 1);
    kv_endian_store_u16(bytes + 20, 9);
    assert(decode_exact(bytes, size + KV_PIECE_SIZE, &decoded) == -EBADMSG);
}

static void a_flag_of_another_kind_is_refused(void)
{
    static kv_record record, decoded;
    uint8_t bytes[KV_RECORD_SIZE_MAX];

    for (int kind = KV_RECORD_DELETE; kind <= KV_RECORD_CLOSE; kind++) {
        if (kind == KV_RECORD_MOVE)
            continue;
        for (uint32_t flags = 1; flags < 256; flags++) {
            bool legal = kind == KV_RECORD_DELETE &&
                         (flags == KV_RECORD_FLAG_EXPIRED || flags == KV_RECORD_FLAG_EVICTED);
            size_t size;

            fill_plain(&record, (kv_record_kind)kind);
            size = kv_record_encode(&record, bytes);
            bytes[1] = (uint8_t)flags;
            assert(decode_exact(bytes, size, &decoded) == (legal ? (int64_t)size : -EBADMSG));
        }
    }
}

static void packed_values_have_one_piece_of_the_pack_class(void)
{
    static kv_record record, decoded;
    uint8_t bytes[KV_RECORD_SIZE_MAX];
    size_t size, class_at;

    fill_packed(&record);
    record.sequence_of = 0;
    record.version = 0;
    size = kv_record_encode(&record, bytes);
    class_at = size - 1;

    bytes[class_at] = 0;
    assert(decode_exact(bytes, size, &decoded) == -EBADMSG);
    bytes[class_at] = KV_SLAB_CLASS_PACK;
    assert(decode_exact(bytes, size, &decoded) == (int64_t)size);
    bytes[1] &= (uint8_t)~KV_RECORD_FLAG_PACKED;
    assert(decode_exact(bytes, size, &decoded) == -EBADMSG);
    bytes[1] |= KV_RECORD_FLAG_PACKED;
    kv_endian_store_u32(bytes + 4, 0); /* a value of no bytes has no piece */
    assert(decode_exact(bytes, size, &decoded) == -EBADMSG);
    kv_endian_store_u16(bytes + 20, 0);
    assert(decode_exact(bytes, size, &decoded) == -EBADMSG);
}

static void random_bytes_never_decode_to_other_bytes(void)
{
    static kv_record record, decoded;
    uint8_t bytes[KV_RECORD_SIZE_MAX], again[KV_RECORD_SIZE_MAX];
    int accepted = 0;

    for (int round = 0; round < 20000; round++) {
        int64_t result;
        size_t size;

        fill_random(&record);
        size = kv_record_encode(&record, bytes);
        for (uint32_t flips = random_below(4); flips > 0; flips--)
            bytes[random_below(size < 48 ? (uint32_t)size : 48)] ^= (uint8_t)(1 << random_below(8));
        result = kv_record_decode(bytes, size, &decoded);
        assert(result == -EBADMSG || (result > 0 && result <= (int64_t)size));
        if (result < 0)
            continue;
        accepted++;
        assert((int64_t)kv_record_encode(&decoded, again) == result);
        assert(memcmp(bytes, again, (size_t)result) == 0);
    }
    assert(accepted > 1000);
}

int main(void)
{
    integers_are_little_endian();
    records_of_every_kind_round_trip();
    a_record_with_sequence_and_version_is_frozen();
    the_largest_record_has_its_named_size();
    values_at_the_limits_round_trip();
    an_expiry_is_stored_as_objects_hold_it();
    truncated_records_are_refused();
    hostile_fields_are_refused();
    keys_have_1_to_the_largest_size();
    a_carried_sequence_or_version_is_not_0_and_fits_an_object();
    a_value_above_64_mib_is_refused();
    a_flag_of_another_kind_is_refused();
    packed_values_have_one_piece_of_the_pack_class();
    random_bytes_never_decode_to_other_bytes();
    return 0;
}
