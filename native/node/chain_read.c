/* Reads of a chain's target: what was looked up is said only if it was committed then.
 *
 * A key of which an update runs is dirty: the tail must say what is committed. It has to be clean
 * before the look-up, or else the tail may have shown the new value already, and after it, or else
 * what was seen may be the new value, not committed yet. An update that was given up meanwhile, and
 * any end of service, gives the chain another epoch than the one in which the read was let in. */

#include "node/chain.h"

#include <string.h>

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

size_t kv_chain_dirty_size(uint32_t count)
{
    return ((size_t)count + 7) / 8;
}

static bool was_dirty(const kv_node_request *request, uint32_t i)
{
    return request->dirty && request->dirty[i / 8] >> i % 8 & 1;
}

/* KV_BUSY: no memory to note it in. */
static kv_status note_dirty(kv_node_request *request, uint32_t i)
{
    size_t size = kv_chain_dirty_size(request->count);

    if (request->kind == KV_OP_MATCH_PREFIX)
        return KV_DIRTY;
    if (!request->dirty) {
        request->dirty = kv_blocks_take(&request->session->loop->blocks, size);
        if (!request->dirty)
            return KV_BUSY;
        memset(request->dirty, 0, size);
    }
    request->dirty[i / 8] |= (uint8_t)(1u << i % 8);
    return KV_OK;
}

kv_status kv_chain_let_in(kv_chain *chain, kv_node_request *request, uint64_t chain_version)
{
    /* Relaxed: it is compared again after the look-up. */
    uint64_t epoch = atomic_load_explicit(&chain->epoch, memory_order_relaxed);
    uint64_t version = atomic_load_explicit(&chain->version, memory_order_relaxed);
    kv_status status = KV_OK;

    if (epoch == 0 || (chain_version != 0 && chain_version != version) ||
        !kv_chain_has_lease(chain->node))
        return KV_WRONG_TARGET;
    request->epoch = epoch;
    /* Acquire: the look-up comes after it. */
    if (atomic_load_explicit(&chain->update_count, memory_order_acquire) == 0)
        return KV_OK;
    pthread_mutex_lock(&chain->mutex);
    for (uint32_t i = 0; i < request->count && status == KV_OK; i++)
        if (is_dirty(chain, &request->request.items[i]))
            status = note_dirty(request, i);
    pthread_mutex_unlock(&chain->mutex);
    return status;
}

/* Returns how many keys are dirty, or were. */
static uint32_t refuse_dirty(kv_chain *chain, kv_node_request *request, uint32_t first,
                             uint32_t end)
{
    uint32_t count = 0;

    pthread_mutex_lock(&chain->mutex);
    for (uint32_t position = first; position < end; position++) {
        uint32_t i = item_at(request, position);

        if (was_dirty(request, i) || is_dirty(chain, &request->request.items[i])) {
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
    if (request->dirty || atomic_load_explicit(&chain->update_count, memory_order_acquire) > 0)
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
