/* How long to wait before trying again: doubling, bounded, and jittered so that many clients do not
 * come back at the same moment. Pure: the caller owns time and random numbers. */
#ifndef KV_BACKOFF_H
#define KV_BACKOFF_H

#include "bytes/random.h"

/* The pause before attempt number `attempt` (0: the first one): between a half and the whole of
 * first_ms << attempt, at most max_ms. In nanoseconds. */
uint64_t kv_backoff_ns(kv_random *random, uint32_t attempt, uint32_t first_ms, uint32_t max_ms);

#endif
