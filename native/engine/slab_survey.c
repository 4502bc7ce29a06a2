/* Looking at all slabs: which one to evacuate, how each class is doing, and whether every invariant
 * holds. Nothing here changes the allocator; the search and the invariants visit every slab. */

#include "engine/slab_core.h"
#include "engine/slab_set.h"

#include <assert.h>

/* Moving a pack's values into a free slab is worth the writing when it wins at least this share
 * of a slab. */
#define PACK_GAIN_SHARE 8u
/* Values move in groups whose sizes are rounded up: the room they need beyond their live bytes. */
#define PACK_SLACK_SHARE 16u

/* The most room that an unfrozen pack other than a given one has. */
typedef struct roomiest_packs {
    const kv_slab *first;
    uint32_t first_room;
    uint32_t second_room;
} roomiest_packs;

static bool is_pack(const kv_slab *slab)
{
    return slab->used && slab->slab_class == KV_SLAB_CLASS_PACK;
}

static uint32_t class_index(const kv_slab *slab)
{
    return is_pack(slab) ? KV_SLAB_CLASS_COUNT : slab->slab_class;
}

static roomiest_packs find_roomiest(const kv_slab_allocator *allocator)
{
    roomiest_packs packs = {0};

    /* The usual case of packs written full: nothing to look for. */
    if (allocator->classes[KV_SLAB_CLASS_COUNT].room == 0)
        return packs;
    for (uint32_t index = 0; index < allocator->high_mark; index++) {
        const kv_slab *slab = &allocator->slabs[index];
        uint32_t room = is_pack(slab) ? kv_slab_room(allocator, slab) : 0;

        if (room > packs.first_room) {
            packs.second_room = packs.first_room;
            packs.first_room = room;
            packs.first = slab;
        } else if (room > packs.second_room) {
            packs.second_room = room;
        }
    }
    return packs;
}

/* A pack is worth evacuating into the room of another pack, which sets a slab free, or into a free
 * slab, which wins its dead bytes. The open pack still grows, so it moves only for its dead bytes;
 * that also keeps values that have just moved from moving again. */
static bool pack_gains(const kv_slab_allocator *allocator, const kv_slab *slab,
    const roomiest_packs *packs)
{
    uint32_t room = slab == packs->first ? packs->second_room : packs->first_room;
    uint32_t needed = slab->live_size + slab->live_size / PACK_SLACK_SHARE + KV_SLAB_PACK_STEP;
    bool sparse = slab->append - slab->live_size >= allocator->slab_size / PACK_GAIN_SHARE;

    if (kv_slab_index(allocator, slab) == allocator->open_pack && !sparse)
        return false;
    return room >= needed || (sparse && allocator->free_count > 0);
}

/* The class's other slabs have room for this one's live extents exactly when the class
 * has a whole slab of free extents, its own included. */
static bool class_gains(const kv_slab_class *class, const kv_slab *slab)
{
    return slab->live_count < class->extent_count
        && class->room >= (uint64_t)class->extent_count * class->extent_size;
}

uint32_t kv_slab_victim(const kv_slab_allocator *allocator, uint32_t live_share_max)
{
    roomiest_packs packs = find_roomiest(allocator);
    uint64_t live_size_max = (uint64_t)allocator->slab_size * live_share_max / 100;
    const kv_slab *victim = NULL;

    assert(live_share_max <= 100);
    for (uint32_t index = 0; index < allocator->high_mark; index++) {
        const kv_slab *slab = &allocator->slabs[index];
        bool gains;

        if (!slab->used || slab->frozen || slab->live_size > live_size_max)
            continue;
        if (victim && slab->live_size >= victim->live_size)
            continue;
        if (is_pack(slab))
            gains = pack_gains(allocator, slab, &packs);
        else
            gains = class_gains(&allocator->classes[slab->slab_class], slab);
        if (gains)
            victim = slab;
    }
    return victim ? kv_slab_index(allocator, victim) : KV_SLAB_NONE;
}

int kv_slab_statistics_by_class(const kv_slab_allocator *allocator, kv_slab_statistics *rows,
    int rows_max)
{
    int count = 0;

    for (uint32_t index = 0; index <= KV_SLAB_CLASS_COUNT && count < rows_max; index++) {
        const kv_slab_class *class = &allocator->classes[index];

        if (class->slab_count == 0)
            continue;
        rows[count++] = (kv_slab_statistics){
            .slab_class = index == KV_SLAB_CLASS_COUNT ? KV_SLAB_CLASS_PACK : index,
            .extent_size = class->extent_size,
            .slab_count = class->slab_count,
            .frozen_count = class->frozen_count,
            .live_count = class->extent_size ? class->live_size / class->extent_size : 0,
            .live_size = class->live_size,
            .free_size = class->room,
        };
    }
    return count;
}

static void slab_invariants(const kv_slab_allocator *allocator, const kv_slab *slab)
{
    const kv_slab_class *class = &allocator->classes[class_index(slab)];
    uint32_t free_extents = 0;

    assert(slab->live_size > 0);
    assert(slab->level == kv_slab_level(allocator, slab));
    if (is_pack(slab)) {
        assert(slab->live_count == 0);
        assert(!slab->free_extents);
        assert(slab->append <= allocator->slab_size && slab->append % KV_SLAB_PACK_STEP == 0);
        assert(slab->live_size <= slab->append);
        return;
    }
    assert(class->extent_size > 0);
    assert(slab->live_size == slab->live_count * class->extent_size);
    for (uint32_t word = 0; word < kv_slab_set_level_words(class->extent_count); word++)
        free_extents += (uint32_t)__builtin_popcountll(slab->free_extents[word]);
    assert(free_extents + slab->live_count == class->extent_count);
}

static void list_invariants(const kv_slab_class *class, uint32_t index, uint32_t *listed)
{
    for (uint32_t level = 0; level < KV_SLAB_LEVELS; level++) {
        const kv_list *list = &class->levels[level];

        for (const kv_list *link = list->next; link != list; link = link->next) {
            const kv_slab *slab = KV_CONTAINER(link, kv_slab, link);

            assert(link->next->previous == link);
            assert(slab->used && !slab->frozen);
            assert(slab->level == level + 1);
            assert(index == class_index(slab));
            (*listed)++;
        }
    }
}

/* What the slabs add up to, for comparison with the sums that are kept. */
static void sum_slabs(const kv_slab_allocator *allocator, kv_slab_class *sums, uint32_t *listed)
{
    uint32_t free_count = 0;
    uint32_t used_count = 0;

    for (uint32_t index = 0; index < allocator->options.slab_count; index++) {
        const kv_slab *slab = &allocator->slabs[index];
        kv_slab_class *sum = &sums[class_index(slab)];
        bool free = !slab->used && index < allocator->limit;

        assert(free == kv_slab_set_has(allocator->free_slabs, index));
        free_count += free;
        if (!slab->used) {
            assert(slab->live_size == 0 && slab->level == 0);
            assert(!slab->free_extents && !slab->frozen);
            continue;
        }
        assert(index < allocator->high_mark);
        slab_invariants(allocator, slab);
        used_count++;
        sum->slab_count++;
        sum->frozen_count += slab->frozen;
        sum->live_size += slab->live_size;
        sum->room += kv_slab_room(allocator, slab);
        *listed += slab->level != 0;
    }
    assert(free_count == allocator->free_count);
    assert(used_count == allocator->used_count);
}

void kv_slab_invariants(const kv_slab_allocator *allocator)
{
    kv_slab_class sums[KV_SLAB_CLASS_COUNT + 1] = {0};
    uint32_t with_level = 0;
    uint32_t listed = 0;
    uint64_t live_size = 0;
    uint64_t room = 0;

    sum_slabs(allocator, sums, &with_level);
    for (uint32_t index = 0; index <= KV_SLAB_CLASS_COUNT; index++) {
        const kv_slab_class *class = &allocator->classes[index];

        assert(class->slab_count == sums[index].slab_count);
        assert(class->frozen_count == sums[index].frozen_count);
        assert(class->live_size == sums[index].live_size);
        assert(class->room == sums[index].room);
        list_invariants(class, index, &listed);
        live_size += class->live_size;
        room += class->room;
    }
    assert(listed == with_level);
    assert(live_size == allocator->used_size);
    assert(room == allocator->room);
    if (allocator->open_pack != KV_SLAB_NONE) {
        const kv_slab *open = &allocator->slabs[allocator->open_pack];

        assert(is_pack(open) && !open->frozen);
    }
}
