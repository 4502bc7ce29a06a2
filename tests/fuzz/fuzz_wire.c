/* Fuzzes the decoders of messages: whatever the bytes, they answer without a fault, read nothing
 * behind the columns, and what they accept encodes to the same bytes again.
 *
 * Inputs are drawn in wire_examples.h. No fuzzer guesses a checksum or makes sizes add up, so the
 * mutator of this target changes fields by their meaning and then repairs what would hide the
 * change: sums, sizes, CRCs. Where there is no such mutator (main.c), the treatment in the first byte
 * repairs sizes and CRCs of any input. */

#include "wire_examples.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TREATMENT_COUNT 2u
#define TREATMENT_RAW 0u

/* Offsets in heads and columns, as message.h, request.c, reply.c and forward.c draw them. */
#define HEAD_AT_KIND 5u
#define HEAD_AT_COUNT 16u
#define HEAD_AT_COLUMNS_SIZE 20u
#define HEAD_AT_VALUES_SIZE 24u
#define HEAD_AT_CRC 28u
#define REQUEST_AT_KEYS_SIZE 20u
#define REQUEST_HEAD_SIZE 48u
#define REPLY_HEAD_SIZE 16u
#define FORWARD_AT_KEYS_SIZE 16u
#define FORWARD_HEAD_SIZE 64u
#define FORWARD_ITEM_SIZE 31u
#define FORWARDED_HEAD_SIZE 24u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
/* libFuzzer's own mutations; absent without it, and then nobody calls the mutator. */
__attribute__((weak)) size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

static uint8_t again[KV_MESSAGE_FORWARD_SIZE_MAX];

static void check_request(const kv_message_head *head, const uint8_t *columns)
{
    static kv_item items[KV_MESSAGE_COUNT_MAX];
    static uint32_t indices[KV_MESSAGE_COUNT_MAX], checksums[KV_MESSAGE_COUNT_MAX];
    char message[KV_MESSAGE_SIZE] = "";
    kv_wire_request view;
    int result = kv_request_decode(head, columns, &view, message);
    const uint8_t *key;

    assert(result == 0 || result == -EBADMSG || result == -EMSGSIZE || result == -EOPNOTSUPP);
    assert((result == 0) == (message[0] == '\0'));
    if (result < 0)
        return;
    key = view.keys;
    for (uint32_t i = 0; i < view.count; i++) {
        items[i] = (kv_item){.key = (uint64_t)(uintptr_t)key};
        items[i].key_size = kv_endian_load_u16(view.key_sizes + (size_t)i * 2);
        indices[i] = i;
        if (view.value_sizes)
            items[i].value_size = kv_endian_load_u32(view.value_sizes + (size_t)i * 4);
        if (view.checksums)
            checksums[i] = kv_endian_load_u32(view.checksums + (size_t)i * 4);
        key += items[i].key_size;
    }
    assert(key == columns + head->columns_size);
    assert(kv_request_encode(&view, items, indices, view.checksums ? checksums : NULL, again) ==
           head->columns_size);
    assert(memcmp(again, columns, head->columns_size) == 0);
}

static void check_reply(const kv_message_head *head, const uint8_t *columns, uint32_t request_count)
{
    static kv_reply_item items[KV_MESSAGE_COUNT_MAX];
    uint64_t values_size = 0;
    kv_wire_reply view;
    int result = kv_reply_decode(head, columns, request_count, &view);

    assert(result == 0 || result == -EBADMSG);
    if (result < 0)
        return;
    for (uint32_t i = 0; i < view.count; i++) {
        kv_reply_item_at(&view, i, &items[i]);
        assert(items[i].index < request_count);
        values_size += view.operation == KV_OP_GET && items[i].status == KV_OK ? items[i].size : 0;
    }
    assert(values_size == head->values_size);
    assert(view.matched <= request_count);
    assert(kv_reply_encode(&view, items, again) == head->columns_size);
    assert(memcmp(again, columns, head->columns_size) == 0);
}

static void item_of(void *context, uint32_t i, kv_forward_item *item)
{
    *item = ((const kv_forward_item *)context)[i];
}

static void check_forward(const kv_message_head *head, const uint8_t *columns)
{
    static kv_forward_item items[KV_MESSAGE_COUNT_MAX];
    char message[KV_MESSAGE_SIZE] = "";
    kv_wire_forward view;
    int result = kv_forward_decode(head, columns, &view, message);
    uint64_t values_size = 0;
    uint32_t key_offset = 0;

    assert(result == 0 || result == -EBADMSG || result == -EMSGSIZE || result == -EOPNOTSUPP);
    assert((result == 0) == (message[0] == '\0'));
    if (result < 0)
        return;
    for (uint32_t i = 0; i < view.count; i++) {
        kv_forward_item_at(&view, i, key_offset, &items[i]);
        key_offset += items[i].key_size;
        values_size += items[i].value_size;
    }
    assert(view.keys + key_offset == columns + head->columns_size);
    assert(values_size == head->values_size);
    assert(kv_forward_encode(&view, item_of, items, again) == head->columns_size);
    assert(memcmp(again, columns, head->columns_size) == 0);
}

static void check_forwarded(const kv_message_head *head, const uint8_t *columns, uint32_t count)
{
    kv_wire_forwarded view;
    int result = kv_forwarded_decode(head, columns, count, &view);

    assert(result == 0 || result == -EBADMSG);
    if (result < 0)
        return;
    assert(kv_forwarded_encode(&view, again) == head->columns_size);
    assert(memcmp(again, columns, head->columns_size) == 0);
}

/* Columns in memory of exactly their size, so that a sanitizer sees reads behind them. */
static void check_columns(const kv_message_head *head, const uint8_t *bytes, uint32_t request_count)
{
    uint8_t *columns = malloc(head->columns_size + 1u);

    assert(columns != NULL);
    if (head->columns_size > 0)
        memcpy(columns + 1, bytes, head->columns_size);
    if (kv_message_verify(columns + 1, head->columns_size) == 0) {
        if (head->kind == KV_MESSAGE_REQUEST)
            check_request(head, columns + 1);
        if (head->kind == KV_MESSAGE_REPLY)
            check_reply(head, columns + 1, request_count);
        if (head->kind == KV_MESSAGE_FORWARD)
            check_forward(head, columns + 1);
        if (head->kind == KV_MESSAGE_FORWARDED)
            check_forwarded(head, columns + 1, request_count);
    }
    free(columns);
}

static void check_message(const uint8_t *input, size_t size)
{
    uint8_t bytes[KV_MESSAGE_HEAD_SIZE];
    kv_message_head head;
    int result = kv_message_decode(input + INPUT_AT_HEAD, &head);

    assert(result == 0 || result == -EPROTO || result == -EBADMSG || result == -EPROTONOSUPPORT ||
           result == -EMSGSIZE);
    if (result < 0)
        return;
    kv_message_encode(&head, bytes);
    assert(memcmp(bytes, input + INPUT_AT_HEAD, sizeof(bytes)) == 0);
    if (head.columns_size <= size - INPUT_AT_COLUMNS)
        check_columns(&head, input + INPUT_AT_COLUMNS, kv_endian_load_u16(input + INPUT_AT_COUNT));
}

static void crc_repair(uint8_t *at, const uint8_t *from, size_t size)
{
    kv_endian_store_u32(at, kv_checksum(0, from, size));
}

/* Magic, version, size of the columns and both CRCs are right; the rest stays hostile. */
static void message_repair(uint8_t *input, size_t size)
{
    uint8_t *head = input + INPUT_AT_HEAD, *columns = input + INPUT_AT_COLUMNS;
    size_t columns_size = size - INPUT_AT_COLUMNS;

    memcpy(head, "KVM1\1", 5);
    kv_endian_store_u32(head + HEAD_AT_COLUMNS_SIZE, (uint32_t)columns_size);
    crc_repair(head + HEAD_AT_CRC, head, HEAD_AT_CRC);
    if (columns_size >= KV_MESSAGE_CRC_SIZE)
        crc_repair(columns, columns + 4, columns_size - 4);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy;

    if (size < INPUT_AT_COLUMNS)
        return 0;
    if (data[0] % TREATMENT_COUNT == TREATMENT_RAW) {
        check_message(data, size);
        return 0;
    }
    copy = malloc(size);
    assert(copy != NULL);
    memcpy(copy, data, size);
    message_repair(copy, size);
    check_message(copy, size);
    free(copy);
    return 0;
}

/* A number at which decoders go wrong, or one beside what is there. */
static uint64_t number_draw(uint64_t there, kv_random *random)
{
    static const uint64_t numbers[] = {
        0,          1,          KV_KEY_SIZE_LIMIT,    KV_KEY_SIZE_LIMIT + 1,
        0xffff,     0x7fffffff, KV_VALUE_SIZE_LIMIT,  KV_VALUE_SIZE_LIMIT + 1,
        UINT32_MAX, UINT64_MAX, KV_MESSAGE_COUNT_MAX, KV_MESSAGE_COUNT_MAX + 1,
        15,         16,         9,                    4};

    switch (kv_random_below(random, 4)) {
    case 0:
        return there + 1;
    case 1:
        return there - 1;
    case 2:
        return kv_random_next(random) >> kv_random_below(random, 64);
    default:
        return numbers[kv_random_below(random, sizeof(numbers) / sizeof(numbers[0]))];
    }
}

static void number_place(uint8_t *at, size_t width, kv_random *random)
{
    uint8_t bytes[8] = {0};

    memcpy(bytes, at, width);
    kv_endian_store_u64(bytes, number_draw(kv_endian_load_u64(bytes), random));
    memcpy(at, bytes, width);
}

static uint32_t columns_head_size(uint8_t kind)
{
    switch (kind) {
    case KV_MESSAGE_REPLY:
        return REPLY_HEAD_SIZE;
    case KV_MESSAGE_FORWARD:
        return FORWARD_HEAD_SIZE;
    case KV_MESSAGE_FORWARDED:
        return FORWARDED_HEAD_SIZE;
    default:
        return REQUEST_HEAD_SIZE;
    }
}

/* A field of the head, of the head of the columns, or of the columns over items. */
static void field_mutate(uint8_t *input, size_t size, kv_random *random)
{
    size_t from = INPUT_AT_COUNT, span = INPUT_AT_COLUMNS - INPUT_AT_COUNT;
    size_t width = (size_t)1 << kv_random_below(random, 4);

    if (!kv_random_one_in(random, 4)) {
        from = INPUT_AT_COLUMNS + KV_MESSAGE_CRC_SIZE;
        span = columns_head_size(input[INPUT_AT_HEAD + HEAD_AT_KIND]) - KV_MESSAGE_CRC_SIZE;
        if (kv_random_one_in(random, 2)) {
            from += span;
            span = size > from ? size - from : 0;
        }
    }
    if (span < width || from + span > size)
        return;
    number_place(input + from + kv_random_below(random, span / width) * width, width, random);
}

/* Bytes more or fewer at the end of the columns, and items more or fewer in the head. */
static size_t size_mutate(uint8_t *input, size_t size, size_t max_size, kv_random *random)
{
    size_t other = INPUT_AT_COLUMNS + kv_random_below(random, size - INPUT_AT_COLUMNS + 64);

    if (other > max_size)
        other = max_size;
    if (other > size)
        kv_random_fill(random, input + size, other - size);
    if (kv_random_one_in(random, 2))
        number_place(input + INPUT_AT_HEAD + HEAD_AT_COUNT, 2, random);
    return other;
}

/* Sums that agree with a request's sizes again. */
static void request_sums_repair(uint8_t *input, size_t size)
{
    uint8_t *head = input + INPUT_AT_HEAD, *columns = input + INPUT_AT_COLUMNS;
    uint32_t count = kv_endian_load_u32(head + HEAD_AT_COUNT);
    uint32_t operation = columns[4];
    bool set = operation == KV_OP_SET, get = operation == KV_OP_GET;
    size_t sizes_at = REQUEST_HEAD_SIZE, keys_at;
    uint32_t keys_size = 0, values_size = 0;

    if (count > KV_MESSAGE_COUNT_MAX)
        return;
    keys_at = sizes_at + (size_t)count * (set ? 8 : get ? 4 : 0);
    if (INPUT_AT_COLUMNS + keys_at + (size_t)count * 2 > size)
        return;
    for (uint32_t i = 0; i < count; i++) {
        keys_size += kv_endian_load_u16(columns + keys_at + (size_t)i * 2);
        values_size += set ? kv_endian_load_u32(columns + sizes_at + (size_t)i * 4) : 0;
    }
    kv_endian_store_u32(columns + REQUEST_AT_KEYS_SIZE, keys_size);
    kv_endian_store_u32(head + HEAD_AT_VALUES_SIZE, values_size);
}

static void reply_sums_repair(uint8_t *input, size_t size)
{
    uint8_t *head = input + INPUT_AT_HEAD, *columns = input + INPUT_AT_COLUMNS;
    uint32_t count = kv_endian_load_u32(head + HEAD_AT_COUNT);
    uint32_t values_size = 0;

    if (columns[4] != KV_OP_GET || count > KV_MESSAGE_COUNT_MAX ||
        INPUT_AT_COLUMNS + REPLY_HEAD_SIZE + (size_t)count * 13 > size)
        return;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *sizes = columns + REPLY_HEAD_SIZE + (size_t)count * 4;

        if (columns[REPLY_HEAD_SIZE + (size_t)count * 12 + i] == KV_OK)
            values_size += kv_endian_load_u32(sizes + (size_t)i * 4);
    }
    kv_endian_store_u32(head + HEAD_AT_VALUES_SIZE, values_size);
}

static void forward_sums_repair(uint8_t *input, size_t size)
{
    uint8_t *head = input + INPUT_AT_HEAD, *columns = input + INPUT_AT_COLUMNS;
    uint32_t count = kv_endian_load_u32(head + HEAD_AT_COUNT);
    size_t sizes_at = FORWARD_HEAD_SIZE + (size_t)count * 16;
    size_t keys_at = FORWARD_HEAD_SIZE + (size_t)count * 28;
    uint32_t keys_size = 0, values_size = 0;

    if (count > KV_MESSAGE_COUNT_MAX ||
        INPUT_AT_COLUMNS + FORWARD_HEAD_SIZE + (size_t)count * FORWARD_ITEM_SIZE > size)
        return;
    for (uint32_t i = 0; i < count; i++) {
        keys_size += kv_endian_load_u16(columns + keys_at + (size_t)i * 2);
        values_size += kv_endian_load_u32(columns + sizes_at + (size_t)i * 4);
    }
    kv_endian_store_u32(columns + FORWARD_AT_KEYS_SIZE, keys_size);
    kv_endian_store_u32(head + HEAD_AT_VALUES_SIZE, values_size);
}

static void sums_repair(uint8_t *input, size_t size)
{
    uint8_t kind = input[INPUT_AT_HEAD + HEAD_AT_KIND];

    if (kind == KV_MESSAGE_REQUEST && size >= INPUT_AT_COLUMNS + REQUEST_HEAD_SIZE)
        request_sums_repair(input, size);
    if (kind == KV_MESSAGE_REPLY && size >= INPUT_AT_COLUMNS + REPLY_HEAD_SIZE)
        reply_sums_repair(input, size);
    if (kind == KV_MESSAGE_FORWARD && size >= INPUT_AT_COLUMNS + FORWARD_HEAD_SIZE)
        forward_sums_repair(input, size);
}

/* A message that is new and whole, where it fits. */
static size_t example_place(uint8_t *data, size_t size, size_t max_size, kv_random *random)
{
    uint8_t input[EXAMPLE_SIZE_MAX];
    size_t drawn = example_draw(random, input);

    assert(drawn <= sizeof(input));
    if (drawn > max_size)
        return LLVMFuzzerMutate(data, size, max_size);
    memcpy(data, input, drawn);
    return drawn;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    kv_random random;
    uint64_t choice;

    kv_random_init(&random, seed);
    choice = kv_random_below(&random, 16);
    if (size < INPUT_AT_COLUMNS || choice == 0)
        return example_place(data, size, max_size, &random);
    if (choice == 1)
        return LLVMFuzzerMutate(data, size, max_size);
    if (choice < 4)
        size = INPUT_AT_COLUMNS + LLVMFuzzerMutate(data + INPUT_AT_COLUMNS, size - INPUT_AT_COLUMNS,
                                                   max_size - INPUT_AT_COLUMNS);
    else if (choice < 6)
        size = size_mutate(data, size, max_size, &random);
    else
        for (uint64_t i = kv_random_below(&random, 3); i < 3; i++)
            field_mutate(data, size, &random);
    if (!kv_random_one_in(&random, 4))
        sums_repair(data, size);
    if (!kv_random_one_in(&random, 16))
        message_repair(data, size);
    return size;
}
