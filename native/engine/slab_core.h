/* The inside of the space allocator, shared by the slab files only: what a slab is, what a class
 * sums up, and how a slab changes.
 *
 *             kv_slab_assign                     last live byte freed
 *    free  ------------------>  class or pack  ----------------------->  free
 *                                 |       ^
 *                          freeze |       | thaw
 *                                 v       |
 *                                  frozen  ---- last live byte freed -->  free
 *
 * Invariants: a slab in use has a live byte, except between kv_slab_assign and the kv_slab_settle
 * that follows; the sums of a class are those of its settled slabs; an unfrozen slab with room is
 * on the list of its class and level, unless it is the open pack. */
#ifndef KV_SLAB_CORE_H
#define KV_SLAB_CORE_H

#include "bytes/list.h"
#include "engine/slab.h"

#define KV_SLAB_CLASS_COUNT 120u
#define KV_SLAB_SIZE_MIN (32u << 10) /* eight extents of 4096 */
#define KV_SLAB_SIZE_MAX (64u << 20)
#define KV_SLAB_SPACE_SIZE_MAX (1ull << 46) /* what 40 bits of KV_SLAB_UNIT address */
#define KV_SLAB_PACK_STEP 4096u /* packs grow by multiples of it, so that appends are aligned */
#define KV_SLAB_LEVELS 8u       /* of fullness; level 0 means on no list */

typedef struct kv_slab {
    kv_list link;           /* on its class's list of slabs of this level */
    uint64_t *free_extents; /* kv_slab_set of free extents; NULL in a pack */
    uint32_t live_size;
    uint32_t live_count; /* extents; 0 in a pack */
    uint32_t append;     /* pack: end of the last value, a multiple of KV_SLAB_PACK_STEP */
    uint8_t slab_class;
    uint8_t level;
    bool used;
    bool frozen;
} kv_slab;

_Static_assert(sizeof(void *) != 8 || sizeof(kv_slab) == 40, "a million slabs cost 40 MB");

typedef struct kv_slab_class {
    kv_list levels[KV_SLAB_LEVELS]; /* 1 ... KV_SLAB_LEVELS; by live share, packs by room */
    uint32_t extent_size;  /* 0: packs, or a class this allocator does not use */
    uint32_t extent_count; /* of one slab */
    uint32_t slab_count;
    uint32_t frozen_count;
    uint64_t live_size;
    uint64_t room; /* free bytes that this class's unfrozen slabs can give */
} kv_slab_class;

struct kv_slab_allocator {
    kv_slab_options options;
    uint32_t slab_size; /* of the options, as the type of every offset inside a slab */
    uint32_t slab_size_log2;
    uint32_t class_max; /* largest class in use */
    uint32_t limit;     /* slabs at and beyond it are not handed out */
    uint32_t reserve;   /* free slabs that are kept back */
    uint32_t high_mark;
    uint32_t free_count; /* members of free_slabs */
    uint32_t used_count;
    uint32_t open_pack; /* slab that packs are appended to, or KV_SLAB_NONE */
    uint64_t used_size;
    uint64_t room; /* of all classes */
    kv_slab *slabs;       /* all zero bytes is a free slab: untouched slabs cost no memory */
    uint64_t *free_slabs; /* kv_slab_set of the free slabs below the limit */
    kv_slab_class classes[KV_SLAB_CLASS_COUNT + 1]; /* the last one is packs */
};

static inline kv_slab_class *kv_slab_class_at(kv_slab_allocator *allocator, uint32_t slab_class)
{
    return &allocator->classes[slab_class == KV_SLAB_CLASS_PACK ? KV_SLAB_CLASS_COUNT : slab_class];
}

static inline uint32_t kv_slab_index(const kv_slab_allocator *allocator, const kv_slab *slab)
{
    return (uint32_t)(slab - allocator->slabs);
}

/* Whether a free slab may be handed out now. */
static inline bool kv_slab_spare(const kv_slab_allocator *allocator)
{
    return allocator->free_count > allocator->reserve;
}

/* Bytes that a settled slab can still give; none while it is frozen. */
uint32_t kv_slab_room(const kv_slab_allocator *allocator, const kv_slab *slab);
/* The list level that a slab belongs on, 0 for none. */
uint32_t kv_slab_level(const kv_slab_allocator *allocator, const kv_slab *slab);

/* Turn the free slab `index`, or the lowest one that may be handed out, into an unsettled, empty
 * slab of a class. NULL when there is none, or no memory for its set of extents. */
kv_slab *kv_slab_assign(kv_slab_allocator *allocator, uint32_t index, uint32_t slab_class);
kv_slab *kv_slab_assign_lowest(kv_slab_allocator *allocator, uint32_t slab_class);
/* A slab's fields change only between these two: take it out of all sums, and put it back into sums
 * and onto its list. Settling an empty slab makes it free. */
void kv_slab_unsettle(kv_slab_allocator *allocator, kv_slab *slab);
void kv_slab_settle(kv_slab_allocator *allocator, kv_slab *slab);

/* The class of one extent for `size` bytes, at most the largest in use. */
uint32_t kv_slab_class_ideal(const kv_slab_allocator *allocator, uint32_t size);
/* Make a pack (or KV_SLAB_NONE) the one that is appended to. */
void kv_slab_pack_open(kv_slab_allocator *allocator, uint32_t slab);

#endif
