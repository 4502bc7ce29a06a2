/* Heads of messages: what goes round, what is refused and by which error, and the bytes of one head
 * of each kind, so that the wire cannot change by accident. */

#include "protocol/message.h"

#include "bytes/endian.h"
#include "bytes/random.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#define ROUNDS 20000

static const uint8_t kinds[] = {
    KV_MESSAGE_HELLO,   KV_MESSAGE_CHALLENGE, KV_MESSAGE_PROOF, KV_MESSAGE_WELCOME,
    KV_MESSAGE_REFUSAL, KV_MESSAGE_REQUEST,   KV_MESSAGE_REPLY, KV_MESSAGE_CANCEL,
    KV_MESSAGE_CONTROL, KV_MESSAGE_CONTROL_REPLY, KV_MESSAGE_FORWARD, KV_MESSAGE_FORWARDED,
};
#define KIND_COUNT (sizeof(kinds) / sizeof(kinds[0]))

static void resign(uint8_t *bytes)
{
    kv_endian_store_u32(bytes + 28, kv_checksum(0, bytes, 28));
}

static kv_message_head sample(uint8_t kind)
{
    kv_message_head head = {.version = 1, .kind = kind, .request = 0x0807060504030201};

    if (kind != KV_MESSAGE_CANCEL)
        head.columns_size = 0x123;
    if (kind >= KV_MESSAGE_REQUEST && kind != KV_MESSAGE_CANCEL) {
        head.count = 0xabc;
        head.flags = 1;
    }
    if (kind == KV_MESSAGE_REQUEST || kind == KV_MESSAGE_REPLY ||
        kind == KV_MESSAGE_CONTROL_REPLY || kind == KV_MESSAGE_FORWARD)
        head.values_size = 0x456789;
    return head;
}

static void heads_have_the_bytes_that_are_drawn(void)
{
    const uint8_t expected[KV_MESSAGE_HEAD_SIZE - 4] = {
        'K',  'V',  'M',  '1',  1, 16, 1, 0, 1,    2,    3,    4,    5, 6,
        7,    8,    0xbc, 0x0a, 0, 0,  0x23, 1, 0, 0,    0x89, 0x67, 0x45, 0,
    };
    static const uint32_t sums[KIND_COUNT] = {
        0x42c39c05, 0xdcb78c4d, 0xa9647c75, 0xe5b3da2c, 0x90602a14, 0x88503217,
        0xfd83c22f, 0x264a0122, 0xccd1d784, 0x304d07d6, 0x0124b4b9, 0xfdb864eb,
    };
    uint8_t bytes[KV_MESSAGE_HEAD_SIZE];

    for (size_t i = 0; i < KIND_COUNT; i++) {
        kv_message_head head = sample(kinds[i]);

        kv_message_encode(&head, bytes);
        assert(kv_endian_load_u32(bytes + 28) == sums[i]);
        if (kinds[i] == KV_MESSAGE_REQUEST)
            assert(memcmp(bytes, expected, sizeof(expected)) == 0);
    }
}

static void what_is_encoded_decodes_to_the_same(void)
{
    kv_random random;

    kv_random_init(&random, 1);
    for (int round = 0; round < ROUNDS; round++) {
        kv_message_head head = {.version = 1, .kind = KV_MESSAGE_REQUEST}, again;
        uint8_t bytes[KV_MESSAGE_HEAD_SIZE];

        head.kind = kv_random_one_in(&random, 2) ? KV_MESSAGE_REQUEST : KV_MESSAGE_REPLY;
        head.flags = (uint16_t)kv_random_next(&random);
        head.request = kv_random_next(&random);
        head.count = (uint32_t)kv_random_below(&random, KV_MESSAGE_COUNT_MAX + 1);
        head.columns_size = 4 + (uint32_t)kv_random_below(&random, KV_MESSAGE_COLUMNS_SIZE_MAX - 3);
        head.values_size = (uint32_t)kv_random_below(&random, KV_MESSAGE_VALUES_SIZE_MAX + 1);
        kv_message_encode(&head, bytes);

        assert(kv_message_decode(bytes, &again) == 0);
        assert(memcmp(&head, &again, sizeof(head)) == 0);
    }
}

static void every_single_byte_of_damage_is_noticed(void)
{
    for (size_t i = 0; i < KIND_COUNT; i++) {
        kv_message_head head = sample(kinds[i]), again;
        uint8_t bytes[KV_MESSAGE_HEAD_SIZE];

        kv_message_encode(&head, bytes);
        for (int at = 0; at < (int)KV_MESSAGE_HEAD_SIZE; at++)
            for (int flip = 1; flip < 256; flip++) {
                bytes[at] ^= (uint8_t)flip;
                assert(kv_message_decode(bytes, &again) == (at < 4 ? -EPROTO : -EBADMSG));
                bytes[at] ^= (uint8_t)flip;
            }
        assert(kv_message_decode(bytes, &again) == 0);
    }
}

static int decode_with(uint8_t kind, int at, uint32_t value, int width)
{
    kv_message_head head = sample(kind), again;
    uint8_t bytes[KV_MESSAGE_HEAD_SIZE];

    kv_message_encode(&head, bytes);
    for (int i = 0; i < width; i++)
        bytes[at + i] = (uint8_t)(value >> 8 * i);
    resign(bytes);
    return kv_message_decode(bytes, &again);
}

static bool columns_optional(unsigned kind)
{
    return kind == KV_MESSAGE_CANCEL || kind == KV_MESSAGE_CONTROL ||
           kind == KV_MESSAGE_CONTROL_REPLY;
}

static void unknown_kinds_are_refused(void)
{
    for (unsigned kind = 0; kind < 256; kind++) {
        bool known = memchr(kinds, (int)kind, KIND_COUNT) != NULL;

        assert(decode_with(KV_MESSAGE_CANCEL, 5, kind, 1) ==
               (!known ? -EPROTO : columns_optional(kind) ? 0 : -EMSGSIZE));
    }
}

static void unknown_versions_are_refused(void)
{
    for (size_t i = 0; i < KIND_COUNT; i++) {
        unsigned newest = kinds[i] <= KV_MESSAGE_REFUSAL ? 1 : KV_PROTOCOL_VERSION_MAX;

        for (unsigned version = 0; version < 256; version++)
            assert(decode_with(kinds[i], 4, version, 1) ==
                   (version >= 1 && version <= newest ? 0 : -EPROTONOSUPPORT));
    }
}

static void sizes_beyond_the_limit_of_their_kind_are_refused(void)
{
    for (size_t i = 0; i < KIND_COUNT; i++) {
        bool hello = kinds[i] <= KV_MESSAGE_REFUSAL;
        bool cancel = kinds[i] == KV_MESSAGE_CANCEL;
        bool control = columns_optional(kinds[i]) && !cancel;
        bool batch = !hello && !cancel && !control;
        uint32_t columns = hello ? KV_MESSAGE_HELLO_SIZE_MAX : KV_MESSAGE_COLUMNS_SIZE_MAX;
        uint32_t values = batch ? KV_MESSAGE_VALUES_SIZE_MAX : 0;

        if (kinds[i] == KV_MESSAGE_FORWARD)
            columns = KV_MESSAGE_FORWARD_SIZE_MAX;
        if (kinds[i] == KV_MESSAGE_FORWARDED)
            values = 0;
        if (kinds[i] == KV_MESSAGE_CONTROL_REPLY)
            values = KV_CONTROL_SIZE_LIMIT;
        if (cancel)
            columns = 0;
        assert(decode_with(kinds[i], 20, columns, 4) == 0);
        assert(decode_with(kinds[i], 20, columns + 1, 4) == -EMSGSIZE);
        assert(decode_with(kinds[i], 20, UINT32_MAX, 4) == -EMSGSIZE);
        assert(decode_with(kinds[i], 20, 3, 4) == -EMSGSIZE);
        assert(decode_with(kinds[i], 20, 0, 4) == (cancel || control ? 0 : -EMSGSIZE));
        assert(decode_with(kinds[i], 24, values, 4) == 0);
        assert(decode_with(kinds[i], 24, values + 1, 4) == -EMSGSIZE);
        assert(decode_with(kinds[i], 16, batch ? KV_MESSAGE_COUNT_MAX : 0, 4) == 0);
        assert(decode_with(kinds[i], 16, batch ? KV_MESSAGE_COUNT_MAX + 1 : 1, 4) ==
               (control ? 0 : -EMSGSIZE));
    }
}

static void columns_match_their_seal_and_nothing_else(void)
{
    uint8_t columns[64];
    kv_random random;

    kv_random_init(&random, 2);
    kv_random_fill(&random, columns, sizeof(columns));
    for (uint32_t size = 4; size <= sizeof(columns); size++) {
        kv_message_seal(columns, size);
        assert(kv_message_verify(columns, size) == 0);
        for (uint32_t bit = 0; bit < size * 8; bit++) {
            columns[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert(kv_message_verify(columns, size) == -EBADMSG);
            columns[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
    assert(kv_message_verify(columns, 0) == 0);
    for (uint32_t size = 1; size < 4; size++)
        assert(kv_message_verify(columns, size) == -EBADMSG);
}

int main(void)
{
    heads_have_the_bytes_that_are_drawn();
    what_is_encoded_decodes_to_the_same();
    every_single_byte_of_damage_is_noticed();
    unknown_kinds_are_refused();
    unknown_versions_are_refused();
    sizes_beyond_the_limit_of_their_kind_are_refused();
    columns_match_their_seal_and_nothing_else();
    return 0;
}
