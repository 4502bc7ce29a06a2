/* Recovery: rebuilding the allocator from the extents that metadata names. The extents come from a
 * file, so every number is checked before it is believed; a refused claim changes nothing. */

#include "engine/slab_core.h"
#include "engine/slab_set.h"

#include <assert.h>
#include <errno.h>

static uint32_t place_of(const kv_slab_allocator *allocator, const kv_extent *extent)
{
    return (uint32_t)(extent->offset & (allocator->slab_size - 1));
}

/* Whether the extent could exist in some state of this space. */
static bool extent_is_legal(const kv_slab_allocator *allocator, const kv_extent *extent)
{
    uint64_t space_size = (uint64_t)allocator->options.slab_count << allocator->slab_size_log2;
    uint32_t place = place_of(allocator, extent);

    if (extent->offset >= space_size || extent->offset % KV_SLAB_UNIT != 0)
        return false;
    if (extent->size == 0 || extent->size > allocator->slab_size - place)
        return false;
    if (extent->slab_class == KV_SLAB_CLASS_PACK)
        return extent->size % KV_SLAB_UNIT == 0;
    if (extent->slab_class >= KV_SLAB_CLASS_COUNT)
        return false;
    if (extent->size != allocator->classes[extent->slab_class].extent_size)
        return false;
    return place % extent->size == 0;
}

static int claim_packed(kv_slab_allocator *allocator, kv_slab *slab, const kv_extent *extent)
{
    uint32_t end = place_of(allocator, extent) + extent->size;
    uint32_t append = (end + KV_SLAB_PACK_STEP - 1) & ~(KV_SLAB_PACK_STEP - 1);

    if (append < slab->append)
        append = slab->append;
    /* More live bytes than the range holds: some of them were claimed twice. */
    if (slab->live_size > append - extent->size)
        return -EEXIST;
    slab->append = append;
    slab->live_size += extent->size;
    return 0;
}

static int claim_extent(kv_slab_allocator *allocator, kv_slab *slab, const kv_extent *extent)
{
    uint32_t extent_count = allocator->classes[slab->slab_class].extent_count;
    uint32_t index = place_of(allocator, extent) / extent->size;

    assert(index < extent_count); /* a legal extent ends inside its slab */
    if (!kv_slab_set_has(slab->free_extents, index))
        return -EEXIST;
    kv_slab_set_remove(slab->free_extents, extent_count, index);
    slab->live_count++;
    slab->live_size += extent->size;
    return 0;
}

int kv_slab_claim(kv_slab_allocator *allocator, const kv_extent *extent)
{
    uint32_t index;
    kv_slab *slab;
    int result;

    if (!extent_is_legal(allocator, extent))
        return -EINVAL;
    index = kv_slab_index_of(allocator, extent->offset);
    slab = &allocator->slabs[index];
    if (slab->used && slab->slab_class != extent->slab_class)
        return -EINVAL;

    if (slab->used)
        kv_slab_unsettle(allocator, slab);
    else if (!kv_slab_assign(allocator, index, extent->slab_class))
        return -ENOMEM;
    if (extent->slab_class == KV_SLAB_CLASS_PACK)
        result = claim_packed(allocator, slab, extent);
    else
        result = claim_extent(allocator, slab, extent);
    assert(slab->live_size > 0); /* the first claim of a slab cannot collide */
    kv_slab_settle(allocator, slab);
    return result;
}

void kv_slab_claimed(kv_slab_allocator *allocator)
{
    const kv_slab_class *packs = kv_slab_class_at(allocator, KV_SLAB_CLASS_PACK);
    const kv_slab *roomiest = NULL;

    /* The packs with the most room are all on the highest level in use. */
    for (uint32_t level = KV_SLAB_LEVELS; level-- > 0 && !roomiest;) {
        const kv_list *list = &packs->levels[level];

        for (const kv_list *link = list->next; link != list; link = link->next) {
            const kv_slab *slab = KV_CONTAINER(link, kv_slab, link);

            if (!roomiest || kv_slab_room(allocator, slab) > kv_slab_room(allocator, roomiest))
                roomiest = slab;
        }
    }
    if (roomiest)
        kv_slab_pack_open(allocator, kv_slab_index(allocator, roomiest));
}
