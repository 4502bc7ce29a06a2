/* Reads of a chain's target: what was looked up is said only if it was committed.
 *
 * A value that is seen belongs to an update that has ended, or to one that runs. After the look-up
 * the replica is asked whether one of the key runs: then the tail must say. If none does, what was
 * seen is committed, unless an update was given up meanwhile: that, and any end of service, gives
 * the chain another epoch than the one in which the read was let in. */

#include "node/chain.h"

#include <assert.h>

/* What is said of a key's value, and so must be true of what is committed. */
static bool tells(int32_t status)
{
    return status == KV_OK || status == KV_NOT_FOUND || status == KV_BUFFER_TOO_SMALL;
}

static void refuse(kv_node_request *request, uint32_t i, kv_status status)
{
    kv_item *item = &request->request.items[i];
    bool lent = request->kind == KV_OP_GET && item->status == KV_OK && item->result_size > 0;

    if (!tells(item->status))
        return;
    item->status = (int32_t)status;
    item->result_size = 0;
    if (lent)
        kv_operation_return(request->operation, i);
}

static bool is_dirty(const kv_chain *chain, const kv_item *item)
{
    const uint8_t *key = (const uint8_t *)(uintptr_t)item->key;

    return kv_replica_is_dirty(chain->replica, key, item->key_size,
                               kv_chain_hash(chain, key, item->key_size));
}

static uint32_t item_at(const kv_node_request *request, uint32_t position)
{
    return request->kind == KV_OP_GET ? request->order[position] : position;
}

/* Bits of dirty items are their statuses; returns how many there are. */
static uint32_t refuse_dirty(kv_chain *chain, kv_node_request *request, uint32_t first,
                             uint32_t end)
{
    uint32_t count = 0;

    pthread_mutex_lock(&chain->mutex);
    for (uint32_t position = first; position < end; position++) {
        uint32_t i = item_at(request, position);

        if (is_dirty(chain, &request->request.items[i])) {
            refuse(request, i, KV_DIRTY);
            count++;
        }
    }
    pthread_mutex_unlock(&chain->mutex);
    return count;
}

void kv_chain_check(kv_node_request *request, uint32_t first, uint32_t end)
{
    kv_chain *chain = atomic_load_explicit(&request->target->chain, memory_order_relaxed);
    uint32_t dirty = 0;

    if (first == end)
        return;
    /* Acquire: with `show` in chain.c: the epoch is at least that of the last end. */
    if (atomic_load_explicit(&chain->update_count, memory_order_acquire) > 0)
        dirty = refuse_dirty(chain, request, first, end);
    if (dirty > 0 && request->kind == KV_OP_MATCH_PREFIX) {
        request->status = KV_DIRTY;
        request->request.matched = 0;
    }
    if (atomic_load_explicit(&chain->epoch, memory_order_relaxed) == request->epoch &&
        kv_chain_has_lease(chain->node))
        return;
    for (uint32_t position = first; position < end; position++)
        refuse(request, item_at(request, position), KV_WRONG_TARGET);
    if (request->kind == KV_OP_MATCH_PREFIX)
        request->status = KV_WRONG_TARGET;
}
