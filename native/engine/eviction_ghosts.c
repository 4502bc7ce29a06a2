/* The ghost list of the eviction policy: a set-associative table of fingerprints whose slots
 * expire all at the same age. Guarantees O(1) work for every call and no allocation after open;
 * leaves locking and what a ghost means to the policy. */
#include "engine/eviction_ghosts.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS_AN_ENTRY 4u       /* at most 7/3 an entry live, so that a set hardly ever overflows */
#define GENERATIONS_AN_ENTRY 3u /* six whole generations live: two evictions an entry */
#define ORIGIN_SHIFT 15
#define GENERATION_SHIFT 12
#define GENERATION_MASK (KV_EVICTION_GHOSTS_GENERATIONS - 1)
#define FINGERPRINT_MASK 0xfffu
#define SET_COUNT_MAX (1ull << 32) /* sets are chosen by 32 bits of the hash */

_Static_assert((KV_EVICTION_GHOSTS_GENERATIONS & GENERATION_MASK) == 0,
               "generations wrap by a mask");
_Static_assert(KV_EVICTION_GHOSTS_GENERATIONS <= 1u << (ORIGIN_SHIFT - GENERATION_SHIFT),
               "generations fit their bits");

uint64_t kv_eviction_ghosts_set_count(uint64_t expected_count)
{
    uint64_t set_count = expected_count / (KV_EVICTION_GHOSTS_SET_SLOTS / SLOTS_AN_ENTRY) + 1;

    return set_count < SET_COUNT_MAX ? set_count : SET_COUNT_MAX;
}

int kv_eviction_ghosts_open(kv_eviction_ghosts *ghosts, uint64_t expected_count)
{
    *ghosts = (kv_eviction_ghosts){
        .set_count = kv_eviction_ghosts_set_count(expected_count),
        .generation_size = expected_count / GENERATIONS_AN_ENTRY + 1,
    };
    ghosts->sets = calloc(ghosts->set_count, sizeof(*ghosts->sets));
    return ghosts->sets ? 0 : -ENOMEM;
}

void kv_eviction_ghosts_close(kv_eviction_ghosts *ghosts)
{
    free(ghosts->sets);
    ghosts->sets = NULL;
}

static uint16_t *slots_of(const kv_eviction_ghosts *ghosts, uint64_t hash)
{
    uint64_t set_index = (hash >> 32) * ghosts->set_count >> 32;

    assert(set_index < ghosts->set_count);
    return ghosts->sets[set_index].slots;
}

/* From the low bits: the high ones choose the set. */
static uint16_t fingerprint_of(uint64_t hash)
{
    uint16_t fingerprint = hash & FINGERPRINT_MASK;

    return fingerprint ? fingerprint : 1;
}

static kv_eviction_origin origin_of(uint16_t slot)
{
    return slot >> ORIGIN_SHIFT ? KV_EVICTION_ORIGIN_FREQUENT : KV_EVICTION_ORIGIN_RECENT;
}

static uint32_t generation_of(uint16_t slot)
{
    return (uint32_t)slot >> GENERATION_SHIFT & GENERATION_MASK;
}

/* How many generations ago a slot was filled. */
static uint32_t age_of(const kv_eviction_ghosts *ghosts, uint16_t slot)
{
    return (ghosts->generation - generation_of(slot)) & GENERATION_MASK;
}

static bool slot_free(const kv_eviction_ghosts *ghosts, uint16_t slot)
{
    return slot == 0 || age_of(ghosts, slot) == GENERATION_MASK;
}

/* Empty a slot that lives. */
static void forget(kv_eviction_ghosts *ghosts, uint16_t *slot)
{
    uint64_t *count = &ghosts->counts[generation_of(*slot)][origin_of(*slot)];

    assert(!slot_free(ghosts, *slot));
    assert(*count > 0);
    (*count)--;
    *slot = 0;
}

static void sweep_set(kv_eviction_ghosts *ghosts, uint64_t set_index)
{
    uint16_t *slots = ghosts->sets[set_index].slots;

    for (int i = 0; i < KV_EVICTION_GHOSTS_SET_SLOTS; i++) {
        if (slot_free(ghosts, slots[i]))
            slots[i] = 0;
    }
}

/* The oldest generation that lives dies. */
static void begin_generation(kv_eviction_ghosts *ghosts)
{
    uint32_t dead = (ghosts->generation + 2) & GENERATION_MASK;

    assert(ghosts->swept == ghosts->set_count);
    memset(ghosts->counts[dead], 0, sizeof(ghosts->counts[dead]));
    ghosts->generation = (ghosts->generation + 1) & GENERATION_MASK;
    ghosts->generation_used = 0;
    ghosts->swept = 0;
}

/* Count an eviction, and do its share of the sweep: the whole table by the generation's end. */
static void advance(kv_eviction_ghosts *ghosts)
{
    uint64_t left = ghosts->generation_size - ghosts->generation_used;
    uint64_t share = (ghosts->set_count - ghosts->swept + left - 1) / left;

    for (; share > 0; share--)
        sweep_set(ghosts, ghosts->swept++);
    ghosts->generation_used++;
    if (ghosts->generation_used == ghosts->generation_size)
        begin_generation(ghosts);
}

void kv_eviction_ghosts_add(kv_eviction_ghosts *ghosts, uint64_t hash, kv_eviction_origin origin)
{
    uint16_t *slots = slots_of(ghosts, hash);
    uint16_t *slot = &slots[0];

    assert(origin != KV_EVICTION_ORIGIN_NONE);
    for (int i = 1; i < KV_EVICTION_GHOSTS_SET_SLOTS && !slot_free(ghosts, *slot); i++) {
        if (slot_free(ghosts, slots[i]) || age_of(ghosts, slots[i]) > age_of(ghosts, *slot))
            slot = &slots[i];
    }
    if (!slot_free(ghosts, *slot))
        forget(ghosts, slot);
    *slot = (uint16_t)((uint32_t)origin << ORIGIN_SHIFT | ghosts->generation << GENERATION_SHIFT |
                       fingerprint_of(hash));
    ghosts->counts[ghosts->generation][origin]++;
    advance(ghosts);
}

kv_eviction_origin kv_eviction_ghosts_take(kv_eviction_ghosts *ghosts, uint64_t hash)
{
    uint16_t *slots = slots_of(ghosts, hash);
    uint16_t fingerprint = fingerprint_of(hash);

    for (int i = 0; i < KV_EVICTION_GHOSTS_SET_SLOTS; i++) {
        if ((slots[i] & FINGERPRINT_MASK) == fingerprint && !slot_free(ghosts, slots[i])) {
            kv_eviction_origin origin = origin_of(slots[i]);

            forget(ghosts, &slots[i]);
            return origin;
        }
    }
    return KV_EVICTION_ORIGIN_NONE;
}

uint64_t kv_eviction_ghosts_count(const kv_eviction_ghosts *ghosts, kv_eviction_origin origin)
{
    uint64_t count = 0;

    for (uint32_t i = 0; i < KV_EVICTION_GHOSTS_GENERATIONS; i++)
        count += ghosts->counts[i][origin];
    return count;
}
