/* Which object leaves first when a bounded set is full. One policy serves both the DRAM tier
 * (frames) and cache mode (objects): it keeps queues of 32-bit handles through accessors of its
 * user.
 *
 * The keys of a batch are best inserted and touched in order of rank. Making room key by key
 * rather than for the whole batch at once lets a batch too large for its share give up its own
 * last keys. */
#ifndef KV_EVICTION_H
#define KV_EVICTION_H

#include <stdbool.h>
#include <stdint.h>

typedef struct kv_eviction_node { /* what the policy keeps for an entry */
    uint32_t next, previous;      /* newer and older neighbour, 0 at the ends */
    uint8_t queue;                /* 0 ... 7; 0: on none, as a new entry must say */
    uint8_t frequency;            /* 0 ... 3 */
} kv_eviction_node;

/* Read and write the node of a handle (the user packs it as it likes). */
typedef void kv_eviction_load(void *context, uint32_t handle, kv_eviction_node *node);
typedef void kv_eviction_store(void *context, uint32_t handle, const kv_eviction_node *node);

typedef struct kv_eviction kv_eviction;

/* `expected_count`: how many entries fit, for the size of the ghost list (64-bit key hashes of
 * recently evicted entries, kept as fingerprints: about 8 bytes an entry). 0, or -ENOMEM. */
int kv_eviction_open(uint64_t expected_count, kv_eviction_load *load, kv_eviction_store *store,
                     void *context, kv_eviction **eviction);
void kv_eviction_close(kv_eviction *eviction);
/* The entries stay. A ghost list that is now too small, or more than twice too large, is replaced
 * by an empty one; when memory for that is short the old one stays. */
void kv_eviction_resize(kv_eviction *eviction, uint64_t expected_count);

/* `hash` names the entry's key (the index's hash, every bit of it mixed). `rank`: position of the
 * key in its batch, 0 first: prefixes come before what depends on them, so that later keys leave
 * first. No handle is 0. */
void kv_eviction_insert(kv_eviction *eviction, uint32_t handle, uint64_t hash, uint32_t rank);
void kv_eviction_touch(kv_eviction *eviction, uint32_t handle, uint32_t rank);
/* Taken out by its user (deleted, overwritten): not an eviction. */
void kv_eviction_remove(kv_eviction *eviction, uint32_t handle);
/* The same entry under another handle (an overwrite keeps its place). `to` must be on no queue. */
void kv_eviction_rename(kv_eviction *eviction, uint32_t from, uint32_t to);

/* The entry to evict now, taken out of its queue, or 0 when none may go. `may_go` gets the
 * context of open and refuses pinned and busy entries: they stay, and become the newest of their
 * queue. For others it gives the key's hash. Bounded work: gives up after a full round. `may_go`
 * must not call the policy. */
typedef bool kv_eviction_may_go(void *context, uint32_t handle, uint64_t *hash);
uint32_t kv_eviction_pick(kv_eviction *eviction, kv_eviction_may_go *may_go);

uint64_t kv_eviction_count(const kv_eviction *eviction);
/* Bytes allocated by the policy itself; nodes are the user's. */
uint64_t kv_eviction_memory_size(const kv_eviction *eviction);

#endif
