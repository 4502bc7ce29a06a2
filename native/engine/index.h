/* The in-memory index: key -> object.
 *
 * Extendible hashing: a directory of segments, each an open-addressing table of 8-byte slots
 * (32 bits of hash, 32-bit arena handle). A full segment grows by an eighth until it reaches its
 * limit and then splits in two; the longest pause is the rehash of one segment (about
 * 4,096 slots), whatever the number of objects. Not thread-safe: the engine's lock covers it. */
#ifndef KV_INDEX_H
#define KV_INDEX_H

#include "engine/object.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct kv_index kv_index;

/* -ENOMEM. `seed` feeds kv_hash. */
int kv_index_open(uint64_t seed, kv_index **index);
void kv_index_close(kv_index *index);

uint64_t kv_index_hash(const kv_index *index, const void *key, size_t key_size);
/* Ask the processor to load what kv_index_find will touch. A batch goes in groups of about 32 keys
 * (more at once outruns the processor's address translation): hash and kv_index_prefetch for each
 * key of the group, then kv_index_prefetch_object for each, then kv_index_find for each. */
void kv_index_prefetch(const kv_index *index, uint64_t hash);
/* Loads the object, too, and returns it: of this key or, rarely, of another one with a hash like it. NULL: no
 * such key is linked. */
const kv_object *kv_index_prefetch_object(const kv_index *index, uint64_t hash);

/* The linked object of that key, or NULL. The full key is compared. */
kv_object *kv_index_find(const kv_index *index, uint64_t hash, const void *key, size_t key_size);

/* A zeroed object with its key filled in, not linked: nobody finds it yet. NULL: out of memory. */
kv_object *kv_index_create(kv_index *index, const void *key, size_t key_size);
/* Give an unlinked object's memory back. */
void kv_index_destroy(kv_index *index, kv_object *object);

/* Make an object findable. Its key must not be linked already. -ENOMEM leaves the index as it
 * was. */
int kv_index_link(kv_index *index, uint64_t hash, kv_object *object);
/* Put `object` in the place of `old`, a linked object of the same key. */
void kv_index_replace(kv_index *index, uint64_t hash, kv_object *old, kv_object *object);
void kv_index_unlink(kv_index *index, uint64_t hash, kv_object *object);

uint32_t kv_index_handle(const kv_index *index, const kv_object *object);
kv_object *kv_index_at(const kv_index *index, uint32_t handle);

/* Side records (piece lists) from the same arena. */
uint32_t kv_index_side_allocate(kv_index *index, size_t size);
void kv_index_side_free(kv_index *index, uint32_t handle, size_t size);
void *kv_index_side_at(const kv_index *index, uint32_t handle);

/* Visit the linked objects of the segment at `*cursor` (0 to begin) and move the cursor past it.
 * True while there is more. An object linked during the whole scan is visited exactly once,
 * even when segments split between calls. The visitor must not link or unlink; it may not
 * keep pointers beyond what the caller's lock protects. */
typedef void kv_index_visit(void *context, kv_object *object);
bool kv_index_scan(kv_index *index, uint64_t *cursor, kv_index_visit *visit, void *context);

uint64_t kv_index_count(const kv_index *index);
/* Bytes of memory for directory, segments, objects and side records. */
uint64_t kv_index_size(const kv_index *index);

#endif
