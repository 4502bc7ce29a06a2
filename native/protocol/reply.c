/* Columns of replies, little-endian; drawn for n items:
 *
 *   0     4           5        6          8         12         16
 *   ┌─────┬───────────┬────────┬──────────┬─────────┬──────────┐
 *   │ CRC │ operation │ status │ reserved │ matched │ reserved │
 *   │ u32 │ u8        │ u8     │ u16      │ u32     │ u32      │
 *   └─────┴───────────┴────────┴──────────┴─────────┴──────────┘
 *   16  STAT       STAT       all        GET, STAT    GET, STAT    STAT        all
 *   ┌───────────┬───────────┬──────────┬────────────┬────────────┬───────────┬──────────────┐
 *   │ versions, │ expiries, │ indices, │ sizes,     │ checksums, │ flags,    │ statuses,    │
 *   │ u64 × n   │ u64 × n   │ u32 × n  │ u32 × n    │ u32 × n    │ u32 × n   │ u8 × n       │
 *   └───────────┴───────────┴──────────┴────────────┴────────────┴───────────┴──────────────┘
 *
 * Wide columns come first, so that each is aligned if the message is. Guarantees that each reply
 * has one encoding, and that what decodes is one: what an item does not have is 0. */

#include "protocol/reply.h"

#include "bytes/endian.h"

#include <assert.h>
#include <errno.h>

enum {
    AT_OPERATION = 4,
    AT_STATUS = 5,
    AT_RESERVED = 6,
    AT_MATCHED = 8,
    AT_RESERVED_TOO = 12,
    HEAD_SIZE = 16
};

#define STATUS_MAX KV_DIRTY
#define FLAGS_KNOWN ((uint32_t)KV_ITEM_PINNED)

_Static_assert(HEAD_SIZE + KV_MESSAGE_COUNT_MAX * (8 + 8 + 5 * 4 + 1) <=
                   KV_MESSAGE_COLUMNS_SIZE_MAX,
               "one reply can carry all items of the largest request");
_Static_assert(STATUS_MAX <= UINT8_MAX, "a status fits its column");

static bool operation_known(uint32_t operation)
{
    return operation >= KV_OP_SET && operation <= KV_OP_UNPIN;
}

static bool carries_sizes(uint32_t operation)
{
    return operation == KV_OP_GET || operation == KV_OP_STAT;
}

static uint32_t item_size(uint32_t operation)
{
    return 4u + 1u + (carries_sizes(operation) ? 8u : 0u) + (operation == KV_OP_STAT ? 20u : 0u);
}

uint32_t kv_reply_columns_size(uint32_t operation, uint32_t count)
{
    assert(operation_known(operation));
    assert(count <= KV_MESSAGE_COUNT_MAX);
    return HEAD_SIZE + count * item_size(operation);
}

/* Point into the columns; both ends find them by this. */
static void columns_place(kv_wire_reply *reply, const uint8_t *at)
{
    size_t count = reply->count;

    at += HEAD_SIZE;
    if (reply->operation == KV_OP_STAT) {
        reply->versions = at;
        reply->expiries = at + count * 8;
        at += count * 16;
    }
    reply->indices = at;
    at += count * 4;
    if (carries_sizes(reply->operation)) {
        reply->sizes = at;
        reply->checksums = at + count * 4;
        at += count * 8;
    }
    if (reply->operation == KV_OP_STAT) {
        reply->flags = at;
        at += count * 4;
    }
    reply->statuses = at;
}

/* The column at an offset that columns_place found, to write. */
static uint8_t *column_of(uint8_t *columns, const uint8_t *column)
{
    return columns + (column - columns);
}

static void sizes_store(const kv_wire_reply *placed, const kv_reply_item *items, uint8_t *columns)
{
    uint8_t *sizes = column_of(columns, placed->sizes);
    uint8_t *checksums = column_of(columns, placed->checksums);

    for (uint32_t i = 0; i < placed->count; i++, sizes += 4, checksums += 4) {
        int32_t status = items[i].status;
        bool sized = status == KV_OK || status == KV_BUFFER_TOO_SMALL;

        assert(!sized || items[i].size <= KV_VALUE_SIZE_LIMIT);
        kv_endian_store_u32(sizes, sized ? items[i].size : 0);
        kv_endian_store_u32(checksums, status == KV_OK ? items[i].checksum : 0);
    }
}

static void stats_store(const kv_wire_reply *placed, const kv_reply_item *items, uint8_t *columns)
{
    uint8_t *versions = column_of(columns, placed->versions);
    uint8_t *expiries = column_of(columns, placed->expiries);
    uint8_t *flags = column_of(columns, placed->flags);

    for (uint32_t i = 0; i < placed->count; i++) {
        bool there = items[i].status == KV_OK;

        assert(!there || (items[i].flags & ~FLAGS_KNOWN) == 0);
        kv_endian_store_u64(versions + (size_t)i * 8, there ? items[i].version : 0);
        kv_endian_store_u64(expiries + (size_t)i * 8, there ? items[i].expiry_ms : 0);
        kv_endian_store_u32(flags + (size_t)i * 4, there ? items[i].flags : 0);
    }
}

static void head_store(const kv_wire_reply *reply, uint8_t *columns)
{
    columns[AT_OPERATION] = (uint8_t)reply->operation;
    columns[AT_STATUS] = (uint8_t)reply->status;
    kv_endian_store_u16(columns + AT_RESERVED, 0);
    kv_endian_store_u32(columns + AT_MATCHED,
                        reply->operation == KV_OP_MATCH_PREFIX ? reply->matched : 0);
    kv_endian_store_u32(columns + AT_RESERVED_TOO, 0);
}

uint32_t kv_reply_encode(const kv_wire_reply *reply, const kv_reply_item *items, uint8_t *columns)
{
    kv_wire_reply placed = {.operation = reply->operation, .count = reply->count};
    uint32_t size = kv_reply_columns_size(reply->operation, reply->count);
    uint8_t *indices, *statuses;

    assert(reply->status >= KV_OK && reply->status <= STATUS_MAX);
    head_store(reply, columns);
    columns_place(&placed, columns);
    indices = column_of(columns, placed.indices);
    statuses = column_of(columns, placed.statuses);
    for (uint32_t i = 0; i < reply->count; i++) {
        assert(items[i].status >= KV_OK && items[i].status <= STATUS_MAX);
        kv_endian_store_u32(indices + (size_t)i * 4, items[i].index);
        statuses[i] = (uint8_t)items[i].status;
    }
    if (placed.sizes)
        sizes_store(&placed, items, columns);
    if (placed.versions)
        stats_store(&placed, items, columns);
    assert(statuses + reply->count == columns + size);
    kv_message_seal(columns, size);
    return size;
}

/* What is said about the request as a whole is said once, at its end. */
static bool head_legal(const kv_message_head *head, const uint8_t *columns, uint32_t request_count,
                       const kv_wire_reply *reply)
{
    bool last = head->flags == KV_REPLY_LAST;

    if ((head->flags & ~KV_REPLY_LAST) != 0 || kv_endian_load_u16(columns + AT_RESERVED) != 0 ||
        kv_endian_load_u32(columns + AT_RESERVED_TOO) != 0)
        return false;
    if (reply->status > STATUS_MAX || reply->matched > request_count)
        return false;
    if (!last && (reply->status != KV_OK || reply->matched != 0 || reply->count == 0))
        return false;
    if (reply->operation != KV_OP_MATCH_PREFIX && reply->matched != 0)
        return false;
    return reply->count <= request_count &&
           head->columns_size == kv_reply_columns_size(reply->operation, reply->count);
}

/* The loops below have no exit, so that compilers do several items at once. */
static bool indices_legal(const kv_wire_reply *reply, uint32_t request_count)
{
    uint32_t wrong = 0;

    for (uint32_t i = 0; i < reply->count; i++) {
        wrong |= kv_endian_load_u32(reply->indices + (size_t)i * 4) >= request_count;
        wrong |= reply->statuses[i] > STATUS_MAX;
    }
    return wrong == 0;
}

static bool sizes_legal(const kv_wire_reply *reply, uint32_t values_size)
{
    uint64_t sum = 0;
    uint32_t wrong = 0;

    for (uint32_t i = 0; i < reply->count; i++) {
        uint32_t size = kv_endian_load_u32(reply->sizes + (size_t)i * 4);
        uint32_t checksum = kv_endian_load_u32(reply->checksums + (size_t)i * 4);
        uint32_t there = reply->statuses[i] == KV_OK;
        uint32_t sized = there | (reply->statuses[i] == KV_BUFFER_TOO_SMALL);

        sum += there ? size : 0;
        wrong |= size > (sized ? (uint32_t)KV_VALUE_SIZE_LIMIT : 0u);
        wrong |= !there & (checksum != 0);
    }
    return wrong == 0 && values_size == (reply->operation == KV_OP_GET ? sum : 0);
}

static bool stats_legal(const kv_wire_reply *reply)
{
    uint64_t wrong = 0;

    for (uint32_t i = 0; i < reply->count; i++) {
        uint32_t flags = kv_endian_load_u32(reply->flags + (size_t)i * 4);
        uint64_t fields = kv_endian_load_u64(reply->versions + (size_t)i * 8) |
                          kv_endian_load_u64(reply->expiries + (size_t)i * 8) | flags;

        wrong |= flags & ~FLAGS_KNOWN;
        wrong |= reply->statuses[i] == KV_OK ? 0 : fields;
    }
    return wrong == 0;
}

int kv_reply_decode(const kv_message_head *head, const uint8_t *columns, uint32_t request_count,
                    kv_wire_reply *reply)
{
    assert(head->kind == KV_MESSAGE_REPLY);
    assert(head->count <= KV_MESSAGE_COUNT_MAX);

    if (head->columns_size < HEAD_SIZE)
        return -EBADMSG;
    *reply = (kv_wire_reply){
        .operation = columns[AT_OPERATION],
        .status = columns[AT_STATUS],
        .matched = kv_endian_load_u32(columns + AT_MATCHED),
        .count = head->count,
    };
    if (!operation_known(reply->operation) || !head_legal(head, columns, request_count, reply))
        return -EBADMSG;
    columns_place(reply, columns);
    if (!indices_legal(reply, request_count))
        return -EBADMSG;
    if (reply->sizes ? !sizes_legal(reply, head->values_size) : head->values_size != 0)
        return -EBADMSG;
    return reply->versions && !stats_legal(reply) ? -EBADMSG : 0;
}

void kv_reply_item_at(const kv_wire_reply *reply, uint32_t position, kv_reply_item *item)
{
    size_t at = position;

    assert(position < reply->count);
    *item = (kv_reply_item){
        .index = kv_endian_load_u32(reply->indices + at * 4),
        .status = reply->statuses[at],
    };
    if (reply->sizes) {
        item->size = kv_endian_load_u32(reply->sizes + at * 4);
        item->checksum = kv_endian_load_u32(reply->checksums + at * 4);
    }
    if (reply->versions) {
        item->version = kv_endian_load_u64(reply->versions + at * 8);
        item->expiry_ms = kv_endian_load_u64(reply->expiries + at * 8);
        item->flags = kv_endian_load_u32(reply->flags + at * 4);
    }
}
