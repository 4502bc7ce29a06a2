/* Columns of FORWARD, little-endian; drawn for n items:
 *
 *   0     4         5       6       7      8        12        16       20       24        32     40
 *   ┌─────┬─────────┬───────┬───────┬──────┬────────┬─────────┬────────┬────────┬─────────┬──────┐
 *   │ CRC │ forward │ oper- │ flags │ re-  │ target │ channel │ keys   │attempt │ chain   │ ttl  │
 *   │ u32 │ u8      │ ation │ u8    │served│ u32    │ u32     │size u32│u32     │ version │ ms   │
 *   │     │         │ u8    │       │u8    │        │         │        │        │ u64     │ u64  │
 *   └─────┴─────────┴───────┴───────┴──────┴────────┴─────────┴────────┴────────┴─────────┴──────┘
 *   40         48         64
 *   ┌──────────┬──────────┐
 *   │ sequence │ client   │
 *   │ u64      │ id       │
 *   └──────────┴──────────┘
 *   64          SET         SET            SET          SYNC or MOVE, SET
 *   ┌───────────┬───────────┬──────────────┬────────────┬─────────┬───────────┬──────────┬──────────┐
 *   │ versions, │ expiries, │ value sizes, │ checksums, │ flags,  │ key sizes,│ statuses,│ keys, end│
 *   │ u64 × n   │ u64 × n   │ u32 × n      │ u32 × n    │ u32 × n │ u16 × n   │ u8 × n   │ to end   │
 *   └───────────┴───────────┴──────────────┴────────────┴─────────┴───────────┴──────────┴──────────┘
 *   flags of the head: 1 careful, 2 evicts (UPDATE, DELETE); of an item: 1 pinned. Carefulness, attempt: UPDATE, SYNC, MOVE
 *
 * Columns of FORWARDED:
 *
 *   0     4        5          8               16           24       32       40
 *   ┌─────┬────────┬──────────┬───────────────┬────────────┬────────┬────────┬──────────┐
 *   │ CRC │ status │ reserved │ chain version │ space free │ space  │objects │ statuses,│
 *   │ u32 │ u8     │ u8 × 3   │ u64           │ u64        │ wanted │wanted  │ u8 × n   │
 *   │     │        │          │               │            │ u64    │u64     │          │
 *   └─────┴────────┴──────────┴───────────────┴────────────┴────────┴────────┴──────────┘
 *
 * Every column is there for every operation; what an operation or an item does not have is 0.
 * Wide columns come first, so that each is aligned if the message is. Guarantees that each update
 * has one encoding, and that what decodes is one. */

#include "protocol/forward.h"

#include "bytes/endian.h"
#include "protocol/request.h"

#include <assert.h>
#include <errno.h>

enum {
    AT_FORWARD = 4,
    AT_OPERATION = 5,
    AT_FLAGS = 6,
    AT_RESERVED = 7,
    AT_TARGET = 8,
    AT_CHANNEL = 12,
    AT_KEYS_SIZE = 16,
    AT_ATTEMPT = 20,
    AT_CHAIN_VERSION = 24,
    AT_TTL = 32,
    AT_SEQUENCE = 40,
    AT_CLIENT = 48,
    HEAD_SIZE = AT_CLIENT + KV_CLIENT_ID_SIZE
};

enum { ITEM_SIZE = 8 + 8 + 4 + 4 + 4 + 2 + 1 };

enum {
    ANSWER_AT_STATUS = 4,
    ANSWER_AT_CHAIN_VERSION = 8,
    ANSWER_AT_SPACE = 16,
    ANSWER_AT_SPACE_WANTED = 24,
    ANSWER_AT_OBJECTS_WANTED = 32,
    ANSWER_SIZE = 40
};

#define STATUS_MAX KV_DIRTY
#define ITEM_FLAGS_KNOWN ((uint32_t)KV_ITEM_PINNED)
#define REQUEST_ITEM_SIZE_MIN 2u /* its key's size; the key apart */

_Static_assert(KV_STORED_KEY_SIZE_MAX == KV_KEY_SIZE_LIMIT + 2 + 2 * KV_NAME_SIZE_MAX,
               "tenant and namespace, each with its size, and the key");
_Static_assert(KV_STORED_KEY_SIZE_MAX <= UINT16_MAX, "a key size fits its column");
_Static_assert(HEAD_SIZE + KV_MESSAGE_COLUMNS_SIZE_MAX +
                       KV_MESSAGE_COUNT_MAX * (ITEM_SIZE - REQUEST_ITEM_SIZE_MIN +
                                               KV_STORED_KEY_SIZE_MAX - KV_KEY_SIZE_LIMIT) <=
                   KV_MESSAGE_FORWARD_SIZE_MAX,
               "whatever one request asks for fits one forward");
_Static_assert(ANSWER_SIZE + KV_MESSAGE_COUNT_MAX <= KV_MESSAGE_COLUMNS_SIZE_MAX,
               "the reply to any forward fits");
_Static_assert(STATUS_MAX <= UINT8_MAX, "a status fits its column");

static bool kind_known(uint32_t kind, uint32_t version)
{
    if (kind == KV_FORWARD_SPACE)
        return version >= KV_PROTOCOL_VERSION_SPACE;
    return kind >= KV_FORWARD_UPDATE && kind < KV_FORWARD_SPACE;
}

/* What somebody holds, with its version and pin. */
static bool copies(uint32_t kind)
{
    return kind == KV_FORWARD_SYNC || kind == KV_FORWARD_MOVE;
}

static bool has_items(uint32_t kind)
{
    return kind != KV_FORWARD_SYNCED && kind != KV_FORWARD_SPACE;
}

static bool operation_known(uint32_t kind, uint32_t operation)
{
    if (kind == KV_FORWARD_UPDATE)
        return kv_request_updates(operation);
    if (copies(kind))
        return operation == KV_OP_SET || operation == KV_OP_DELETE;
    return operation == 0;
}

/* What is applied here. */
static bool kind_applies(uint32_t kind)
{
    return kind == KV_FORWARD_UPDATE || copies(kind);
}

static uint32_t flags_known(const kv_wire_forward *forward)
{
    bool removes = forward->forward == KV_FORWARD_UPDATE && forward->operation == KV_OP_DELETE;

    return (kind_applies(forward->forward) ? KV_FORWARD_CAREFUL : 0) |
           (removes ? KV_FORWARD_EVICTS : 0);
}

/* Nobody asked for what evicts. */
static bool names_fit(const kv_wire_forward *forward, bool named)
{
    if (named)
        return forward->sequence != 0 && !(forward->flags & KV_FORWARD_EVICTS);
    return forward->sequence == 0 && forward->channel == 0;
}

static uint32_t item_flags_known(const kv_wire_forward *forward)
{
    return copies(forward->forward) ? ITEM_FLAGS_KNOWN : 0;
}

static bool client_named(const uint8_t client[KV_CLIENT_ID_SIZE])
{
    unsigned bits = 0;

    for (uint32_t i = 0; i < KV_CLIENT_ID_SIZE; i++)
        bits |= client[i];
    return bits != 0;
}

uint32_t kv_forward_columns_size(uint32_t count, uint64_t keys_size)
{
    uint64_t size = HEAD_SIZE + (uint64_t)count * ITEM_SIZE;

    if (count > KV_MESSAGE_COUNT_MAX || keys_size > KV_MESSAGE_FORWARD_SIZE_MAX)
        return UINT32_MAX;
    size += keys_size;
    return size <= KV_MESSAGE_FORWARD_SIZE_MAX ? (uint32_t)size : UINT32_MAX;
}

/* Point into the columns; both ends find them by this. */
static void columns_place(kv_wire_forward *forward, const uint8_t *columns)
{
    size_t count = forward->count;

    forward->versions = columns + HEAD_SIZE;
    forward->expiries = forward->versions + count * 8;
    forward->value_sizes = forward->expiries + count * 8;
    forward->checksums = forward->value_sizes + count * 4;
    forward->item_flags = forward->checksums + count * 4;
    forward->key_sizes = forward->item_flags + count * 4;
    forward->statuses = forward->key_sizes + count * 2;
    forward->keys = forward->statuses + count;
}

static void head_store(const kv_wire_forward *forward, uint32_t keys_size, uint8_t *columns)
{
    bool named = forward->forward == KV_FORWARD_UPDATE && client_named(forward->client);

    assert((forward->flags & ~flags_known(forward)) == 0);
    assert(!named || names_fit(forward, true));
    memset(columns, 0, HEAD_SIZE);
    columns[AT_FORWARD] = (uint8_t)forward->forward;
    columns[AT_OPERATION] = (uint8_t)forward->operation;
    columns[AT_FLAGS] = (uint8_t)forward->flags;
    kv_endian_store_u32(columns + AT_TARGET, forward->target);
    kv_endian_store_u32(columns + AT_KEYS_SIZE, keys_size);
    kv_endian_store_u64(columns + AT_CHAIN_VERSION, forward->chain_version);
    if (kind_applies(forward->forward))
        kv_endian_store_u32(columns + AT_ATTEMPT, forward->attempt);
    if (forward->forward == KV_FORWARD_UPDATE && forward->operation == KV_OP_SET)
        kv_endian_store_u64(columns + AT_TTL, forward->ttl_ms);
    if (!named)
        return;
    kv_endian_store_u32(columns + AT_CHANNEL, forward->channel);
    kv_endian_store_u64(columns + AT_SEQUENCE, forward->sequence);
    memcpy(columns + AT_CLIENT, forward->client, KV_CLIENT_ID_SIZE);
}

/* The bytes at an offset that columns_place found, to write. */
static uint8_t *column_of(uint8_t *columns, const uint8_t *column, size_t offset)
{
    return columns + (column - columns) + offset;
}

static void item_store(const kv_wire_forward *placed, const kv_forward_item *item, uint32_t at,
                       uint8_t *columns)
{
    bool set = placed->operation == KV_OP_SET && item->status == KV_OK;

    assert(item->key_size > 0 && item->key_size <= KV_STORED_KEY_SIZE_MAX);
    assert(!set || item->value_size <= KV_VALUE_SIZE_LIMIT);
    assert(!set || (item->flags & ~item_flags_known(placed)) == 0);
    assert(item->status <= STATUS_MAX);
    kv_endian_store_u64(column_of(columns, placed->versions, (size_t)at * 8), item->version);
    kv_endian_store_u64(column_of(columns, placed->expiries, (size_t)at * 8),
                        set ? item->expiry_ms : 0);
    kv_endian_store_u32(column_of(columns, placed->value_sizes, (size_t)at * 4),
                        set ? item->value_size : 0);
    kv_endian_store_u32(column_of(columns, placed->checksums, (size_t)at * 4),
                        set ? item->checksum : 0);
    kv_endian_store_u32(column_of(columns, placed->item_flags, (size_t)at * 4),
                        set ? item->flags : 0);
    kv_endian_store_u16(column_of(columns, placed->key_sizes, (size_t)at * 2),
                        (uint16_t)item->key_size);
    *column_of(columns, placed->statuses, at) = item->status;
}

uint32_t kv_forward_encode(const kv_wire_forward *forward, kv_forward_item_of *item, void *context,
                           uint8_t *columns)
{
    kv_wire_forward placed = {.forward = forward->forward,
                              .operation = forward->operation,
                              .count = forward->count};
    uint8_t *keys, *at;
    uint32_t size;

    assert(kind_known(forward->forward, KV_PROTOCOL_VERSION_MAX));
    assert(operation_known(forward->forward, forward->operation));
    assert(has_items(forward->forward) == (forward->count > 0));
    assert(forward->count <= KV_MESSAGE_COUNT_MAX);

    columns_place(&placed, columns);
    keys = at = column_of(columns, placed.keys, 0);
    for (uint32_t i = 0; i < forward->count; i++) {
        kv_forward_item one = {0};

        item(context, i, &one);
        item_store(&placed, &one, i, columns);
        memcpy(at, one.key, one.key_size);
        at += one.key_size;
    }
    head_store(forward, (uint32_t)(at - keys), columns);
    size = (uint32_t)(at - columns);
    assert(size == kv_forward_columns_size(forward->count, (uint64_t)(at - keys)));
    kv_message_seal(columns, size);
    return size;
}

static void head_load(const kv_message_head *head, const uint8_t *columns, kv_wire_forward *forward)
{
    *forward = (kv_wire_forward){
        .forward = columns[AT_FORWARD],
        .operation = columns[AT_OPERATION],
        .flags = columns[AT_FLAGS],
        .target = kv_endian_load_u32(columns + AT_TARGET),
        .channel = kv_endian_load_u32(columns + AT_CHANNEL),
        .keys_size = kv_endian_load_u32(columns + AT_KEYS_SIZE),
        .attempt = kv_endian_load_u32(columns + AT_ATTEMPT),
        .chain_version = kv_endian_load_u64(columns + AT_CHAIN_VERSION),
        .ttl_ms = kv_endian_load_u64(columns + AT_TTL),
        .sequence = kv_endian_load_u64(columns + AT_SEQUENCE),
        .count = head->count,
    };
    memcpy(forward->client, columns + AT_CLIENT, KV_CLIENT_ID_SIZE);
}

/* Only fields that the forward has are set, and nothing that this version has no meaning for. */
static int head_check(const kv_message_head *head, const uint8_t *columns,
                      const kv_wire_forward *forward, char *message)
{
    bool update = forward->forward == KV_FORWARD_UPDATE;
    bool named = client_named(forward->client);

    if (head->flags != 0 || columns[AT_RESERVED] != 0 ||
        (forward->flags & ~flags_known(forward)) != 0 ||
        (forward->attempt != 0 && !kind_applies(forward->forward)))
        return kv_message_refuse(-EBADMSG, message, "reserved bits of a forward are set");
    if (forward->ttl_ms != 0 && !(update && forward->operation == KV_OP_SET))
        return kv_message_refuse(-EBADMSG, message, "forward %u has the ttl of a set",
                                 forward->forward);
    if (!update && named)
        return kv_message_refuse(-EBADMSG, message, "forward %u names a client", forward->forward);
    if (!names_fit(forward, named))
        return kv_message_refuse(-EBADMSG, message,
                                 "client, channel and sequence do not go together");
    if (has_items(forward->forward) != (forward->count > 0))
        return kv_message_refuse(-EBADMSG, message, "forward %u has %u items", forward->forward,
                                 forward->count);
    if (forward->operation != KV_OP_SET && head->values_size != 0)
        return kv_message_refuse(-EBADMSG, message, "values follow what sets none");
    return 0;
}

/* What belongs to values: only items that are set here have it. */
static int values_check(const kv_wire_forward *forward, uint32_t values_size, char *message)
{
    bool set = forward->operation == KV_OP_SET;
    uint64_t sum = 0;

    for (uint32_t i = 0; i < forward->count; i++) {
        uint32_t size = kv_endian_load_u32(forward->value_sizes + (size_t)i * 4);
        uint32_t checksum = kv_endian_load_u32(forward->checksums + (size_t)i * 4);
        uint32_t flags = kv_endian_load_u32(forward->item_flags + (size_t)i * 4);
        uint64_t expiry = kv_endian_load_u64(forward->expiries + (size_t)i * 8);

        if (size > KV_VALUE_SIZE_LIMIT)
            return kv_message_refuse(-EMSGSIZE, message,
                                     "the value size %u of item %u exceeds the limit %u", size, i,
                                     KV_VALUE_SIZE_LIMIT);
        if ((!set || forward->statuses[i] != KV_OK) && (size | checksum | flags | expiry) != 0)
            return kv_message_refuse(-EBADMSG, message, "item %u is not set, but has a value", i);
        if ((flags & ~item_flags_known(forward)) != 0)
            return kv_message_refuse(-EBADMSG, message, "reserved bits of item %u are set", i);
        sum += size;
    }
    if (sum != values_size)
        return kv_message_refuse(-EBADMSG, message, "value sizes add up to %llu bytes, %u follow",
                                 (unsigned long long)sum, values_size);
    return 0;
}

static int items_check(const kv_wire_forward *forward, char *message)
{
    bool refusable = kind_applies(forward->forward);
    uint32_t sum = 0;

    for (uint32_t i = 0; i < forward->count; i++) {
        uint32_t size = kv_endian_load_u16(forward->key_sizes + (size_t)i * 2);

        if (size == 0 || size > KV_STORED_KEY_SIZE_MAX)
            return kv_message_refuse(-EMSGSIZE, message,
                                     "the key size %u of item %u is not within 1 and %u", size, i,
                                     KV_STORED_KEY_SIZE_MAX);
        if (forward->statuses[i] > (refusable ? STATUS_MAX : KV_OK))
            return kv_message_refuse(-EBADMSG, message, "item %u has no status %u", i,
                                     forward->statuses[i]);
        sum += size;
    }
    if (sum != forward->keys_size)
        return kv_message_refuse(-EBADMSG, message, "key sizes add up to %u bytes, %u are there",
                                 sum, forward->keys_size);
    return 0;
}

int kv_forward_decode(const kv_message_head *head, const uint8_t *columns, kv_wire_forward *forward,
                      char *message)
{
    int result;

    assert(head->kind == KV_MESSAGE_FORWARD);
    assert(head->count <= KV_MESSAGE_COUNT_MAX);

    if (head->columns_size < HEAD_SIZE)
        return kv_message_refuse(-EBADMSG, message, "columns of %u bytes are no forward",
                                 head->columns_size);
    head_load(head, columns, forward);
    if (!kind_known(forward->forward, head->version))
        return kv_message_refuse(-EOPNOTSUPP, message, "forward %u is unknown to version %u",
                                 forward->forward, head->version);
    if (!operation_known(forward->forward, forward->operation))
        return kv_message_refuse(-EOPNOTSUPP, message, "operation %u is unknown to forward %u",
                                 forward->operation, forward->forward);
    result = head_check(head, columns, forward, message);
    if (result < 0)
        return result;
    if (kv_forward_columns_size(forward->count, forward->keys_size) != head->columns_size)
        return kv_message_refuse(-EBADMSG, message,
                                 "columns of %u bytes do not hold %u items with %u bytes "
                                 "of keys",
                                 head->columns_size, forward->count, forward->keys_size);
    columns_place(forward, columns);
    result = items_check(forward, message);
    return result < 0 ? result : values_check(forward, head->values_size, message);
}

void kv_forward_item_at(const kv_wire_forward *forward, uint32_t i, uint32_t key_offset,
                        kv_forward_item *item)
{
    size_t at = i;

    assert(i < forward->count);
    *item = (kv_forward_item){
        .key = forward->keys + key_offset,
        .key_size = kv_endian_load_u16(forward->key_sizes + at * 2),
        .value_size = kv_endian_load_u32(forward->value_sizes + at * 4),
        .checksum = kv_endian_load_u32(forward->checksums + at * 4),
        .flags = kv_endian_load_u32(forward->item_flags + at * 4),
        .expiry_ms = kv_endian_load_u64(forward->expiries + at * 8),
        .version = kv_endian_load_u64(forward->versions + at * 8),
        .status = forward->statuses[at],
    };
    assert(item->key_size <= forward->keys_size - key_offset);
}

uint32_t kv_forwarded_columns_size(uint32_t count)
{
    assert(count <= KV_MESSAGE_COUNT_MAX);
    return ANSWER_SIZE + count;
}

uint32_t kv_forwarded_encode(const kv_wire_forwarded *forwarded, uint8_t *columns)
{
    uint32_t size = kv_forwarded_columns_size(forwarded->count);

    assert(forwarded->status >= KV_OK && forwarded->status <= STATUS_MAX);
    assert(forwarded->status == KV_OK || forwarded->count == 0);
    memset(columns, 0, ANSWER_SIZE);
    columns[ANSWER_AT_STATUS] = (uint8_t)forwarded->status;
    kv_endian_store_u64(columns + ANSWER_AT_CHAIN_VERSION, forwarded->chain_version);
    kv_endian_store_u64(columns + ANSWER_AT_SPACE, forwarded->space_free);
    kv_endian_store_u64(columns + ANSWER_AT_SPACE_WANTED, forwarded->space_wanted);
    kv_endian_store_u64(columns + ANSWER_AT_OBJECTS_WANTED, forwarded->objects_wanted);
    for (uint32_t i = 0; i < forwarded->count; i++) {
        assert(forwarded->statuses[i] <= STATUS_MAX);
        columns[ANSWER_SIZE + i] = forwarded->statuses[i];
    }
    kv_message_seal(columns, size);
    return size;
}

int kv_forwarded_decode(const kv_message_head *head, const uint8_t *columns, uint32_t count,
                        kv_wire_forwarded *forwarded)
{
    unsigned wrong = 0;

    assert(head->kind == KV_MESSAGE_FORWARDED);
    assert(head->count <= KV_MESSAGE_COUNT_MAX);

    if (head->flags != 0 || head->columns_size != kv_forwarded_columns_size(head->count))
        return -EBADMSG;
    *forwarded = (kv_wire_forwarded){
        .status = columns[ANSWER_AT_STATUS],
        .count = head->count,
        .chain_version = kv_endian_load_u64(columns + ANSWER_AT_CHAIN_VERSION),
        .space_free = kv_endian_load_u64(columns + ANSWER_AT_SPACE),
        .space_wanted = kv_endian_load_u64(columns + ANSWER_AT_SPACE_WANTED),
        .objects_wanted = kv_endian_load_u64(columns + ANSWER_AT_OBJECTS_WANTED),
        .statuses = columns + ANSWER_SIZE,
    };
    for (uint32_t at = ANSWER_AT_STATUS + 1; at < ANSWER_AT_CHAIN_VERSION; at++)
        wrong |= columns[at];
    if (wrong != 0 || forwarded->status > STATUS_MAX)
        return -EBADMSG;
    if (forwarded->count != (forwarded->status == KV_OK ? count : 0))
        return -EBADMSG;
    for (uint32_t i = 0; i < forwarded->count; i++)
        wrong |= forwarded->statuses[i] > STATUS_MAX;
    return wrong != 0 ? -EBADMSG : 0;
}
