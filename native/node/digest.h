/* Sums over what a target holds, by parts of its keys: two targets that cut keys alike find out
 * where they differ, and name no key for it.
 *
 *   hash of the key: [ part: `bits` ][ ... ]      sum of a part: of what its objects hash to
 *
 * An object counts by its key, its version and its pin. What has no version counts, too, but its
 * sum says nothing: another object without one may have other bytes.
 * Pure, and the same on nodes of one byte order; on others sums differ, and all is taken to. */
#ifndef KV_DIGEST_H
#define KV_DIGEST_H

#include <stdbool.h>
#include <stdint.h>

#define KV_DIGEST_BITS_MIN 6u
#define KV_DIGEST_BITS_MAX 18u
#define KV_DIGEST_PART_COUNT 4u /* objects of a part, about, as long as there are bits for it */

/* How keys are cut. */
typedef struct kv_digest {
    uint64_t seed;
    uint32_t bits;
} kv_digest;

/* For so many objects. */
uint32_t kv_digest_bits(uint64_t count);
static inline uint32_t kv_digest_parts(const kv_digest *digest)
{
    return 1u << digest->bits;
}

uint32_t kv_digest_part(const kv_digest *digest, const void *key, uint32_t key_size);
/* `entries` as of kv_engine_list_stored, `size` bytes of them. */
void kv_digest_add(const kv_digest *digest, const uint8_t *entries, uint64_t size, uint64_t *sums);

/* A set of parts. */
static inline bool kv_digest_has(const uint8_t *set, uint32_t part)
{
    return set[part / 8] >> part % 8 & 1;
}

static inline void kv_digest_put(uint8_t *set, uint32_t part)
{
    set[part / 8] |= (uint8_t)(1u << part % 8);
}

#endif
