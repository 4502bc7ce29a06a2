/* The counters of one loop: kv_node_statistics as atomic words.
 *
 * Only the loop's thread writes, so an addition is a load and a store, without a locked
 * instruction; anybody may read. Gauges go up and down modulo 2^64 and are right in the sum over
 * loops. */
#ifndef KV_COUNTERS_H
#define KV_COUNTERS_H

#include "kvcore.h"

#include <stdatomic.h>

#define KV_COUNTER_COUNT (sizeof(kv_node_statistics) / sizeof(uint64_t))
/* Which counter a member of kv_node_statistics is. */
#define KV_COUNTER(member) (offsetof(kv_node_statistics, member) / sizeof(uint64_t))

typedef struct kv_counters {
    _Atomic uint64_t values[KV_COUNTER_COUNT];
} kv_counters;

/* Relaxed: a reader wants each number by itself, not an order between them. */
static inline void kv_counters_add(kv_counters *counters, size_t counter, uint64_t amount)
{
    uint64_t value = atomic_load_explicit(&counters->values[counter], memory_order_relaxed);

    atomic_store_explicit(&counters->values[counter], value + amount, memory_order_relaxed);
}

static inline void kv_counters_subtract(kv_counters *counters, size_t counter, uint64_t amount)
{
    kv_counters_add(counters, counter, 0 - amount);
}

/* A request of an operation was replied to in so much time. */
void kv_counters_note_latency(kv_counters *counters, uint32_t operation, uint64_t latency_ns);
/* Add all of them to `statistics`. From any thread. */
void kv_counters_sum(const kv_counters *counters, kv_node_statistics *statistics);

#endif
