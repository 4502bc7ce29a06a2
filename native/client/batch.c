/* See batch.h. */

#include "client/batch.h"

#include "protocol/request.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define ORDER_COUNT_SMALL 128u /* items that are sorted without allocating */
#define INDICES_COUNT_MAX KV_MESSAGE_COUNT_MAX

_Static_assert(KV_BATCH_COUNT_LIMIT <= UINT32_MAX, "an index is the lower half of an order");

bool kv_batch_moves_values(uint32_t operation)
{
    return operation == KV_OP_SET || operation == KV_OP_GET;
}

int kv_batch_check(const kv_request *request)
{
    uint32_t kind = request->operation;

    if (kind < KV_OP_SET || kind > KV_OP_FLUSH || request->count > KV_BATCH_COUNT_LIMIT)
        return -EINVAL;
    if (request->flags != 0)
        return -EINVAL;
    if (request->count > 0 && (!request->items || kind == KV_OP_FLUSH))
        return -EINVAL;
    if (kind == KV_OP_STAT && request->count > 0 && !request->stats)
        return -EINVAL;
    for (uint32_t i = 0; i < request->count; i++) {
        const kv_item *item = &request->items[i];

        if (item->key_size == 0 || item->key_size > KV_KEY_SIZE_LIMIT || item->key == 0)
            return -EINVAL;
        if (kv_batch_moves_values(kind) && item->value == 0 && item->value_size > 0)
            return -EINVAL;
    }
    return 0;
}

void kv_batch_init(kv_batch *batch, kv_request *request, uint8_t *marks)
{
    *batch = (kv_batch){.request = request, .marks = marks, .open = request->count};
    request->matched = 0;
    request->status = KV_OK;
    for (uint32_t i = 0; i < request->count; i++) {
        request->items[i].result_size = 0;
        if (request->operation == KV_OP_SET && request->items[i].value_size > KV_VALUE_SIZE_LIMIT)
            kv_batch_settle(batch, i, KV_TOO_LARGE);
    }
}

/* What only clients and nodes say to each other, in words of the caller. */
static kv_status status_shown(kv_status status)
{
    switch (status) {
    case KV_WRONG_TARGET:
    case KV_BUSY:
    case KV_DIRTY:
        return KV_UNAVAILABLE;
    default:
        return status;
    }
}

void kv_batch_settle(kv_batch *batch, uint32_t index, kv_status status)
{
    assert(index < batch->request->count);
    assert(kv_batch_is_open(batch, index) && batch->open > 0);
    batch->marks[index] |= KV_BATCH_SETTLED;
    batch->request->items[index].status = (int32_t)status_shown(status);
    batch->open--;
}

void kv_batch_settle_all(kv_batch *batch, kv_status status)
{
    for (uint32_t i = 0; batch->open > 0; i++)
        if (kv_batch_is_open(batch, i))
            kv_batch_settle(batch, i, status);
}

/* What the next cut has taken so far. */
typedef struct kv_filling {
    uint32_t indices[INDICES_COUNT_MAX];
    kv_cut cut;
    uint64_t size; /* of values, whichever way they go */
} kv_filling;

static uint32_t size_of(const kv_batch *batch, uint32_t index)
{
    uint32_t size = batch->request->items[index].value_size;

    if (!kv_batch_moves_values(batch->request->operation))
        return 0;
    return size < KV_VALUE_SIZE_LIMIT ? size : KV_VALUE_SIZE_LIMIT;
}

/* Whether the item still fits; the first one always does. */
static bool filling_fits(const kv_filling *filling, const kv_batch *batch, uint32_t chain,
                         uint32_t index, const kv_cut_limits *limits)
{
    const kv_cut *cut = &filling->cut;
    uint32_t operation = batch->request->operation;
    uint32_t keys_size = cut->keys_size + batch->request->items[index].key_size;

    if (cut->count == 0)
        return true;
    return cut->chain == chain && cut->count < limits->count && cut->count < INDICES_COUNT_MAX &&
           filling->size + size_of(batch, index) <= limits->values_size &&
           kv_request_columns_size(operation, cut->count + 1, keys_size) <= limits->columns_size;
}

static void filling_add(kv_filling *filling, const kv_batch *batch, uint32_t chain, uint32_t index)
{
    kv_cut *cut = &filling->cut;

    filling->indices[cut->count++] = index;
    cut->chain = chain;
    cut->keys_size += batch->request->items[index].key_size;
    filling->size += size_of(batch, index);
    if (batch->request->operation == KV_OP_SET)
        cut->values_size = filling->size;
    else
        cut->room = filling->size;
}

static void filling_begin(kv_filling *filling)
{
    filling->cut = (kv_cut){.indices = filling->indices};
    filling->size = 0;
}

static int cut_ordered(const kv_batch *batch, const uint64_t *order, uint32_t count,
                       const kv_cut_limits *limits, kv_batch_emit *emit, void *context)
{
    kv_filling filling;
    int result = 0;

    filling_begin(&filling);
    for (uint32_t i = 0; i < count && result == 0; i++) {
        uint32_t chain = (uint32_t)(order[i] >> 32);
        uint32_t index = (uint32_t)order[i];

        if (!filling_fits(&filling, batch, chain, index, limits)) {
            result = emit(context, &filling.cut);
            filling_begin(&filling);
        }
        filling_add(&filling, batch, chain, index);
    }
    if (result == 0 && filling.cut.count > 0)
        result = emit(context, &filling.cut);
    return result;
}

static int order_compare(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left;
    uint64_t b = *(const uint64_t *)right;

    return a == b ? 0 : a < b ? -1 : 1;
}

int kv_batch_cut(const kv_batch *batch, const kv_route_table *routing, const kv_cut_names *names,
                 const kv_cut_limits *limits, const uint32_t *indices, uint32_t count,
                 kv_batch_emit *emit, void *context)
{
    uint64_t small[ORDER_COUNT_SMALL];
    uint64_t *order = small;
    uint32_t open = 0;
    int result;

    assert(count <= batch->request->count);
    assert(limits->count > 0);
    if (count > ORDER_COUNT_SMALL)
        order = malloc(count * sizeof(*order));
    if (!order)
        return -ENOMEM;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t index = indices ? indices[i] : i;
        const kv_item *item = &batch->request->items[index];

        if (kv_batch_is_open(batch, index))
            order[open++] =
                (uint64_t)kv_route_table_find(routing, names->tenant, names->name_space,
                                              (const void *)(uintptr_t)item->key, item->key_size)
                    << 32 |
                index;
    }
    if (routing->chain_count > 1)
        qsort(order, open, sizeof(*order), order_compare);
    result = open > 0 ? cut_ordered(batch, order, open, limits, emit, context) : 0;
    if (order != small)
        free(order);
    return result;
}

/* How many leading items exist. The parts beyond the first miss may not have been told apart. */
static void conclude_prefix(kv_request *request)
{
    uint32_t matched = 0;

    while (matched < request->count && request->items[matched].status == KV_OK)
        matched++;
    if (matched < request->count && request->items[matched].status != KV_NOT_FOUND) {
        request->status = request->items[matched].status;
        return;
    }
    request->matched = matched;
    for (uint32_t i = matched; i < request->count; i++)
        request->items[i].status = KV_NOT_FOUND;
}

void kv_batch_conclude(kv_batch *batch)
{
    kv_request *request = batch->request;

    assert(batch->open == 0);
    if (request->operation == KV_OP_MATCH_PREFIX) {
        conclude_prefix(request);
        return;
    }
    if (kv_batch_moves_values(request->operation))
        return;
    for (uint32_t i = 0; i < request->count && request->status == KV_OK; i++)
        if (request->items[i].status != KV_OK && request->items[i].status != KV_NOT_FOUND)
            request->status = request->items[i].status;
}

void kv_batch_invariants(const kv_batch *batch)
{
    uint32_t open = 0;

    for (uint32_t i = 0; i < batch->request->count; i++)
        open += kv_batch_is_open(batch, i);
    assert(open == batch->open);
}
