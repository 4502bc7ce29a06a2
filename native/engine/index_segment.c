/* The slots of one segment: order, probing, growth and division.
 *
 * Guarantees the invariants of the header after each call, and that no call costs more than one
 * pass over the segment. Leaves to others which segment a hash belongs to, and the objects. */
#include "engine/index_segment.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Fullest permitted load, in sixteenths: beyond it many searches would touch a second group. */
#define KV_INDEX_SEGMENT_LOAD_MAX 13u
/* Load of a fresh half: a growth by an eighth comes back to it, so memory stays even. */
#define KV_INDEX_SEGMENT_HALF_PERCENT 72u
#define KV_INDEX_SEGMENT_GROWTH_PART 8u
/* Part of the groups that is nobody's home, and one more: it takes what probes past the last
 * home. An even hash does not fill it before the segment is full. */
#define KV_INDEX_SEGMENT_OVERFLOW_PART 64u

_Static_assert(KV_INDEX_SEGMENT_CAPACITY_MIN >= 2 * KV_INDEX_SEGMENT_GROUP,
               "at least one home and one overflow group");
_Static_assert(KV_INDEX_SEGMENT_CAPACITY_MIN >= KV_INDEX_SEGMENT_GROWTH_PART,
               "growing adds at least one slot");

static size_t size_of(uint32_t capacity)
{
    size_t slot_count = (size_t)capacity + KV_INDEX_SEGMENT_GROUP;

    return sizeof(kv_index_segment) + slot_count * sizeof(uint64_t);
}

/* Whole groups only. */
static kv_index_segment *open_empty(uint32_t depth, uint32_t capacity)
{
    uint32_t group_count = (capacity + KV_INDEX_SEGMENT_GROUP - 1) / KV_INDEX_SEGMENT_GROUP;
    size_t size = size_of(group_count * KV_INDEX_SEGMENT_GROUP);
    kv_index_segment *segment = aligned_alloc(sizeof(*segment), size);

    if (!segment)
        return NULL;
    memset(segment, 0xff, size);
    segment->depth = depth;
    segment->count = 0;
    segment->capacity = group_count * KV_INDEX_SEGMENT_GROUP;
    segment->home_count = group_count - group_count / KV_INDEX_SEGMENT_OVERFLOW_PART - 1;
    return segment;
}

kv_index_segment *kv_index_segment_open(uint32_t depth)
{
    return open_empty(depth, KV_INDEX_SEGMENT_CAPACITY_MIN);
}

void kv_index_segment_close(kv_index_segment *segment)
{
    free(segment);
}

static uint64_t slot_of(uint32_t fragment, uint32_t handle)
{
    return (uint64_t)fragment << 32 | handle;
}

static uint32_t home_of(const kv_index_segment *segment, uint32_t fragment)
{
    return kv_index_segment_home(segment->depth, segment->home_count, fragment);
}

static uint32_t seek(const kv_index_segment *segment, uint32_t fragment)
{
    return kv_index_segment_seek(segment, home_of(segment, fragment), fragment);
}

/* Of `count` slots, one place to the right or to the left. */
static void move(kv_index_segment *segment, uint32_t to, uint32_t from, uint32_t count)
{
    memmove(&segment->slots[to], &segment->slots[from], count * sizeof(uint64_t));
}

int kv_index_segment_insert(kv_index_segment *segment, uint32_t fragment, uint32_t handle)
{
    uint64_t limit = (uint64_t)segment->capacity * KV_INDEX_SEGMENT_LOAD_MAX / 16;
    uint64_t slot = slot_of(fragment, handle);
    uint32_t place, gap;

    assert(slot != KV_INDEX_SEGMENT_EMPTY);
    assert(segment->slots[segment->capacity] == KV_INDEX_SEGMENT_EMPTY);
    if (segment->count >= limit)
        return -EAGAIN;
    place = seek(segment, fragment);
    for (gap = place; segment->slots[gap] != KV_INDEX_SEGMENT_EMPTY; gap++)
        ;
    if (gap == segment->capacity)
        return -EAGAIN;
    move(segment, place + 1, place, gap - place);
    segment->slots[place] = slot;
    segment->count++;
    return 0;
}

static uint32_t place_of(const kv_index_segment *segment, uint32_t fragment, uint32_t handle)
{
    uint32_t place = seek(segment, fragment);

    while (segment->slots[place] != slot_of(fragment, handle)) {
        assert(kv_index_segment_matches(segment->slots[place], fragment));
        place++;
    }
    return place;
}

void kv_index_segment_remove(kv_index_segment *segment, uint32_t fragment, uint32_t handle)
{
    uint32_t place = place_of(segment, fragment, handle);
    uint32_t next = place + 1;

    assert(segment->count > 0);
    /* Those behind move up until one is at home: so no marks of removed slots remain. */
    while (segment->slots[next] != KV_INDEX_SEGMENT_EMPTY &&
           home_of(segment, (uint32_t)(segment->slots[next] >> 32)) < next)
        next++;
    move(segment, place, place + 1, next - place - 1);
    segment->slots[next - 1] = KV_INDEX_SEGMENT_EMPTY;
    segment->count--;
}

void kv_index_segment_replace(kv_index_segment *segment, uint32_t fragment, uint32_t old,
                              uint32_t handle)
{
    segment->slots[place_of(segment, fragment, old)] = slot_of(fragment, handle);
}

/* Copy the slots in use of [start, end) in order; false when they run past the capacity. */
static bool copy_slots(kv_index_segment *copy, const kv_index_segment *segment, uint32_t start,
                       uint32_t end)
{
    uint32_t next = 0;

    for (uint32_t place = start; place < end; place++) {
        uint64_t slot = segment->slots[place];
        uint32_t home;

        if (slot == KV_INDEX_SEGMENT_EMPTY)
            continue;
        home = home_of(copy, (uint32_t)(slot >> 32));
        next = home > next ? home : next;
        if (next == copy->capacity)
            return false;
        copy->slots[next++] = slot;
        copy->count++;
    }
    return true;
}

static uint32_t grown_capacity(uint32_t capacity)
{
    return capacity + capacity / KV_INDEX_SEGMENT_GROWTH_PART;
}

/* Hashes that crowd at the last home need more than `capacity`; it grows until they fit. */
static kv_index_segment *copy_range(const kv_index_segment *segment, uint32_t start, uint32_t end,
                                    uint32_t depth, uint32_t capacity)
{
    while (true) {
        kv_index_segment *copy = open_empty(depth, capacity);

        if (!copy || copy_slots(copy, segment, start, end))
            return copy;
        free(copy);
        capacity = grown_capacity(capacity);
    }
}

bool kv_index_segment_grown(const kv_index_segment *segment)
{
    return grown_capacity(segment->capacity) > KV_INDEX_SEGMENT_CAPACITY_MAX;
}

kv_index_segment *kv_index_segment_grow(const kv_index_segment *segment)
{
    uint32_t capacity = grown_capacity(segment->capacity);

    return copy_range(segment, 0, segment->capacity, segment->depth, capacity);
}

/* A half gets what its own slots need: two segments of the old capacity would be half empty. */
static uint32_t half_capacity(uint32_t count)
{
    uint32_t capacity = (uint32_t)((uint64_t)count * 100 / KV_INDEX_SEGMENT_HALF_PERCENT) + 1;

    return capacity > KV_INDEX_SEGMENT_CAPACITY_MIN ? capacity : KV_INDEX_SEGMENT_CAPACITY_MIN;
}

int kv_index_segment_split(const kv_index_segment *segment, kv_index_segment *halves[2])
{
    uint64_t next_bit = (uint64_t)1 << (63 - segment->depth);
    uint32_t middle = 0;
    uint32_t lower = 0;

    /* The slots ascend, so those with the next bit clear come first. */
    for (; middle < segment->capacity; middle++) {
        uint64_t slot = segment->slots[middle];

        if (slot != KV_INDEX_SEGMENT_EMPTY && (slot & next_bit))
            break;
        lower += slot != KV_INDEX_SEGMENT_EMPTY;
    }
    halves[0] = copy_range(segment, 0, middle, segment->depth + 1, half_capacity(lower));
    if (!halves[0])
        return -ENOMEM;
    halves[1] = copy_range(segment, middle, segment->capacity, segment->depth + 1,
                           half_capacity(segment->count - lower));
    if (!halves[1]) {
        free(halves[0]);
        return -ENOMEM;
    }
    assert(halves[0]->count + halves[1]->count == segment->count);
    return 0;
}

size_t kv_index_segment_size(const kv_index_segment *segment)
{
    return size_of(segment->capacity);
}
