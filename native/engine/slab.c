/* The life of slabs: opening a space, handing its slabs to classes and taking them back, freeing,
 * claiming and freezing. Guarantees that every sum equals what the slabs say and that an empty slab
 * is free at once. Leaves choosing extents to slab_allocate.c, packs to slab_pack.c, and locking to
 * the caller. */

#include "engine/slab_core.h"
#include "engine/slab_set.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* At least this many extents to a slab, so that what is left over at its end stays small. */
#define EXTENTS_PER_SLAB_MIN 8u

static bool options_are_legal(const kv_slab_options *options)
{
    uint64_t size = options->slab_size;

    if (size < KV_SLAB_SIZE_MIN || size > KV_SLAB_SIZE_MAX || (size & (size - 1)) != 0)
        return false;
    if (options->slab_count == 0 || options->slab_count > KV_SLAB_SPACE_SIZE_MAX / size)
        return false;
    if (options->alignment != KV_SLAB_UNIT && options->alignment != KV_SLAB_PACK_STEP)
        return false;
    return options->extent_size_max >= options->alignment
        && options->extent_size_max <= size / EXTENTS_PER_SLAB_MIN;
}

/* A class that is no multiple of the alignment, or too large, keeps extent_size 0: nothing
 * allocates from it and no claim can name it. */
static void classes_init(kv_slab_allocator *allocator)
{
    for (uint32_t index = 0; index <= KV_SLAB_CLASS_COUNT; index++) {
        kv_slab_class *class = &allocator->classes[index];
        uint32_t size = kv_slab_class_size(index);

        for (uint32_t level = 0; level < KV_SLAB_LEVELS; level++)
            kv_list_init(&class->levels[level]);
        if (size == 0 || size > allocator->options.extent_size_max)
            continue;
        if (size % allocator->options.alignment != 0)
            continue;
        class->extent_size = size;
        class->extent_count = allocator->slab_size / size;
        allocator->class_max = index;
    }
}

int kv_slab_open(const kv_slab_options *options, kv_slab_allocator **result)
{
    kv_slab_allocator *allocator;

    if (!options_are_legal(options))
        return -EINVAL;

    allocator = calloc(1, sizeof(*allocator));
    if (!allocator)
        return -ENOMEM;
    /* Zeroed pages are mapped when first touched, so a large space opens as fast as a small one. */
    allocator->slabs = calloc(options->slab_count, sizeof(kv_slab));
    if (!allocator->slabs)
        goto fail_slabs;
    allocator->free_slabs = calloc(kv_slab_set_words(options->slab_count), sizeof(uint64_t));
    if (!allocator->free_slabs)
        goto fail_free_slabs;

    allocator->options = *options;
    allocator->slab_size = (uint32_t)options->slab_size;
    allocator->slab_size_log2 = (uint32_t)__builtin_ctzll(options->slab_size);
    allocator->limit = options->slab_count;
    allocator->free_count = options->slab_count;
    allocator->open_pack = KV_SLAB_NONE;
    kv_slab_set_fill(allocator->free_slabs, options->slab_count);
    classes_init(allocator);
    *result = allocator;
    return 0;

fail_free_slabs:
    free(allocator->slabs);
fail_slabs:
    free(allocator);
    return -ENOMEM;
}

void kv_slab_close(kv_slab_allocator *allocator)
{
    for (uint32_t index = 0; index < allocator->high_mark; index++)
        free(allocator->slabs[index].free_extents);
    free(allocator->free_slabs);
    free(allocator->slabs);
    free(allocator);
}

uint32_t kv_slab_room(const kv_slab_allocator *allocator, const kv_slab *slab)
{
    const kv_slab_class *class;

    if (slab->frozen)
        return 0;
    if (slab->slab_class == KV_SLAB_CLASS_PACK)
        return allocator->slab_size - slab->append;
    class = &allocator->classes[slab->slab_class];
    return (class->extent_count - slab->live_count) * class->extent_size;
}

uint32_t kv_slab_level(const kv_slab_allocator *allocator, const kv_slab *slab)
{
    uint32_t room = kv_slab_room(allocator, slab);
    const kv_slab_class *class;

    if (room == 0 || kv_slab_index(allocator, slab) == allocator->open_pack)
        return 0;
    if (slab->slab_class == KV_SLAB_CLASS_PACK)
        return 1 + (uint32_t)((uint64_t)room * KV_SLAB_LEVELS / allocator->slab_size);
    class = &allocator->classes[slab->slab_class];
    return 1 + slab->live_count * KV_SLAB_LEVELS / class->extent_count;
}

/* A slab joins the tail of its list and allocation takes the head, so one slab is filled until it
 * changes its level. */
static void move_to_level(kv_slab_allocator *allocator, kv_slab *slab, uint32_t level)
{
    kv_slab_class *class = kv_slab_class_at(allocator, slab->slab_class);

    assert(level <= KV_SLAB_LEVELS);
    if (level == slab->level)
        return;
    if (slab->level)
        kv_list_remove(&slab->link);
    if (level)
        kv_list_append(&class->levels[level - 1], &slab->link);
    slab->level = (uint8_t)level;
}

kv_slab *kv_slab_assign(kv_slab_allocator *allocator, uint32_t index, uint32_t slab_class)
{
    const kv_slab_class *class = kv_slab_class_at(allocator, slab_class);
    kv_slab *slab = &allocator->slabs[index];

    assert(index < allocator->options.slab_count);
    assert(!slab->used);
    /* Nothing else may change before this has succeeded. */
    if (slab_class != KV_SLAB_CLASS_PACK) {
        slab->free_extents = malloc(kv_slab_set_words(class->extent_count) * sizeof(uint64_t));
        if (!slab->free_extents)
            return NULL;
        kv_slab_set_fill(slab->free_extents, class->extent_count);
    }

    slab->slab_class = (uint8_t)slab_class;
    slab->used = true;
    allocator->used_count++;
    if (index >= allocator->high_mark)
        allocator->high_mark = index + 1;
    if (index < allocator->limit) {
        kv_slab_set_remove(allocator->free_slabs, allocator->options.slab_count, index);
        allocator->free_count--;
    }
    return slab;
}

/* The lowest slab first, so that the files stay short. */
kv_slab *kv_slab_assign_lowest(kv_slab_allocator *allocator, uint32_t slab_class)
{
    uint32_t index;

    if (!kv_slab_spare(allocator))
        return NULL;
    index = kv_slab_set_first(allocator->free_slabs, allocator->options.slab_count);
    assert(index < allocator->limit);
    return kv_slab_assign(allocator, index, slab_class);
}

/* A slab beyond the limit leaves its class but does not become available. */
static void release(kv_slab_allocator *allocator, kv_slab *slab)
{
    uint32_t index = kv_slab_index(allocator, slab);

    assert(slab->live_count == 0);
    move_to_level(allocator, slab, 0);
    free(slab->free_extents);
    memset(slab, 0, sizeof(*slab));

    allocator->used_count--;
    if (allocator->open_pack == index)
        allocator->open_pack = KV_SLAB_NONE;
    if (index < allocator->limit) {
        kv_slab_set_add(allocator->free_slabs, allocator->options.slab_count, index);
        allocator->free_count++;
    }
}

void kv_slab_unsettle(kv_slab_allocator *allocator, kv_slab *slab)
{
    kv_slab_class *class = kv_slab_class_at(allocator, slab->slab_class);
    uint32_t room = kv_slab_room(allocator, slab);

    assert(slab->used);
    assert(class->slab_count > 0);
    class->slab_count--;
    class->frozen_count -= slab->frozen;
    class->live_size -= slab->live_size;
    class->room -= room;
    allocator->used_size -= slab->live_size;
    allocator->room -= room;
}

void kv_slab_settle(kv_slab_allocator *allocator, kv_slab *slab)
{
    kv_slab_class *class = kv_slab_class_at(allocator, slab->slab_class);
    uint32_t room;

    assert(slab->used);
    if (slab->live_size == 0) {
        release(allocator, slab);
        return;
    }
    room = kv_slab_room(allocator, slab);
    class->slab_count++;
    class->frozen_count += slab->frozen;
    class->live_size += slab->live_size;
    class->room += room;
    allocator->used_size += slab->live_size;
    allocator->room += room;
    move_to_level(allocator, slab, kv_slab_level(allocator, slab));
}

void kv_slab_free(kv_slab_allocator *allocator, const kv_extent *extent)
{
    kv_slab *slab = &allocator->slabs[kv_slab_index_of(allocator, extent->offset)];

    assert(slab->used);
    assert(slab->slab_class == extent->slab_class); /* also: it was not freed and assigned anew */
    assert(extent->size > 0 && extent->size <= slab->live_size);

    kv_slab_unsettle(allocator, slab);
    if (slab->slab_class != KV_SLAB_CLASS_PACK) {
        const kv_slab_class *class = &allocator->classes[slab->slab_class];
        uint32_t place = (uint32_t)(extent->offset & (allocator->slab_size - 1));

        assert(extent->size == class->extent_size && place % extent->size == 0);
        assert(!kv_slab_set_has(slab->free_extents, place / extent->size));
        kv_slab_set_add(slab->free_extents, class->extent_count, place / extent->size);
        slab->live_count--;
    }
    slab->live_size -= extent->size;
    kv_slab_settle(allocator, slab);
}

void kv_slab_extent_at(const kv_slab_allocator *allocator, uint64_t offset, uint32_t value_size,
    kv_extent *extent)
{
    const kv_slab *slab = &allocator->slabs[kv_slab_index_of(allocator, offset)];

    assert(slab->used);
    extent->offset = offset;
    extent->slab_class = slab->slab_class;
    if (slab->slab_class == KV_SLAB_CLASS_PACK)
        extent->size = (value_size + KV_SLAB_UNIT - 1) & ~(KV_SLAB_UNIT - 1);
    else
        extent->size = kv_slab_class_size(slab->slab_class);
}

/* A free slab has nothing to freeze. */
void kv_slab_freeze(kv_slab_allocator *allocator, uint32_t index)
{
    kv_slab *slab = &allocator->slabs[index];

    assert(index < allocator->options.slab_count);
    if (!slab->used || slab->frozen)
        return;
    /* The open pack may not be frozen: it would be found full and closed at every append. */
    if (allocator->open_pack == index)
        kv_slab_pack_open(allocator, KV_SLAB_NONE);
    kv_slab_unsettle(allocator, slab);
    slab->frozen = true;
    kv_slab_settle(allocator, slab);
}

/* A slab that became empty meanwhile has thawed itself. */
void kv_slab_thaw(kv_slab_allocator *allocator, uint32_t index)
{
    kv_slab *slab = &allocator->slabs[index];

    assert(index < allocator->options.slab_count);
    if (!slab->used || !slab->frozen)
        return;
    kv_slab_unsettle(allocator, slab);
    slab->frozen = false;
    kv_slab_settle(allocator, slab);
}

void kv_slab_limit(kv_slab_allocator *allocator, uint32_t slab_count)
{
    uint32_t count = allocator->options.slab_count;
    uint32_t limit = slab_count < count ? slab_count : count;

    for (; allocator->limit > limit; allocator->limit--) {
        if (allocator->slabs[allocator->limit - 1].used)
            continue;
        kv_slab_set_remove(allocator->free_slabs, count, allocator->limit - 1);
        allocator->free_count--;
    }
    for (; allocator->limit < limit; allocator->limit++) {
        if (allocator->slabs[allocator->limit].used)
            continue;
        kv_slab_set_add(allocator->free_slabs, count, allocator->limit);
        allocator->free_count++;
    }
    /* The files need not reach what is neither in use nor ever handed out. */
    while (allocator->high_mark > limit && !allocator->slabs[allocator->high_mark - 1].used)
        allocator->high_mark--;
}

void kv_slab_reserve(kv_slab_allocator *allocator, uint32_t slab_count)
{
    allocator->reserve = slab_count;
}

uint64_t kv_slab_live_size(const kv_slab_allocator *allocator, uint32_t slab)
{
    assert(slab < allocator->options.slab_count);
    return allocator->slabs[slab].live_size;
}

uint32_t kv_slab_index_of(const kv_slab_allocator *allocator, uint64_t offset)
{
    uint64_t index = offset >> allocator->slab_size_log2;

    assert(index < allocator->options.slab_count);
    return (uint32_t)index;
}

uint64_t kv_slab_space_size(const kv_slab_allocator *allocator)
{
    return ((uint64_t)allocator->used_count + allocator->free_count) * allocator->slab_size;
}

uint64_t kv_slab_used_size(const kv_slab_allocator *allocator)
{
    return allocator->used_size;
}

uint64_t kv_slab_free_size(const kv_slab_allocator *allocator)
{
    uint64_t spare = kv_slab_spare(allocator) ? allocator->free_count - allocator->reserve : 0;

    return spare * allocator->slab_size + allocator->room;
}

uint32_t kv_slab_free_slabs(const kv_slab_allocator *allocator)
{
    return allocator->free_count;
}

uint32_t kv_slab_high_mark(const kv_slab_allocator *allocator)
{
    return allocator->high_mark;
}
