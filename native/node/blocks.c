/* See blocks.h. Sizes are rounded up to powers of two, one free list for each. */

#include "node/blocks.h"

#include "node/node_limits.h"

#include <assert.h>
#include <stdlib.h>

/* The list for a size, or KV_BLOCKS_CLASS_COUNT when blocks of that size are not kept. */
static uint32_t class_of(size_t size)
{
    uint32_t class = 0;

    while (class < KV_BLOCKS_CLASS_COUNT && ((size_t)KV_BLOCKS_BLOCK_SIZE_MIN << class) < size)
        class++;
    return class;
}

void *kv_blocks_take(kv_blocks *blocks, size_t size)
{
    uint32_t class = class_of(size);
    void **block;

    assert(size > 0);
    if (class == KV_BLOCKS_CLASS_COUNT)
        return malloc(size);
    block = blocks->blocks[class];
    if (!block)
        return malloc((size_t)KV_BLOCKS_BLOCK_SIZE_MIN << class);
    blocks->blocks[class] = *block;
    blocks->cached -= (uint64_t)KV_BLOCKS_BLOCK_SIZE_MIN << class;
    return block;
}

void kv_blocks_give(kv_blocks *blocks, void *block, size_t size)
{
    uint32_t class = class_of(size);
    uint64_t class_size = (uint64_t)KV_BLOCKS_BLOCK_SIZE_MIN << class;

    if (class == KV_BLOCKS_CLASS_COUNT || blocks->cached + class_size > KV_BLOCKS_CACHE_SIZE_MAX) {
        free(block);
        return;
    }
    *(void **)block = blocks->blocks[class];
    blocks->blocks[class] = block;
    blocks->cached += class_size;
}

void kv_blocks_close(kv_blocks *blocks)
{
    assert(blocks->reserved == 0);
    for (uint32_t class = 0; class < KV_BLOCKS_CLASS_COUNT; class++)
        while (blocks->blocks[class]) {
            void **block = blocks->blocks[class];

            blocks->blocks[class] = *block;
            free(block);
        }
    blocks->cached = 0;
}

bool kv_blocks_reserve(kv_blocks *blocks, uint64_t size)
{
    if (blocks->reserved > 0 && blocks->reserved + size > blocks->reserved_max)
        return false;
    blocks->reserved += size;
    return true;
}

void kv_blocks_release(kv_blocks *blocks, uint64_t size)
{
    assert(blocks->reserved >= size);
    blocks->reserved -= size;
}
