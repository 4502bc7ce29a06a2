/* Counters of loops, their sum, and the bins of latencies. */

#include "node/counters.h"

#include <assert.h>

static void gauges_are_right_in_the_sum(void)
{
    static kv_counters left;
    static kv_counters right;
    kv_node_statistics sum = {0};

    kv_counters_add(&left, KV_COUNTER(connections), 3);
    kv_counters_subtract(&right, KV_COUNTER(connections), 2); /* below zero by itself */
    kv_counters_add(&right, KV_COUNTER(keys) + KV_OP_GET, 64);
    kv_counters_sum(&left, &sum);
    kv_counters_sum(&right, &sum);
    assert(sum.connections == 1 && sum.keys[KV_OP_GET] == 64 && sum.keys[KV_OP_SET] == 0);
}

static uint32_t bin_of(uint64_t latency_ns)
{
    static const uint32_t first = KV_OP_GET * KV_NODE_LATENCY_COUNT;
    kv_counters counters = {0};
    kv_node_statistics sum = {0};

    kv_counters_note_latency(&counters, KV_OP_GET, latency_ns);
    kv_counters_sum(&counters, &sum);
    assert(sum.latency_sum_ns[KV_OP_GET] == latency_ns);
    for (uint32_t bin = 0; bin < KV_NODE_LATENCY_COUNT; bin++)
        if (sum.latency[first + bin] == 1)
            return bin;
    assert(!"no bin counts it");
    return 0;
}

static void a_latency_is_below_its_bin_and_not_below_the_one_before(void)
{
    assert(bin_of(0) == 0 && bin_of(999) == 0);
    assert(bin_of(1000) == 1 && bin_of(1999) == 1);
    assert(bin_of(2000) == 2 && bin_of(3999) == 2);
    assert(bin_of(1000000) == 10);
    assert(bin_of(UINT64_MAX) == KV_NODE_LATENCY_COUNT - 1);
}

int main(void)
{
    gauges_are_right_in_the_sum();
    a_latency_is_below_its_bin_and_not_below_the_one_before();
    return 0;
}
