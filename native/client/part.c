/* See part.h. */

#include "client/part.h"

#include "protocol/request.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static kv_part *part_allocate(uint32_t count, bool set, uint32_t message_size)
{
    size_t numbers = (size_t)count * sizeof(uint32_t) * (set ? 2 : 1);
    kv_part *part = malloc(sizeof(*part) + numbers + count + message_size);

    if (!part)
        return NULL;
    *part = (kv_part){.state = KV_PART_WAITING, .count = count, .message_size = message_size};
    part->indices = (uint32_t *)(part + 1);
    part->checksums = set ? part->indices + count : NULL;
    part->answered = (uint8_t *)(part + 1) + numbers;
    part->message = part->answered + count;
    kv_list_init(&part->link);
    kv_list_init(&part->call_link);
    return part;
}

kv_part *kv_part_open(const kv_batch *batch, const kv_cut *cut)
{
    uint32_t operation = batch->request->operation;
    uint32_t columns_size = kv_request_columns_size(operation, cut->count, cut->keys_size);
    kv_part *part;

    assert(cut->count > 0 && columns_size != UINT32_MAX);
    part = part_allocate(cut->count, operation == KV_OP_SET, KV_MESSAGE_HEAD_SIZE + columns_size);
    if (!part)
        return NULL;
    part->operation = operation;
    part->chain = cut->chain;
    part->values_size = cut->values_size;
    part->room = cut->room;
    part->idempotent = !kv_request_updates(operation);
    memcpy(part->indices, cut->indices, cut->count * sizeof(uint32_t));
    return part;
}

kv_part *kv_part_open_control(uint32_t kind, uint32_t target, const void *body, uint32_t body_size)
{
    uint32_t columns_size = body_size > 0 ? KV_MESSAGE_CRC_SIZE + body_size : 0;
    kv_part *part;

    assert(columns_size <= KV_MESSAGE_COLUMNS_SIZE_MAX);
    part = part_allocate(0, false, KV_MESSAGE_HEAD_SIZE + columns_size);
    if (!part)
        return NULL;
    part->target = target;
    part->control = kind;
    part->idempotent = true;
    if (body_size > 0)
        memcpy(part->message + KV_MESSAGE_HEAD_SIZE + KV_MESSAGE_CRC_SIZE, body, body_size);
    return part;
}

void kv_part_close(kv_part *part)
{
    assert(!kv_timer_is_set(&part->pause));
    assert(kv_list_empty(&part->link) && kv_list_empty(&part->call_link));
    kv_part_charge(part, NULL, 0);
    free(part);
}

void kv_part_charge(kv_part *part, kv_load *load, uint64_t now_ns)
{
    uint32_t units = kv_load_units(part->values_size + part->room);

    if (part->load)
        kv_load_leave(part->load, units);
    part->load = load;
    if (load)
        kv_load_enter(load, units, now_ns);
}

static void checksums_compute(kv_part *part, const kv_item *items)
{
    if (part->summed || !part->checksums)
        return;
    for (uint32_t i = 0; i < part->count; i++) {
        const kv_item *item = &items[part->indices[i]];

        part->checksums[i] = kv_checksum(0, (const void *)(uintptr_t)item->value, item->value_size);
    }
    part->summed = true;
}

static void encode_control(kv_part *part, kv_message_head *head)
{
    uint8_t *columns = part->message + KV_MESSAGE_HEAD_SIZE;

    head->kind = KV_MESSAGE_CONTROL;
    head->flags = (uint16_t)part->control;
    head->count = part->target;
    head->columns_size = part->message_size - KV_MESSAGE_HEAD_SIZE;
    if (head->columns_size > 0)
        kv_message_seal(columns, head->columns_size);
    kv_message_encode(head, part->message);
}

void kv_part_encode(kv_part *part, const kv_request *request, const kv_part_envelope *envelope)
{
    kv_message_head head = {.version = envelope->version, .request = envelope->request};
    kv_wire_request wire;

    part->request = envelope->request;
    part->sent_size = 0;
    part->value_position = 0;
    part->value_offset = 0;
    part->answered_count = 0;
    part->pauses = part->misplaced = part->dirty = part->elsewhere = part->refused = false;
    memset(part->answered, 0, part->count);
    if (part->operation == 0) {
        encode_control(part, &head);
        return;
    }
    checksums_compute(part, request->items);
    wire = (kv_wire_request){.operation = part->operation,
                             .target = part->target,
                             .chain_version = part->chain_version,
                             .ttl_ms = request->ttl_ms,
                             .timeout_ms = envelope->timeout_ms,
                             .if_absent = request->if_absent != 0,
                             .repeated = envelope->repeated,
                             .channel = part->channel,
                             .sequence = part->sequence,
                             .count = part->count};
    head.kind = KV_MESSAGE_REQUEST;
    head.count = part->count;
    head.values_size = (uint32_t)part->values_size;
    head.columns_size = kv_request_encode(&wire, request->items, part->indices, part->checksums,
                                          part->message + KV_MESSAGE_HEAD_SIZE);
    assert(KV_MESSAGE_HEAD_SIZE + head.columns_size == part->message_size);
    kv_message_encode(&head, part->message);
}

uint32_t kv_part_ranges(const kv_part *part, const kv_request *request, struct iovec *ranges,
                        uint32_t max, uint64_t *size)
{
    uint32_t count = 0;
    uint32_t offset = part->value_offset;

    *size = 0;
    if (max > 0 && part->sent_size < part->message_size) {
        ranges[count].iov_base = part->message + part->sent_size;
        ranges[count].iov_len = part->message_size - part->sent_size;
        *size += ranges[count++].iov_len;
    }
    for (uint32_t i = part->value_position; part->values_size > 0 && i < part->count; i++) {
        const kv_item *item = &request->items[part->indices[i]];

        if (count == max)
            break;
        if (item->value_size > offset) {
            ranges[count].iov_base = (uint8_t *)(uintptr_t)item->value + offset;
            ranges[count].iov_len = item->value_size - offset;
            *size += ranges[count++].iov_len;
        }
        offset = 0;
    }
    return count;
}

void kv_part_advance(kv_part *part, const kv_request *request, uint64_t size)
{
    uint64_t left = part->message_size - part->sent_size;

    assert(part->sent_size + size <= kv_part_size(part));
    if (part->sent_size >= part->message_size)
        left = 0;
    part->sent_size += size;
    size -= size < left ? size : left;
    while (size > 0) {
        const kv_item *item = &request->items[part->indices[part->value_position]];
        uint64_t rest = item->value_size - part->value_offset;
        uint64_t step = size < rest ? size : rest;

        size -= step;
        part->value_offset += (uint32_t)step;
        if (part->value_offset == item->value_size) {
            part->value_position++;
            part->value_offset = 0;
        }
    }
}
