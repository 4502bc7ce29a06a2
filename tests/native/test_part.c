/* A part of a batch: its message, and where sending goes on after any number of bytes. */

#include "client/part.h"

#include "client_calls.h"
#include "protocol/request.h"

#define COUNT 5u
#define SIZE 37u

/* All that a part sends, as one run of bytes. */
static uint64_t collect(const kv_part *part, const kv_request *request, uint8_t *bytes)
{
    struct iovec ranges[16];
    uint64_t size, at = 0;
    uint32_t count = kv_part_ranges(part, request, ranges, 16, &size);

    for (uint32_t i = 0; i < count; i++) {
        memcpy(bytes + at, ranges[i].iov_base, ranges[i].iov_len);
        at += ranges[i].iov_len;
    }
    assert(at == size && size == kv_part_size(part) - part->sent_size);
    return size;
}

static kv_part *part_of(client_batch *calls, kv_batch *batch, uint8_t *marks)
{
    static const uint32_t indices[COUNT] = {0, 1, 2, 3, 4};
    kv_cut cut = {.indices = indices, .count = COUNT};
    kv_part *part;

    client_batch_open(calls, KV_OP_SET, "p", COUNT, SIZE);
    calls->items[2].value_size = 0;
    kv_batch_init(batch, &calls->request, marks);
    for (uint32_t i = 0; i < COUNT; i++) {
        cut.keys_size += calls->items[i].key_size;
        cut.values_size += calls->items[i].value_size;
    }
    part = kv_part_open(batch, &cut);
    assert(part && !part->idempotent);
    part->target = 9;
    part->chain_version = 31;
    part->channel = 4;
    part->sequence = 6;
    kv_part_encode(part, &calls->request,
                   &(kv_part_envelope){.request = 77, .timeout_ms = 5, .version = 1});
    return part;
}

static void a_part_decodes_as_what_it_is(void)
{
    uint8_t marks[COUNT] = {0}, bytes[1024];
    kv_message_head head;
    kv_wire_request wire;
    client_batch calls;
    kv_batch batch;
    kv_part *part = part_of(&calls, &batch, marks);
    uint64_t size = collect(part, &calls.request, bytes);

    assert(kv_message_decode(bytes, &head) == 0 && head.kind == KV_MESSAGE_REQUEST);
    assert(head.request == 77 && head.count == COUNT && head.values_size == 4 * SIZE);
    assert(KV_MESSAGE_HEAD_SIZE + head.columns_size + head.values_size == size);
    assert(kv_message_verify(bytes + KV_MESSAGE_HEAD_SIZE, head.columns_size) == 0);
    assert(kv_request_decode(&head, bytes + KV_MESSAGE_HEAD_SIZE, &wire, NULL) == 0);
    assert(wire.target == 9 && wire.chain_version == 31);
    assert(wire.channel == 4 && wire.sequence == 6 && !wire.repeated);
    assert(memcmp(bytes + size - SIZE, calls.values + 4 * SIZE, SIZE) == 0);
    kv_part_close(part);
    client_batch_close(&calls);
}

static void sending_goes_on_after_any_number_of_bytes(void)
{
    uint8_t marks[COUNT] = {0}, whole[1024], rest[1024];
    client_batch calls;
    kv_batch batch;
    kv_part *part = part_of(&calls, &batch, marks);
    uint64_t size = collect(part, &calls.request, whole);

    for (uint64_t step = 1; step <= size; step++) {
        uint64_t at = 0;

        kv_part_encode(part, &calls.request,
                       &(kv_part_envelope){.request = 77, .timeout_ms = 5, .version = 1});
        while (at < size) {
            uint64_t next = step < size - at ? step : size - at;

            collect(part, &calls.request, rest);
            assert(memcmp(rest, whole + at, size - at) == 0);
            kv_part_advance(part, &calls.request, next);
            at += next;
        }
        assert(part->sent_size == size);
    }
    kv_part_close(part);
    client_batch_close(&calls);
}

static void a_control_part_carries_its_body(void)
{
    kv_part *part = kv_part_open_control(KV_CONTROL_LIST, 3, "body", 4);
    kv_message_head head;

    assert(part && part->idempotent);
    kv_part_encode(part, NULL, &(kv_part_envelope){.request = 8, .version = 1});
    assert(kv_message_decode(part->message, &head) == 0);
    assert(head.kind == KV_MESSAGE_CONTROL && head.flags == KV_CONTROL_LIST && head.count == 3);
    assert(head.columns_size == KV_MESSAGE_CRC_SIZE + 4);
    assert(kv_message_verify(part->message + KV_MESSAGE_HEAD_SIZE, head.columns_size) == 0);
    assert(memcmp(part->message + part->message_size - 4, "body", 4) == 0);
    kv_part_close(part);
}

int main(void)
{
    a_part_decodes_as_what_it_is();
    sending_goes_on_after_any_number_of_bytes();
    a_control_part_carries_its_body();
    return 0;
}
