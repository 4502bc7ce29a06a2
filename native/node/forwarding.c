/* What the predecessor sends down a chain, at the node that it is for: updates, copies for a
 * syncing target, and questions about versions; and copies that another chain sends to the head.
 *
 * Updates become updates of the target's chain; questions are answered at once.
 * Nothing is refused for want of memory: it waits in its place's own pool. */

#include "node/chain.h"

#include "bytes/endian.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

uint64_t kv_forwarding_bound(const kv_message_head *head)
{
    uint64_t per_item = sizeof(kv_item) + sizeof(kv_item_stat) + sizeof(uint32_t);

    return sizeof(kv_node_request) + head->count * per_item + head->columns_size +
           kv_chain_update_size(head->count);
}

static void items_fill(kv_node_request *request, const kv_wire_forward *wire)
{
    uint8_t *keys = kv_incoming_keys(request);
    uint32_t offset = 0;

    memcpy(keys, wire->keys, wire->keys_size);
    for (uint32_t i = 0; i < wire->count; i++) {
        kv_forward_item item;

        kv_forward_item_at(wire, i, offset, &item);
        request->request.items[i] = (kv_item){.key = (uint64_t)(uintptr_t)(keys + offset),
                                              .key_size = item.key_size,
                                              .value_size = item.value_size};
        if (request->request.stats)
            request->request.stats[i] = (kv_item_stat){.version = item.version,
                                                       .expiry_ms = item.expiry_ms,
                                                       .checksum = item.checksum,
                                                       .flags = item.flags};
        offset += item.key_size;
    }
    assert(offset == wire->keys_size);
}

static void update_begin(kv_chain *chain, kv_node_request *request, const kv_wire_forward *wire,
                         kv_update_source source)
{
    kv_chain_update *own = kv_chain_update_create(chain, request->session->loop, wire->operation,
                                                  request->request.items, request->count);

    if (!own) {
        kv_serving_refuse(request, KV_BUSY);
        return;
    }
    own->request = request;
    own->update.source = source;
    own->update.chain_version = wire->chain_version;
    own->update.attempt = wire->attempt;
    own->update.version = kv_endian_load_u64(wire->versions);
    own->ttl_ms = wire->ttl_ms;
    own->refusable = source == KV_UPDATE_MOVE || wire->flags & KV_FORWARD_CAREFUL;
    own->moves = wire->forward == KV_FORWARD_MOVE;
    own->exact = own->moves || wire->forward == KV_FORWARD_SYNC;
    own->evicts = wire->flags & KV_FORWARD_EVICTS;
    own->channel = wire->channel;
    own->sequence = wire->sequence;
    memcpy(own->client, wire->client, KV_CLIENT_ID_SIZE);
    memcpy(own->update.statuses, wire->statuses, wire->count);
    for (uint32_t i = 0; i < wire->count; i++)
        own->versions[i] = kv_endian_load_u64(wire->versions + (size_t)i * 8);
    kv_chain_begin(own);
}

/* What is pinned is sent anyway: pins have no version that would tell that they differ. */
static void compare(kv_node_request *request, const kv_wire_forward *wire)
{
    for (uint32_t i = 0; i < request->count; i++) {
        kv_item *item = &request->request.items[i];
        uint64_t version = kv_endian_load_u64(wire->versions + (size_t)i * 8);
        kv_item_stat stat;
        uint32_t size;
        int error = kv_engine_peek(request->target->engine, (const void *)(uintptr_t)item->key,
                                   item->key_size, &stat, &size);
        bool same = error == 0 && version != 0 && stat.version == version &&
                    !(stat.flags & KV_ITEM_PINNED);

        item->status = error < 0 ? KV_NOT_FOUND : same ? KV_OK : KV_EXISTS;
    }
    request->answered = true;
    kv_serving_answered(request);
}

/* Every answer tells of space. */
static void tell_space(kv_node_request *request)
{
    request->answered = true;
    kv_serving_answered(request);
}

static void synced(kv_chain *chain, kv_node_request *request, const kv_wire_forward *wire)
{
    kv_node *node = request->session->loop->node;
    bool news;

    pthread_mutex_lock(&chain->mutex);
    news = chain->uptodate_version != wire->chain_version;
    chain->uptodate_version = wire->chain_version;
    pthread_mutex_unlock(&chain->mutex);
    if (news)
        kv_events_report(&node->events, KV_EVENT_SYNCED, 0, wire->target,
                         "target %u lacks nothing of chain version %llu", wire->target,
                         (unsigned long long)wire->chain_version);
    request->answered = true;
    kv_serving_answered(request);
}

/* A copy from another chain: it comes to the head, and goes down the chain from there. */
static kv_update_source move_source(kv_chain *chain)
{
    bool head;

    pthread_mutex_lock(&chain->mutex);
    head = kv_replica_view_of(chain->replica)->head;
    pthread_mutex_unlock(&chain->mutex);
    return head ? KV_UPDATE_MOVE : KV_UPDATE_PEER;
}

static void forward_begin(kv_node_request *request, const kv_wire_forward *wire)
{
    kv_node *node = request->session->loop->node;
    kv_update_source source = KV_UPDATE_PEER;
    kv_chain *chain = NULL;
    kv_status status = KV_WRONG_TARGET;

    request->target = kv_node_target(node, wire->target);
    if (request->target)
        chain = atomic_load_explicit(&request->target->chain, memory_order_acquire);
    if (chain) {
        if (wire->forward == KV_FORWARD_MOVE)
            source = move_source(chain);
        status = kv_chain_admit(chain, source, wire->chain_version);
        request->chain_version = atomic_load_explicit(&chain->version, memory_order_relaxed);
    }
    if (status != KV_OK)
        kv_serving_refuse(request, status);
    else if (wire->forward == KV_FORWARD_COMPARE)
        compare(request, wire);
    else if (wire->forward == KV_FORWARD_SYNCED)
        synced(chain, request, wire);
    else if (wire->forward == KV_FORWARD_SPACE)
        tell_space(request);
    else
        update_begin(chain, request, wire, source);
}

void kv_forwarding_begin(kv_session *session, const kv_message_head *head, const uint8_t *columns)
{
    kv_message_head plain = *head;
    char message[KV_MESSAGE_SIZE] = "";
    kv_node_request *request;
    kv_wire_forward wire;
    int error;

    plain.flags = 0; /* the place, which has been looked at */
    error = kv_forward_decode(&plain, columns, &wire, message);
    if (error < 0) {
        kv_session_cut(session, KV_EVENT_CUT_PROTOCOL, -error, "%.150s", message);
        return;
    }
    request = kv_incoming_create(session, wire.operation, wire.count, wire.keys_size,
                                 head->request);
    if (!request) {
        kv_session_cut(session, KV_EVENT_CUT_RESET, ENOMEM, "no memory for a forward");
        return;
    }
    items_fill(request, &wire);
    request->forward = wire.forward;
    kv_counters_add(&session->loop->counters, KV_COUNTER(requests_in_flight), 1);
    session->active_ns = request->arrived_ns = kv_clock_ns();
    request->arriving = head->values_size > 0;
    if (request->arriving)
        session->incoming = request;
    forward_begin(request, &wire);
}
