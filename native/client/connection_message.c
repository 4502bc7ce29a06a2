/* What messages of a node mean: hello, replies to parts, replies to control requests.
 *
 * Guarantees that an item is settled with KV_OK only after its value has arrived whole and, unless
 * that is switched off, matches its checksum; and that a reply which says what no reply may say
 * breaks the connection before anything of the caller's is written. */

#include "client/client_state.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool protocol_broken(kv_connection *connection, const char *reason)
{
    kv_connection_break(connection, -EPROTO, reason);
    return false;
}

/* ---- hello ---- */

static bool welcome(kv_connection *connection)
{
    const kv_hello_grant *grant = &connection->hello->grant;

    if (grant->requests_max == 0 || grant->count_max == 0)
        return protocol_broken(connection, "the node grants no requests");
    connection->grant = *grant;
    connection->version = (uint8_t)connection->hello->version;
    connection->welcomed = true;
    connection->refusals = 0;
    connection->state = KV_CONNECTION_READY;
    connection->used_ns = kv_clock_ns();
    kv_timer_stop(connection->lane->reactor, &connection->timer);
    kv_lane_count(&connection->lane->counters.connections, 1);
    free(connection->hello);
    connection->hello = NULL;
    kv_connection_touch(connection);
    return true;
}

static bool hello_message(kv_connection *connection, const uint8_t *bytes)
{
    kv_hello *hello = connection->hello;
    kv_sending *sending = &connection->sending;
    int size;

    if (sending->out || sending->block_sent < sending->block_size)
        return protocol_broken(connection, "the node answered before it was asked");
    size = kv_hello_step(hello, &connection->receiving.head, bytes, sending->block);
    sending->block_sent = 0;
    sending->block_size = size > 0 ? (uint32_t)size : 0;
    if (hello->state == KV_HELLO_FAILED) {
        connection->refusals++;
        kv_connection_break(connection, hello->error, hello->reason);
        return false;
    }
    if (hello->state == KV_HELLO_DONE)
        return welcome(connection);
    kv_connection_touch(connection);
    return true;
}

/* ---- items ---- */

static kv_item *item_of(const kv_part *part, uint32_t position)
{
    return &part->call->batch.request->items[part->indices[position]];
}

/* Whether a read that failed here may do better at another member of the chain. */
static bool may_do_elsewhere(const kv_part *part, kv_status status)
{
    if (!part->idempotent || part->chain_version == 0)
        return false;
    return status == KV_CORRUPT || status == KV_IO_ERROR || status == KV_UNAVAILABLE ||
           status == KV_CANCELLED;
}

/* Whether an item is to be asked for again: then the part knows how. */
static bool item_stays_open(kv_part *part, uint32_t index, kv_status status)
{
    uint8_t *mark = &part->call->batch.marks[index];

    if (status == KV_DIRTY && part->idempotent) {
        part->dirty = true;
    } else if (status == KV_BUSY || status == KV_DIRTY) {
        part->pauses = true;
    } else if (status == KV_WRONG_TARGET) {
        part->misplaced = true;
    } else if (may_do_elsewhere(part, status) && (*mark & KV_BATCH_ELSEWHERE) == 0) {
        *mark |= KV_BATCH_ELSEWHERE;
        part->elsewhere = true;
    } else {
        return false;
    }
    return true;
}

/* What became of an item without a value. What may be tried again stays open. */
static void item_take(kv_part *part, const kv_reply_item *item)
{
    uint32_t index = part->indices[item->index];
    kv_batch *batch = &part->call->batch;
    kv_status status = (kv_status)item->status;

    if (!kv_batch_is_open(batch, index) || item_stays_open(part, index, status))
        return;
    if (status == KV_CORRUPT && part->operation == KV_OP_SET &&
        (batch->marks[index] & KV_BATCH_REREAD) == 0) {
        batch->marks[index] |= KV_BATCH_REREAD; /* damaged on its way, and not set */
        return;
    }
    if (status == KV_CANCELLED)
        status = KV_UNAVAILABLE; /* the caller did not cancel it: the node stops */
    item_of(part, item->index)->result_size = item->size;
    if (status == KV_OK && part->operation == KV_OP_STAT)
        batch->request->stats[index] = (kv_item_stat){.version = item->version,
                                                      .expiry_ms = item->expiry_ms,
                                                      .checksum = item->checksum,
                                                      .flags = item->flags};
    kv_batch_settle(batch, index, status);
}

static void value_complete(kv_connection *connection)
{
    kv_receiving *receiving = &connection->receiving;
    const kv_reply_item *item = &receiving->item;
    kv_part *part = receiving->part;
    uint32_t index = part->indices[item->index];
    kv_batch *batch = &part->call->batch;

    if (!kv_batch_is_open(batch, index))
        return;
    item_of(part, item->index)->result_size = item->size;
    if (!connection->lane->client->verify || receiving->checksum == item->checksum) {
        kv_batch_settle(batch, index, KV_OK);
        return;
    }
    kv_lane_count(&connection->lane->counters.corrupt_values, 1);
    if (batch->marks[index] & KV_BATCH_REREAD)
        kv_batch_settle(batch, index, KV_CORRUPT);
    else
        batch->marks[index] |= KV_BATCH_REREAD;
}

/* ---- values ---- */

static bool carries_value(const kv_reply_item *item)
{
    return item->status == KV_OK && item->size > 0;
}

/* Find the item that the next bytes of values belong to. */
static void value_begin(kv_receiving *receiving)
{
    receiving->offset = 0;
    receiving->checksum = 0;
    if (receiving->head.kind == KV_MESSAGE_CONTROL_REPLY) {
        receiving->item = (kv_reply_item){.size = receiving->head.values_size};
        return;
    }
    do
        kv_reply_item_at(&receiving->reply, receiving->position++, &receiving->item);
    while (!carries_value(&receiving->item));
    receiving->position--;
}

static uint8_t *control_target(const kv_receiving *receiving)
{
    const kv_call *call = receiving->part->call;

    if (!call || call->kind != KV_CALL_CONTROL ||
        receiving->head.values_size > call->control->reply_size)
        return NULL;
    return (uint8_t *)call->control->reply + receiving->offset;
}

uint8_t *kv_connection_value_target(const kv_connection *connection, uint32_t position,
                                    uint32_t *size)
{
    const kv_receiving *receiving = &connection->receiving;
    uint32_t offset = position == receiving->position ? receiving->offset : 0;
    kv_reply_item item = receiving->item;

    if (receiving->head.kind == KV_MESSAGE_CONTROL_REPLY) {
        *size = receiving->head.values_size - receiving->offset;
        return control_target(receiving);
    }
    if (position != receiving->position)
        kv_reply_item_at(&receiving->reply, position, &item);
    *size = carries_value(&item) ? item.size - offset : 0;
    if (!receiving->part->call)
        return NULL;
    return (uint8_t *)(uintptr_t)item_of(receiving->part, item.index)->value + offset;
}

void kv_connection_value_arrived(kv_connection *connection, uint32_t size)
{
    kv_receiving *receiving = &connection->receiving;
    bool of_item = receiving->head.kind == KV_MESSAGE_REPLY && receiving->part->call;
    uint32_t rest;

    if (of_item && connection->lane->client->verify)
        receiving->checksum =
            kv_checksum(receiving->checksum,
                        kv_connection_value_target(connection, receiving->position, &rest), size);
    receiving->offset += size;
    receiving->values_left -= size;
    assert(receiving->offset <= receiving->item.size);
    if (receiving->offset < receiving->item.size)
        return;
    if (of_item)
        value_complete(connection);
    receiving->position++;
    if (receiving->values_left > 0)
        value_begin(receiving);
}

/* ---- replies ---- */

static kv_part *part_find(const kv_connection *connection, uint64_t request)
{
    kv_part *part = connection->in_flight[request % KV_CLIENT_IN_FLIGHT_MAX];

    return part && part->request == request && part->touched && !part->ended ? part : NULL;
}

/* Whether an item may be in a reply to this part: not carried before, and not more than there is
 * room for. */
static bool item_legal(const kv_part *part, const kv_reply_item *item)
{
    if (part->answered[item->index])
        return false;
    if (part->operation != KV_OP_GET || item->status != KV_OK || !part->call)
        return true;
    return item->size <= item_of(part, item->index)->value_size;
}

static bool items_take(kv_connection *connection, kv_part *part)
{
    const kv_wire_reply *reply = &connection->receiving.reply;
    kv_reply_item item;

    for (uint32_t i = 0; i < reply->count; i++) {
        kv_reply_item_at(reply, i, &item);
        if (!item_legal(part, &item))
            return protocol_broken(connection, "the node answered an item twice, or with too much");
        part->answered[item.index] = 1;
    }
    part->answered_count += reply->count;
    for (uint32_t i = 0; i < reply->count && part->call; i++) {
        kv_reply_item_at(reply, i, &item);
        if (part->operation != KV_OP_GET || !carries_value(&item))
            item_take(part, &item);
    }
    return true;
}

static bool reply_begin(kv_connection *connection, const uint8_t *columns)
{
    kv_receiving *receiving = &connection->receiving;
    const kv_message_head *head = &receiving->head;
    kv_part *part = part_find(connection, head->request);
    bool control = head->kind == KV_MESSAGE_CONTROL_REPLY;

    if (!part || (part->operation == 0) != control)
        return protocol_broken(connection, "the node answered what was not asked");
    receiving->part = part;
    receiving->position = 0;
    if (!control) {
        if (kv_reply_decode(head, columns, part->count, &receiving->reply) < 0 ||
            receiving->reply.operation != part->operation)
            return protocol_broken(connection, "a reply of the node makes no sense");
        if (!items_take(connection, part))
            return false;
    }
    if (receiving->in_values)
        value_begin(receiving);
    return true;
}

bool kv_connection_message(kv_connection *connection, const uint8_t *bytes)
{
    if (connection->state == KV_CONNECTION_HELLO)
        return hello_message(connection, bytes);
    return reply_begin(connection, bytes + KV_MESSAGE_HEAD_SIZE);
}

/* A node refused all of an update and recorded nothing. Whether only the same again, in the same
 * channel, is safe: then the part knows how. */
static bool update_stays(kv_part *part, kv_status status)
{
    bool failed = status == KV_UNAVAILABLE || status == KV_CANCELLED;

    if (status == KV_BUSY) { /* an earlier sending may be what keeps it busy */
        part->refused = true;
    } else if (status == KV_WRONG_TARGET && part->repeated) {
        part->refused = part->misplaced = true;
    } else if (failed && part->chain_version > 0) { /* the chain may get another head */
        part->refused = part->misplaced = part->repeated = true;
    }
    return part->refused;
}

/* The last reply has come: what no reply carried is as it says. */
static bool rest_take(kv_connection *connection, kv_part *part)
{
    const kv_wire_reply *reply = &connection->receiving.reply;
    bool prefix = part->operation == KV_OP_MATCH_PREFIX && reply->status == KV_OK;

    if (part->answered_count == part->count)
        return true;
    if (reply->status == KV_OK && !prefix)
        return protocol_broken(connection, "the node left items without an answer");
    if (!part->idempotent && part->answered_count == 0 &&
        update_stays(part, (kv_status)reply->status))
        return true;
    for (uint32_t i = 0; i < part->count && part->call; i++) {
        kv_reply_item item = {.index = i, .status = reply->status};

        if (prefix)
            item.status = i < reply->matched ? KV_OK : KV_NOT_FOUND;
        if (!part->answered[i])
            item_take(part, &item);
    }
    return true;
}

static bool part_is_open(const kv_part *part)
{
    if (part->operation == 0)
        return part->pauses;
    for (uint32_t i = 0; i < part->count; i++)
        if (kv_batch_is_open(&part->call->batch, part->indices[i]))
            return true;
    return false;
}

/* Some items are still open: when, and where, they are asked for again. */
static void part_again(kv_part *part)
{
    bool moves = part->misplaced && kv_call_is_behind(part);

    if (moves)
        kv_call_move(part);
    else if (part->misplaced)
        kv_call_hold(part);
    else if (part->pauses || part->refused || (part->dirty && part->tail))
        kv_call_pause(part);
    else
        kv_call_retry(part);
}

static void note_reply(kv_connection *connection, const kv_part *part)
{
    kv_load *load = &connection->lane->client->loads[connection->endpoint];
    uint64_t now_ns = kv_clock_ns();

    connection->attempts = 0;
    kv_load_reached(load);
    if (part->idempotent && part->operation != 0)
        kv_load_note(load, kv_load_units(part->room), now_ns - part->sent_ns, now_ns);
    if (part->misplaced)
        kv_trouble_refused(&connection->lane->client->trouble);
}

void kv_connection_end(kv_connection *connection, kv_part *part)
{
    bool refused = part->refused && part->call && !part->call->given_up;

    if (part->state == KV_PART_SENDING) { /* answered early; the node still takes the rest */
        part->ended = true;
        return;
    }
    note_reply(connection, part);
    kv_connection_remove(connection, part);
    kv_connection_touch(connection);
    if (!refused)
        kv_call_end_channel(part, !part->refused);
    if (!part->call)
        kv_part_close(part);
    else if (!refused && !part_is_open(part))
        kv_call_drop_part(part);
    else
        part_again(part);
}

bool kv_connection_message_end(kv_connection *connection)
{
    kv_receiving *receiving = &connection->receiving;
    kv_part *part = receiving->part;

    if (receiving->head.kind <= KV_MESSAGE_REFUSAL)
        return true;
    receiving->part = NULL;
    if (receiving->head.kind == KV_MESSAGE_CONTROL_REPLY) {
        if (part->call)
            kv_call_control_reply(part, (int)receiving->head.count, receiving->head.values_size);
    } else if ((receiving->head.flags & KV_REPLY_LAST) == 0) {
        return true;
    } else if (!rest_take(connection, part)) {
        return false;
    }
    kv_connection_end(connection, part);
    return connection->state != KV_CONNECTION_CLOSING;
}
