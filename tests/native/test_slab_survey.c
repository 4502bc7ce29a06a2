#include "slab_model.h"

#include <errno.h>

#define SLAB_SIZE (256 * KIB)

static void nothing_to_gain_gives_no_victim(void)
{
    kv_slab_allocator *allocator = open_slabs(SLAB_SIZE, 4, 4096);

    assert(kv_slab_victim(allocator, 100) == KV_SLAB_NONE);
    allocate_one(allocator, 32 * KIB);
    assert(kv_slab_victim(allocator, 100) == KV_SLAB_NONE);
    allocate_one(allocator, 16 * KIB);
    assert(kv_slab_victim(allocator, 100) == KV_SLAB_NONE);
    kv_slab_close(allocator);
}

/* Three slabs of eight extents, of which `live` remain in each. */
static kv_slab_allocator *open_with_live(const int live[3], kv_extent extents[24])
{
    kv_slab_allocator *allocator = open_slabs(SLAB_SIZE, 3, 4096);

    for (int index = 0; index < 24; index++)
        extents[index] = allocate_one(allocator, 32 * KIB);
    for (int index = 0; index < 24; index++) {
        if (index % 8 >= live[index / 8])
            kv_slab_free(allocator, &extents[index]);
    }
    kv_slab_invariants(allocator);
    return allocator;
}

static void the_emptiest_slab_that_fits_elsewhere_is_the_victim(void)
{
    kv_extent extents[24];
    kv_slab_allocator *allocator = open_with_live((int[]){5, 3, 8}, extents);

    assert(kv_slab_victim(allocator, 100) == 1);
    assert(kv_slab_victim(allocator, 37) == KV_SLAB_NONE);
    assert(kv_slab_victim(allocator, 38) == 1);
    kv_slab_close(allocator);

    allocator = open_with_live((int[]){5, 4, 8}, extents);
    assert(kv_slab_victim(allocator, 100) == KV_SLAB_NONE);
    kv_slab_close(allocator);

    allocator = open_with_live((int[]){5, 6, 5}, extents);
    assert(kv_slab_victim(allocator, 100) == 0);
    kv_slab_close(allocator);
}

static void a_frozen_slab_is_neither_victim_nor_room(void)
{
    kv_extent extents[24];
    kv_slab_allocator *allocator = open_with_live((int[]){5, 3, 8}, extents);

    kv_slab_freeze(allocator, 1);
    assert(kv_slab_victim(allocator, 100) == KV_SLAB_NONE);
    kv_slab_thaw(allocator, 1);
    kv_slab_freeze(allocator, 0);
    assert(kv_slab_victim(allocator, 100) == KV_SLAB_NONE);
    kv_slab_close(allocator);
}

static kv_extent allocate_pack(kv_slab_allocator *allocator, uint32_t size, uint32_t live_size)
{
    kv_extent extent;

    assert(kv_slab_allocate_pack(allocator, size, live_size, &extent) == 0);
    return extent;
}

static void a_pack_moves_into_the_room_of_another(void)
{
    kv_slab_allocator *allocator = open_slabs(SLAB_SIZE, 2, 4096);

    allocate_pack(allocator, 96 * KIB, 96 * KIB);
    allocate_pack(allocator, 192 * KIB, 32 * KIB);
    /* The open pack has dead bytes and goes first where they fit; the closed one does not fit. */
    assert(kv_slab_victim(allocator, 100) == 1);
    allocate_pack(allocator, 64 * KIB, 64 * KIB);
    assert(kv_slab_victim(allocator, 100) == 1);
    allocate_pack(allocator, 96 * KIB, 96 * KIB);
    assert(kv_slab_victim(allocator, 100) == KV_SLAB_NONE);
    kv_slab_close(allocator);
}

static void a_pack_moves_into_a_free_slab_only_for_its_dead_bytes(void)
{
    kv_slab_allocator *allocator = open_slabs(SLAB_SIZE, 3, 4096);
    kv_extent values = {0, 16 * KIB, KV_SLAB_CLASS_PACK};

    allocate_pack(allocator, SLAB_SIZE, SLAB_SIZE);
    allocate_pack(allocator, SLAB_SIZE, SLAB_SIZE);
    kv_slab_free(allocator, &values);
    assert(kv_slab_victim(allocator, 100) == KV_SLAB_NONE);
    values.offset += values.size;
    kv_slab_free(allocator, &values);
    assert(kv_slab_victim(allocator, 100) == 0);
    assert(kv_slab_victim(allocator, 87) == KV_SLAB_NONE);
    /* A reserved slab counts: it is kept for this. */
    kv_slab_reserve(allocator, 1);
    assert(kv_slab_victim(allocator, 100) == 0);
    kv_slab_limit(allocator, 2);
    assert(kv_slab_victim(allocator, 100) == KV_SLAB_NONE);
    kv_slab_close(allocator);
}

static void the_growing_pack_is_left_alone(void)
{
    kv_slab_allocator *allocator = open_slabs(SLAB_SIZE, 3, 4096);

    allocate_pack(allocator, 96 * KIB, 96 * KIB);
    assert(kv_slab_victim(allocator, 100) == KV_SLAB_NONE);
    kv_slab_close(allocator);
}

typedef struct live_extents {
    kv_extent extents[8192];
    uint32_t count;
} live_extents;

static void remove_live(live_extents *live, uint32_t index)
{
    live->extents[index] = live->extents[--live->count];
}

/* Move a slab's live extents away one by one, as compaction does. */
static void evacuate(kv_slab_allocator *allocator, live_extents *live, uint32_t slab)
{
    kv_slab_freeze(allocator, slab);
    kv_slab_reserve(allocator, 0);
    for (uint32_t index = 0; index < live->count; index++) {
        kv_extent *extent = &live->extents[index];
        kv_extent moved[KV_SLAB_PIECES_MAX];

        if (kv_slab_index_of(allocator, extent->offset) != slab)
            continue;
        if (extent->slab_class == KV_SLAB_CLASS_PACK) {
            uint32_t size = (extent->size + 4095) / 4096 * 4096;

            assert(kv_slab_allocate_pack(allocator, size, extent->size, moved) == 0);
            moved->size = extent->size;
        } else {
            assert(kv_slab_allocate_ideal(allocator, extent->size, moved) == 1);
        }
        kv_slab_free(allocator, extent);
        *extent = *moved;
    }
    kv_slab_reserve(allocator, 1);
    kv_slab_invariants(allocator);
}

static void fill(kv_slab_allocator *allocator, live_extents *live, uint64_t *seed)
{
    for (;;) {
        kv_extent *next = &live->extents[live->count];
        int result;

        if (next_random(seed) % 2)
            result = kv_slab_allocate_pack(allocator, 16 * KIB, 16 * KIB, next);
        else
            result = kv_slab_allocate_ideal(allocator, next_random(seed) % 4 * 4096 + 4096, next);
        if (result < 0)
            break;
        live->count++;
    }
}

static void compaction_ends_and_leaves_less_than_a_slab_of_holes_to_a_class(uint64_t seed)
{
    kv_slab_allocator *allocator = open_slabs(SLAB_SIZE, 64, 4096);
    live_extents *live = calloc(1, sizeof(*live) + KV_SLAB_PIECES_MAX * sizeof(kv_extent));
    kv_slab_statistics rows[16];
    uint32_t share = 20 + next_random(&seed) % 80;
    uint32_t victim, rounds, row_count;

    kv_slab_reserve(allocator, 1);
    fill(allocator, live, &seed);
    assert(kv_slab_free_slabs(allocator) == 1);
    for (uint32_t index = live->count; index-- > 0;) {
        if (next_random(&seed) % 100 >= share)
            continue;
        kv_slab_free(allocator, &live->extents[index]);
        remove_live(live, index);
    }
    for (rounds = 0; (victim = kv_slab_victim(allocator, 100)) != KV_SLAB_NONE; rounds++) {
        assert(rounds < 400);
        evacuate(allocator, live, victim);
        assert(kv_slab_live_size(allocator, victim) == 0);
    }

    row_count = (uint32_t)kv_slab_statistics_by_class(allocator, rows, 16);
    for (uint32_t row = 0; row < row_count; row++) {
        uint64_t slabs_size = (uint64_t)rows[row].slab_count * SLAB_SIZE;

        assert(rows[row].frozen_count == 0);
        if (rows[row].slab_class == KV_SLAB_CLASS_PACK)
            assert(rows[row].live_size + 2 * SLAB_SIZE >= slabs_size / 8 * 7);
        else
            assert(rows[row].free_size < SLAB_SIZE);
    }
    free(live);
    kv_slab_close(allocator);
}

static void statistics_give_one_row_for_each_class_in_use(void)
{
    kv_slab_allocator *allocator = open_slabs(SLAB_SIZE, 4, 4096);
    kv_slab_statistics rows[3];

    assert(kv_slab_statistics_by_class(allocator, rows, 3) == 0);
    allocate_one(allocator, 32 * KIB);
    allocate_one(allocator, 4 * KIB);
    allocate_one(allocator, 4 * KIB);
    allocate_pack(allocator, 8 * KIB, 4160);
    kv_slab_freeze(allocator, 0);

    assert(kv_slab_statistics_by_class(allocator, rows, 2) == 2);
    assert(kv_slab_statistics_by_class(allocator, rows, 3) == 3);
    assert(rows[0].slab_class == kv_slab_class_of(4096) && rows[0].extent_size == 4096);
    assert(rows[0].slab_count == 1 && rows[0].frozen_count == 0);
    assert(rows[0].live_count == 2 && rows[0].live_size == 8192);
    assert(rows[0].free_size == SLAB_SIZE - 8192);
    assert(rows[1].extent_size == 32 * KIB && rows[1].live_count == 1);
    assert(rows[1].frozen_count == 1 && rows[1].free_size == 0);
    assert(rows[2].slab_class == KV_SLAB_CLASS_PACK && rows[2].extent_size == 0);
    assert(rows[2].live_count == 0 && rows[2].live_size == 4160);
    assert(rows[2].free_size == SLAB_SIZE - 8192);
    kv_slab_close(allocator);
}

int main(void)
{
    nothing_to_gain_gives_no_victim();
    the_emptiest_slab_that_fits_elsewhere_is_the_victim();
    a_frozen_slab_is_neither_victim_nor_room();
    a_pack_moves_into_the_room_of_another();
    a_pack_moves_into_a_free_slab_only_for_its_dead_bytes();
    the_growing_pack_is_left_alone();
    for (uint64_t seed = 1; seed <= 20; seed++)
        compaction_ends_and_leaves_less_than_a_slab_of_holes_to_a_class(seed);
    statistics_give_one_row_for_each_class_in_use();
}
