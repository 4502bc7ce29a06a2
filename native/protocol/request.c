/* Columns of requests, little-endian; drawn for n items:
 *
 *   0     4      5       6        8        12        16       20       24        32     40       48
 *   ┌─────┬──────┬───────┬────────┬────────┬─────────┬────────┬────────┬─────────┬──────┬────────┐
 *   │ CRC │ oper-│ flags │reserved│ target │ timeout │channel │ keys   │ chain   │ ttl  │sequence│
 *   │ u32 │ ation│ u8    │u16     │ u32    │ ms u32  │u32     │size u32│version  │ ms   │u64     │
 *   │     │ u8   │       │        │        │         │        │        │u64      │ u64  │        │
 *   └─────┴──────┴───────┴────────┴────────┴─────────┴────────┴────────┴─────────┴──────┴────────┘
 *   48             SET, GET          SET              all             all
 *   ┌──────────────────────────────┬────────────────┬───────────────┬─────────────────────┐
 *   │ value sizes, u32 × n         │ checksums,     │ key sizes,    │ keys, end to end:   │
 *   │ SET: of the values behind    │ u32 × n        │ u16 × n       │ keys size bytes     │
 *   │ GET: room of the caller      │                │               │                     │
 *   └──────────────────────────────┴────────────────┴───────────────┴─────────────────────┘
 *   flags: 1 if_absent (SET), 2 repeated (updates)
 *
 * Fields that an operation does not have are 0: ttl but for SET, channel and sequence but for
 * updates. Guarantees that each request has one encoding, and that what decodes is one. */

#include "protocol/request.h"

#include "bytes/endian.h"

#include <assert.h>
#include <errno.h>

enum {
    AT_OPERATION = 4,
    AT_FLAGS = 5,
    AT_RESERVED = 6,
    AT_TARGET = 8,
    AT_TIMEOUT = 12,
    AT_CHANNEL = 16,
    AT_KEYS_SIZE = 20,
    AT_CHAIN_VERSION = 24,
    AT_TTL = 32,
    AT_SEQUENCE = 40,
    HEAD_SIZE = 48
};

enum { FLAG_IF_ABSENT = 1, FLAG_REPEATED = 2 };

enum { KEY_STEP = 16, KEY_STEPS_SIZE_MAX = 128 };

_Static_assert(KV_KEY_SIZE_LIMIT <= UINT16_MAX, "a key size fits its column");
_Static_assert(HEAD_SIZE + KV_MESSAGE_COUNT_MAX * (4 + 4 + 2 + 64) <= KV_MESSAGE_COLUMNS_SIZE_MAX,
               "as many keys as are allowed, of a usual size, fit one message");
_Static_assert((uint64_t)KV_MESSAGE_COUNT_MAX * UINT32_MAX <= UINT64_MAX / 2,
               "sums of sizes do not overflow");

static bool operation_known(uint32_t operation)
{
    return operation >= KV_OP_SET && operation <= KV_OP_UNPIN;
}

bool kv_request_updates(uint32_t operation)
{
    return operation == KV_OP_SET || operation == KV_OP_DELETE || operation == KV_OP_PIN ||
           operation == KV_OP_UNPIN;
}

static bool carries_value_sizes(uint32_t operation)
{
    return operation == KV_OP_SET || operation == KV_OP_GET;
}

/* Bytes of columns that each item takes, its key apart. */
static uint32_t item_size(uint32_t operation)
{
    return 2u + (carries_value_sizes(operation) ? 4u : 0u) + (operation == KV_OP_SET ? 4u : 0u);
}

uint32_t kv_request_columns_size(uint32_t operation, uint32_t count, uint64_t keys_size)
{
    uint64_t size = HEAD_SIZE + (uint64_t)count * item_size(operation);

    assert(operation_known(operation));
    if (count > KV_MESSAGE_COUNT_MAX || keys_size > KV_MESSAGE_COLUMNS_SIZE_MAX)
        return UINT32_MAX;
    size += keys_size;
    return size <= KV_MESSAGE_COLUMNS_SIZE_MAX ? (uint32_t)size : UINT32_MAX;
}

static void head_store(const kv_wire_request *request, uint32_t keys_size, uint8_t *columns)
{
    bool set = request->operation == KV_OP_SET;
    bool updates = kv_request_updates(request->operation);
    unsigned flags = 0;

    assert(updates ? request->sequence > 0 : request->repeated == 0);
    if (set && request->if_absent)
        flags |= FLAG_IF_ABSENT;
    if (request->repeated)
        flags |= FLAG_REPEATED;
    columns[AT_OPERATION] = (uint8_t)request->operation;
    columns[AT_FLAGS] = (uint8_t)flags;
    kv_endian_store_u16(columns + AT_RESERVED, 0);
    kv_endian_store_u32(columns + AT_TARGET, request->target);
    kv_endian_store_u32(columns + AT_TIMEOUT, request->timeout_ms);
    kv_endian_store_u32(columns + AT_CHANNEL, updates ? request->channel : 0);
    kv_endian_store_u32(columns + AT_KEYS_SIZE, keys_size);
    kv_endian_store_u64(columns + AT_CHAIN_VERSION, request->chain_version);
    kv_endian_store_u64(columns + AT_TTL, set ? request->ttl_ms : 0);
    kv_endian_store_u64(columns + AT_SEQUENCE, updates ? request->sequence : 0);
}

/* Columns over items; returns where they end and the keys begin. */
static uint8_t *items_store(const kv_wire_request *request, const kv_item *items,
                            const uint32_t *indices, const uint32_t *checksums, uint8_t *at)
{
    uint32_t count = request->count;

    if (carries_value_sizes(request->operation)) {
        for (uint32_t i = 0; i < count; i++, at += 4) {
            uint32_t size = items[indices[i]].value_size;

            assert(size <= KV_VALUE_SIZE_LIMIT || request->operation == KV_OP_GET);
            if (size > KV_VALUE_SIZE_LIMIT)
                size = KV_VALUE_SIZE_LIMIT;
            kv_endian_store_u32(at, size);
        }
    }
    if (request->operation == KV_OP_SET)
        for (uint32_t i = 0; i < count; i++, at += 4)
            kv_endian_store_u32(at, checksums[i]);
    for (uint32_t i = 0; i < count; i++, at += 2)
        kv_endian_store_u16(at, (uint16_t)items[indices[i]].key_size);
    return at;
}

/* Keys are short, and a call of memcpy costs more than to copy them: 16 bytes a step, the last step
 * over the one before it. */
static uint8_t *key_store(const kv_item *item, uint8_t *at)
{
    const uint8_t *key = (const uint8_t *)(uintptr_t)item->key;
    uint32_t size = item->key_size;

    assert(size > 0 && size <= KV_KEY_SIZE_LIMIT);
    if (size < KEY_STEP || size > KEY_STEPS_SIZE_MAX) {
        memcpy(at, key, size);
        return at + size;
    }
    for (uint32_t done = 0; done < size - KEY_STEP; done += KEY_STEP)
        memcpy(at + done, key + done, KEY_STEP);
    memcpy(at + size - KEY_STEP, key + size - KEY_STEP, KEY_STEP);
    return at + size;
}

uint32_t kv_request_encode(const kv_wire_request *request, const kv_item *items,
                           const uint32_t *indices, const uint32_t *checksums, uint8_t *columns)
{
    uint8_t *keys, *at;
    uint32_t size;

    assert(operation_known(request->operation));
    assert(request->count > 0 && request->count <= KV_MESSAGE_COUNT_MAX);
    assert((request->operation == KV_OP_SET) == (checksums != NULL));

    keys = at = items_store(request, items, indices, checksums, columns + HEAD_SIZE);
    for (uint32_t i = 0; i < request->count; i++)
        at = key_store(&items[indices[i]], at);
    head_store(request, (uint32_t)(at - keys), columns);
    size = (uint32_t)(at - columns);
    assert(size == kv_request_columns_size(request->operation, request->count,
                                           (uint64_t)(at - keys)));
    kv_message_seal(columns, size);
    return size;
}

static void head_load(const kv_message_head *head, const uint8_t *columns, kv_wire_request *request)
{
    *request = (kv_wire_request){
        .operation = columns[AT_OPERATION],
        .target = kv_endian_load_u32(columns + AT_TARGET),
        .chain_version = kv_endian_load_u64(columns + AT_CHAIN_VERSION),
        .ttl_ms = kv_endian_load_u64(columns + AT_TTL),
        .timeout_ms = kv_endian_load_u32(columns + AT_TIMEOUT),
        .if_absent = (columns[AT_FLAGS] & FLAG_IF_ABSENT) != 0,
        .repeated = (columns[AT_FLAGS] & FLAG_REPEATED) != 0,
        .channel = kv_endian_load_u32(columns + AT_CHANNEL),
        .sequence = kv_endian_load_u64(columns + AT_SEQUENCE),
        .count = head->count,
        .keys_size = kv_endian_load_u32(columns + AT_KEYS_SIZE),
    };
}

/* Only fields that the operation has are set, and nothing that this version has no meaning for. */
static int head_check(const kv_message_head *head, const uint8_t *columns,
                      const kv_wire_request *request, char *message)
{
    bool updates = kv_request_updates(request->operation);

    if (head->flags != 0 || columns[AT_FLAGS] > (FLAG_IF_ABSENT | FLAG_REPEATED) ||
        kv_endian_load_u16(columns + AT_RESERVED) != 0)
        return kv_message_refuse(-EBADMSG, message, "reserved bits of a request are set");
    if (request->operation != KV_OP_SET &&
        (request->if_absent || request->ttl_ms != 0 || head->values_size != 0))
        return kv_message_refuse(-EBADMSG, message, "operation %u has fields of a set",
                                 request->operation);
    if (!updates && (request->repeated || request->channel != 0 || request->sequence != 0))
        return kv_message_refuse(-EBADMSG, message, "operation %u has fields of an update",
                                 request->operation);
    if (updates && request->sequence == 0)
        return kv_message_refuse(-EBADMSG, message, "an update has sequence 0");
    return 0;
}

/* What the sizes of the columns claim, against the bytes that there are. */
static int columns_place(const kv_message_head *head, const uint8_t *columns,
                         kv_wire_request *request, char *message)
{
    uint32_t size = kv_request_columns_size(request->operation, request->count, request->keys_size);
    const uint8_t *at = columns + HEAD_SIZE;

    if (request->count == 0)
        return kv_message_refuse(-EBADMSG, message, "a request has no items");
    if (size != head->columns_size)
        return kv_message_refuse(-EBADMSG, message,
                                 "columns of %u bytes do not hold %u items with %u bytes "
                                 "of keys",
                                 head->columns_size, request->count, request->keys_size);
    if (carries_value_sizes(request->operation)) {
        request->value_sizes = at;
        at += (size_t)request->count * 4;
    }
    if (request->operation == KV_OP_SET) {
        request->checksums = at;
        at += (size_t)request->count * 4;
    }
    request->key_sizes = at;
    request->keys = at + (size_t)request->count * 2;
    return 0;
}

/* The loops have no exit, so that compilers do several items at once; who is to blame is looked
 * for only if somebody is. */
static int key_sizes_check(const kv_wire_request *request, char *message)
{
    uint32_t sum = 0, wrong = 0;

    for (uint32_t i = 0; i < request->count; i++) {
        uint32_t size = kv_endian_load_u16(request->key_sizes + (size_t)i * 2);

        sum += size;
        wrong |= size - 1 >= KV_KEY_SIZE_LIMIT;
    }
    for (uint32_t i = 0; wrong && i < request->count; i++) {
        uint32_t size = kv_endian_load_u16(request->key_sizes + (size_t)i * 2);

        if (size - 1 >= KV_KEY_SIZE_LIMIT)
            return kv_message_refuse(-EMSGSIZE, message,
                                     "the key size %u of item %u is not within 1 and %u", size, i,
                                     KV_KEY_SIZE_LIMIT);
    }
    if (sum != request->keys_size)
        return kv_message_refuse(-EBADMSG, message, "key sizes add up to %u bytes, %u are there",
                                 sum, request->keys_size);
    return 0;
}

static int value_sizes_check(const kv_wire_request *request, uint32_t values_size, char *message)
{
    uint64_t sum = 0;
    uint32_t wrong = 0;

    for (uint32_t i = 0; i < request->count; i++) {
        uint32_t size = kv_endian_load_u32(request->value_sizes + (size_t)i * 4);

        sum += size;
        wrong |= size > KV_VALUE_SIZE_LIMIT;
    }
    for (uint32_t i = 0; wrong && i < request->count; i++) {
        uint32_t size = kv_endian_load_u32(request->value_sizes + (size_t)i * 4);

        if (size > KV_VALUE_SIZE_LIMIT)
            return kv_message_refuse(-EMSGSIZE, message,
                                     "the value size %u of item %u exceeds the limit %u", size, i,
                                     KV_VALUE_SIZE_LIMIT);
    }
    if (request->operation == KV_OP_SET && sum != values_size)
        return kv_message_refuse(-EBADMSG, message, "value sizes add up to %llu bytes, %u follow",
                                 (unsigned long long)sum, values_size);
    return 0;
}

int kv_request_decode(const kv_message_head *head, const uint8_t *columns, kv_wire_request *request,
                      char *message)
{
    int result;

    assert(head->kind == KV_MESSAGE_REQUEST);
    assert(head->count <= KV_MESSAGE_COUNT_MAX);

    if (head->columns_size < HEAD_SIZE)
        return kv_message_refuse(-EBADMSG, message, "columns of %u bytes are no request",
                                 head->columns_size);
    head_load(head, columns, request);
    if (!operation_known(request->operation))
        return kv_message_refuse(-EOPNOTSUPP, message, "operation %u is unknown",
                                 request->operation);
    result = head_check(head, columns, request, message);
    if (result == 0)
        result = columns_place(head, columns, request, message);
    if (result == 0)
        result = key_sizes_check(request, message);
    if (result == 0 && request->value_sizes)
        result = value_sizes_check(request, head->values_size, message);
    return result;
}
