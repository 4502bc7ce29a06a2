/* Whole messages drawn at random, as inputs of fuzz_wire: for its corpus and for its mutator.
 *
 *   0           1                  3          35
 *   ┌───────────┬──────────────────┬──────────┬─────────────┐
 *   │ treatment │ items of the     │ head, 32 │ columns ... │
 *   │ u8        │ request, u16     │          │             │
 *   └───────────┴──────────────────┴──────────┴─────────────┘ */
#ifndef KV_FUZZ_WIRE_EXAMPLES_H
#define KV_FUZZ_WIRE_EXAMPLES_H

#include "bytes/endian.h"
#include "bytes/random.h"
#include "protocol/forward.h"
#include "protocol/reply.h"
#include "protocol/request.h"

#define INPUT_AT_COUNT 1u
#define INPUT_AT_HEAD 3u
#define INPUT_AT_COLUMNS (INPUT_AT_HEAD + KV_MESSAGE_HEAD_SIZE)
#define EXAMPLE_COUNT_MAX 24u
#define EXAMPLE_KEY_SIZE_MAX 40u
#define EXAMPLE_SIZE_MAX 4096u

/* What every example begins with; returns the input's size. */
static inline size_t example_wrap(kv_message_head *head, uint32_t request_count, uint8_t *input)
{
    head->version = 1;
    input[0] = 0;
    kv_endian_store_u16(input + INPUT_AT_COUNT, (uint16_t)request_count);
    kv_message_encode(head, input + INPUT_AT_HEAD);
    return INPUT_AT_COLUMNS + head->columns_size;
}

static inline size_t example_request(uint32_t operation, kv_random *random, uint8_t *input)
{
    static const uint8_t letters[EXAMPLE_KEY_SIZE_MAX] = "the-keys-of-a-request-lie-end-to-end";
    bool set = operation == KV_OP_SET, updates = kv_request_updates(operation);
    kv_wire_request request = {
        .operation = operation,
        .target = (uint32_t)kv_random_below(random, 4),
        .timeout_ms = 1000,
        .ttl_ms = set ? kv_random_below(random, 3) : 0,
        .if_absent = set && kv_random_one_in(random, 2),
        .repeated = updates && kv_random_one_in(random, 4),
        .sequence = updates,
        .count = 1 + (uint32_t)kv_random_below(random, EXAMPLE_COUNT_MAX),
    };
    kv_message_head head = {.kind = KV_MESSAGE_REQUEST, .count = request.count};
    kv_item items[EXAMPLE_COUNT_MAX];
    uint32_t indices[EXAMPLE_COUNT_MAX], checksums[EXAMPLE_COUNT_MAX];

    for (uint32_t i = 0; i < request.count; i++) {
        items[i] = (kv_item){.key = (uint64_t)(uintptr_t)letters};
        items[i].key_size = 1 + (uint32_t)kv_random_below(random, EXAMPLE_KEY_SIZE_MAX);
        items[i].value_size = (uint32_t)kv_random_below(random, 1 << 20);
        indices[i] = i;
        checksums[i] = (uint32_t)kv_random_next(random);
        head.values_size += set ? items[i].value_size : 0;
    }
    head.columns_size = kv_request_encode(&request, items, indices, set ? checksums : NULL,
                                          input + INPUT_AT_COLUMNS);
    return example_wrap(&head, 0, input);
}

static inline size_t example_reply(uint32_t operation, kv_random *random, uint8_t *input)
{
    kv_wire_reply reply = {
        .operation = operation,
        .matched = (uint32_t)kv_random_below(random, 3),
        .count = 1 + (uint32_t)kv_random_below(random, EXAMPLE_COUNT_MAX),
    };
    kv_message_head head = {.kind = KV_MESSAGE_REPLY, .flags = KV_REPLY_LAST};
    kv_reply_item items[EXAMPLE_COUNT_MAX];

    for (uint32_t i = 0; i < reply.count; i++) {
        items[i] = (kv_reply_item){.index = i, .version = i, .checksum = i, .expiry_ms = i};
        items[i].status = kv_random_one_in(random, 2) ? KV_OK
                                                      : (int32_t)kv_random_below(random, KV_BUSY);
        items[i].size = (uint32_t)kv_random_below(random, 1 << 20);
        if (operation == KV_OP_GET && items[i].status == KV_OK)
            head.values_size += items[i].size;
    }
    head.count = reply.count;
    head.columns_size = kv_reply_encode(&reply, items, input + INPUT_AT_COLUMNS);
    return example_wrap(&head, EXAMPLE_COUNT_MAX, input);
}

static inline void example_item(void *context, uint32_t i, kv_forward_item *item)
{
    *item = ((const kv_forward_item *)context)[i];
}

static inline size_t example_forward(uint32_t forward, uint32_t operation, kv_random *random,
                                     uint8_t *input)
{
    static const uint8_t letters[EXAMPLE_KEY_SIZE_MAX] = "the-keys-of-a-forward-lie-end-to-end";
    bool update = forward == KV_FORWARD_UPDATE;
    bool sync = forward == KV_FORWARD_SYNC || forward == KV_FORWARD_MOVE;
    kv_wire_forward all = {
        .forward = forward,
        .operation = operation,
        .target = (uint32_t)kv_random_below(random, 4),
        .flags = (update || sync) && kv_random_one_in(random, 2) ? KV_FORWARD_CAREFUL : 0,
        .chain_version = 1 + kv_random_below(random, 4),
        .ttl_ms = kv_random_below(random, 3),
        .client = "a client's name",
        .sequence = 1,
        .count = 1 + (uint32_t)kv_random_below(random, EXAMPLE_COUNT_MAX),
    };
    kv_message_head head = {.kind = KV_MESSAGE_FORWARD};
    kv_forward_item items[EXAMPLE_COUNT_MAX];

    if (forward == KV_FORWARD_SYNCED)
        all.count = 0;
    for (uint32_t i = 0; i < all.count; i++) {
        items[i] = (kv_forward_item){.key = letters, .version = i, .checksum = i, .expiry_ms = i};
        items[i].key_size = 1 + (uint32_t)kv_random_below(random, EXAMPLE_KEY_SIZE_MAX);
        items[i].value_size = (uint32_t)kv_random_below(random, 1 << 20);
        items[i].flags = sync ? KV_ITEM_PINNED : 0;
        if ((update || sync) && kv_random_one_in(random, 4))
            items[i].status = (uint8_t)kv_random_below(random, KV_DIRTY + 1);
        if (operation == KV_OP_SET && items[i].status == KV_OK)
            head.values_size += items[i].value_size;
    }
    head.count = all.count;
    head.columns_size = kv_forward_encode(&all, example_item, items, input + INPUT_AT_COLUMNS);
    return example_wrap(&head, 0, input);
}

static inline size_t example_forwarded(uint32_t status, kv_random *random, uint8_t *input)
{
    kv_wire_forwarded answer = {.status = (int32_t)status,
                                .chain_version = 1 + kv_random_below(random, 4),
                                .space_free = kv_random_next(random),
                                .space_wanted = kv_random_next(random),
                                .objects_wanted = kv_random_next(random)};
    kv_message_head head = {.kind = KV_MESSAGE_FORWARDED};
    uint8_t statuses[EXAMPLE_COUNT_MAX];

    if (status == KV_OK)
        answer.count = (uint32_t)kv_random_below(random, EXAMPLE_COUNT_MAX);
    for (uint32_t i = 0; i < answer.count; i++)
        statuses[i] = (uint8_t)kv_random_below(random, KV_DIRTY + 1);
    answer.statuses = statuses;
    head.count = answer.count;
    head.columns_size = kv_forwarded_encode(&answer, input + INPUT_AT_COLUMNS);
    return example_wrap(&head, answer.count, input);
}

#define EXAMPLE_FORWARD_SHAPES 10u

/* Each kind of forward with each operation that it has. */
static inline size_t example_forward_shape(uint32_t shape, kv_random *random, uint8_t *input)
{
    static const uint8_t shapes[EXAMPLE_FORWARD_SHAPES][2] = {
        {KV_FORWARD_UPDATE, KV_OP_SET}, {KV_FORWARD_UPDATE, KV_OP_DELETE},
        {KV_FORWARD_UPDATE, KV_OP_PIN}, {KV_FORWARD_UPDATE, KV_OP_UNPIN},
        {KV_FORWARD_SYNC, KV_OP_SET},   {KV_FORWARD_SYNC, KV_OP_DELETE},
        {KV_FORWARD_COMPARE, 0},        {KV_FORWARD_SYNCED, 0},
        {KV_FORWARD_MOVE, KV_OP_SET},   {KV_FORWARD_MOVE, KV_OP_DELETE},
    };

    return example_forward(shapes[shape][0], shapes[shape][1], random, input);
}

/* Any other kind: columns without meaning here, but sealed. */
static inline size_t example_other(uint8_t kind, kv_random *random, uint8_t *input)
{
    kv_message_head head = {.kind = kind};

    if (kind != KV_MESSAGE_CANCEL) {
        head.columns_size = 4 + (uint32_t)kv_random_below(random, 60);
        kv_random_fill(random, input + INPUT_AT_COLUMNS, head.columns_size);
        kv_message_seal(input + INPUT_AT_COLUMNS, head.columns_size);
    }
    return example_wrap(&head, 0, input);
}

/* `input` holds EXAMPLE_SIZE_MAX bytes. */
static inline size_t example_draw(kv_random *random, uint8_t *input)
{
    static const uint8_t others[] = {KV_MESSAGE_HELLO,   KV_MESSAGE_CHALLENGE, KV_MESSAGE_PROOF,
                                     KV_MESSAGE_WELCOME, KV_MESSAGE_REFUSAL,   KV_MESSAGE_CANCEL,
                                     KV_MESSAGE_CONTROL, KV_MESSAGE_CONTROL_REPLY};
    uint32_t operation = KV_OP_SET + (uint32_t)kv_random_below(random, KV_OP_UNPIN);

    if (kv_random_one_in(random, 16))
        return example_other(others[kv_random_below(random, sizeof(others))], random, input);
    switch (kv_random_below(random, 5)) {
    case 0:
    case 1:
        return example_request(operation, random, input);
    case 2:
        return example_reply(operation, random, input);
    case 3:
        return example_forward_shape((uint32_t)kv_random_below(random, EXAMPLE_FORWARD_SHAPES),
                                     random, input);
    default:
        return example_forwarded(kv_random_one_in(random, 4) ? KV_BUSY : KV_OK, random, input);
    }
}

#endif
