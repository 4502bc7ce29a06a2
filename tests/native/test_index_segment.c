/* The slots of one segment: their order, and what growing, splitting and removing keep. */
#include "engine/index_segment.h"

#include "bytes/random.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

static uint32_t home_of(const kv_index_segment *segment, uint32_t fragment)
{
    return kv_index_segment_home(segment->depth, segment->home_count, fragment);
}

static void check_invariants(const kv_index_segment *segment)
{
    uint32_t count = 0;
    uint32_t run_start = 0;
    uint32_t last = 0;

    for (uint32_t place = 0; place < segment->capacity; place++) {
        uint32_t fragment = (uint32_t)(segment->slots[place] >> 32);

        if (segment->slots[place] == KV_INDEX_SEGMENT_EMPTY) {
            run_start = place + 1;
            continue;
        }
        assert(fragment >= last);
        assert(home_of(segment, fragment) <= place);
        assert(home_of(segment, fragment) >= run_start);
        last = fragment;
        count++;
    }
    for (uint32_t i = 0; i < KV_INDEX_SEGMENT_GROUP; i++)
        assert(segment->slots[segment->capacity + i] == KV_INDEX_SEGMENT_EMPTY);
    assert(count == segment->count);
}

/* How many slots of that fragment and handle there are. */
static uint32_t count_of(const kv_index_segment *segment, uint32_t fragment, uint32_t handle)
{
    uint32_t place = kv_index_segment_seek(segment, home_of(segment, fragment), fragment);
    uint32_t count = 0;

    for (; kv_index_segment_matches(segment->slots[place], fragment); place++)
        count += (uint32_t)segment->slots[place] == handle;
    return count;
}

static kv_index_segment *insert_or_grow(kv_index_segment *segment, uint32_t fragment,
                                        uint32_t handle)
{
    while (kv_index_segment_insert(segment, fragment, handle) == -EAGAIN) {
        kv_index_segment *larger = kv_index_segment_grow(segment);

        assert(larger && larger->capacity > segment->capacity);
        assert(larger->count == segment->count);
        kv_index_segment_close(segment);
        segment = larger;
    }
    return segment;
}

/* Even fragments, few fragments, and fragments that crowd at either end. */
static uint32_t fragment_at(uint64_t choice, uint32_t kind)
{
    switch (kind) {
    case 0:
        return (uint32_t)(choice >> 32);
    case 1:
        return (uint32_t)(choice >> 32) & 0xf0000000;
    case 2:
        return (uint32_t)(choice >> 32) & 0x3f;
    default:
        return (uint32_t)(choice >> 32) | 0xffffffc0;
    }
}

static void slots_stay_in_order_through_inserts_removals_and_growth(void)
{
    enum { SLOT_COUNT = 600, STEP_COUNT = 20000 };
    kv_random random;

    kv_random_init(&random, 77);
    for (uint32_t kind = 0; kind < 4; kind++) {
        static uint32_t fragments[SLOT_COUNT + 1];
        bool present[SLOT_COUNT + 1] = {false};
        kv_index_segment *segment = kv_index_segment_open(0);

        for (int step = 0; step < STEP_COUNT; step++) {
            uint64_t choice = kv_random_next(&random);
            uint32_t handle = 1 + (uint32_t)(choice % SLOT_COUNT);

            if (present[handle]) {
                assert(count_of(segment, fragments[handle], handle) == 1);
                kv_index_segment_remove(segment, fragments[handle], handle);
                assert(count_of(segment, fragments[handle], handle) == 0);
            } else {
                fragments[handle] = fragment_at(choice, kind);
                segment = insert_or_grow(segment, fragments[handle], handle);
                assert(count_of(segment, fragments[handle], handle) == 1);
            }
            present[handle] = !present[handle];
            if (step % 100 == 0)
                check_invariants(segment);
        }
        check_invariants(segment);
        kv_index_segment_close(segment);
    }
}

static void a_split_parts_by_the_next_bit_and_fits_each_half_to_its_count(void)
{
    kv_index_segment *segment = kv_index_segment_open(3);
    kv_index_segment *halves[2];
    kv_random random;

    kv_random_init(&random, 5);
    /* One in four has the bit behind the three shared ones. */
    for (uint32_t handle = 1; handle <= 3000; handle++) {
        uint32_t bit = handle % 4 == 0 ? 0x10000000u : 0;
        uint32_t rest = (uint32_t)kv_random_below(&random, 0x10000000);

        segment = insert_or_grow(segment, 0xa0000000u | bit | rest, handle);
    }
    assert(kv_index_segment_split(segment, halves) == 0);
    assert(halves[0]->depth == 4 && halves[1]->depth == 4);
    assert(halves[0]->count == 2250 && halves[1]->count == 750);
    for (int i = 0; i < 2; i++) {
        check_invariants(halves[i]);
        assert(kv_index_segment_size(halves[i]) <= halves[i]->count * sizeof(uint64_t) * 3 / 2);
        assert(kv_index_segment_insert(halves[i], i ? 0xb0000000u : 0xa0000000u, 9999) == 0);
        kv_index_segment_close(halves[i]);
    }
    kv_index_segment_close(segment);
}

static void a_full_segment_asks_to_split(void)
{
    kv_index_segment *segment = kv_index_segment_open(0);
    uint32_t handle = 0;
    kv_random random;

    kv_random_init(&random, 9);
    while (!kv_index_segment_grown(segment))
        segment = insert_or_grow(segment, (uint32_t)kv_random_next(&random), ++handle);
    assert(segment->capacity <= KV_INDEX_SEGMENT_CAPACITY_MAX);
    while (kv_index_segment_insert(segment, (uint32_t)kv_random_next(&random), ++handle) == 0)
        ;
    assert(segment->count >= segment->capacity * 3 / 4);
    check_invariants(segment);
    kv_index_segment_close(segment);
}

static void a_replaced_slot_keeps_its_fragment(void)
{
    kv_index_segment *segment = kv_index_segment_open(0);

    for (uint32_t handle = 1; handle <= 5; handle++)
        assert(kv_index_segment_insert(segment, 0xffffffff, handle) == 0);
    kv_index_segment_replace(segment, 0xffffffff, 3, 30);
    assert(count_of(segment, 0xffffffff, 3) == 0);
    assert(count_of(segment, 0xffffffff, 30) == 1);
    assert(segment->count == 5);
    check_invariants(segment);
    kv_index_segment_close(segment);
}

int main(void)
{
    slots_stay_in_order_through_inserts_removals_and_growth();
    a_split_parts_by_the_next_bit_and_fits_each_half_to_its_count();
    a_full_segment_asks_to_split();
    a_replaced_slot_keeps_its_fragment();
    return 0;
}
