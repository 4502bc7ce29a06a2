#include "slab_model.h"

#include <errno.h>

#define SLAB_SIZE (256 * KIB)

static int claim(kv_slab_allocator *allocator, uint64_t offset, uint32_t size, uint32_t slab_class)
{
    kv_extent extent = {offset, size, slab_class};
    int result = kv_slab_claim(allocator, &extent);

    kv_slab_invariants(allocator);
    return result;
}

static void illegal_extents_are_refused(void)
{
    kv_slab_allocator *allocator = open_slabs(SLAB_SIZE, 4, 4096);
    uint32_t class_8k = kv_slab_class_of(8192);
    uint32_t class_20k = kv_slab_class_of(20 * KIB);

    assert(claim(allocator, 4 * SLAB_SIZE, 8192, class_8k) == -EINVAL);
    assert(claim(allocator, UINT64_MAX - 63, 8192, class_8k) == -EINVAL);
    assert(claim(allocator, 32, 8192, class_8k) == -EINVAL);
    assert(claim(allocator, 4096, 8192, class_8k) == -EINVAL);
    assert(claim(allocator, 0, 4096, class_8k) == -EINVAL);
    assert(claim(allocator, 0, 0, class_8k) == -EINVAL);
    assert(claim(allocator, 240 * KIB, 20 * KIB, class_20k) == -EINVAL);
    assert(claim(allocator, 0, 64, kv_slab_class_of(64)) == -EINVAL);
    assert(claim(allocator, 0, 64 * KIB, kv_slab_class_of(64 * KIB)) == -EINVAL);
    assert(claim(allocator, 0, 0, 120) == -EINVAL);
    assert(claim(allocator, 0, 8192, KV_SLAB_CLASS_NONE) == -EINVAL);
    assert(claim(allocator, 0, 8192, UINT32_MAX) == -EINVAL);
    assert(claim(allocator, 0, 0, KV_SLAB_CLASS_PACK) == -EINVAL);
    assert(claim(allocator, 0, 100, KV_SLAB_CLASS_PACK) == -EINVAL);
    assert(claim(allocator, SLAB_SIZE - 64, 128, KV_SLAB_CLASS_PACK) == -EINVAL);
    assert(claim(allocator, 0, UINT32_MAX - 63, KV_SLAB_CLASS_PACK) == -EINVAL);
    assert(kv_slab_used_size(allocator) == 0 && kv_slab_free_slabs(allocator) == 4);
    kv_slab_close(allocator);
}

static void a_slab_keeps_the_class_of_its_first_claim(void)
{
    kv_slab_allocator *allocator = open_slabs(SLAB_SIZE, 4, 4096);

    assert(claim(allocator, SLAB_SIZE, 8192, kv_slab_class_of(8192)) == 0);
    assert(claim(allocator, SLAB_SIZE + 8192, 4096, kv_slab_class_of(4096)) == -EINVAL);
    assert(claim(allocator, SLAB_SIZE + 8192, 64, KV_SLAB_CLASS_PACK) == -EINVAL);
    assert(claim(allocator, 2 * SLAB_SIZE, 64, KV_SLAB_CLASS_PACK) == 0);
    assert(claim(allocator, 2 * SLAB_SIZE + 8192, 8192, kv_slab_class_of(8192)) == -EINVAL);
    assert(kv_slab_high_mark(allocator) == 3);
    kv_slab_close(allocator);
}

static void an_extent_is_claimed_once(void)
{
    kv_slab_allocator *allocator = open_slabs(SLAB_SIZE, 4, 4096);

    assert(claim(allocator, 8192, 8192, kv_slab_class_of(8192)) == 0);
    assert(claim(allocator, 8192, 8192, kv_slab_class_of(8192)) == -EEXIST);
    assert(kv_slab_used_size(allocator) == 8192);
    assert(allocate_one(allocator, 8192).offset == 0);
    assert(allocate_one(allocator, 8192).offset == 16384);
    kv_slab_close(allocator);
}

static void a_pack_notices_more_bytes_than_it_holds(void)
{
    kv_slab_allocator *allocator = open_slabs(SLAB_SIZE, 4, 4096);

    assert(claim(allocator, 0, 4096, KV_SLAB_CLASS_PACK) == 0);
    assert(claim(allocator, 0, 4096, KV_SLAB_CLASS_PACK) == -EEXIST);
    assert(kv_slab_used_size(allocator) == 4096);
    kv_slab_close(allocator);
}

static void packs_grow_behind_the_last_claimed_byte_roomiest_first(void)
{
    kv_slab_allocator *allocator = open_slabs(SLAB_SIZE, 4, 4096);
    kv_extent extent;

    assert(claim(allocator, 128 * KIB, 64, KV_SLAB_CLASS_PACK) == 0);
    assert(claim(allocator, 64, 128, KV_SLAB_CLASS_PACK) == 0);
    assert(claim(allocator, 2 * SLAB_SIZE + 120 * KIB, 4160, KV_SLAB_CLASS_PACK) == 0);
    assert(claim(allocator, 3 * SLAB_SIZE + 64 * KIB, 4160, KV_SLAB_CLASS_PACK) == 0);
    kv_slab_claimed(allocator);
    kv_slab_invariants(allocator);

    assert(kv_slab_allocate_pack(allocator, 4096, 64, &extent) == 0);
    assert(extent.offset == 3 * SLAB_SIZE + 72 * KIB);
    assert(kv_slab_allocate_pack(allocator, SLAB_SIZE, 64, &extent) == 0);
    assert(extent.offset == SLAB_SIZE);
    assert(kv_slab_allocate_pack(allocator, 124 * KIB, 64, &extent) == 0);
    assert(extent.offset == 132 * KIB || extent.offset == 2 * SLAB_SIZE + 128 * KIB);
    kv_slab_invariants(allocator);
    kv_slab_close(allocator);
}

static void an_empty_recovery_leaves_everything_free(void)
{
    kv_slab_allocator *allocator = open_slabs(SLAB_SIZE, 4, 4096);

    kv_slab_claimed(allocator);
    kv_slab_invariants(allocator);
    assert(kv_slab_free_size(allocator) == 4 * SLAB_SIZE);
    kv_slab_close(allocator);
}

static void random_claims_never_break_the_allocator(void)
{
    kv_slab_allocator *allocator = open_slabs(64 * KIB, 8, 4096);
    uint64_t seed = 7;
    int accepted = 0;

    for (int step = 0; step < 20000; step++) {
        uint32_t few = 31 + next_random(&seed) % 16; /* classes around 4 and 8 KiB */
        uint32_t class = next_random(&seed) % 4 ? few : next_random(&seed) % 256;
        uint32_t size = next_random(&seed) % 8 ? kv_slab_class_size(class) : 1984;
        uint64_t unit = next_random(&seed) % 8 ? 4096 : KV_SLAB_UNIT;

        accepted += claim(allocator, next_random(&seed) % 140 * unit, size, class) == 0;
    }
    assert(accepted > 20);
    kv_slab_claimed(allocator);
    kv_slab_invariants(allocator);
    kv_slab_close(allocator);
}

int main(void)
{
    illegal_extents_are_refused();
    a_slab_keeps_the_class_of_its_first_claim();
    an_extent_is_claimed_once();
    a_pack_notices_more_bytes_than_it_holds();
    packs_grow_behind_the_last_claimed_byte_roomiest_first();
    an_empty_recovery_leaves_everything_free();
    random_claims_never_break_the_allocator();
}
