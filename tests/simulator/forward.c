/* Updates on their way to the successor, in the production's encoding, and its word on them. */

#include "simulator.h"

#include "bytes/endian.h"

#include <errno.h>

#define RESEND_MIN MILLISECOND
#define RESEND_SPAN (4 * MILLISECOND)
#define RETRY_MIN (2 * MILLISECOND)
#define RETRY_SPAN (15 * MILLISECOND)

/* ---- connections to the successor ---- */

uint32_t *sim_peer(sim_world *world, sim_target *target, uint32_t loop)
{
    const kv_replica_view *view = kv_replica_view_of(target->replica);
    uint32_t *peer = &target->peers[loop % SIM_LOOPS];

    if (!view->has_successor)
        return NULL;
    if (target->successor != view->successor) {
        memset(target->peers, 0, sizeof(target->peers));
        target->successor = view->successor;
        target->successor_free = 0;
        target->retry_at = 0;
    }
    if (world->now < target->retry_at)
        return NULL;
    if (*peer == 0)
        *peer = sim_connect(world, target->node->id,
                            (view->successor - 1) / SIM_TARGETS_PER_NODE);
    return peer;
}

/* A connection is gone. All that waits goes out again, at once or after a pause. */
void sim_peer_notice(sim_world *world, sim_target *target, uint32_t connection)
{
    bool mine = false;

    for (uint32_t i = 0; i < SIM_LOOPS; i++)
        if (target->peers[i] == connection) {
            target->peers[i] = 0;
            mine = true;
        }
    if (!mine || !target->open)
        return;
    if (world->connections[connection].failed) {
        uint64_t pause = RETRY_MIN + sim_draw(&world->network, RETRY_SPAN);

        target->retry_at = world->now + pause;
        sim_plan(world, pause, EVENT_RETRY, target->node->id, target->number, 0, 0);
        sim_tell(world, SIM_LOST, target->node->id, target->successor);
    }
    sim_resync_severed(world, target);
    kv_replica_severed(target->replica);
}

/* ---- FORWARD ---- */

static void item_of(void *context, uint32_t i, kv_forward_item *item)
{
    const sim_job *job = context;

    *item = (kv_forward_item){.key = (const uint8_t *)job->key_bytes[i],
                              .key_size = SIM_KEY_SIZE,
                              .version = job->versions[i],
                              .status = job->statuses[i]};
    if (job->operation != KV_OP_SET || item->status != KV_OK)
        return;
    item->value_size = job->update.source == KV_UPDATE_SYNC ? job->engine_items[i].result_size
                                                            : job->engine_items[i].value_size;
    item->checksum = job->stats[i].checksum;
    item->flags = job->forward == KV_FORWARD_SYNC ? job->stats[i].flags : 0;
}

static uint32_t value_size(sim_job *job, uint32_t i)
{
    kv_forward_item item;

    item_of(job, i, &item);
    return item.value_size;
}

static uint8_t *value_copy(const sim_job *job, uint32_t i, uint8_t *bytes)
{
    struct iovec ranges[KV_LENT_RANGES_MAX];
    uint32_t count = job->update.source == KV_UPDATE_SYNC
                         ? kv_operation_lent(job->owner.operation, i, ranges)
                         : kv_operation_received(job->owner.operation, i, ranges);

    for (uint32_t n = 0; n < count; n++) {
        memcpy(bytes, ranges[n].iov_base, ranges[n].iov_len);
        bytes += ranges[n].iov_len;
    }
    return bytes;
}

static sim_message *encode(sim_job *job, uint32_t target)
{
    const sim_message *request = job->message;
    kv_wire_forward wire = {.forward = job->forward,
                            .operation = job->operation,
                            .target = target,
                            .flags = job->update.careful ? KV_FORWARD_CAREFUL : 0,
                            .attempt = job->update.forward_attempt,
                            .chain_version = job->update.forward_version,
                            .count = job->update.count};
    uint32_t columns =
        kv_forward_columns_size(job->update.count, job->update.count * SIM_KEY_SIZE);
    uint32_t values = 0;
    sim_message *message;
    uint8_t *at;

    if (request) {
        wire.client[0] = (uint8_t)(request->client + 1);
        wire.channel = 1;
        wire.sequence = request->sequence;
    }
    for (uint32_t i = 0; i < job->update.count; i++)
        values += value_size(job, i);
    message = sim_message_make(columns + values);
    message->head = (kv_message_head){.version = KV_PROTOCOL_VERSION_MAX,
                                      .kind = KV_MESSAGE_FORWARD,
                                      .count = job->update.count,
                                      .columns_size = columns,
                                      .values_size = values};
    assert(kv_forward_encode(&wire, item_of, job, message->bytes) == columns);
    at = message->bytes + columns;
    for (uint32_t i = 0; i < job->update.count; i++)
        if (value_size(job, i) > 0)
            at = value_copy(job, i, at);
    assert(at == message->bytes + message->size);
    return message;
}

void sim_forward(sim_world *world, sim_target *target, sim_job *job)
{
    uint32_t *peer;
    sim_message *message;

    if (!job->retained) { /* resync waits for it, and finds what it set */
        if (!kv_replica_view_of(target->replica)->successor_syncs)
            sim_target_fail(world, target, EPROTO, "it got a successor that has not synced");
        else
            kv_replica_acknowledged(target->replica, &job->update, job->update.forward_version,
                                    job->update.forward_attempt, NULL);
        return;
    }
    peer = sim_peer(world, target, (uint32_t)job->id);
    if (!peer)
        return; /* the retry forwards it again */
    message = encode(job, job->update.successor);
    message->kind = SIM_FORWARD;
    message->target = job->update.successor;
    message->tag = job->id;
    message->chain_version = job->update.forward_version;
    message->attempt = job->update.forward_attempt;
    message->client = job->message ? job->message->client : 0;
    message->sequence = job->message ? job->message->sequence : 0;
    sim_send(world, *peer, false, message);
}

/* ---- at the successor ---- */

/* Columns, values and their sizes, as the engine will have them. */
static void job_fill(sim_job *job, const kv_wire_forward *wire, const sim_message *message)
{
    const uint8_t *value = message->bytes + message->head.columns_size;
    uint32_t key_offset = 0;

    for (uint32_t i = 0; i < wire->count; i++) {
        kv_forward_item item;

        kv_forward_item_at(wire, i, key_offset, &item);
        key_offset += item.key_size;
        assert(item.key_size == SIM_KEY_SIZE);
        job->items[i].key = sim_key_of(item.key);
        job->statuses[i] = item.status;
        job->versions[i] = item.version;
        job->stats[i] = (kv_item_stat){.version = item.version, .checksum = item.checksum,
                                       .expiry_ms = item.expiry_ms, .flags = item.flags};
        job->engine_items[i].value_size = item.value_size;
        if (item.value_size >= SIM_VALUE_SIZE_MIN)
            memcpy(&job->items[i].write, value + 8, sizeof(job->items[i].write));
        value += item.value_size;
    }
}

static void update_begin(sim_world *world, sim_target *target, sim_message *message,
                         const kv_wire_forward *wire)
{
    sim_job *job = sim_job_make(world, target, KV_UPDATE_PEER, wire->operation, wire->count);

    job->forward = wire->forward;
    job->refusable = wire->flags & KV_FORWARD_CAREFUL;
    job->update.chain_version = wire->chain_version;
    job->update.attempt = wire->attempt;
    job->message = message;
    job->values = message->bytes + message->head.columns_size;
    job_fill(job, wire, message);
    job->update.version = job->versions[0];
    sim_job_begin(world, target, job);
}

static void compare(sim_world *world, sim_target *target, const sim_message *message,
                    const kv_wire_forward *wire)
{
    uint8_t statuses[SIM_RESYNC_PAGE];
    uint32_t key_offset = 0;

    for (uint32_t i = 0; i < wire->count; i++) {
        kv_forward_item item;
        kv_item_stat stat;
        uint32_t size, key;

        kv_forward_item_at(wire, i, key_offset, &item);
        key_offset += item.key_size;
        key = sim_key_of(item.key);
        statuses[i] = !sim_storage_peek(target, key, &stat, &size)  ? KV_NOT_FOUND
                      : sim_storage_has(target, key, item.version) ? KV_OK
                                                                   : KV_EXISTS;
    }
    sim_forwarded_send(world, target, message, KV_OK, statuses, wire->count);
}

static void synced(sim_world *world, sim_target *target, const sim_message *message,
                   const kv_wire_forward *wire)
{
    bool news = target->uptodate != wire->chain_version;

    target->uptodate = wire->chain_version;
    if (news)
        sim_tell(world, SIM_SYNCED, target->node->id, target->number);
    sim_forwarded_send(world, target, message, KV_OK, NULL, 0);
}

void sim_forward_hear(sim_world *world, sim_target *target, sim_message *message)
{
    kv_wire_forward wire;
    kv_status status = KV_WRONG_TARGET;

    assert(kv_forward_decode(&message->head, message->bytes, &wire, NULL) == 0);
    if (sim_leased(world, target->node))
        status = kv_replica_admits(target->replica, KV_UPDATE_PEER, wire.chain_version);
    if (status == KV_OK && wire.forward != KV_FORWARD_COMPARE &&
        wire.forward != KV_FORWARD_SYNCED) {
        update_begin(world, target, message, &wire);
        return;
    }
    if (status != KV_OK)
        sim_forwarded_send(world, target, message, status, NULL, 0);
    else if (wire.forward == KV_FORWARD_COMPARE)
        compare(world, target, message, &wire);
    else
        synced(world, target, message, &wire);
    free(message);
}

/* ---- FORWARDED ---- */

void sim_forwarded_send(sim_world *world, sim_target *target, const sim_message *request,
                        kv_status status, const uint8_t *statuses, uint32_t count)
{
    kv_wire_forwarded wire = {.status = status,
                              .count = status == KV_OK ? count : 0,
                              .chain_version =
                                  kv_replica_view_of(target->replica)->chain_version,
                              .space_free = sim_storage_free(world, target),
                              .statuses = statuses};
    uint32_t columns = kv_forwarded_columns_size(wire.count);
    sim_message *answer = sim_message_make(columns);

    if (kv_replica_view_of(target->replica)->has_successor &&
        target->successor_free < wire.space_free)
        wire.space_free = target->successor_free;
    answer->kind = SIM_FORWARDED;
    answer->target = request->target;
    answer->tag = request->tag;
    answer->chain_version = request->chain_version;
    answer->attempt = request->attempt;
    answer->count = request->head.count;
    answer->head = (kv_message_head){.version = KV_PROTOCOL_VERSION_MAX,
                                     .kind = KV_MESSAGE_FORWARDED,
                                     .count = wire.count,
                                     .columns_size = columns};
    assert(kv_forwarded_encode(&wire, answer->bytes) == columns);
    sim_answer(world, request, answer);
}

/* The successor's word on a job, or on resync's question. */
void sim_forwarded_hear(sim_world *world, sim_target *target, const sim_message *message)
{
    sim_job *job = sim_job_find(target, message->tag);
    kv_wire_forwarded wire;

    assert(kv_forwarded_decode(&message->head, message->bytes, message->count, &wire) == 0);
    if (message->target == target->successor)
        target->successor_free = wire.space_free;
    if (message->tag == target->resync.tag) {
        sim_resync_hear(world, target, message, wire.status == KV_OK ? wire.statuses : NULL);
        return;
    }
    if (!job || job->concluded)
        return;
    if (wire.status != KV_OK) {
        sim_plan(world, RESEND_MIN + sim_draw(&world->network, RESEND_SPAN), EVENT_RESEND,
                 target->node->id, target->number, job->id,
                 message->chain_version << 20 | message->attempt);
        return;
    }
    if (!kv_replica_acknowledged(target->replica, &job->update, message->chain_version,
                                 message->attempt, wire.statuses))
        sim_fail(world, "target %u refused what it was bound to apply", message->target);
}
