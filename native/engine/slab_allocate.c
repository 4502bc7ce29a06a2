/* Choosing extents for a value: its own class first, and when that has no room the free extents of
 * every other class, largest first. Guarantees that a failed attempt leaves no trace. */

#include "engine/slab_core.h"
#include "engine/slab_set.h"

#include <assert.h>
#include <errno.h>

/* Rounding up to a class may waste 1/8 of a size; more than that is avoided or packed. */
#define WASTE_SHARE 8u

uint32_t kv_slab_class_ideal(const kv_slab_allocator *allocator, uint32_t size)
{
    uint32_t alignment = allocator->options.alignment;

    if (size >= allocator->classes[allocator->class_max].extent_size)
        return allocator->class_max;
    /* Every multiple of the alignment rounds up to a class that is one, too. */
    return kv_slab_class_of((size + alignment - 1) & ~(alignment - 1));
}

bool kv_slab_packs(const kv_slab_allocator *allocator, uint32_t size)
{
    uint32_t extent_size_max = allocator->classes[allocator->class_max].extent_size;
    uint32_t last = size % extent_size_max; /* larger pieces are used in full */
    uint32_t waste;

    if (allocator->options.alignment == KV_SLAB_UNIT || last == 0)
        return false;
    waste = allocator->classes[kv_slab_class_ideal(allocator, last)].extent_size - last;
    return waste * WASTE_SHARE > size;
}

/* The slab of a class that takes the next extent: a full slab costs nothing to keep, so the fullest
 * one is topped up and the emptiest gets its chance to become free. */
static kv_slab *fullest_with_room(const kv_slab_class *class)
{
    for (uint32_t level = KV_SLAB_LEVELS; level-- > 0;) {
        if (!kv_list_empty(&class->levels[level]))
            return KV_CONTAINER(class->levels[level].next, kv_slab, link);
    }
    return NULL;
}

/* Take the lowest free extent of a slab of the class. False when neither the class nor the free
 * slabs have one. */
static bool place(kv_slab_allocator *allocator, uint32_t slab_class, kv_extent *extent)
{
    const kv_slab_class *class = &allocator->classes[slab_class];
    kv_slab *slab = NULL;
    uint32_t index;

    if (class->room > 0) {
        slab = fullest_with_room(class);
        assert(slab);
        kv_slab_unsettle(allocator, slab);
    } else {
        slab = kv_slab_assign_lowest(allocator, slab_class);
        if (!slab)
            return false;
    }

    index = kv_slab_set_first(slab->free_extents, class->extent_count);
    assert(index < class->extent_count);
    kv_slab_set_remove(slab->free_extents, class->extent_count, index);
    slab->live_count++;
    slab->live_size += class->extent_size;
    kv_slab_settle(allocator, slab);

    extent->offset = ((uint64_t)kv_slab_index(allocator, slab) << allocator->slab_size_log2)
        + (uint64_t)index * class->extent_size;
    extent->size = class->extent_size;
    extent->slab_class = slab_class;
    return true;
}

/* The class for the next piece when `remaining` bytes are left to place in at most `pieces` pieces;
 * KV_SLAB_CLASS_NONE when no class has anything that helps. */
static uint32_t scatter_class(const kv_slab_allocator *allocator, uint32_t remaining,
    uint32_t pieces)
{
    const kv_slab_class *classes = allocator->classes;
    uint32_t ideal = kv_slab_class_ideal(allocator, remaining);
    uint32_t fit = KV_SLAB_CLASS_NONE;  /* smallest extent that ends the value here */
    uint32_t fill = KV_SLAB_CLASS_NONE; /* largest extent that the value uses in full */

    if (classes[ideal].room > 0 || kv_slab_spare(allocator))
        return ideal;
    for (uint32_t class = allocator->class_max; class > ideal; class--) {
        if (classes[class].room > 0)
            fit = class;
    }
    if (fit != KV_SLAB_CLASS_NONE
        && classes[fit].extent_size - remaining <= remaining / WASTE_SHARE)
        return fit;
    for (uint32_t class = ideal; class-- > 0 && fill == KV_SLAB_CLASS_NONE;) {
        if (classes[class].room > 0 && classes[class].extent_size <= remaining)
            fill = class;
    }
    /* No later piece is larger than this one, but for one that ends the value. */
    if (fill != KV_SLAB_CLASS_NONE && (uint64_t)classes[fill].extent_size * pieces >= remaining)
        return fill;
    return fit;
}

/* Give back what a failed attempt took. The slabs it took were free before, so the files need not
 * reach them either. */
static void undo(kv_slab_allocator *allocator, const kv_extent *pieces, uint32_t count,
    uint32_t high_mark)
{
    while (count-- > 0)
        kv_slab_free(allocator, &pieces[count]);
    allocator->high_mark = high_mark;
}

static uint32_t left_after(uint32_t remaining, const kv_extent *piece)
{
    return remaining > piece->size ? remaining - piece->size : 0;
}

int kv_slab_allocate_ideal(kv_slab_allocator *allocator, uint32_t size,
    kv_extent pieces[KV_SLAB_PIECES_MAX])
{
    uint32_t high_mark = allocator->high_mark;
    uint32_t remaining = size;
    uint32_t count = 0;

    assert(size > 0);
    while (remaining > 0 && count < KV_SLAB_PIECES_MAX) {
        /* Values above the largest class fill pieces of that class and end in the rest's own. */
        if (!place(allocator, kv_slab_class_ideal(allocator, remaining), &pieces[count]))
            break;
        remaining = left_after(remaining, &pieces[count++]);
    }
    if (remaining == 0)
        return (int)count;
    undo(allocator, pieces, count, high_mark);
    return -ENOSPC;
}

static int allocate_scattered(kv_slab_allocator *allocator, uint32_t size,
    kv_extent pieces[KV_SLAB_PIECES_MAX])
{
    uint32_t high_mark = allocator->high_mark;
    uint32_t remaining = size;
    uint32_t count = 0;

    while (remaining > 0 && count < KV_SLAB_PIECES_MAX) {
        uint32_t class = scatter_class(allocator, remaining, KV_SLAB_PIECES_MAX - count);

        if (class == KV_SLAB_CLASS_NONE || !place(allocator, class, &pieces[count]))
            break;
        remaining = left_after(remaining, &pieces[count++]);
    }
    if (remaining == 0)
        return (int)count;
    undo(allocator, pieces, count, high_mark);
    return -ENOSPC;
}

int kv_slab_allocate(kv_slab_allocator *allocator, uint32_t size,
    kv_extent pieces[KV_SLAB_PIECES_MAX])
{
    int count = kv_slab_allocate_ideal(allocator, size, pieces);

    /* The sum is a cheap test that spares a full space the search. */
    if (count != -ENOSPC || kv_slab_free_size(allocator) < size)
        return count;
    return allocate_scattered(allocator, size, pieces);
}
