/* See backoff.h. */

#include "client/backoff.h"

#define NS_PER_MS 1000000u
#define BACKOFF_SHIFT_MAX 20u

uint64_t kv_backoff_ns(kv_random *random, uint32_t attempt, uint32_t first_ms, uint32_t max_ms)
{
    uint32_t shift = attempt < BACKOFF_SHIFT_MAX ? attempt : BACKOFF_SHIFT_MAX;
    uint64_t whole_ms = (uint64_t)first_ms << shift;
    uint64_t half_ns;

    assert(first_ms > 0 && first_ms <= max_ms);
    if (whole_ms > max_ms)
        whole_ms = max_ms;
    half_ns = whole_ms * NS_PER_MS / 2;
    return half_ns + kv_random_below(random, half_ns + 1);
}
