/* One segment of the index: the slots of all objects whose hash begins with the same bits.
 *
 *   slot:   |  32 bits of hash  |  arena handle  |        empty: all ones
 *            high            32  31           low
 *
 *   slots:   a a b . . . . .   c e f f f f g g   g . . . . . . .  ...  . . . . . . . .
 *           '--- group 0 ---' '--- group 1 ---' '--- group 2 ---'     '-- end mark ---'
 *
 * Open addressing with linear probing, kept in order of hash. A group is what the processor
 * loads at once; a hash points at the start of a group, its home, and homes grow with hashes.
 * So most searches touch one group and count without a branch, a miss costs what a hit costs,
 * and growing or splitting copies the slots from left to right without looking at an object.
 *
 * Invariants:
 *   1. The slots in use ascend by hash; those of equal hash are neighbours.
 *   2. A slot in use lies at its home or behind it, and all places in between are in use.
 *   3. All members share the first `depth` bits of their hash. */
#ifndef KV_INDEX_SEGMENT_H
#define KV_INDEX_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A segment that would have to grow beyond this splits instead: this bounds the longest pause. */
#define KV_INDEX_SEGMENT_CAPACITY_MAX 4096u
#define KV_INDEX_SEGMENT_CAPACITY_MIN 64u
#define KV_INDEX_SEGMENT_GROUP 8u
#define KV_INDEX_SEGMENT_EMPTY UINT64_MAX

typedef struct kv_index_segment {
    uint32_t depth;
    uint32_t count;      /* slots in use */
    uint32_t capacity;   /* slots but for the end mark */
    uint32_t home_count; /* groups that are homes, the first ones; the rest is overflow */
    uint64_t reserved[6]; /* so that groups begin where lines of the processor's cache begin */
    uint64_t slots[];
} kv_index_segment;

_Static_assert(sizeof(kv_index_segment) == KV_INDEX_SEGMENT_GROUP * sizeof(uint64_t),
               "the fields fill one group, so that the groups are aligned");

/* Place where the search for a hash begins: the bits behind the shared ones choose it. */
static inline uint32_t kv_index_segment_home(uint32_t depth, uint32_t home_count,
                                             uint32_t fragment)
{
    uint64_t rest = (uint32_t)(fragment << depth);

    return (uint32_t)(rest * home_count >> 32) * KV_INDEX_SEGMENT_GROUP;
}

static inline uint32_t kv_index_segment_smaller(const uint64_t *group, uint64_t slot)
{
    uint32_t count = (group[0] < slot) + (group[1] < slot) + (group[2] < slot) + (group[3] < slot);

    return count + (group[4] < slot) + (group[5] < slot) + (group[6] < slot) + (group[7] < slot);
}

/* Place of the first slot that is not smaller: those of that fragment, if any, begin there. */
static inline uint32_t kv_index_segment_seek(const kv_index_segment *segment, uint32_t home,
                                             uint32_t fragment)
{
    uint64_t first = (uint64_t)fragment << 32;
    uint32_t place = home;
    uint32_t count;

    do {
        count = kv_index_segment_smaller(&segment->slots[place], first);
        place += count;
    } while (count == KV_INDEX_SEGMENT_GROUP);
    return place;
}

/* Whether the slot is in use and has that fragment. */
static inline bool kv_index_segment_matches(uint64_t slot, uint32_t fragment)
{
    return slot >> 32 == fragment && slot != KV_INDEX_SEGMENT_EMPTY;
}

/* NULL: out of memory. */
kv_index_segment *kv_index_segment_open(uint32_t depth);
void kv_index_segment_close(kv_index_segment *segment);

/* -EAGAIN when it is too full: it has to grow or split first. */
int kv_index_segment_insert(kv_index_segment *segment, uint32_t fragment, uint32_t handle);
/* The slot must be there. */
void kv_index_segment_remove(kv_index_segment *segment, uint32_t fragment, uint32_t handle);
void kv_index_segment_replace(kv_index_segment *segment, uint32_t fragment, uint32_t old,
                              uint32_t handle);

/* A copy with an eighth more capacity; the original stays. NULL: out of memory. */
kv_index_segment *kv_index_segment_grow(const kv_index_segment *segment);
/* Two copies, one for each value of the next bit; the original stays. -ENOMEM. */
int kv_index_segment_split(const kv_index_segment *segment, kv_index_segment *halves[2]);
/* Whether growing would exceed KV_INDEX_SEGMENT_CAPACITY_MAX. */
bool kv_index_segment_grown(const kv_index_segment *segment);

/* Bytes of memory. */
size_t kv_index_segment_size(const kv_index_segment *segment);

#endif
