/* One request of the caller: which of its items are still open, how it is cut into message-sized
 * parts, and what it has come to. Pure: no socket, clock or lock.
 *
 *   open == count ──kv_batch_settle, once for each item──► open == 0 ──kv_batch_conclude──► done
 *
 * Invariants: an item is settled once; open counts the items that are not; what conclude says
 * follows from the statuses of the items alone. */
#ifndef KV_BATCH_H
#define KV_BATCH_H

#include "client/client_limits.h"
#include "client/route_table.h"

#include <stdbool.h>

#define KV_BATCH_SETTLED 1u /* marks of an item */
#define KV_BATCH_REREAD 2u  /* its value arrived with a wrong checksum, and was asked for again */
#define KV_BATCH_ELSEWHERE 4u /* a member of its chain could not read it, and another was asked */

typedef struct kv_batch {
    kv_request *request;
    uint8_t *marks; /* one for each item */
    uint32_t open;
    bool given_up; /* nothing is sent again */
} kv_batch;

/* Items of one chain that fit one message. */
typedef struct kv_cut {
    const uint32_t *indices; /* of the request; ascending */
    uint32_t count;
    uint32_t chain; /* index in the routing info */
    uint32_t keys_size;
    uint64_t values_size; /* to send */
    uint64_t room;        /* for values that come back */
} kv_cut;

typedef struct kv_cut_limits {
    uint32_t count;
    uint32_t columns_size;
    uint32_t values_size;
} kv_cut_limits;

typedef struct kv_cut_names {
    const char *tenant;
    const char *name_space;
} kv_cut_names;

/* Takes a cut; what it points to is the batch's again afterwards. Nonzero ends the cutting. */
typedef int kv_batch_emit(void *context, const kv_cut *cut);

/* -EINVAL: the request is not well-formed, or has flags that are the core's own. */
int kv_batch_check(const kv_request *request);
/* `marks`: request->count bytes, zeroed. Values that no node takes are settled at once. */
void kv_batch_init(kv_batch *batch, kv_request *request, uint8_t *marks);
void kv_batch_settle(kv_batch *batch, uint32_t index, kv_status status);
/* Settle what is open. */
void kv_batch_settle_all(kv_batch *batch, kv_status status);
/* Cut those of the given items (NULL: of all) that are open. -ENOMEM, or what emit returned. */
int kv_batch_cut(const kv_batch *batch, const kv_route_table *routing, const kv_cut_names *names,
                 const kv_cut_limits *limits, const uint32_t *indices, uint32_t count,
                 kv_batch_emit *emit, void *context);
/* Every item is settled: fill in what the request as a whole has come to. */
void kv_batch_conclude(kv_batch *batch);
bool kv_batch_moves_values(uint32_t operation);
void kv_batch_invariants(const kv_batch *batch);

static inline bool kv_batch_is_open(const kv_batch *batch, uint32_t index)
{
    return (batch->marks[index] & KV_BATCH_SETTLED) == 0;
}

#endif
