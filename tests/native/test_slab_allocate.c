#include "slab_model.h"

#include <errno.h>

/* What one value would cost in an empty space. */
static uint64_t pieces_size(kv_slab_allocator *allocator, uint32_t size)
{
    kv_extent pieces[KV_SLAB_PIECES_MAX];
    uint64_t sum = 0;
    int count = kv_slab_allocate(allocator, size, pieces);

    assert(count > 0);
    for (int piece = 0; piece < count; piece++) {
        assert(sum < size); /* all but the last are used in full */
        sum += pieces[piece].size;
        kv_slab_free(allocator, &pieces[piece]);
    }
    assert(sum >= size);
    return sum;
}

static void values_of_4_kib_to_64_mib_waste_at_most_an_eighth(uint32_t slab_size)
{
    kv_slab_allocator *allocator = open_slabs(slab_size, 128 * MIB / slab_size, 4096);

    for (uint32_t boundary = 4 * KIB; boundary <= 64 * MIB;
         boundary += boundary < MIB ? 4 * KIB : 60 * KIB) {
        for (uint32_t size = boundary; size <= boundary + 1; size++) {
            if (kv_slab_packs(allocator, size))
                continue;
            assert((pieces_size(allocator, size) - size) * 8 <= size);
        }
    }
    kv_slab_invariants(allocator);
    assert(kv_slab_used_size(allocator) == 0);
    kv_slab_close(allocator);
}

static void small_values_waste_less_than_a_unit_or_an_eighth(void)
{
    kv_slab_allocator *allocator = open_slabs(MIB, 2, 64);

    for (uint32_t size = 1; size <= 4 * KIB; size++) {
        uint64_t waste = pieces_size(allocator, size) - size;

        assert(!kv_slab_packs(allocator, size));
        assert(waste < 64 || waste * 8 <= size);
    }
    kv_slab_close(allocator);
}

static void only_sizes_that_would_waste_more_than_an_eighth_pack(void)
{
    kv_slab_allocator *allocator = open_slabs(32 * MIB, 2, 4096);

    assert(kv_slab_packs(allocator, 1));
    assert(kv_slab_packs(allocator, 3640) && !kv_slab_packs(allocator, 3641));
    assert(!kv_slab_packs(allocator, 4096));
    assert(kv_slab_packs(allocator, 4097));
    assert(kv_slab_packs(allocator, 28673) && !kv_slab_packs(allocator, 32769));
    for (uint32_t size = 32 * KIB; size <= 9 * MIB; size += 511)
        assert(!kv_slab_packs(allocator, size));
    assert(allocate_one(allocator, 5000).size == 8192);
    kv_slab_close(allocator);
}

static void a_value_prefers_the_fullest_slab_of_its_class(void)
{
    kv_slab_allocator *allocator = open_slabs(256 * KIB, 4, 4096);
    kv_extent extents[24];
    kv_extent next;

    for (int index = 0; index < 24; index++)
        extents[index] = allocate_one(allocator, 32 * KIB);
    for (int index = 0; index < 6; index++)
        kv_slab_free(allocator, &extents[index]);
    kv_slab_free(allocator, &extents[8]);
    for (int index = 16; index < 20; index++)
        kv_slab_free(allocator, &extents[index]);
    kv_slab_invariants(allocator);

    next = allocate_one(allocator, 32 * KIB);
    assert(next.offset == extents[8].offset);
    next = allocate_one(allocator, 32 * KIB);
    assert(kv_slab_index_of(allocator, next.offset) == 2);
    kv_slab_close(allocator);
}

static void the_lowest_free_slab_comes_first(void)
{
    kv_slab_allocator *allocator = open_slabs(256 * KIB, 4, 4096);
    kv_extent first = allocate_one(allocator, 4 * KIB);
    kv_extent second = allocate_one(allocator, 8 * KIB);

    assert(first.offset == 0 && second.offset == 256 * KIB);
    assert(kv_slab_high_mark(allocator) == 2);
    kv_slab_free(allocator, &first);
    assert(allocate_one(allocator, 16 * KIB).offset == 0);
    assert(kv_slab_high_mark(allocator) == 2);
    kv_slab_close(allocator);
}

/* Fill the space with values of one size and free every other one. */
static void make_holes(kv_slab_allocator *allocator, uint32_t size)
{
    uint64_t space_size = kv_slab_space_size(allocator);
    kv_extent pieces[KV_SLAB_PIECES_MAX];

    while (kv_slab_allocate_ideal(allocator, size, pieces) == 1)
        continue;
    assert(kv_slab_free_size(allocator) < size);
    for (uint64_t offset = 0; offset < space_size; offset += 2 * (uint64_t)size) {
        kv_extent extent;

        kv_slab_extent_at(allocator, offset, size, &extent);
        kv_slab_free(allocator, &extent);
    }
    kv_slab_invariants(allocator);
}

static void changing_value_sizes_never_ends_in_no_space_with_free_bytes_left(void)
{
    kv_slab_allocator *allocator = open_slabs(4 * MIB, 8, 4096);
    kv_extent pieces[KV_SLAB_PIECES_MAX];
    int count;

    make_holes(allocator, 4 * KIB);
    assert(kv_slab_free_size(allocator) == 16 * MIB);
    assert(kv_slab_allocate_ideal(allocator, MIB, pieces) == -ENOSPC);
    while ((count = kv_slab_allocate(allocator, MIB, pieces)) > 0) {
        assert(count == KV_SLAB_PIECES_MAX);
        kv_slab_invariants(allocator);
    }
    assert(count == -ENOSPC);
    assert(kv_slab_free_size(allocator) < MIB);
    kv_slab_close(allocator);
}

static void scattering_takes_large_extents_first_and_ends_with_the_smallest_that_fits(void)
{
    kv_slab_allocator *allocator = open_slabs(256 * KIB, 4, 4096);
    kv_extent pieces[KV_SLAB_PIECES_MAX];

    allocate_one(allocator, 4 * KIB);
    allocate_one(allocator, 8 * KIB);
    allocate_one(allocator, 24 * KIB);
    allocate_one(allocator, 12 * KIB);
    assert(kv_slab_free_slabs(allocator) == 0);

    /* 32 KiB: no free extent of its class is left. */
    assert(kv_slab_allocate_ideal(allocator, 32 * KIB, pieces) == -ENOSPC);
    assert(kv_slab_allocate(allocator, 32 * KIB, pieces) == 2);
    assert(pieces[0].size == 24 * KIB && pieces[1].size == 8 * KIB);
    /* 22 KiB: one extent of 24 wastes little. */
    assert(kv_slab_allocate(allocator, 20 * KIB + 1800, pieces) == 1);
    assert(pieces[0].size == 24 * KIB);
    /* 16 KiB: 24 would waste a half. */
    assert(kv_slab_allocate(allocator, 16 * KIB, pieces) == 2);
    assert(pieces[0].size == 12 * KIB && pieces[1].size == 4 * KIB);
    kv_slab_invariants(allocator);
    kv_slab_close(allocator);
}

static void a_gross_last_piece_is_better_than_no_space(void)
{
    kv_slab_allocator *allocator = open_slabs(256 * KIB, 1, 4096);
    kv_extent pieces[KV_SLAB_PIECES_MAX];

    allocate_one(allocator, 32 * KIB);
    assert(kv_slab_allocate(allocator, 4 * KIB, pieces) == 1);
    assert(pieces[0].size == 32 * KIB);
    assert(kv_slab_allocate(allocator, 36 * KIB, pieces) == 2);
    assert(pieces[0].size == 32 * KIB && pieces[1].size == 32 * KIB);
    kv_slab_close(allocator);
}

static void a_value_that_needs_too_many_pieces_leaves_no_trace(void)
{
    kv_slab_allocator *allocator = open_slabs(4 * MIB, 4, 4096);
    kv_extent pieces[KV_SLAB_PIECES_MAX];
    uint64_t free_size;

    make_holes(allocator, 4 * KIB);
    free_size = kv_slab_free_size(allocator);
    assert(kv_slab_allocate(allocator, MIB + 1, pieces) == -ENOSPC);
    assert(free_size == kv_slab_free_size(allocator));
    kv_slab_invariants(allocator);
    kv_slab_close(allocator);
}

static void a_failed_allocation_keeps_the_high_mark(void)
{
    kv_slab_allocator *allocator = open_slabs(MIB, 8, 4096);
    kv_extent pieces[KV_SLAB_PIECES_MAX];
    kv_extent extent = allocate_one(allocator, 4 * KIB);

    assert(kv_slab_allocate(allocator, 9 * MIB, pieces) == -ENOSPC);
    assert(kv_slab_allocate(allocator, UINT32_MAX, pieces) == -ENOSPC);
    assert(kv_slab_high_mark(allocator) == 1);
    assert(kv_slab_free_slabs(allocator) == 7);
    kv_slab_invariants(allocator);
    kv_slab_free(allocator, &extent);
    assert(kv_slab_allocate(allocator, 8 * MIB, pieces) == 64);
    assert(kv_slab_free_size(allocator) == 0);
    kv_slab_close(allocator);
}

static void more_pieces_than_the_maximum_are_refused(void)
{
    kv_slab_options options = {32 * MIB, 2, 4096, 4096};
    kv_slab_allocator *allocator;
    kv_extent pieces[KV_SLAB_PIECES_MAX];

    assert(kv_slab_open(&options, &allocator) == 0);
    assert(kv_slab_allocate(allocator, MIB, pieces) == KV_SLAB_PIECES_MAX);
    assert(kv_slab_allocate(allocator, MIB + 1, pieces) == -ENOSPC);
    assert(kv_slab_used_size(allocator) == MIB);
    kv_slab_close(allocator);
}

int main(void)
{
    values_of_4_kib_to_64_mib_waste_at_most_an_eighth(32 * MIB);
    values_of_4_kib_to_64_mib_waste_at_most_an_eighth(2 * MIB);
    small_values_waste_less_than_a_unit_or_an_eighth();
    only_sizes_that_would_waste_more_than_an_eighth_pack();
    a_value_prefers_the_fullest_slab_of_its_class();
    the_lowest_free_slab_comes_first();
    changing_value_sizes_never_ends_in_no_space_with_free_bytes_left();
    scattering_takes_large_extents_first_and_ends_with_the_smallest_that_fits();
    a_gross_last_piece_is_better_than_no_space();
    a_value_that_needs_too_many_pieces_leaves_no_trace();
    a_failed_allocation_keeps_the_high_mark();
    more_pieces_than_the_maximum_are_refused();
}
