/* See counters.h. */

#include "node/counters.h"

#include <assert.h>

_Static_assert(sizeof(kv_node_statistics) % sizeof(uint64_t) == 0, "statistics are words");

/* Bin i counts what is below 1 us << i; the last one also counts what no bin is for. */
static uint32_t bin_of(uint64_t latency_ns)
{
    uint64_t latency_us = latency_ns / 1000;
    uint32_t bin = 0;

    while (bin < KV_NODE_LATENCY_COUNT - 1 && latency_us >> bin > 0)
        bin++;
    return bin;
}

void kv_counters_note_latency(kv_counters *counters, uint32_t operation, uint64_t latency_ns)
{
    assert(operation < KV_NODE_OPERATION_COUNT);
    kv_counters_add(counters,
                    KV_COUNTER(latency) + operation * KV_NODE_LATENCY_COUNT + bin_of(latency_ns), 1);
    kv_counters_add(counters, KV_COUNTER(latency_sum_ns) + operation, latency_ns);
}

void kv_counters_sum(const kv_counters *counters, kv_node_statistics *statistics)
{
    uint64_t *sums = (uint64_t *)statistics;

    for (size_t i = 0; i < KV_COUNTER_COUNT; i++)
        sums[i] += atomic_load_explicit(&counters->values[i], memory_order_relaxed);
}
