/* See pool.h. Sizes are rounded up to powers of two, one free list for each. */

#include "node/pool.h"

#include "node/node_limits.h"

#include <assert.h>
#include <stdlib.h>

/* The list for a size, or KV_POOL_CLASS_COUNT when blocks of that size are not kept. */
static uint32_t class_of(size_t size)
{
    uint32_t class = 0;

    while (class < KV_POOL_CLASS_COUNT && ((size_t)KV_POOL_BLOCK_SIZE_MIN << class) < size)
        class++;
    return class;
}

void *kv_pool_take(kv_pool *pool, size_t size)
{
    uint32_t class = class_of(size);
    void **block;

    assert(size > 0);
    if (class == KV_POOL_CLASS_COUNT)
        return malloc(size);
    block = pool->blocks[class];
    if (!block)
        return malloc((size_t)KV_POOL_BLOCK_SIZE_MIN << class);
    pool->blocks[class] = *block;
    pool->cached -= (uint64_t)KV_POOL_BLOCK_SIZE_MIN << class;
    return block;
}

void kv_pool_give(kv_pool *pool, void *block, size_t size)
{
    uint32_t class = class_of(size);
    uint64_t class_size = (uint64_t)KV_POOL_BLOCK_SIZE_MIN << class;

    if (class == KV_POOL_CLASS_COUNT || pool->cached + class_size > KV_POOL_CACHE_SIZE_MAX) {
        free(block);
        return;
    }
    *(void **)block = pool->blocks[class];
    pool->blocks[class] = block;
    pool->cached += class_size;
}

void kv_pool_close(kv_pool *pool)
{
    assert(pool->reserved == 0);
    for (uint32_t class = 0; class < KV_POOL_CLASS_COUNT; class++)
        while (pool->blocks[class]) {
            void **block = pool->blocks[class];

            pool->blocks[class] = *block;
            free(block);
        }
    pool->cached = 0;
}

bool kv_pool_reserve(kv_pool *pool, uint64_t size)
{
    if (pool->reserved > 0 && pool->reserved + size > pool->reserved_max)
        return false;
    pool->reserved += size;
    return true;
}

void kv_pool_release(kv_pool *pool, uint64_t size)
{
    assert(pool->reserved >= size);
    pool->reserved -= size;
}
