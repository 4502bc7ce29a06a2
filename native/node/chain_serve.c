/* Requests for a target of a chain, from their columns to the moment when all their values are
 * there: who is let in, and what memory the values may take. See chain.h. */

#include "node/chain.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

size_t kv_chain_update_size(uint32_t count)
{
    return sizeof(kv_chain_update) +
           (size_t)count * (sizeof(kv_update_key) + sizeof(uint64_t) + sizeof(kv_item) +
                            sizeof(uint32_t) + 2 * sizeof(uint8_t) + sizeof(bool));
}

static void keys_fill(kv_chain_update *own, const kv_item *items, kv_update_key *keys)
{
    for (uint32_t i = 0; i < own->update.count; i++) {
        const uint8_t *key = (const uint8_t *)(uintptr_t)items[i].key;

        keys[i] = (kv_update_key){.key = key,
                                  .key_size = items[i].key_size,
                                  .hash = kv_chain_hash(own->chain, key, items[i].key_size)};
    }
}

kv_chain_update *kv_chain_update_create(kv_chain *chain, kv_loop *loop, uint32_t operation,
                                        const kv_item *items, uint32_t count)
{
    size_t size = kv_chain_update_size(count);
    kv_chain_update *own = kv_blocks_take(&loop->blocks, size);
    kv_update_key *keys;

    if (!own)
        return NULL;
    keys = (kv_update_key *)(own + 1);
    memset(own, 0, size);
    own->size = size;
    own->chain = chain;
    own->loop = loop;
    own->operation = operation;
    own->versions = (uint64_t *)(keys + count);
    own->apply_items = (kv_item *)(own->versions + count);
    own->apply_indices = (uint32_t *)(own->apply_items + count);
    own->update.count = count;
    own->update.keys = keys;
    own->update.statuses = (uint8_t *)(own->apply_indices + count);
    own->refusals = own->update.statuses + count;
    own->here = (bool *)(own->refusals + count);
    keys_fill(own, items, keys);
    kv_list_init(&own->link);
    kv_list_init(&own->claim_link);
    kv_list_init(&own->message.link);
    kv_list_init(&own->update.link);
    kv_list_init(&own->update.effect_link);
    own->message.kind = KV_MESSAGE_FORWARD;
    own->message.count = count;
    return own;
}

void kv_chain_update_free(kv_chain_update *own)
{
    assert(own->message.state == KV_PEER_IDLE && kv_list_empty(&own->link));
    kv_blocks_give(&own->loop->blocks, own, own->size);
}

/* ---- clients ---- */

static void serve_read(kv_chain *chain, kv_node_request *request, const kv_wire_request *wire)
{
    kv_status status = kv_chain_let_in(chain, request, wire->chain_version);

    if (status == KV_OK)
        kv_serving_begin(request, wire->timeout_ms);
    else
        kv_serving_refuse(request, status);
}

static void serve_update(kv_chain *chain, kv_node_request *request, const kv_wire_request *wire)
{
    kv_status status = kv_chain_admit(chain, KV_UPDATE_CLIENT, wire->chain_version);
    kv_session *session = request->session;
    kv_chain_update *own;

    if (status != KV_OK) {
        kv_serving_refuse(request, status);
        return;
    }
    if (!kv_incoming_enter_channel(request, wire))
        return;
    own = kv_chain_update_create(chain, session->loop, request->kind, request->request.items,
                                 request->count);
    if (!own) {
        kv_serving_refuse(request, KV_BUSY);
        return;
    }
    own->request = request;
    own->update.source = KV_UPDATE_CLIENT;
    own->update.chain_version = wire->chain_version;
    own->ttl_ms = wire->ttl_ms;
    own->if_absent = wire->if_absent != 0;
    own->channel = wire->channel;
    own->sequence = wire->sequence;
    memcpy(own->client, session->client, KV_CLIENT_ID_SIZE);
    kv_serving_set_deadline(request, wire->timeout_ms);
    kv_chain_begin(own);
}

void kv_chain_serve(kv_chain *chain, kv_node_request *request, const kv_wire_request *wire)
{
    if (kv_request_updates(wire->operation))
        serve_update(chain, request, wire);
    else
        serve_read(chain, request, wire);
}

/* ---- values ---- */

static uint64_t values_size(const kv_node_request *request)
{
    uint64_t size = 0;

    for (uint32_t i = 0; i < request->count; i++)
        size += request->request.items[i].value_size;
    return size;
}

/* Values find their place as they come; nothing of them is set before the update's turn. */
static void receive_begin(kv_chain_update *own)
{
    kv_node_request *request = own->request;

    request->request.if_absent = 0; /* the head has settled it, or will */
    request->request.ttl_ms = 0;
    request->request.flags = KV_REQUEST_VERSIONED | KV_REQUEST_HELD |
                             (own->retained ? KV_REQUEST_RETAINED : 0) |
                             (own->exact ? KV_REQUEST_EXACT : 0);
    if (kv_operation_begin(request->target->engine, &request->request, &request->operation) < 0) {
        request->operation = NULL;
        kv_chain_withdraw(own, KV_BUSY);
        return;
    }
    kv_operation_set_owner(request->operation, &request->owner);
    kv_serving_step(request);
    if (!request->arriving)
        kv_chain_came(own);
}

void kv_chain_begin(kv_chain_update *own)
{
    kv_node_request *request = own->request;
    uint64_t size = own->operation == KV_OP_SET ? values_size(request) : 0;

    request->update = own;
    kv_chain_join(own);
    if (own->operation != KV_OP_SET) {
        kv_chain_came(own);
        return;
    }
    if (!own->retained && !own->chain->target->caches) {
        receive_begin(own);
    } else if (kv_chain_claim(own, size)) {
        receive_begin(own);
    } else {
        own->waits = true;
    }
}

bool kv_chain_waits(const kv_chain_update *own)
{
    return own->waits;
}

void kv_chain_granted(kv_chain_update *own)
{
    kv_session *session = own->request->session;

    session->references++; /* the request may be its last one */
    own->waits = false;
    own->claim = KV_CLAIM_HELD; /* the mutex has been taken since it was granted: by the mail */
    if (own->ending)
        kv_chain_end(own, own->end_status);
    else
        receive_begin(own);
    if (session->hold == KV_HOLD_VALUES)
        kv_receive_go_on(session);
    kv_session_release(session);
}

/* ---- all of it is there ---- */

/* What speaks against items by now; false: the update is not taken in. */
static bool refusals_take(kv_chain_update *own)
{
    kv_node_request *request = own->request;
    uint8_t *statuses = own->update.statuses;

    for (uint32_t i = 0; i < own->update.count; i++) {
        kv_status refusal = request->answered ? (kv_status)request->request.items[i].status
                                              : kv_operation_refusal(request->operation, i);

        if (statuses[i] != KV_OK || refusal == KV_OK)
            continue;
        if (refusal == KV_UNAVAILABLE) {
            kv_chain_fail(own->chain, EIO, "its device has failed");
            kv_chain_withdraw(own, KV_WRONG_TARGET);
            return false;
        }
        if (own->update.source != KV_UPDATE_CLIENT && refusal == KV_CORRUPT) {
            kv_chain_withdraw(own, KV_BUSY); /* damaged on its way: it comes again */
            return false;
        }
        if (own->update.source != KV_UPDATE_CLIENT)
            own->refusals[i] = (uint8_t)refusal; /* its turn tells whether that matters */
        else
            statuses[i] = (uint8_t)refusal;
    }
    return true;
}

void kv_chain_came(kv_chain_update *own)
{
    if (own->ending || own->entered)
        return;
    assert(!own->request->arriving && !own->waits);
    if (own->operation == KV_OP_SET && !refusals_take(own))
        return;
    kv_chain_enter(own);
}

void kv_chain_withdraw(kv_chain_update *own, kv_status status)
{
    if (own->ending)
        return;
    if (own->entered)
        kv_chain_take_back(own, status); /* its END follows, unless its turn has come */
    else
        kv_chain_end(own, status);
}
