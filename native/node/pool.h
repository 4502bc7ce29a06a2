/* Memory of one loop's connections: free lists of blocks, and a budget.
 *
 * Blocks come from the system and stay, up to a bound, for the next one of about their size. The
 * budget is counted apart from blocks: whoever is about to take memory for a message reserves what it may
 * come to, and waits, holding nothing, when that is not to be had. One thread's. */
#ifndef KV_POOL_H
#define KV_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KV_POOL_CLASS_COUNT 10u
#define KV_POOL_BLOCK_SIZE_MIN 512u

typedef struct kv_pool {
    void *blocks[KV_POOL_CLASS_COUNT];
    uint64_t cached;
    uint64_t reserved;
    uint64_t reserved_max;
} kv_pool;

/* At least `size` bytes, not cleared; NULL when the system has none. */
void *kv_pool_take(kv_pool *pool, size_t size);
/* `size` is what it was taken with. */
void kv_pool_give(kv_pool *pool, void *block, size_t size);
void kv_pool_close(kv_pool *pool);

/* False: not now. What exceeds the whole budget is granted when nothing else is reserved. */
bool kv_pool_reserve(kv_pool *pool, uint64_t size);
void kv_pool_release(kv_pool *pool, uint64_t size);

#endif
