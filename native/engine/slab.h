/* The space allocator: which extents of a large space are free. Pure arithmetic over offsets; it
 * touches neither disk nor the memory it manages, so the device's slabs and the DRAM tier's
 * memory use the same code.
 *
 * The space is cut into slabs of one size. A slab is free, or a run of equal extents of one slab
 * class, or a pack: a byte range filled from the front with values too small for a class.
 * Classes: 64 bytes x 1 ... 8, then eight steps to each doubling, so rounding a size up to its
 * class wastes at most 1/8 of the size (below 512 bytes: less than 64 bytes). An allocator with
 * alignment 4096 uses only the classes that are multiples of it; sizes that would waste more than
 * 1/8 are packed instead.
 *
 *   space   | slab 0      | slab 1      | slab 2 (free) | slab 3 (pack)      |
 *           | e | e | e | | e  | e  |   |               | v|v|v   |v|v|  ... |
 *
 * A value larger than extent_size_max is scattered over several extents ("pieces"); so is a value
 * for which no slab of its class has room while other classes have free extents.
 *
 * Memory: 40 bytes for each slab ever used, and one bit for each extent of a slab in use. An
 * allocation that cannot get memory for a slab's bits answers -ENOSPC.
 *
 * Invariants: live_size = sum of live extents; a free slab has no live extent; a slab that becomes
 * empty is free for every class at once, the open pack too; a frozen slab gives no extents. */
#ifndef KV_SLAB_H
#define KV_SLAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KV_SLAB_UNIT 64u
#define KV_SLAB_PIECES_MAX 256u
#define KV_SLAB_CLASS_PACK 255u
#define KV_SLAB_CLASS_NONE 254u
#define KV_SLAB_NONE UINT32_MAX

typedef struct kv_extent {
    uint64_t offset; /* from the start of the space, a multiple of KV_SLAB_UNIT */
    uint32_t size;   /* bytes reserved: the class size; in a pack rounded up to KV_SLAB_UNIT */
    uint32_t slab_class;
} kv_extent;

typedef struct kv_slab_options {
    uint64_t slab_size;       /* power of two, 32 KiB ... 64 MiB */
    uint32_t slab_count;      /* slabs of the space; at most 64 TiB together */
    uint32_t alignment;       /* 64 or 4096: of extents other than packed ones */
    uint32_t extent_size_max; /* largest class in use, alignment ... slab_size / 8 */
} kv_slab_options;

typedef struct kv_slab_statistics {
    uint32_t slab_class;  /* index of the class, or KV_SLAB_CLASS_PACK */
    uint32_t extent_size; /* 0 for packs */
    uint32_t slab_count;
    uint32_t frozen_count;
    uint64_t live_count; /* 0 for packs: they count bytes */
    uint64_t live_size;
    uint64_t free_size; /* in unfrozen slabs of this class; packs: behind the last value */
} kv_slab_statistics;

typedef struct kv_slab_allocator kv_slab_allocator;

/* 0, -EINVAL for options outside the limits above, or -ENOMEM. */
int kv_slab_open(const kv_slab_options *options, kv_slab_allocator **allocator);
void kv_slab_close(kv_slab_allocator *allocator);

/* Size of a class (0 when there is none of that number) and the smallest class of at least `size`
 * bytes (KV_SLAB_CLASS_NONE beyond 8 MiB). */
uint32_t kv_slab_class_size(uint32_t slab_class);
uint32_t kv_slab_class_of(uint32_t size);
/* Whether a value of `size` bytes belongs in a pack under this allocator's alignment. */
bool kv_slab_packs(const kv_slab_allocator *allocator, uint32_t size);

/* Reserve room for `size` bytes (>= 1): pieces in value order, their sizes sum to >= size, all but
 * the last are used in full. Returns the number of pieces (1 for a value <= extent_size_max in the
 * normal case), or -ENOSPC when no combination of at most KV_SLAB_PIECES_MAX pieces holds it.
 * Prefers a partly filled slab of the class (fullest first), then a free slab, then scattering
 * over other classes' extents. A size that kv_slab_packs gets the class that it rounds up to. */
int kv_slab_allocate(kv_slab_allocator *allocator, uint32_t size,
    kv_extent pieces[KV_SLAB_PIECES_MAX]);
/* The same without scattering: -ENOSPC when neither its class nor a free slab has room. Sizes above
 * extent_size_max still take several pieces, each from its own class. */
int kv_slab_allocate_ideal(kv_slab_allocator *allocator, uint32_t size,
    kv_extent pieces[KV_SLAB_PIECES_MAX]);
/* Reserve `size` bytes (a multiple of 4096, <= slab_size) in one piece at the end of a pack, for
 * several packed values that are written together. The open pack is used while it has room, then
 * another pack with room behind its last value, then a free slab. The extent is divided by the
 * caller: each value's part is released on its own by kv_slab_free with class KV_SLAB_CLASS_PACK.
 * `live_size` (a multiple of KV_SLAB_UNIT, at most `size`) is the sum of those parts; the rest, up
 * to the 4096 boundary, is waste that comes back with the slab. */
int kv_slab_allocate_pack(kv_slab_allocator *allocator, uint32_t size, uint32_t live_size,
    kv_extent *extent);
/* From now on the extent may be given to another value. */
void kv_slab_free(kv_slab_allocator *allocator, const kv_extent *extent);

/* Recovery: claim an extent that the metadata names. -EINVAL when it is not a legal extent of this
 * space or its slab is already of another class, -EEXIST when it overlaps a claimed one (class
 * extents; packs count bytes and notice only more of them than fit), -ENOMEM. */
int kv_slab_claim(kv_slab_allocator *allocator, const kv_extent *extent);
/* Recovery: packs are appended to only behind their last claimed byte (rounded up to 4096), the one
 * with the most room first. Called once after the last claim. */
void kv_slab_claimed(kv_slab_allocator *allocator);

/* The extent at an offset: class from its slab; a packed one needs the value's size. */
void kv_slab_extent_at(const kv_slab_allocator *allocator, uint64_t offset, uint32_t value_size,
    kv_extent *extent);

/* Compaction. The best slab to evacuate: not frozen, not empty, whose live bytes would fit into
 * free extents of other slabs of its class (packs: into another pack or a free slab) with a net
 * gain; lowest live share first. KV_SLAB_NONE: nothing to gain.
 * live_share_max (0 ... 100): consider only slabs with at most that percentage live. O(slabs). */
uint32_t kv_slab_victim(const kv_slab_allocator *allocator, uint32_t live_share_max);
/* A frozen slab that becomes empty is free and no longer frozen; freezing or thawing a free slab
 * changes nothing. */
void kv_slab_freeze(kv_slab_allocator *allocator, uint32_t slab);
void kv_slab_thaw(kv_slab_allocator *allocator, uint32_t slab);
uint64_t kv_slab_live_size(const kv_slab_allocator *allocator, uint32_t slab);
uint32_t kv_slab_index_of(const kv_slab_allocator *allocator, uint64_t offset);

/* Totals in bytes: space (slabs in use or free within the limit), live (reserved by extents), and
 * what an allocation could still use (free slabs beyond the reserve, free extents, packs' room). */
uint64_t kv_slab_space_size(const kv_slab_allocator *allocator);
uint64_t kv_slab_used_size(const kv_slab_allocator *allocator);
uint64_t kv_slab_free_size(const kv_slab_allocator *allocator);
uint32_t kv_slab_free_slabs(const kv_slab_allocator *allocator);
/* Highest slab ever used + 1: how far the files must reach. */
uint32_t kv_slab_high_mark(const kv_slab_allocator *allocator);
/* Fewer slabs than at open, e.g. when the file system is full: slabs at and beyond `slab_count` are
 * never handed out. Slabs in use stay in use; the high mark falls to what is still needed. A later
 * call may raise the limit again, up to the count at open. */
void kv_slab_limit(kv_slab_allocator *allocator, uint32_t slab_count);
/* Keep that many free slabs back (0 at open). A space full of half-dead packs can only be compacted
 * into a free slab: the caller holds one in reserve, and sets the reserve to 0 for the moment in
 * which it allocates for compaction. */
void kv_slab_reserve(kv_slab_allocator *allocator, uint32_t slab_count);

/* Fill one row for each class in use; returns the number of rows (at most `rows_max`). */
int kv_slab_statistics_by_class(const kv_slab_allocator *allocator, kv_slab_statistics *rows,
    int rows_max);
/* Assert every invariant; O(slabs). For tests. */
void kv_slab_invariants(const kv_slab_allocator *allocator);

#endif
