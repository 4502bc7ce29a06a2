/* The in-memory index: a directory of segments, and the arena that holds the objects.
 *
 *   hash:  |  directory  |   home in the segment   |   not used   |
 *           63                                   32 31           0
 *          '--------------- fragment -------------'
 *
 *   directory (depth 2)       segments
 *     00 -------------------> depth 2
 *     01 -------------------> depth 2
 *     10 -----------+-------> depth 1
 *     11 -----------'
 *
 * Invariants:
 *   1. The directory has 2^depth entries; 2^(depth - d) of them, side by side, name a segment of
 *      depth d.
 *   2. A linked object has one slot, in the segment that the first bits of its hash name.
 *   3. `size` is the memory of the directory and all segments.
 *
 * Guarantees that one call rebuilds at most one segment for each level that the directory gains.
 * Since a slot keeps all bits that the directory uses, growing never touches an object. Leaves to
 * others when an object may be destroyed, and all locking. */
#include "engine/index.h"

#include "bytes/arena.h"
#include "bytes/hash.h"
#include "engine/index_segment.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Enough for a full arena at an even hash; a segment of that depth grows without limit. */
#define KV_INDEX_DEPTH_MAX 19u
#define KV_INDEX_ARENA_SIZE_MAX ((uint64_t)32 << 30)
#define KV_INDEX_KEY_SIZE_MAX 1152u
/* The bytes of an object that are read when it is looked up: all fields, and a key of usual size. */
#define KV_INDEX_LOADED_SIZE (sizeof(kv_object) + 32)

_Static_assert(sizeof(kv_object) + KV_INDEX_KEY_SIZE_MAX <= KV_ARENA_RECORD_SIZE_MAX,
               "any object is one record");

/* What a search has to know of a segment, so that it loads the slots alone. */
typedef struct kv_index_entry {
    kv_index_segment *segment;
    uint32_t depth;
    uint32_t home_count;
} kv_index_entry;

struct kv_index {
    kv_index_entry *directory;
    uint32_t depth;
    uint64_t seed;
    uint64_t count;
    uint64_t size;
    char *records; /* where the arena begins: handles count from here */
    kv_arena *arena;
};

static uint32_t fragment_of(uint64_t hash)
{
    return (uint32_t)(hash >> 32);
}

static size_t entry_of(const kv_index *index, uint32_t fragment)
{
    return (size_t)((uint64_t)fragment >> (32 - index->depth));
}

static kv_index_segment *segment_of(const kv_index *index, uint32_t fragment)
{
    return index->directory[entry_of(index, fragment)].segment;
}

static uint32_t home_of(const kv_index_entry *entry, uint32_t fragment)
{
    return kv_index_segment_home(entry->depth, entry->home_count, fragment);
}

/* The first slot that may be the one of `fragment`; the end mark or a larger slot if none is. */
static const uint64_t *seek(const kv_index *index, uint32_t fragment)
{
    const kv_index_entry *entry = &index->directory[entry_of(index, fragment)];
    const kv_index_segment *segment = entry->segment;

    return &segment->slots[kv_index_segment_seek(segment, home_of(entry, fragment), fragment)];
}

static void *object_of(const kv_index *index, uint64_t slot)
{
    return index->records + (uint64_t)(uint32_t)slot * KV_ARENA_GRANULE;
}

/* Name `segment` in all entries of its first bits, which are those of `fragment`. */
static void enter(kv_index *index, kv_index_segment *segment, uint32_t fragment)
{
    kv_index_entry entry = {segment, segment->depth, segment->home_count};
    size_t entry_count = (size_t)1 << (index->depth - segment->depth);
    size_t first = entry_of(index, fragment) & ~(entry_count - 1);

    for (size_t i = 0; i < entry_count; i++)
        index->directory[first + i] = entry;
    index->size += kv_index_segment_size(segment);
}

int kv_index_open(uint64_t seed, kv_index **index)
{
    kv_index *opened = calloc(1, sizeof(*opened));
    kv_index_segment *segment;

    if (!opened)
        return -ENOMEM;
    opened->directory = malloc(sizeof(opened->directory[0]));
    if (!opened->directory)
        goto fail_directory;
    segment = kv_index_segment_open(0);
    if (!segment)
        goto fail_segment;
    if (kv_arena_open(KV_INDEX_ARENA_SIZE_MAX, &opened->arena) < 0)
        goto fail_arena;
    opened->records = kv_arena_at(opened->arena, 0);
    opened->seed = seed;
    opened->size = sizeof(opened->directory[0]);
    enter(opened, segment, 0);
    *index = opened;
    return 0;

fail_arena:
    kv_index_segment_close(segment);
fail_segment:
    free(opened->directory);
fail_directory:
    free(opened);
    return -ENOMEM;
}

void kv_index_close(kv_index *index)
{
    size_t entry = 0;

    if (!index)
        return;
    while (entry < (size_t)1 << index->depth) {
        kv_index_segment *segment = index->directory[entry].segment;

        entry += (size_t)1 << (index->depth - segment->depth);
        kv_index_segment_close(segment);
    }
    kv_arena_close(index->arena);
    free(index->directory);
    free(index);
}

uint64_t kv_index_hash(const kv_index *index, const void *key, size_t key_size)
{
    return kv_hash(index->seed, key, key_size);
}

void kv_index_prefetch(const kv_index *index, uint64_t hash)
{
    uint32_t fragment = fragment_of(hash);
    const kv_index_entry *entry = &index->directory[entry_of(index, fragment)];

    __builtin_prefetch(&entry->segment->slots[home_of(entry, fragment)]);
}

const kv_object *kv_index_prefetch_object(const kv_index *index, uint64_t hash)
{
    uint64_t slot = *seek(index, fragment_of(hash));
    const char *object = object_of(index, slot);

    if (!kv_index_segment_matches(slot, fragment_of(hash)))
        return NULL;
    __builtin_prefetch(object);
    __builtin_prefetch(object + KV_INDEX_LOADED_SIZE - 1);
    return (const kv_object *)(const void *)object;
}

kv_object *kv_index_find(const kv_index *index, uint64_t hash, const void *key, size_t key_size)
{
    uint32_t fragment = fragment_of(hash);
    const uint64_t *slot = seek(index, fragment);

    for (; kv_index_segment_matches(*slot, fragment); slot++) {
        kv_object *object = object_of(index, *slot);

        if (object->key_size == key_size && memcmp(object->key, key, key_size) == 0)
            return object;
    }
    return NULL;
}

kv_object *kv_index_create(kv_index *index, const void *key, size_t key_size)
{
    uint32_t handle;
    kv_object *object;

    assert(key_size > 0);
    assert(key_size <= KV_INDEX_KEY_SIZE_MAX);
    handle = kv_arena_allocate(index->arena, sizeof(*object) + key_size);
    if (!handle)
        return NULL;
    object = kv_arena_at(index->arena, handle);
    memset(object, 0, sizeof(*object));
    object->key_size = key_size & 0x7ff;
    memcpy(object->key, key, key_size);
    return object;
}

void kv_index_destroy(kv_index *index, kv_object *object)
{
    kv_arena_free(index->arena, kv_index_handle(index, object), sizeof(*object) + object->key_size);
}

static void leave(kv_index *index, kv_index_segment *segment)
{
    index->size -= kv_index_segment_size(segment);
    kv_index_segment_close(segment);
}

/* Each entry becomes two that name the same segment. */
static int deepen(kv_index *index)
{
    size_t entry_count = (size_t)1 << index->depth;
    kv_index_entry *deeper = malloc(2 * entry_count * sizeof(*deeper));

    assert(index->depth < KV_INDEX_DEPTH_MAX);
    if (!deeper)
        return -ENOMEM;
    for (size_t i = 0; i < 2 * entry_count; i++)
        deeper[i] = index->directory[i / 2];
    free(index->directory);
    index->directory = deeper;
    index->depth++;
    index->size += entry_count * sizeof(*deeper);
    return 0;
}

static int split(kv_index *index, kv_index_segment *segment, uint32_t fragment)
{
    uint32_t next_bit = (uint32_t)1 << (31 - segment->depth);
    kv_index_segment *halves[2];
    int result;

    if (segment->depth == index->depth) {
        result = deepen(index);
        if (result < 0)
            return result;
    }
    result = kv_index_segment_split(segment, halves);
    if (result < 0)
        return result;
    enter(index, halves[0], fragment & ~next_bit);
    enter(index, halves[1], fragment | next_bit);
    leave(index, segment);
    return 0;
}

static int make_room(kv_index *index, uint32_t fragment)
{
    kv_index_segment *segment = segment_of(index, fragment);
    kv_index_segment *larger;

    if (kv_index_segment_grown(segment) && segment->depth < KV_INDEX_DEPTH_MAX)
        return split(index, segment, fragment);
    larger = kv_index_segment_grow(segment);
    if (!larger)
        return -ENOMEM;
    enter(index, larger, fragment);
    leave(index, segment);
    return 0;
}

int kv_index_link(kv_index *index, uint64_t hash, kv_object *object)
{
    uint32_t fragment = fragment_of(hash);
    uint32_t handle = kv_index_handle(index, object);

    assert(object->key_size > 0);
    assert(!kv_index_find(index, hash, object->key, object->key_size));
    while (kv_index_segment_insert(segment_of(index, fragment), fragment, handle) < 0) {
        int result = make_room(index, fragment);

        if (result < 0)
            return result;
    }
    index->count++;
    return 0;
}

void kv_index_replace(kv_index *index, uint64_t hash, kv_object *old, kv_object *object)
{
    uint32_t fragment = fragment_of(hash);

    assert(old->key_size == object->key_size);
    assert(memcmp(old->key, object->key, old->key_size) == 0);
    kv_index_segment_replace(segment_of(index, fragment), fragment, kv_index_handle(index, old),
                             kv_index_handle(index, object));
}

void kv_index_unlink(kv_index *index, uint64_t hash, kv_object *object)
{
    uint32_t fragment = fragment_of(hash);

    assert(index->count > 0);
    kv_index_segment_remove(segment_of(index, fragment), fragment, kv_index_handle(index, object));
    index->count--;
}

uint32_t kv_index_handle(const kv_index *index, const kv_object *object)
{
    return kv_arena_handle(index->arena, object);
}

kv_object *kv_index_at(const kv_index *index, uint32_t handle)
{
    return kv_arena_at(index->arena, handle);
}

uint32_t kv_index_side_allocate(kv_index *index, size_t size)
{
    return kv_arena_allocate(index->arena, size);
}

void kv_index_side_free(kv_index *index, uint32_t handle, size_t size)
{
    kv_arena_free(index->arena, handle, size);
}

void *kv_index_side_at(const kv_index *index, uint32_t handle)
{
    return kv_arena_at(index->arena, handle);
}

/* The cursor is the first hash not yet visited. A segment that splits only gains borders, so
 * the cursor stays on one; starting within the segment costs nothing, since slots are in order. */
bool kv_index_scan(kv_index *index, uint64_t *cursor, kv_index_visit *visit, void *context)
{
    uint32_t fragment = fragment_of(*cursor);
    const kv_index_segment *segment = segment_of(index, fragment);
    const uint64_t *slot = seek(index, fragment);
    uint64_t span, end;

    if (*cursor == UINT64_MAX)
        return false;
    for (; slot < &segment->slots[segment->capacity]; slot++)
        if (*slot != KV_INDEX_SEGMENT_EMPTY)
            visit(context, object_of(index, *slot));

    span = (uint64_t)1 << (32 - segment->depth);
    end = (fragment & ~(span - 1)) + span;
    *cursor = end >> 32 ? UINT64_MAX : end << 32;
    return *cursor != UINT64_MAX;
}

uint64_t kv_index_count(const kv_index *index)
{
    return index->count;
}

uint64_t kv_index_size(const kv_index *index)
{
    return sizeof(*index) + index->size + kv_arena_size(index->arena);
}
