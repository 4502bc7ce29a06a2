/* A keyed 64-bit hash for in-memory tables. Never stored: it differs between processes. */
#ifndef KV_HASH_H
#define KV_HASH_H

#include <stddef.h>
#include <stdint.h>

/* `seed` is random for each store, so that nobody outside can aim for collisions. */
uint64_t kv_hash(uint64_t seed, const void *data, size_t size);

#endif
