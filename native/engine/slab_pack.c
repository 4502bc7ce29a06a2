/* Packs: slabs filled from the front with groups of values too small for a class.
 *
 *     0                                append               slab_size
 *     | group | group  | group         | room               |
 *     | v|v|v | v| |v|v|    |   |v|v   |                    |
 *
 * Bytes that are freed between the values come back with the slab.
 * One pack is open and grows; a closed one with room is reopened before a free slab is taken.
 * Guarantees that groups never overlap and that live_size <= append. */

#include "engine/slab_core.h"

#include <assert.h>
#include <errno.h>

static kv_slab *open_pack(const kv_slab_allocator *allocator)
{
    return allocator->open_pack == KV_SLAB_NONE ? NULL : &allocator->slabs[allocator->open_pack];
}

void kv_slab_pack_open(kv_slab_allocator *allocator, uint32_t slab)
{
    kv_slab *before = open_pack(allocator);
    kv_slab *after;

    assert(slab == KV_SLAB_NONE || slab < allocator->options.slab_count);
    if (before)
        kv_slab_unsettle(allocator, before);
    allocator->open_pack = slab;
    if (before)
        kv_slab_settle(allocator, before);
    after = open_pack(allocator);
    if (!after)
        return;
    kv_slab_unsettle(allocator, after);
    kv_slab_settle(allocator, after);
}

/* A closed pack with room for `size` bytes, rather one that it fills up. Of the packs of one level
 * only the first is looked at, which bounds the search. */
static kv_slab *closed_pack_with_room(kv_slab_allocator *allocator, uint32_t size)
{
    const kv_list *levels = kv_slab_class_at(allocator, KV_SLAB_CLASS_PACK)->levels;
    uint64_t lowest = (uint64_t)size * KV_SLAB_LEVELS / allocator->slab_size;

    for (uint64_t level = lowest; level < KV_SLAB_LEVELS; level++) {
        kv_slab *slab;

        if (kv_list_empty(&levels[level]))
            continue;
        slab = KV_CONTAINER(levels[level].next, kv_slab, link);
        if (kv_slab_room(allocator, slab) >= size)
            return slab;
    }
    return NULL;
}

/* An unsettled pack with room; NULL when there is none. */
static kv_slab *pack_for(kv_slab_allocator *allocator, uint32_t size)
{
    kv_slab *slab = open_pack(allocator);

    if (slab && kv_slab_room(allocator, slab) >= size) {
        kv_slab_unsettle(allocator, slab);
        return slab;
    }
    /* Room behind a closed pack's last value serves only packs; a free slab serves every class. */
    slab = closed_pack_with_room(allocator, size);
    if (slab) {
        kv_slab_pack_open(allocator, kv_slab_index(allocator, slab));
        kv_slab_unsettle(allocator, slab);
        return slab;
    }
    if (!kv_slab_spare(allocator))
        return NULL;
    kv_slab_pack_open(allocator, KV_SLAB_NONE);
    slab = kv_slab_assign_lowest(allocator, KV_SLAB_CLASS_PACK);
    assert(slab);
    allocator->open_pack = kv_slab_index(allocator, slab);
    return slab;
}

int kv_slab_allocate_pack(kv_slab_allocator *allocator, uint32_t size, uint32_t live_size,
    kv_extent *extent)
{
    kv_slab *slab;

    assert(size > 0 && size <= allocator->slab_size && size % KV_SLAB_PACK_STEP == 0);
    assert(live_size > 0 && live_size <= size && live_size % KV_SLAB_UNIT == 0);
    slab = pack_for(allocator, size);
    if (!slab)
        return -ENOSPC;

    extent->offset = ((uint64_t)allocator->open_pack << allocator->slab_size_log2) + slab->append;
    extent->size = size;
    extent->slab_class = KV_SLAB_CLASS_PACK;
    slab->append += size;
    slab->live_size += live_size;
    assert(slab->append <= allocator->slab_size);
    kv_slab_settle(allocator, slab);
    return 0;
}
