/* A request of the wire as a batch for a target's engine: its columns are checked, rights and
 * target looked up, stored keys built with the names before them, and an update asked for in its
 * channel. What may be applied is given to serving.c; everything else is answered at once.
 *
 * A request's block holds everything that its operation will point to. */

#include "node/chain.h"

#include "bytes/endian.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

static bool wants_stats(uint32_t operation)
{
    return operation == KV_OP_STAT || operation == KV_OP_GET || operation == KV_OP_SET;
}

/* `keys_size`: of keys as they are stored. */
static size_t block_size(uint32_t operation, uint32_t count, uint64_t keys_size)
{
    size_t size = sizeof(kv_node_request) + (size_t)count * sizeof(kv_item);

    if (wants_stats(operation))
        size += (size_t)count * sizeof(kv_item_stat);
    if (operation == KV_OP_GET)
        size += (size_t)count * sizeof(uint32_t);
    return size + keys_size;
}

uint64_t kv_incoming_bound(const kv_session *session, const kv_message_head *head)
{
    uint64_t keys_size = head->columns_size + (uint64_t)head->count * session->prefix_size;
    /* GET has everything that any operation has. */
    uint64_t size = block_size(KV_OP_GET, head->count, keys_size);

    /* Relaxed: nodes are told of chains before they serve them. */
    if (atomic_load_explicit(&session->loop->node->chained, memory_order_relaxed))
        size += kv_chain_update_size(head->count);
    return size;
}

/* Items from the columns: stored keys are built behind them. */
static void items_fill(kv_node_request *request, const kv_wire_request *wire)
{
    const kv_session *session = request->session;
    kv_item *items = request->request.items;
    kv_item_stat *stats = request->request.stats;
    uint8_t *key = kv_incoming_keys(request);
    const uint8_t *source = wire->keys;

    for (uint32_t i = 0; i < wire->count; i++) {
        uint32_t size = kv_endian_load_u16(wire->key_sizes + (size_t)i * 2);

        items[i] = (kv_item){.key = (uint64_t)(uintptr_t)key,
                             .key_size = session->prefix_size + size};
        if (wire->value_sizes)
            items[i].value_size = kv_endian_load_u32(wire->value_sizes + (size_t)i * 4);
        if (wire->checksums)
            stats[i] = (kv_item_stat){.checksum = kv_endian_load_u32(wire->checksums + (size_t)i * 4)};
        memcpy(key, session->prefix, session->prefix_size);
        memcpy(key + session->prefix_size, source, size);
        key += session->prefix_size + size;
        source += size;
    }
    assert((uint8_t *)request + request->size == key);
}

static uint32_t engine_operation(uint32_t operation)
{
    switch (operation) {
    case KV_OP_SET:
        return KV_OP_RECEIVE;
    case KV_OP_GET:
        return KV_OP_LEND;
    default:
        return operation;
    }
}

uint8_t *kv_incoming_keys(kv_node_request *request)
{
    return (uint8_t *)(request->order + (request->kind == KV_OP_GET ? request->count : 0));
}

kv_node_request *kv_incoming_create(kv_session *session, uint32_t operation, uint32_t count,
                                    uint64_t keys_size, uint64_t id)
{
    kv_blocks *blocks = &session->loop->blocks;
    size_t size = block_size(operation, count, keys_size);
    kv_node_request *request = kv_blocks_take(blocks, size);
    kv_item_stat *stats;
    kv_item *items;

    if (!request)
        return NULL;
    items = (kv_item *)(request + 1);
    stats = (kv_item_stat *)(items + count);
    assert(size <= session->message_reserved);
    memset(request, 0, sizeof(*request));
    request->session = session;
    request->id = id;
    request->size = size;
    request->kind = operation;
    request->count = count;
    request->request = (kv_request){.items = items,
                                    .stats = wants_stats(operation) ? stats : NULL,
                                    .count = count,
                                    .operation = engine_operation(operation)};
    request->order = (uint32_t *)(stats + (wants_stats(operation) ? count : 0));
    kv_serving_init(request);
    request->pool = session->pool;
    request->reserved = session->message_reserved;
    session->message_reserved = 0;
    session->references++;
    kv_list_append(&session->requests, &request->link);
    kv_list_init(&request->answer_link);
    session->in_flight++;
    return request;
}

/* What the record of a channel says, as if it had just happened. */
static void request_recall(kv_node_request *request, const uint8_t *statuses)
{
    for (uint32_t i = 0; i < request->count; i++) {
        assert(statuses[i] < KV_NODE_ERROR_COUNT);
        request->request.items[i].status = statuses[i];
        request->request.items[i].result_size = 0;
    }
}

bool kv_incoming_enter_channel(kv_node_request *request, const kv_wire_request *wire)
{
    kv_session *session = request->session;
    kv_node *node = session->loop->node;
    kv_channel_update update = {.channel = wire->channel,
                                .count = wire->count,
                                .sequence = wire->sequence,
                                .repeated = wire->repeated != 0};
    const uint8_t *statuses = NULL;
    kv_channel_verdict verdict;

    memcpy(update.client, session->client, KV_CLIENT_ID_SIZE);
    pthread_mutex_lock(&node->channels_mutex);
    verdict = kv_channel_begin(node->channels, &update, kv_clock_ns() / 1000000,
                               &request->channel,
                               &statuses);
    if (verdict == KV_CHANNEL_KNOWN)
        request_recall(request, statuses);
    pthread_mutex_unlock(&node->channels_mutex);
    if (verdict == KV_CHANNEL_BEGUN)
        return true;
    request->channel = NULL;
    if (verdict == KV_CHANNEL_KNOWN) {
        kv_counters_add(&session->loop->counters, KV_COUNTER(updates_repeated), 1);
        request->answered = true;
        kv_serving_answered(request);
    } else if (verdict == KV_CHANNEL_STALE) {
        kv_serving_refuse(request, KV_OUTCOME_UNKNOWN);
        kv_session_cut(session, KV_EVENT_CUT_PROTOCOL, EPROTO,
                          "sequence %llu of channel %u is older than its last one",
                          (unsigned long long)wire->sequence, wire->channel);
    } else {
        kv_serving_refuse(request, verdict == KV_CHANNEL_UNKNOWN ? KV_OUTCOME_UNKNOWN : KV_BUSY);
    }
    return false;
}

static uint32_t right_for(uint32_t operation)
{
    return kv_request_updates(operation) ? KV_RIGHT_WRITE : KV_RIGHT_READ;
}

static void request_begin(kv_node_request *request, const kv_wire_request *wire)
{
    kv_session *session = request->session;
    kv_chain *chain;

    request->target = kv_node_target(session->loop->node, wire->target);
    /* Acquire: with kv_node_set_chains, which made the chain. */
    chain = request->target ? atomic_load_explicit(&request->target->chain, memory_order_acquire)
                            : NULL;
    if (!(session->rights & right_for(wire->operation)))
        kv_serving_refuse(request, KV_DENIED);
    else if (!request->target)
        kv_serving_refuse(request, KV_WRONG_TARGET);
    else if (chain)
        kv_chain_serve(chain, request, wire);
    else if (!kv_request_updates(wire->operation) || kv_incoming_enter_channel(request, wire))
        kv_serving_begin(request, wire->timeout_ms);
}

void kv_incoming_begin(kv_session *session, const kv_message_head *head, const uint8_t *columns)
{
    kv_counters *counters = &session->loop->counters;
    char message[KV_MESSAGE_SIZE] = "";
    kv_node_request *request;
    kv_wire_request wire;
    int error = kv_request_decode(head, columns, &wire, message);

    if (error < 0) {
        kv_session_cut(session, KV_EVENT_CUT_PROTOCOL, -error, "%.150s", message);
        return;
    }
    request = kv_incoming_create(session, wire.operation, wire.count,
                                 wire.keys_size + (uint64_t)wire.count * session->prefix_size,
                                 head->request);
    if (!request) {
        kv_session_cut(session, KV_EVENT_CUT_RESET, ENOMEM, "no memory for a request");
        return;
    }
    request->request.if_absent = wire.if_absent;
    request->request.ttl_ms = wire.ttl_ms;
    items_fill(request, &wire);
    kv_counters_add(counters, KV_COUNTER(requests) + wire.operation, 1);
    kv_counters_add(counters, KV_COUNTER(keys) + wire.operation, wire.count);
    kv_counters_add(counters, KV_COUNTER(requests_in_flight), 1);
    session->active_ns = request->arrived_ns = kv_clock_ns();
    request->arriving = head->values_size > 0;
    if (request->arriving)
        session->incoming = request;
    request_begin(request, &wire);
}
