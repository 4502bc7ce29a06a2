/* Free lists and the budget of a loop's memory. */

#include "node/blocks.h"

#include "node/node_limits.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void a_block_that_is_given_comes_back(void)
{
    kv_blocks blocks = {.reserved_max = 1000};
    void *first = kv_blocks_take(&blocks, 600);
    void *second;

    assert(first);
    memset(first, 1, 600);
    kv_blocks_give(&blocks, first, 600);
    assert(blocks.cached == 1024);
    second = kv_blocks_take(&blocks, 1000); /* of the same size, rounded up */
    assert(second == first && blocks.cached == 0);
    kv_blocks_give(&blocks, second, 1000);
    kv_blocks_close(&blocks);
    assert(blocks.cached == 0);
}

static void what_is_kept_is_bounded(void)
{
    kv_blocks blocks = {.reserved_max = 1000};
    void *taken[64];

    for (uint32_t i = 0; i < 64; i++)
        taken[i] = kv_blocks_take(&blocks, 100000);
    for (uint32_t i = 0; i < 64; i++)
        kv_blocks_give(&blocks, taken[i], 100000);
    assert(blocks.cached > 0 && blocks.cached <= KV_BLOCKS_CACHE_SIZE_MAX);
    kv_blocks_close(&blocks);
}

static void large_blocks_are_not_kept(void)
{
    kv_blocks blocks = {.reserved_max = 1000};
    void *block = kv_blocks_take(&blocks, 1u << 20);

    assert(block);
    kv_blocks_give(&blocks, block, 1u << 20);
    assert(blocks.cached == 0);
    kv_blocks_close(&blocks);
}

static void a_full_budget_refuses_and_an_empty_one_grants_anything(void)
{
    kv_blocks blocks = {.reserved_max = 1000};

    assert(kv_blocks_reserve(&blocks, 700));
    assert(!kv_blocks_reserve(&blocks, 301));
    assert(kv_blocks_reserve(&blocks, 300));
    kv_blocks_release(&blocks, 700);
    kv_blocks_release(&blocks, 300);
    assert(kv_blocks_reserve(&blocks, 5000));
    assert(!kv_blocks_reserve(&blocks, 1));
    kv_blocks_release(&blocks, 5000);
    kv_blocks_close(&blocks);
}

int main(void)
{
    a_block_that_is_given_comes_back();
    what_is_kept_is_bounded();
    large_blocks_are_not_kept();
    a_full_budget_refuses_and_an_empty_one_grants_anything();
    return 0;
}
