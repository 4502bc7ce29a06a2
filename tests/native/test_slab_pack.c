#include "slab_model.h"

#include <errno.h>

#define SLAB_SIZE (256 * KIB)

static kv_extent allocate_pack(kv_slab_allocator *allocator, uint32_t size, uint32_t live_size)
{
    kv_extent extent;

    assert(kv_slab_allocate_pack(allocator, size, live_size, &extent) == 0);
    assert(extent.size == size && extent.slab_class == KV_SLAB_CLASS_PACK);
    kv_slab_invariants(allocator);
    return extent;
}

static void free_packed(kv_slab_allocator *allocator, uint64_t offset, uint32_t size)
{
    kv_extent extent = {offset, size, KV_SLAB_CLASS_PACK};

    kv_slab_free(allocator, &extent);
    kv_slab_invariants(allocator);
}

static void groups_follow_each_other_in_the_open_pack(void)
{
    kv_slab_allocator *allocator = open_slabs(SLAB_SIZE, 4, 4096);
    kv_extent first = allocate_pack(allocator, 8192, 5056);
    kv_extent second = allocate_pack(allocator, 4096, 64);

    assert(first.offset == 0 && second.offset == 8192);
    assert(kv_slab_used_size(allocator) == 5120);
    assert(kv_slab_free_size(allocator) == 4 * SLAB_SIZE - 12288);
    kv_slab_close(allocator);
}

static void freed_bytes_of_a_pack_come_back_with_the_slab(void)
{
    kv_slab_allocator *allocator = open_slabs(SLAB_SIZE, 2, 4096);
    kv_extent group = allocate_pack(allocator, 8192, 8192);

    allocate_one(allocator, 4096);
    free_packed(allocator, group.offset, 4096);
    assert(kv_slab_live_size(allocator, 0) == 4096);
    assert(allocate_pack(allocator, 4096, 4096).offset == 8192);
    free_packed(allocator, group.offset + 4096, 4096);
    assert(kv_slab_free_slabs(allocator) == 0);
    free_packed(allocator, 8192, 4096);
    assert(kv_slab_free_slabs(allocator) == 1);
    assert(allocate_one(allocator, 8192).offset == 0);
    kv_slab_close(allocator);
}

static void a_group_that_does_not_fit_opens_another_slab(void)
{
    kv_slab_allocator *allocator = open_slabs(SLAB_SIZE, 2, 4096);

    allocate_pack(allocator, 160 * KIB, 160 * KIB);
    assert(allocate_pack(allocator, 128 * KIB, 64).offset == SLAB_SIZE);
    /* The first pack is closed, but its room is not lost. */
    assert(allocate_pack(allocator, 64 * KIB, 64).offset == SLAB_SIZE + 128 * KIB);
    assert(allocate_pack(allocator, 96 * KIB, 64).offset == 160 * KIB);
    assert(allocate_pack(allocator, 64 * KIB, 64).offset == SLAB_SIZE + 192 * KIB);
    assert(kv_slab_free_size(allocator) == 0);
    kv_slab_close(allocator);
}

static void a_full_space_refuses_a_group_but_keeps_the_open_pack(void)
{
    kv_slab_allocator *allocator = open_slabs(SLAB_SIZE, 1, 4096);
    kv_extent extent;

    allocate_pack(allocator, 252 * KIB, 64);
    assert(kv_slab_allocate_pack(allocator, 8192, 8192, &extent) == -ENOSPC);
    kv_slab_invariants(allocator);
    allocate_pack(allocator, 4096, 4096);
    assert(kv_slab_allocate_pack(allocator, 4096, 4096, &extent) == -ENOSPC);
    kv_slab_close(allocator);
}

static void a_group_may_fill_a_whole_slab(void)
{
    kv_slab_allocator *allocator = open_slabs(SLAB_SIZE, 2, 4096);

    assert(allocate_pack(allocator, SLAB_SIZE, SLAB_SIZE).offset == 0);
    assert(allocate_pack(allocator, SLAB_SIZE, SLAB_SIZE).offset == SLAB_SIZE);
    free_packed(allocator, 0, SLAB_SIZE);
    assert(kv_slab_free_slabs(allocator) == 1);
    kv_slab_close(allocator);
}

static void a_frozen_pack_is_not_appended_to(void)
{
    kv_slab_allocator *allocator = open_slabs(SLAB_SIZE, 2, 4096);

    allocate_pack(allocator, 4096, 4096);
    kv_slab_freeze(allocator, 0);
    kv_slab_invariants(allocator);
    assert(kv_slab_free_size(allocator) == SLAB_SIZE);
    assert(allocate_pack(allocator, 4096, 4096).offset == SLAB_SIZE);
    kv_slab_thaw(allocator, 0);
    kv_slab_invariants(allocator);
    assert(kv_slab_free_size(allocator) == 2 * SLAB_SIZE - 8192);
    assert(allocate_pack(allocator, 4096, 4096).offset == SLAB_SIZE + 4096);
    kv_slab_close(allocator);
}

static void packs_give_nothing_to_classes_and_take_nothing_from_them(void)
{
    kv_slab_allocator *allocator = open_slabs(SLAB_SIZE, 2, 4096);
    kv_extent pieces[KV_SLAB_PIECES_MAX];
    kv_extent extent;

    allocate_pack(allocator, 4096, 4096);
    allocate_one(allocator, 32 * KIB);
    for (int count = 1; count < 8; count++)
        assert(kv_slab_allocate(allocator, 32 * KIB, pieces) == 1);
    assert(kv_slab_allocate(allocator, 4096, pieces) == -ENOSPC);
    allocate_pack(allocator, SLAB_SIZE - 4096, 64);
    kv_slab_free(allocator, &pieces[0]);
    assert(kv_slab_allocate_pack(allocator, 4096, 64, &extent) == -ENOSPC);
    kv_slab_close(allocator);
}

int main(void)
{
    groups_follow_each_other_in_the_open_pack();
    freed_bytes_of_a_pack_come_back_with_the_slab();
    a_group_that_does_not_fit_opens_another_slab();
    a_full_space_refuses_a_group_but_keeps_the_open_pack();
    a_group_may_fill_a_whole_slab();
    a_frozen_pack_is_not_appended_to();
    packs_give_nothing_to_classes_and_take_nothing_from_them();
}
