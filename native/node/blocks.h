/* Memory of one loop's connections: free lists of blocks, and a budget.
 *
 * Blocks come from the system and stay, up to a bound, for the next one of about their size. The
 * budget is counted apart from blocks: whoever is about to take memory for a message reserves
 * what it may come to, and waits, holding nothing, when that is not to be had. One thread's. */
#ifndef KV_BLOCKS_H
#define KV_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KV_BLOCKS_CLASS_COUNT 10u
#define KV_BLOCKS_BLOCK_SIZE_MIN 512u

typedef struct kv_blocks {
    void *blocks[KV_BLOCKS_CLASS_COUNT];
    uint64_t cached;
    uint64_t reserved;
    uint64_t reserved_max;
} kv_blocks;

/* At least `size` bytes, not cleared; NULL when the system has none. */
void *kv_blocks_take(kv_blocks *blocks, size_t size);
/* `size` is what it was taken with. */
void kv_blocks_give(kv_blocks *blocks, void *block, size_t size);
void kv_blocks_close(kv_blocks *blocks);

/* False: not now. What exceeds the whole budget is granted when nothing else is reserved. */
bool kv_blocks_reserve(kv_blocks *blocks, uint64_t size);
void kv_blocks_release(kv_blocks *blocks, uint64_t size);

#endif
