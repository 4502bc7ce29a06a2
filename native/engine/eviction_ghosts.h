/* The keys that the eviction policy evicted lately, as fingerprints: about two for each entry
 * that fits, each with the queue that it left. Every key is remembered for equally many
 * evictions.
 *
 * A table of sets; a slot is a fingerprint with the generation of its eviction.
 *
 *   bit   15        14 ... 12     11 ... 0
 *         +--------+------------+-----------------------------+
 *         | origin | generation | fingerprint, 0: empty slot  |
 *         +--------+------------+-----------------------------+
 *
 * A generation is a number of evictions. The current one and those before it live, all but one:
 * the oldest is dead, and is swept out while the current one lasts, so that its number can be
 * used again. About one unknown key in two hundred matches a fingerprint that is not its own. */
#ifndef KV_EVICTION_GHOSTS_H
#define KV_EVICTION_GHOSTS_H

#include <stdint.h>

#define KV_EVICTION_GHOSTS_SET_SLOTS 32 /* a set is one cache line */
#define KV_EVICTION_GHOSTS_GENERATIONS 8u

typedef enum kv_eviction_origin {
    KV_EVICTION_ORIGIN_RECENT = 0,
    KV_EVICTION_ORIGIN_FREQUENT = 1,
    KV_EVICTION_ORIGIN_NONE = 2, /* not remembered */
} kv_eviction_origin;

typedef struct kv_eviction_ghost_set {
    uint16_t slots[KV_EVICTION_GHOSTS_SET_SLOTS];
} kv_eviction_ghost_set;

_Static_assert(sizeof(kv_eviction_ghost_set) == 64, "a set is one cache line");

typedef struct kv_eviction_ghosts {
    kv_eviction_ghost_set *sets;
    uint64_t set_count;
    uint64_t generation_size; /* evictions */
    uint64_t generation_used; /* of the current one */
    uint64_t swept;           /* sets without a slot of the dead generation */
    uint32_t generation;      /* the current one */
    uint64_t counts[KV_EVICTION_GHOSTS_GENERATIONS][2]; /* slots by origin; 0 for the dead one */
} kv_eviction_ghosts;

/* Takes about 8 bytes an entry. 0, or -ENOMEM. */
int kv_eviction_ghosts_open(kv_eviction_ghosts *ghosts, uint64_t expected_count);
void kv_eviction_ghosts_close(kv_eviction_ghosts *ghosts);
/* Remember an evicted key. Every bit of `hash` is mixed. */
void kv_eviction_ghosts_add(kv_eviction_ghosts *ghosts, uint64_t hash, kv_eviction_origin origin);
/* Forget a key; says where it left from. */
kv_eviction_origin kv_eviction_ghosts_take(kv_eviction_ghosts *ghosts, uint64_t hash);
uint64_t kv_eviction_ghosts_count(const kv_eviction_ghosts *ghosts, kv_eviction_origin origin);
/* How many sets a table for so many entries has. */
uint64_t kv_eviction_ghosts_set_count(uint64_t expected_count);

#endif
